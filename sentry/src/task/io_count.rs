//! How much has a task read and written? `/proc/PID/io`. LINUX: `struct task_io_accounting`.
//!
//! Key types: [`IoCount`], [`IoFigures`]. Each thread counts for itself, and what it counted goes to its process when it ends.

use std::sync::atomic::{AtomicU64, Ordering};

/// What has been counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "lines of /proc/PID/io")]
pub struct IoFigures {
    pub rchar: u64,
    pub wchar: u64,
    pub syscr: u64,
    pub syscw: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub cancelled_write_bytes: u64,
}

impl IoFigures {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            rchar: self.rchar.wrapping_add(other.rchar),
            wchar: self.wchar.wrapping_add(other.wchar),
            syscr: self.syscr.wrapping_add(other.syscr),
            syscw: self.syscw.wrapping_add(other.syscw),
            read_bytes: self.read_bytes.wrapping_add(other.read_bytes),
            write_bytes: self.write_bytes.wrapping_add(other.write_bytes),
            cancelled_write_bytes: self.cancelled_write_bytes.wrapping_add(other.cancelled_write_bytes),
        }
    }
}

/// Counts. PERF: only its own thread adds, so that an addition is a load and a store.
#[derive(Debug, Default)]
pub struct IoCount {
    rchar: AtomicU64,
    wchar: AtomicU64,
    syscr: AtomicU64,
    syscw: AtomicU64,
    write_bytes: AtomicU64,
}

fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl IoCount {
    /// A call has read so much.
    pub fn has_read(&self, bytes: usize) {
        add(&self.rchar, bytes as u64);
        add(&self.syscr, 1);
    }

    /// A call has written so much.
    pub fn has_written(&self, bytes: usize) {
        add(&self.wchar, bytes as u64);
        add(&self.syscw, 1);
    }

    /// So much of it is to reach storage.
    pub fn has_stored(&self, bytes: usize) {
        add(&self.write_bytes, bytes as u64);
    }

    /// What there is. Reads from storage are not counted: the host's page cache decides which they are.
    #[must_use]
    pub fn figures(&self) -> IoFigures {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        IoFigures {
            rchar: get(&self.rchar),
            wchar: get(&self.wchar),
            syscr: get(&self.syscr),
            syscw: get(&self.syscw),
            write_bytes: get(&self.write_bytes),
            ..IoFigures::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_bytes_are_counted_apart() {
        let count = IoCount::default();
        count.has_read(10);
        count.has_read(0);
        count.has_written(7);
        count.has_stored(7);
        let figures = count.figures();
        assert_eq!((figures.rchar, figures.syscr), (10, 2));
        assert_eq!((figures.wchar, figures.syscw, figures.write_bytes), (7, 1, 7));
        assert_eq!(figures.plus(figures).rchar, 20);
    }
}
