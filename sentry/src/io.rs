//! Where bytes come from and go to, so that files need not know whether that is guest memory or a buffer.
//!
//! Key types: [`Source`] (bytes to be written to a file), [`Sink`] (bytes read from a file).
//! Guest memory behind them is read once: a source is consumed as it is read.

use platform::{BulkIn, BulkOut};

use crate::Errno;

/// Bytes on their way into a file or socket.
pub trait Source {
    /// How many bytes are left.
    fn remaining(&self) -> usize;

    /// Takes up to `buf.len()` bytes; fewer only at the end of the source or before a fault.
    ///
    /// # Errors
    /// EFAULT if not one byte could be read.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno>;

    /// The next bytes, at least one and at most `limit`, where they lie, if they lie in memory that the host can read them from; they stay.
    fn peek(&self, _limit: usize) -> Option<BulkIn<'_>> {
        None
    }

    /// Whoever wanted this is to end: a long transfer stops where it is.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Takes `n` bytes that nobody wants to see again; no more than remain.
    ///
    /// # Errors
    /// EFAULT if not all of them are there.
    fn skip(&mut self, n: usize) -> Result<(), Errno> {
        let mut scratch = [0; 1024];
        let mut left = n;
        while left > 0 {
            let step = left.min(scratch.len());
            match self.read(&mut scratch[..step])? {
                0 => return Err(Errno::EFAULT),
                got => left -= got,
            }
        }
        Ok(())
    }

    /// Takes all that is left, at most `limit` bytes.
    ///
    /// # Errors
    /// EFAULT if not one byte could be read.
    fn read_to_vec(&mut self, limit: usize) -> Result<Vec<u8>, Errno> {
        let mut buf = vec![0; self.remaining().min(limit)];
        let n = if buf.is_empty() { 0 } else { self.read(&mut buf)? };
        buf.truncate(n);
        Ok(buf)
    }
}

/// The first so many bytes of a source.
pub struct Limited<'a> {
    left: usize,
    source: &'a mut dyn Source,
}

impl<'a> Limited<'a> {
    /// At most `limit` bytes of `source`.
    pub fn new(source: &'a mut dyn Source, limit: u64) -> Self {
        Self { left: usize::try_from(limit).unwrap_or(usize::MAX), source }
    }
}

impl Source for Limited<'_> {
    fn remaining(&self) -> usize {
        self.source.remaining().min(self.left)
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let want = buf.len().min(self.left);
        let n = self.source.read(&mut buf[..want])?;
        self.left -= n;
        Ok(n)
    }

    fn peek(&self, limit: usize) -> Option<BulkIn<'_>> {
        self.source.peek(limit.min(self.left))
    }

    fn skip(&mut self, n: usize) -> Result<(), Errno> {
        self.source.skip(n)?;
        self.left -= n;
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.source.is_cancelled()
    }
}

/// Bytes on their way out of a file or socket.
pub trait Sink {
    /// How much room is left.
    fn remaining(&self) -> usize;

    /// Puts bytes; fewer than given only at the end of the sink or before a fault.
    ///
    /// # Errors
    /// EFAULT if not one byte could be written.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno>;

    /// Whoever wanted this is to end: a long transfer stops where it is.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Room for the next `len` bytes where the host can put them; what is put there counts once [`Sink::filled`] says so.
    fn room(&mut self, _len: usize) -> Option<BulkOut<'_>> {
        None
    }

    /// The first `n` bytes of the last room are the sink's next bytes.
    ///
    /// # Errors
    /// EFAULT.
    fn filled(&mut self, n: usize) -> Result<usize, Errno> {
        if n == 0 { Ok(0) } else { Err(Errno::EFAULT) }
    }
}

impl Source for &[u8] {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let n = buf.len().min(self.len());
        let (head, tail) = self.split_at(n);
        buf[..n].copy_from_slice(head);
        *self = tail;
        Ok(n)
    }
}

/// A sink that grows up to a limit.
#[derive(Debug, Default)]
pub struct VecSink {
    /// What has been written.
    pub bytes: Vec<u8>,
    limit: usize,
}

impl VecSink {
    /// Room for `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }
}

impl Sink for VecSink {
    fn remaining(&self) -> usize {
        self.limit - self.bytes.len()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let n = bytes.len().min(self.remaining());
        self.bytes.extend_from_slice(&bytes[..n]);
        Ok(n)
    }
}
