//! What does `dmesg` show? The sandbox's own kernel log, never the host's.
//!
//! Key type: [`KernelLog`].

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use platform::host::clock::{Clock, now_ns};

/// Size of the log in bytes as `syslog(2)` tells it; the oldest lines go when it is full.
pub const LOG_SIZE: usize = 64 << 10;

/// Lines with their time since boot, and what `SYSLOG_ACTION_CLEAR` has hidden.
#[derive(Debug)]
pub struct KernelLog {
    /// LOCK: leaf.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<Line>,
    bytes: usize,
    next_sequence: u64,
    /// Lines before this one have been cleared.
    cleared: u64,
    /// Lines before this one have been read by `SYSLOG_ACTION_READ`.
    read: u64,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number since boot.
    pub sequence: u64,
    /// Microseconds since boot.
    pub time_us: u64,
    /// 0 (emergency) to 7 (debug).
    pub level: u8,
    /// Without line end.
    pub text: String,
}

impl Line {
    /// As `syslog(2)` hands it out.
    #[must_use]
    pub fn to_text(&self) -> String {
        let (seconds, micros) = (self.time_us / 1_000_000, self.time_us % 1_000_000);
        format!("<{}>[{seconds:5}.{micros:06}] {}\n", self.level, self.text)
    }
}

impl KernelLog {
    /// A log that tells how the sandbox came up.
    #[must_use]
    pub fn new(release: &str, cpus: usize, memory_bytes: u64) -> Self {
        let log = Self { inner: Mutex::default() };
        let kib = memory_bytes / 1024;
        let lines = [
            format!("Linux version {release} (rvisor@sandbox) (rustc, no C was compiled) #1 SMP rvisor"),
            "rvisor: this kernel is a process, and content to be one".to_owned(),
            "seccomp: two walls up; the doors are files, sockets, memory and clocks".to_owned(),
            format!("Memory: {kib}K, all of it on loan from the host; pages move in when first touched"),
            format!("smp: {cpus} CPUs; every task brings a thread of its own and a shadow that answers"),
            "clocksource: vdso, read where you stand".to_owned(),
            "futex: handed to the neighbours downstairs, who do them natively".to_owned(),
            "VFS: the gofer fetches names, the data walks by itself".to_owned(),
            "devtmpfs: initialized; /dev/null has been emptied for you".to_owned(),
            "random: crng init done, with the host's dice".to_owned(),
            "rvisor: ready; system calls are answered here".to_owned(),
        ];
        let began_us = now_ns(Clock::Monotonic) / 1000;
        for (index, text) in lines.into_iter().enumerate() {
            log.push_at(began_us + index as u64 * 137, 6, text);
        }
        log
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub fn push(&self, level: u8, text: String) {
        let time_us = now_ns(Clock::Monotonic) / 1000;
        self.push_at(time_us, level, text);
    }

    fn push_at(&self, time_us: u64, level: u8, mut text: String) {
        const LINE_MAX: usize = 976; // LINUX: `PRINTKRB_RECORD_MAX` less its prefix.
        while text.len() > LINE_MAX {
            text.pop();
        }
        let mut inner = self.lock();
        let sequence = inner.next_sequence;
        inner.next_sequence += 1;
        inner.bytes += text.len();
        inner.lines.push_back(Line { sequence, time_us, level, text });
        while inner.bytes > LOG_SIZE {
            let Some(oldest) = inner.lines.pop_front() else { break };
            inner.bytes -= oldest.text.len();
        }
    }

    /// The first line at or after `sequence`.
    #[must_use]
    pub fn line_from(&self, sequence: u64) -> Option<Line> {
        self.lock().lines.iter().find(|line| line.sequence >= sequence).cloned()
    }

    /// The last `limit` bytes since the last clear, in whole lines; then clears, if told to.
    #[must_use]
    pub fn read_all(&self, limit: usize, clear: bool) -> String {
        let mut inner = self.lock();
        let mut texts = Vec::new();
        let mut size = 0;
        for line in inner.lines.iter().rev().take_while(|line| line.sequence >= inner.cleared) {
            let text = line.to_text();
            size += text.len();
            if size > limit {
                break;
            }
            texts.push(text);
        }
        if clear {
            inner.cleared = inner.next_sequence;
        }
        texts.into_iter().rev().collect()
    }

    /// Hides all lines from [`KernelLog::read_all`].
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.cleared = inner.next_sequence;
    }

    /// Lines that nobody has read this way before, up to `limit` bytes; empty if there are none.
    #[must_use]
    pub fn read_new(&self, limit: usize) -> String {
        let mut inner = self.lock();
        let mut text = String::new();
        let mut read = inner.read;
        for line in inner.lines.iter().filter(|line| line.sequence >= inner.read) {
            let next = line.to_text();
            if text.len() + next.len() > limit {
                break;
            }
            text.push_str(&next);
            read = line.sequence + 1;
        }
        inner.read = read;
        text
    }

    /// Bytes that [`KernelLog::read_new`] would still give.
    #[must_use]
    pub fn unread(&self) -> usize {
        let inner = self.lock();
        inner.lines.iter().filter(|line| line.sequence >= inner.read).map(|line| line.to_text().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_who_answers() {
        let log = KernelLog::new("6.6.0-rvisor", 2, 1 << 30);
        let text = log.read_all(LOG_SIZE, false);
        let (time, line) = text.split_once("] ").unwrap();
        assert!(time.starts_with("<6>[") && line.starts_with("Linux version 6.6.0-rvisor"), "{text}");
        assert!(text.ends_with("rvisor: ready; system calls are answered here\n"));
    }

    #[test]
    fn a_short_buffer_gets_the_last_whole_lines() {
        let log = KernelLog::new("x", 1, 0);
        log.push(4, "last".to_owned());
        let text = log.read_all(40, false);
        assert!(text.starts_with("<4>[") && text.ends_with("] last\n"), "{text}");
    }

    #[test]
    fn clearing_hides_and_reading_consumes() {
        let log = KernelLog::new("x", 1, 0);
        assert!(!log.read_all(LOG_SIZE, true).is_empty());
        assert_eq!(log.read_all(LOG_SIZE, false), "");
        assert_eq!(log.unread(), log.read_new(LOG_SIZE).len());
        assert_eq!(log.unread(), 0);
    }

    #[test]
    fn the_log_does_not_grow_for_ever() {
        let log = KernelLog::new("x", 1, 0);
        for _ in 0..2000 {
            log.push(6, "y".repeat(100));
        }
        assert!(log.lock().bytes <= LOG_SIZE);
    }
}
