//! Terminals as they lie in guest memory: `struct termios`, `struct winsize`, flags, ioctl numbers.
//!
//! Key types: [`Termios`], [`Winsize`]. Sources: `termios(3)`, `ioctl_tty(2)`, `uapi/asm-generic/termbits.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of control characters.
pub const NCCS: usize = 19;
/// Number of those in `struct termio`.
pub const NCC: usize = 8;
/// The bits of a word that `struct termio` has.
const LOW_HALF: u32 = 0xffff;

/// The kernel's `struct termios` (not the C library's, which is longer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in termios(3)")]
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; NCCS],
}

impl Default for Termios {
    /// LINUX: `tty_std_termios`, with 38400 baud.
    fn default() -> Self {
        Self {
            iflag: iflag::ICRNL | iflag::IXON,
            oflag: oflag::OPOST | oflag::ONLCR,
            cflag: 0xbf,
            lflag: lflag::ISIG
                | lflag::ICANON
                | lflag::ECHO
                | lflag::ECHOE
                | lflag::ECHOK
                | lflag::ECHOCTL
                | lflag::ECHOKE
                | lflag::IEXTEN,
            line: 0,
            cc: [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0],
        }
    }
}

/// `struct termios2`: with speeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in termios(3)")]
pub struct Termios2 {
    pub termios: Termios,
    pub ispeed: u32,
    pub ospeed: u32,
}

/// `struct termio`: the low half of each word, and fewer characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in termio(7)")]
pub struct Termio {
    pub flags: [u16; 4],
    pub line: u8,
    pub cc: [u8; NCC],
    pub padding: u8,
}

impl From<Termios> for Termio {
    fn from(termios: Termios) -> Self {
        let Termios { iflag, oflag, cflag, lflag, line, .. } = termios;
        let low = |[first, second, ..]: [u8; 4]| u16::from_le_bytes([first, second]);
        let flags = [iflag, oflag, cflag, lflag].map(|flag| low(flag.to_le_bytes()));
        Self { flags, line, cc: std::array::from_fn(|at| termios.cc[at]), padding: 0 }
    }
}

impl Termio {
    /// Puts what it has over `termios`. LINUX: `user_termio_to_kernel_termios`, which keeps the high halves.
    #[must_use]
    pub fn over(self, mut termios: Termios) -> Termios {
        let words = [&mut termios.iflag, &mut termios.oflag, &mut termios.cflag, &mut termios.lflag];
        for (word, low) in words.into_iter().zip(self.flags) {
            *word = *word & !LOW_HALF | u32::from(low);
        }
        termios.line = self.line;
        termios.cc[..NCC].copy_from_slice(&self.cc);
        termios
    }
}

/// `struct winsize`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in ioctl_tty(2)")]
pub struct Winsize {
    pub rows: u16,
    pub columns: u16,
    pub xpixel: u16,
    pub ypixel: u16,
}

macro_rules! bits {
    ($(#[$doc:meta])* $room:ident { $($name:ident = $value:literal),* $(,)? }) => {
        $(#[$doc])*
        #[expect(missing_docs, reason = "named as in termios(3)")]
        pub mod $room {
            $(pub const $name: u32 = $value;)*
        }
    };
}

bits! {
    /// `c_iflag`.
    iflag {
        IGNBRK = 0o1, BRKINT = 0o2, IGNPAR = 0o4, PARMRK = 0o10, INPCK = 0o20, ISTRIP = 0o40, INLCR = 0o100,
        IGNCR = 0o200, ICRNL = 0o400, IUCLC = 0o1000, IXON = 0o2000, IXANY = 0o4000, IXOFF = 0o10000,
        IMAXBEL = 0o20000, IUTF8 = 0o40000,
    }
}
bits! {
    /// `c_oflag`.
    oflag {
        OPOST = 0o1, OLCUC = 0o2, ONLCR = 0o4, OCRNL = 0o10, ONOCR = 0o20, ONLRET = 0o40, XTABS = 0o14000,
    }
}
bits! {
    /// `c_lflag`.
    lflag {
        ISIG = 0o1, ICANON = 0o2, XCASE = 0o4, ECHO = 0o10, ECHOE = 0o20, ECHOK = 0o40, ECHONL = 0o100,
        NOFLSH = 0o200, TOSTOP = 0o400, ECHOCTL = 0o1000, ECHOPRT = 0o2000, ECHOKE = 0o4000, FLUSHO = 0o10000,
        PENDIN = 0o40000, IEXTEN = 0o100000, EXTPROC = 0o200000,
    }
}

/// Indices of control characters.
#[expect(missing_docs, reason = "named as in termios(3)")]
pub mod cc {
    pub const VINTR: usize = 0;
    pub const VQUIT: usize = 1;
    pub const VERASE: usize = 2;
    pub const VKILL: usize = 3;
    pub const VEOF: usize = 4;
    pub const VTIME: usize = 5;
    pub const VMIN: usize = 6;
    pub const VSTART: usize = 8;
    pub const VSTOP: usize = 9;
    pub const VSUSP: usize = 10;
    pub const VEOL: usize = 11;
    pub const VREPRINT: usize = 12;
    pub const VWERASE: usize = 14;
    pub const VLNEXT: usize = 15;
    pub const VEOL2: usize = 16;
}

/// Requests of `ioctl_tty(2)`.
#[expect(missing_docs, reason = "named as in ioctl_tty(2)")]
pub mod ioctl {
    pub const TCGETS: u32 = 0x5401;
    pub const TCSETS: u32 = 0x5402;
    pub const TCSETSW: u32 = 0x5403;
    pub const TCSETSF: u32 = 0x5404;
    pub const TCGETA: u32 = 0x5405;
    pub const TCSETA: u32 = 0x5406;
    pub const TCSETAW: u32 = 0x5407;
    pub const TCSETAF: u32 = 0x5408;
    pub const TCSBRK: u32 = 0x5409;
    pub const TCXONC: u32 = 0x540a;
    pub const TCFLSH: u32 = 0x540b;
    pub const TIOCEXCL: u32 = 0x540c;
    pub const TIOCNXCL: u32 = 0x540d;
    /// Whether only one may open it.
    pub const TIOCGEXCL: u32 = 0x8004_5440;
    pub const TIOCSCTTY: u32 = 0x540e;
    pub const TIOCGPGRP: u32 = 0x540f;
    pub const TIOCSPGRP: u32 = 0x5410;
    pub const TIOCOUTQ: u32 = 0x5411;
    pub const TIOCSTI: u32 = 0x5412;
    pub const TIOCGWINSZ: u32 = 0x5413;
    pub const TIOCSWINSZ: u32 = 0x5414;
    pub const FIONREAD: u32 = 0x541b;
    pub const TIOCPKT: u32 = 0x5420;
    pub const TIOCNOTTY: u32 = 0x5422;
    pub const TIOCGETD: u32 = 0x5424;
    pub const TCSBRKP: u32 = 0x5425;
    pub const TIOCGSID: u32 = 0x5429;
    pub const TCGETS2: u32 = 0x802c_542a;
    pub const TCSETS2: u32 = 0x402c_542b;
    pub const TCSETSW2: u32 = 0x402c_542c;
    pub const TCSETSF2: u32 = 0x402c_542d;
    pub const TIOCGPTN: u32 = 0x8004_5430;
    pub const TIOCSPTLCK: u32 = 0x4004_5431;
    pub const TIOCSIG: u32 = 0x4004_5436;
    pub const TIOCGPKT: u32 = 0x8004_5438;
    pub const TIOCGPTLCK: u32 = 0x8004_5439;
    pub const TIOCGPTPEER: u32 = 0x5441;
}
