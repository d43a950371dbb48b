//! Which signals exist, and sets of them.
//!
//! Key types: [`Signal`] (a checked number), [`SigSet`], [`DefaultAction`].

use linux_abi::signal as abi;

use crate::Errno;

/// A signal number from 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(i32);

macro_rules! signals {
    ($($name:ident = $abi:ident),* $(,)?) => {$(
        #[doc = concat!("`", stringify!($abi), "`.")]
        pub const $name: Self = Self(abi::$abi);
    )*};
}

/// What happens to a process that does not handle a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultAction {
    /// It ends.
    Terminate,
    /// It ends and would leave a core file.
    Core,
    /// Nothing.
    Ignore,
    /// It stops.
    Stop,
    /// It goes on, if it was stopped.
    Continue,
}

impl Signal {
    signals! {
        HUP = SIGHUP, INT = SIGINT, QUIT = SIGQUIT, ILL = SIGILL, TRAP = SIGTRAP, ABRT = SIGABRT, BUS = SIGBUS,
        FPE = SIGFPE, KILL = SIGKILL, SEGV = SIGSEGV, PIPE = SIGPIPE, ALRM = SIGALRM, TERM = SIGTERM, CHLD = SIGCHLD,
        CONT = SIGCONT, STOP = SIGSTOP, TSTP = SIGTSTP, TTIN = SIGTTIN, TTOU = SIGTTOU, URG = SIGURG, XCPU = SIGXCPU,
        XFSZ = SIGXFSZ, VTALRM = SIGVTALRM, PROF = SIGPROF, WINCH = SIGWINCH, IO = SIGIO, PWR = SIGPWR, SYS = SIGSYS,
    }

    /// Checks a number.
    ///
    /// # Errors
    /// EINVAL.
    pub const fn new(number: i32) -> Result<Self, Errno> {
        if number >= 1 && number <= abi::SIGRTMAX { Ok(Self(number)) } else { Err(Errno::EINVAL) }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The bit in a set.
    const fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }

    /// Position in a table of 64.
    pub(super) fn index(self) -> usize {
        usize::try_from(self.0 - 1).expect("at least 1")
    }

    /// One of which several can be pending.
    #[must_use]
    pub const fn is_realtime(self) -> bool {
        self.0 >= abi::SIGRTMIN
    }

    /// Cannot be blocked, handled or ignored.
    #[must_use]
    pub const fn is_kernel_only(self) -> bool {
        matches!(self, Self::KILL | Self::STOP)
    }

    /// What happens without a handler.
    #[must_use]
    pub const fn default_action(self) -> DefaultAction {
        match self {
            Self::CHLD | Self::URG | Self::WINCH => DefaultAction::Ignore,
            Self::CONT => DefaultAction::Continue,
            Self::STOP | Self::TSTP | Self::TTIN | Self::TTOU => DefaultAction::Stop,
            Self::QUIT
            | Self::ILL
            | Self::TRAP
            | Self::ABRT
            | Self::FPE
            | Self::SEGV
            | Self::BUS
            | Self::SYS
            | Self::XCPU
            | Self::XFSZ => DefaultAction::Core,
            _ => DefaultAction::Terminate,
        }
    }
}

/// A set of signals, bit n - 1 for signal n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SigSet(pub u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Those that cannot be blocked.
    pub const KERNEL_ONLY: Self = Self(Signal::KILL.bit() | Signal::STOP.bit());
    /// Those that stop a process.
    pub const STOPPING: Self =
        Self(Signal::STOP.bit() | Signal::TSTP.bit() | Signal::TTIN.bit() | Signal::TTOU.bit());
    /// Those that an instruction causes; delivered before others.
    pub const SYNCHRONOUS: Self = Self(
        Signal::SEGV.bit()
            | Signal::BUS.bit()
            | Signal::ILL.bit()
            | Signal::TRAP.bit()
            | Signal::FPE.bit()
            | Signal::SYS.bit(),
    );

    /// Only this one.
    #[must_use]
    pub const fn of(signal: Signal) -> Self {
        Self(signal.bit())
    }

    /// As a mask from the guest: what cannot be blocked is taken out.
    #[must_use]
    pub const fn blockable(bits: u64) -> Self {
        Self(bits & !Self::KERNEL_ONLY.0)
    }

    /// Holds it.
    #[must_use]
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & signal.bit() != 0
    }

    /// With it.
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | signal.bit())
    }

    /// Without it.
    #[must_use]
    pub const fn without(self, signal: Signal) -> Self {
        Self(self.0 & !signal.bit())
    }

    /// In either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// In both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// In this one only.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The one that is delivered first: synchronous ones, then the lowest number.
    #[must_use]
    pub fn first(self) -> Option<Signal> {
        let synchronous = self.intersection(Self::SYNCHRONOUS);
        let set = if synchronous.is_empty() { self } else { synchronous };
        i32::try_from(set.0.trailing_zeros()).ok().filter(|&bit| bit < 64).map(|bit| Signal(bit + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_invalid() {
        assert_eq!(Signal::new(0), Err(Errno::EINVAL));
        assert_eq!(Signal::new(65), Err(Errno::EINVAL));
        assert_eq!(Signal::new(-1), Err(Errno::EINVAL));
        assert!(Signal::new(64).is_ok());
    }

    #[test]
    fn a_fault_comes_before_lower_numbers() {
        let set = SigSet::of(Signal::HUP).with(Signal::SEGV);
        assert_eq!(set.first(), Some(Signal::SEGV));
        assert_eq!(SigSet::of(Signal::TERM).with(Signal::HUP).first(), Some(Signal::HUP));
        assert_eq!(SigSet::EMPTY.first(), None);
    }

    #[test]
    fn kill_cannot_be_blocked() {
        assert_eq!(SigSet::blockable(u64::MAX).intersection(SigSet::KERNEL_ONLY), SigSet::EMPTY);
    }
}
