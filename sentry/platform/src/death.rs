//! Why did a guest's process end, if neither it nor anybody in the sandbox asked for that?
//!
//! Key type: [`Death`], whose text says what was seen. The kernel adds whose stub it was, and tells the operator.

use std::fmt;

/// What was seen of a stub before it was killed, or how the host ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It asked so often without having been told to.
    Strays(u32),
    /// A guest thread has ended on its own, and the process has not.
    Left,
    /// It posted a request of this kind, which there is not, or not then.
    Request(u32),
    /// It posted this in the middle of an order.
    Answer(u32),
    /// It named a place for its registers that lies elsewhere than on its signal stack.
    Frame,
    /// Ordered to map a file, it asked for something else.
    Mapping,
    /// Ordered to map a file, it asked again and again.
    Unmapped,
    /// It forked, and what it said of its child is false.
    Child(&'static str),
    /// The host refuses to serve its notifications, with this errno.
    Listener(i32),
    /// The host refuses to trace it.
    Untraced,
    /// Its tracer has ended.
    Orphaned,
    /// Under its tracer, an order of one instruction led it elsewhere.
    Strayed,
    /// Under its tracer, it did not take the descriptor that it was passed.
    Passing,
    /// A signal ended it, which nobody in the sandbox has sent.
    Signal(i32),
    /// It has ended, by no order and no signal that is known.
    Ended,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strays(count) => write!(f, "its stub asked {count} times for what nobody had ordered"),
            Self::Left => f.write_str("a thread of its stub has left without being told to"),
            Self::Request(kind) => write!(f, "its stub posted a request of the unknown kind {kind}"),
            Self::Answer(kind) => write!(f, "its stub broke off an order with kind {kind}"),
            Self::Frame => f.write_str("its stub named a signal frame outside of its signal stack"),
            Self::Mapping => f.write_str("its stub asked to map something else than it was told to"),
            Self::Unmapped => f.write_str("its stub did not get to the end of a mapping"),
            Self::Child(lie) => write!(f, "its stub {lie}"),
            Self::Listener(errno) => {
                write!(f, "the host does not serve its stub's notifications: errno {errno}")
            }
            Self::Untraced => f.write_str("the host does not let its stub be traced"),
            Self::Orphaned => f.write_str("the tracer of its stub has ended"),
            Self::Strayed => f.write_str("its stub was led astray in the middle of an order"),
            Self::Passing => f.write_str("its stub did not take a descriptor that it was passed"),
            Self::Signal(libc::SIGKILL) => {
                f.write_str("the host has killed its stub, as it does when memory is short")
            }
            Self::Signal(number) => write!(f, "its stub was ended by signal {number}, which nobody had sent"),
            Self::Ended => f.write_str("its stub has ended by no order of ours"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_by_the_host_is_told_from_other_signals() {
        assert!(Death::Signal(libc::SIGKILL).to_string().contains("memory is short"));
        assert!(Death::Signal(libc::SIGBUS).to_string().contains("signal 7"));
    }
}
