//! The bytes in a pipe: a ring that grows up to the pipe's capacity, and how they lie on its pages.
//!
//! A pipe holds a number of pages, full or not, as in Linux: what is written goes on in the last page if its odd end fits there, and into
//! new ones otherwise; a page is free again when all of it has been read. A packet (`O_DIRECT`) has a page of its own.
//!
//! Key type: [`Ring`].

use std::collections::VecDeque;

use crate::Errno;
use crate::account::{self, Charge};
use crate::io::{Sink, Source};

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
/// What a small pipe starts with; doubled as needed.
const FIRST_SIZE: usize = 4096;

/// Bytes in order, and the pages that they take.
#[derive(Debug, Default)]
pub(super) struct Ring {
    buf: Vec<u8>,
    head: usize,
    len: usize,
    /// INVARIANT: lengths sum up to `len`, none is 0.
    pieces: VecDeque<Piece>,
    /// Of whoever made it grow last.
    charge: Charge,
}

/// What is left of a page. LINUX: `struct pipe_buffer`.
#[derive(Debug, Clone, Copy)]
struct Piece {
    len: usize,
    /// Where it ends on its page; nothing more goes there from a whole one on.
    end: usize,
    is_packet: bool,
}

impl Ring {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many pages it takes.
    pub(super) fn pages(&self) -> usize {
        self.pieces.len()
    }

    /// How many of `n` more bytes fit, if it may take `pages` in all.
    pub(super) fn room(&self, n: usize, pages: usize, is_packet: bool) -> usize {
        let free = pages.saturating_sub(self.pages()).saturating_mul(PAGE);
        n.min(free.saturating_add(if is_packet { 0 } else { self.odd_end(n) }))
    }

    /// How many bytes of `n` go on in the last page. LINUX: `pipe_write`, before its loop.
    fn odd_end(&self, n: usize) -> usize {
        let odd = n % PAGE;
        let fits = self.pieces.back().is_some_and(|last| !last.is_packet && last.end + odd <= PAGE);
        if fits { odd } else { 0 }
    }

    /// Moves all to the front of a buffer that holds at least `size` bytes.
    fn reserve(&mut self, size: usize) -> Result<(), Errno> {
        if self.buf.len() >= size {
            return Ok(());
        }
        let size = size.next_power_of_two().max(FIRST_SIZE);
        self.charge = account::charge(size)?;
        let mut buf = vec![0; size];
        let (first, second) = self.filled(self.len);
        buf[..first.len()].copy_from_slice(first);
        buf[first.len()..first.len() + second.len()].copy_from_slice(second);
        self.buf = buf;
        self.head = 0;
        Ok(())
    }

    /// The first `n` bytes, as they lie.
    fn filled(&self, n: usize) -> (&[u8], &[u8]) {
        let n = n.min(self.len);
        let first = n.min(self.buf.len() - self.head);
        (&self.buf[self.head..self.head + first], &self.buf[..n - first])
    }

    /// Takes in up to `n` bytes of `source`. An error only if nothing came.
    pub(super) fn fill(
        &mut self,
        source: &mut dyn Source,
        n: usize,
        is_packet: bool,
    ) -> Result<usize, Errno> {
        let n = match self.reserve(self.len + n) {
            Ok(()) => n,
            // What there is already may do.
            Err(_) if self.buf.len() > self.len && !is_packet => n.min(self.buf.len() - self.len),
            Err(errno) => return Err(errno),
        };
        let mut done = 0;
        while done < n {
            let tail = (self.head + self.len) % self.buf.len();
            let free = if tail >= self.head && self.len < self.buf.len() {
                self.buf.len() - tail
            } else {
                self.head - tail
            };
            let step = free.min(n - done);
            match source.read(&mut self.buf[tail..tail + step]) {
                Ok(0) => break,
                Ok(got) => {
                    self.len += got;
                    done += got;
                }
                Err(errno) => {
                    // LINUX: `pipe_write`: of a page that cannot be filled nothing goes in.
                    let whole = self.whole_pages(done, n, is_packet);
                    self.len -= done - whole;
                    done = whole;
                    if done == 0 {
                        return Err(errno);
                    }
                    break;
                }
            }
        }
        self.note(done, is_packet);
        Ok(done)
    }

    /// How many of the `done` bytes of `n` fill the pages that they lie on.
    fn whole_pages(&self, done: usize, n: usize, is_packet: bool) -> usize {
        let goes_on = if is_packet { 0 } else { self.odd_end(n) };
        done.checked_sub(goes_on).map_or(0, |rest| goes_on + rest / PAGE * PAGE)
    }

    fn note(&mut self, len: usize, is_packet: bool) {
        let goes_on = if is_packet { 0 } else { self.odd_end(len) };
        if let Some(last) = self.pieces.back_mut() {
            last.len += goes_on;
            last.end += goes_on;
        }
        let mut left = len - goes_on;
        while left > 0 {
            let len = left.min(PAGE);
            self.pieces.push_back(Piece { len, end: len, is_packet });
            left -= len;
        }
    }

    /// Nothing more goes into the last page.
    pub(super) fn seal(&mut self) {
        if let Some(last) = self.pieces.back_mut() {
            last.end = PAGE;
        }
    }

    /// The first bytes, at most `limit` of them and from at most `pages` pages, as a copy.
    pub(super) fn peek_pages(&self, limit: usize, pages: usize) -> Vec<u8> {
        let there: usize = self.pieces.iter().take(pages).map(|piece| piece.len).sum();
        self.peek(limit.min(there))
    }

    /// Takes in the pages of another ring as they are there: nothing more goes into the last one.
    pub(super) fn fill_pages(&mut self, from: &Self, n: usize) -> Result<(), Errno> {
        let bytes = from.peek(n);
        let before = self.pieces.len();
        self.fill(&mut &bytes[..], bytes.len(), true)?;
        self.pieces.truncate(before);
        let mut left = bytes.len();
        for piece in &from.pieces {
            let len = piece.len.min(left);
            left -= len;
            if len > 0 {
                self.pieces.push_back(Piece { len, end: PAGE, is_packet: piece.is_packet });
            }
        }
        Ok(())
    }

    /// Gives up to `n` bytes to `sink`, one packet at most. What does not fit of a packet is dropped, as `pipe(2)` says.
    pub(super) fn drain(&mut self, sink: &mut dyn Sink, n: usize) -> Result<usize, Errno> {
        let mut done = 0;
        while done < n {
            let Some(piece) = self.pieces.front().copied() else { break };
            if piece.is_packet && done > 0 {
                break;
            }
            let want = piece.len.min(n - done);
            if let Err(errno) = self.give(sink, want) {
                if done == 0 {
                    return Err(errno);
                }
                break;
            }
            done += want;
            self.consume(if piece.is_packet { piece.len } else { want });
            if piece.is_packet {
                break;
            }
        }
        Ok(done)
    }

    /// Copies the first `want` bytes out, as many as the sink has room for at least. LINUX: `pipe_read`: what does not go out as a whole stays.
    fn give(&self, sink: &mut dyn Sink, want: usize) -> Result<(), Errno> {
        let (first, second) = self.filled(want);
        for part in [first, second] {
            if !part.is_empty() && sink.write(part)? < part.len() {
                return Err(Errno::EFAULT);
            }
        }
        Ok(())
    }

    /// Forgets the first `n` bytes.
    pub(super) fn consume(&mut self, n: usize) {
        let n = n.min(self.len);
        self.len -= n;
        self.head = if self.len == 0 { 0 } else { (self.head + n) % self.buf.len() };
        let mut left = n;
        while left > 0 {
            let Some(piece) = self.pieces.front_mut() else { break };
            let step = left.min(piece.len);
            piece.len -= step;
            left -= step;
            if piece.len == 0 {
                self.pieces.pop_front();
            }
        }
    }

    /// A copy of the first `n` bytes, which stay.
    pub(super) fn peek(&self, n: usize) -> Vec<u8> {
        let (first, second) = self.filled(n);
        [first, second].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::VecSink;

    fn take(ring: &mut Ring, n: usize) -> Vec<u8> {
        let mut sink = VecSink::new(n);
        ring.drain(&mut sink, n).unwrap();
        sink.bytes
    }

    #[test]
    fn bytes_come_out_in_order_around_the_end_of_the_buffer() {
        let mut ring = Ring::default();
        let mut next_in = 0u32;
        let mut next_out = 0u32;
        for round in 0..2000usize {
            let n = (round * 7919) % 3000;
            let bytes: Vec<u8> = (0..n)
                .map(|_| {
                    next_in += 1;
                    (next_in % 251) as u8
                })
                .collect();
            assert_eq!(ring.fill(&mut &bytes[..], n, false).unwrap(), n);
            for byte in take(&mut ring, (round * 104_729) % 3100) {
                next_out += 1;
                assert_eq!(byte, (next_out % 251) as u8);
            }
        }
    }

    #[test]
    fn a_full_buffer_wraps() {
        let mut ring = Ring::default();
        ring.fill(&mut &[1u8; 4096][..], 4096, false).unwrap();
        assert_eq!(take(&mut ring, 100).len(), 100);
        assert_eq!(ring.fill(&mut &[2u8; 100][..], 100, false).unwrap(), 100);
        assert_eq!(ring.len(), 4096);
        let all = take(&mut ring, 5000);
        assert_eq!(all.len(), 4096);
        assert!(all[..3996].iter().all(|&b| b == 1) && all[3996..].iter().all(|&b| b == 2));
    }

    #[test]
    fn a_packet_is_read_alone_and_its_rest_is_dropped() {
        let mut ring = Ring::default();
        ring.fill(&mut &b"hello"[..], 5, true).unwrap();
        ring.fill(&mut &b"world"[..], 5, true).unwrap();
        assert_eq!(take(&mut ring, 2), b"he");
        assert_eq!(take(&mut ring, 100), b"world");
        assert_eq!(ring.len(), 0);
    }

    #[test]
    fn a_stream_read_stops_before_a_packet() {
        let mut ring = Ring::default();
        ring.fill(&mut &b"ab"[..], 2, false).unwrap();
        ring.fill(&mut &b"cd"[..], 2, false).unwrap();
        ring.fill(&mut &b"xyz"[..], 3, true).unwrap();
        assert_eq!(take(&mut ring, 100), b"abcd");
        assert_eq!(take(&mut ring, 100), b"xyz");
    }
}
