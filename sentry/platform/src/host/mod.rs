//! Doors to the host: the only ways by which the kernel reaches anything outside itself, all of them safe.
//!
//! One file per door: [`clock`] (time), [`file`] (donated files and memory files), [`socket`] (sockets in the
//! sandbox's own network namespace), [`parker`] and [`epoll`] (sleeping until host descriptors are ready), [`poller`] (the same
//! for those who sleep elsewhere), [`machine`] (processors, memory).
//! Each turns the host's errors into [`linux_abi::Errno`]; none opens a path.

pub mod clock;
pub mod epoll;
pub mod file;
pub mod machine;
pub mod parker;
pub mod poller;
pub mod socket;

use linux_abi::Errno;

/// The host's error as the guest may see it.
#[must_use]
pub fn errno(error: rustix::io::Errno) -> Errno {
    Errno::new(error.raw_os_error())
}
