//! Which options do sockets of every family have? LINUX: `sk_setsockopt`, `sk_getsockopt`.
//!
//! Key types: [`Common`] (what every socket keeps), [`Own`] (what only sockets of our own keep; the host's keep theirs).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use linux_abi::net::option as so;
use platform::host::clock::{Clock, now_ns};
use zerocopy::{FromBytes, IntoBytes};

use super::control::Cmsg;
use super::{Socket, lock};
use crate::Errno;
use crate::task::{Capability, Task};

/// Default of `SO_SNDBUF` and `SO_RCVBUF`. LINUX: `net.core.wmem_default`.
pub const BUFFER_DEFAULT: u32 = 212_992;
/// Most that a guest may ask for. LINUX: `net.core.wmem_max`; what is asked for is doubled.
const BUFFER_MAX: u32 = 212_992;
/// Least. LINUX: `SOCK_MIN_SNDBUF`.
const BUFFER_MIN: u32 = 4608;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// Which timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// `SO_RCVTIMEO`.
    Receive,
    /// `SO_SNDTIMEO`.
    Send,
}

/// What every socket has.
#[derive(Debug, Default)]
pub struct Common {
    /// Receive and send timeout in nanoseconds; 0: none. LOCK: leaf.
    timeouts: Mutex<[u64; 2]>,
    /// The number of its node and whose it is; 0 for one that nobody has a descriptor of yet.
    node: AtomicU64,
    uid: AtomicU32,
    /// `SO_PASSCRED` of a socket for which it means nothing.
    passes_credentials: AtomicBool,
}

impl Common {
    /// When a call that begins now has to be over.
    #[must_use]
    pub fn deadline(&self, direction: Direction) -> Option<u64> {
        match lock(&self.timeouts)[direction as usize] {
            0 => None,
            timeout => Some(now_ns(Clock::Monotonic).saturating_add(timeout)),
        }
    }

    /// A file has been made of it.
    pub(super) fn set_node(&self, node: u64, uid: u32) {
        self.uid.store(uid, Ordering::Relaxed);
        self.node.store(node, Ordering::Relaxed);
    }

    /// Whose it is, and the number of its node, as `/proc/net` shows them.
    #[must_use]
    pub fn node(&self) -> (u32, u64) {
        (self.uid.load(Ordering::Relaxed), self.node.load(Ordering::Relaxed))
    }

    /// `SO_PASSCRED` of a socket of the host.
    ///
    /// # Errors
    /// EINVAL for a short value.
    pub(super) fn set_passes_credentials(&self, value: &[u8]) -> Result<(), Errno> {
        self.passes_credentials.store(int(value)? != 0, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn passes_credentials(&self) -> bool {
        self.passes_credentials.load(Ordering::Relaxed)
    }

    /// Answers the timeouts' options.
    #[must_use]
    pub fn get(&self, level: i32, name: i32) -> Option<Vec<u8>> {
        let timeout = lock(&self.timeouts)[direction(level, name)? as usize];
        let words = [timeout / NS_PER_SECOND, timeout % NS_PER_SECOND / 1000];
        Some(words.as_bytes().to_vec())
    }

    /// Sets a timeout, if that is what is asked.
    ///
    /// # Errors
    /// EINVAL for a short value; EDOM for microseconds out of range.
    pub fn set(&self, level: i32, name: i32, value: &[u8]) -> Option<Result<(), Errno>> {
        let direction = direction(level, name)?;
        Some(self.set_timeout(direction, value))
    }

    fn set_timeout(&self, direction: Direction, value: &[u8]) -> Result<(), Errno> {
        let (words, _) = <[i64; 2]>::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
        let [seconds, micros] = words;
        if !(0..1_000_000).contains(&micros) {
            return Err(Errno::EDOM);
        }
        // LINUX: sock_set_timeout, a negative time does not wait at all.
        let timeout = match (u64::try_from(seconds), u64::try_from(micros)) {
            (Ok(seconds), Ok(micros)) => seconds.saturating_mul(NS_PER_SECOND).saturating_add(micros * 1000),
            _ => 1,
        };
        lock(&self.timeouts)[direction as usize] = timeout;
        Ok(())
    }
}

fn direction(level: i32, name: i32) -> Option<Direction> {
    match (level, name) {
        (so::SOL_SOCKET, so::SO_RCVTIMEO | so::SO_RCVTIMEO_NEW) => Some(Direction::Receive),
        (so::SOL_SOCKET, so::SO_SNDTIMEO | so::SO_SNDTIMEO_NEW) => Some(Direction::Send),
        _ => None,
    }
}

/// An `int` as an option's value.
///
/// # Errors
/// EINVAL if it is too short.
pub fn int(value: &[u8]) -> Result<i32, Errno> {
    i32::read_from_prefix(value).map(|(number, _)| number).map_err(|_| Errno::EINVAL)
}

/// How exactly the time of receipt is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamp {
    /// `SO_TIMESTAMP`: seconds and microseconds.
    Micro,
    /// `SO_TIMESTAMPNS`: seconds and nanoseconds.
    Nano,
}

impl Timestamp {
    fn of(name: i32) -> Self {
        if name == so::SO_TIMESTAMP { Self::Micro } else { Self::Nano }
    }

    /// The control message that tells it. LINUX: `__sock_recv_timestamp`: what has come over no network has no time yet, and gets it now.
    #[must_use]
    pub fn message(self) -> Cmsg {
        let now = now_ns(Clock::Realtime);
        let (kind, unit) = match self {
            Self::Micro => (so::SO_TIMESTAMP, 1000),
            Self::Nano => (so::SO_TIMESTAMPNS, 1),
        };
        let words = [now / NS_PER_SECOND, now % NS_PER_SECOND / unit];
        Cmsg { level: so::SOL_SOCKET, kind, data: words.as_bytes().to_vec() }
    }
}

/// What sockets of our own keep of `SOL_SOCKET`.
#[derive(Debug, Clone)]
pub struct Own {
    /// `SO_SNDBUF`, doubled.
    pub send_buffer: u32,
    /// `SO_RCVBUF`, doubled.
    pub receive_buffer: u32,
    /// `SO_PASSCRED`.
    pub passes_credentials: bool,
    /// `SO_RCVLOWAT`.
    pub receive_low: i32,
    /// What comes with a datagram that says when it was received.
    pub timestamp: Option<Timestamp>,
    linger: [i32; 2],
    priority: i32,
    mark: i32,
    /// The options that are only a switch, as bits.
    switches: u32,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            send_buffer: BUFFER_DEFAULT,
            receive_buffer: BUFFER_DEFAULT,
            passes_credentials: false,
            receive_low: 1,
            timestamp: None,
            linger: [0; 2],
            priority: 0,
            mark: 0,
            switches: 0,
        }
    }
}

/// Switches that a socket of our own keeps and does nothing about.
const SWITCHES: [i32; 8] = [
    so::SO_REUSEADDR,
    so::SO_DONTROUTE,
    so::SO_BROADCAST,
    so::SO_KEEPALIVE,
    so::SO_OOBINLINE,
    so::SO_NO_CHECK,
    so::SO_REUSEPORT,
    so::SO_DEBUG,
];

fn doubled(value: i32, limit: u32) -> u32 {
    value.cast_unsigned().min(limit).saturating_mul(2).max(BUFFER_MIN)
}

impl Own {
    /// Answers an option of `SOL_SOCKET`.
    ///
    /// # Errors
    /// ENOPROTOOPT.
    pub fn get(&self, socket: &dyn Socket, name: i32) -> Result<Vec<u8>, Errno> {
        let number = |value: u32| Ok(value.as_bytes().to_vec());
        match name {
            so::SO_TYPE => number(socket.kind().number()),
            so::SO_DOMAIN => number(u32::from(socket.family())),
            so::SO_PROTOCOL => number(0),
            so::SO_MARK => Ok(self.mark.as_bytes().to_vec()),
            so::SO_SNDBUF => number(self.send_buffer),
            so::SO_RCVBUF => number(self.receive_buffer),
            so::SO_PASSCRED => number(u32::from(self.passes_credentials)),
            so::SO_RCVLOWAT => Ok(self.receive_low.as_bytes().to_vec()),
            so::SO_SNDLOWAT => number(1),
            so::SO_BINDTODEVICE => Ok(Vec::new()),
            so::SO_LINGER => Ok(self.linger.as_bytes().to_vec()),
            so::SO_PRIORITY => Ok(self.priority.as_bytes().to_vec()),
            so::SO_TIMESTAMP | so::SO_TIMESTAMPNS => {
                number(u32::from(self.timestamp == Some(Timestamp::of(name))))
            }
            _ => {
                let bit = SWITCHES.iter().position(|&known| known == name).ok_or(Errno::ENOPROTOOPT)?;
                number(self.switches >> bit & 1)
            }
        }
    }

    /// Sets an option of `SOL_SOCKET`.
    ///
    /// # Errors
    /// ENOPROTOOPT; EINVAL for a short value; EPERM.
    pub fn set(&mut self, task: &Task, name: i32, value: &[u8]) -> Result<(), Errno> {
        if name == so::SO_BINDTODEVICE && names_no_device(value) {
            return Ok(());
        }
        let number = int(value)?;
        match name {
            so::SO_SNDBUF => self.send_buffer = doubled(number, BUFFER_MAX),
            so::SO_RCVBUF => self.receive_buffer = doubled(number, BUFFER_MAX),
            // LINUX: beyond the limit for the administrator; here the limit holds for all.
            so::SO_SNDBUFFORCE if is_admin(task) => self.send_buffer = doubled(number, BUFFER_MAX),
            so::SO_RCVBUFFORCE if is_admin(task) => self.receive_buffer = doubled(number, BUFFER_MAX),
            so::SO_SNDBUFFORCE | so::SO_RCVBUFFORCE => return Err(Errno::EPERM),
            so::SO_PASSCRED => self.passes_credentials = number != 0,
            so::SO_RCVLOWAT => self.receive_low = if number < 0 { i32::MAX } else { number.max(1) },
            so::SO_LINGER => {
                let (linger, _) = <[i32; 2]>::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
                self.linger = linger;
            }
            // LINUX: sock_set_timestamp: the two are one switch.
            so::SO_TIMESTAMP | so::SO_TIMESTAMPNS => {
                self.timestamp = (number != 0).then_some(Timestamp::of(name));
            }
            so::SO_PRIORITY if (0..=6).contains(&number) || is_admin(task) => self.priority = number,
            so::SO_PRIORITY => return Err(Errno::EPERM),
            so::SO_DEBUG if number != 0 && !is_admin(task) => return Err(Errno::EACCES),
            so::SO_MARK if is_admin(task) => self.mark = number,
            so::SO_MARK => return Err(Errno::EPERM),
            _ => {
                let bit = SWITCHES.iter().position(|&known| known == name).ok_or(Errno::ENOPROTOOPT)?;
                self.switches = self.switches & !(1 << bit) | u32::from(number != 0) << bit;
            }
        }
        Ok(())
    }
}

/// The value of `SO_BINDTODEVICE` that leaves a socket to all devices; there is no other that is served.
pub fn names_no_device(value: &[u8]) -> bool {
    matches!(value, [] | [0, ..])
}

fn is_admin(task: &Task) -> bool {
    task.credentials().has(Capability::NetAdmin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_kept_to_the_microsecond() {
        let common = Common::default();
        assert_eq!(common.deadline(Direction::Send), None);
        let words: [i64; 2] = [3, 250_000];
        assert_eq!(common.set(so::SOL_SOCKET, so::SO_SNDTIMEO, words.as_bytes()), Some(Ok(())));
        assert_eq!(common.get(so::SOL_SOCKET, so::SO_SNDTIMEO), Some(words.as_bytes().to_vec()));
        assert!(common.deadline(Direction::Send).is_some());
        assert_eq!(common.deadline(Direction::Receive), None);
    }

    #[test]
    fn bad_timeouts_are_refused() {
        let common = Common::default();
        let words: [i64; 2] = [3, 1_000_000];
        assert_eq!(common.set(so::SOL_SOCKET, so::SO_RCVTIMEO, words.as_bytes()), Some(Err(Errno::EDOM)));
        assert_eq!(common.set(so::SOL_SOCKET, so::SO_RCVTIMEO, &[0; 8]), Some(Err(Errno::EINVAL)));
        assert_eq!(common.set(so::SOL_SOCKET, so::SO_TYPE, &[0; 8]), None);
    }

    #[test]
    fn buffer_sizes_are_doubled_within_limits() {
        assert_eq!(doubled(30_000, BUFFER_MAX), 60_000);
        assert_eq!(doubled(1, BUFFER_MAX), BUFFER_MIN);
        assert_eq!(doubled(i32::MAX, BUFFER_MAX), 2 * BUFFER_MAX);
    }
}
