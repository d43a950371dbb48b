//! What rides along with a call, and what goes back with its answer? The stub copies both, so that no remote copy is needed.
//!
//! Key type: [`Along`]. Small things lie in the hand-over page (arguments) and in the order page (results), larger ones in the slot's
//! bulk window, which one call uses for the one or the other. PERF: a remote copy costs 1.5 to 2 us and 80 ns a KiB on
//! the test machines, a copy through shared memory 40 ns a KiB in all; but a page of the window that is touched for the first time costs
//! 3.6 us. So a thread begins with a small window, which grows when it wants more again and again, and a window
//! is given back when its thread sleeps for long.
//!
//! What the page says about lengths and places is the guest's claim, and checked; the bytes are the guest's in any case.

use crate::stub::arena::Window;
use crate::stub::layout::{BULK, BULK_SIZE, IN_BULK, PREFETCH_IOVECS, PREFETCH_MAX, RW, place, ro, rw};

/// How much of the bulk window a thread may use at first.
const FIRST_LIMIT: u64 = 0x2000;
/// How often more must have been wanted before it gets it.
const WISHES: u32 = 4;
/// Kept free in the order page, for the heads of results in the bulk window.
const HEADS: u64 = 0x100;
/// Bytes of the head of a result: address and length.
const HEAD: u64 = 16;

/// A stretch of guest memory of which a copy is at hand.
#[derive(Debug, Clone, Copy)]
struct Segment {
    addr: u64,
    len: u64,
    /// Offset in the slot.
    at: u64,
}

/// Where results that are being made will lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    None,
    /// In the order page, for one result.
    Page(u64),
    /// In the bulk window, for the results together.
    Bulk(u64),
}

/// A guest thread's arguments and results on their way.
#[derive(Debug)]
pub(super) struct Along {
    segments: Vec<Segment>,
    /// Results in the order page.
    count: u32,
    /// Where the next one's head goes, in the order page.
    next: u64,
    /// Bytes of results in the bulk window.
    bulk_next: u64,
    room: Room,
    /// Pages of the bulk window may have been touched.
    is_dirty: bool,
    /// How much of the bulk window is used; 0: the stub copies nothing.
    limit: u64,
    wishes: u32,
    /// Bytes of this call's arguments and results so far, also of those that were too long to ride along.
    moved: u64,
}

impl Along {
    /// Nothing yet; `is_on`: the stub may copy at all.
    pub(super) fn new(window: &Window, is_on: bool) -> Self {
        let limit = if is_on { FIRST_LIMIT } else { 0 };
        let along = Self {
            segments: Vec::new(),
            count: 0,
            next: ro::WRITE_DATA,
            bulk_next: 0,
            room: Room::None,
            is_dirty: false,
            limit,
            wishes: 0,
            moved: 0,
        };
        along.tell(window);
        along
    }

    fn tell(&self, window: &Window) {
        window.set32(ro::BULK_LIMIT, u32::try_from(self.limit).expect("small"));
    }

    /// More of the window was wanted than is used.
    fn wish(&mut self, window: &Window, len: u64) {
        if len <= self.limit || len > BULK_SIZE || self.limit == 0 {
            return;
        }
        self.wishes += 1;
        if self.wishes >= WISHES {
            self.wishes = 0;
            self.limit = len.next_power_of_two().min(BULK_SIZE);
            self.tell(window);
        }
    }

    /// Bytes of the call that is about to be answered.
    pub(super) const fn take_moved(&mut self) -> u64 {
        std::mem::replace(&mut self.moved, 0)
    }

    /// No arguments are at hand.
    pub(super) fn forget(&mut self) {
        self.segments.clear();
    }

    /// A call has come: what is at hand with it?
    pub(super) fn take(&mut self, window: &Window) {
        self.segments.clear();
        let len = window.get64(RW + rw::PREFETCH_LEN);
        if len == 0 {
            return;
        }
        let Some(at) = self.locate(window, len, window.get32(RW + rw::PREFETCH_PLACE), rw::PREFETCH_DATA)
        else {
            return;
        };
        self.segments.push(Segment { addr: window.get64(RW + rw::PREFETCH_ADDR), len, at });
        let gathered = window.get64(RW + rw::GATHER_LEN);
        if gathered == 0 {
            return;
        }
        if let Some(at) = self.locate(window, gathered, window.get32(RW + rw::GATHER_PLACE), rw::GATHER_DATA)
        {
            self.take_gathered(window, len / HEAD, at, gathered);
        }
    }

    /// Where `len` bytes lie that the page says are at `place`.
    fn locate(&mut self, window: &Window, len: u64, place: u32, in_page: u64) -> Option<u64> {
        match place {
            place::PAGE if len <= PREFETCH_MAX => Some(RW + in_page),
            place::BULK if len <= BULK_SIZE => {
                self.moved = len;
                self.is_dirty = true;
                Some(BULK)
            }
            place::TOO_LONG => {
                self.moved = len;
                self.wish(window, len);
                None
            }
            _ => None,
        }
    }

    /// The bytes that the elements of an I/O vector name lie one after the other.
    fn take_gathered(&mut self, window: &Window, count: u64, at: u64, total: u64) {
        let mut done = 0;
        for element in 0..count.min(PREFETCH_IOVECS) {
            let head = RW + rw::PREFETCH_DATA + element * HEAD;
            let (addr, len) = (window.get64(head), window.get64(head + 8));
            let len = len.min(total - done);
            if len > 0 {
                self.segments.push(Segment { addr, len, at: at + done });
                done += len;
            }
        }
    }

    /// Offset in the slot of a copy of `addr..addr + len`.
    pub(super) fn find(&self, addr: u64, len: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let into = addr.wrapping_sub(segment.addr);
            (into <= segment.len && len <= segment.len - into).then(|| segment.at + into)
        })
    }

    /// Offset in the slot and length of what is at hand from `addr` on.
    pub(super) fn find_rest(&self, addr: u64) -> Option<(u64, u64)> {
        self.segments.iter().find_map(|segment| {
            let into = addr.wrapping_sub(segment.addr);
            (into < segment.len).then(|| (segment.at + into, segment.len - into))
        })
    }

    /// The bulk window is needed for results: arguments there are gone.
    fn use_bulk(&mut self) {
        self.is_dirty = true;
        self.segments.retain(|segment| segment.at < BULK);
    }

    /// Room for `pieces` results of `len` bytes together: its offset in the slot.
    pub(super) fn reserve(&mut self, window: &Window, len: u64, pieces: u64) -> Option<u64> {
        self.room = Room::None;
        if self.limit == 0 {
            return None;
        }
        if pieces == 1 && self.next + HEAD + len.next_multiple_of(8) <= ro::WRITE_DATA_END - HEADS {
            self.room = Room::Page(len);
            return Some(self.next + HEAD);
        }
        if len > self.limit.saturating_sub(self.bulk_next) {
            self.wish(window, len);
            return None;
        }
        if self.next + HEAD * pieces > ro::WRITE_DATA_END {
            return None;
        }
        self.room = Room::Bulk(len);
        self.use_bulk();
        Some(BULK + self.bulk_next)
    }

    /// The next `len` bytes of the room go to `addr`; `false`: there is no such room.
    pub(super) fn commit(&mut self, window: &Window, addr: u64, len: u64) -> bool {
        match self.room {
            Room::Page(room) if len <= room => {
                self.head(window, addr, len);
                self.next += len.next_multiple_of(8);
                self.room = Room::None;
            }
            Room::Bulk(room) if len <= room => {
                self.moved = self.moved.saturating_add(len);
                self.head(window, addr, len | IN_BULK);
                self.bulk_next += len;
                self.room = Room::Bulk(room - len);
            }
            _ => return false,
        }
        true
    }

    fn head(&mut self, window: &Window, addr: u64, len: u64) {
        window.set64(self.next, addr);
        window.set64(self.next + 8, len);
        self.next += HEAD;
        self.count += 1;
    }

    /// Lays a result out; `false`: no room.
    pub(super) fn defer(&mut self, window: &Window, addr: u64, bytes: &[u8]) -> bool {
        let len = bytes.len() as u64;
        let Some(at) = self.reserve(window, len, 1) else {
            self.moved = self.moved.saturating_add(len);
            return false;
        };
        window.write(at, bytes);
        self.commit(window, addr, len)
    }

    /// Results are waiting.
    pub(super) const fn has_results(&self) -> bool {
        self.count > 0
    }

    /// The stub's next order includes all results so far.
    pub(super) fn send(&mut self, window: &Window) {
        window.set32(ro::WRITES, self.count);
        self.sent();
    }

    fn sent(&mut self) {
        (self.count, self.next, self.bulk_next, self.room) = (0, ro::WRITE_DATA, 0, Room::None);
    }

    /// Gives the bulk window's memory back, with what is in it.
    pub(super) fn trim(&mut self, window: &Window) {
        if !self.is_dirty {
            return;
        }
        self.segments.retain(|segment| segment.at < BULK);
        self.is_dirty = !window.give_back(BULK, BULK_SIZE);
        self.limit = self.limit.min(FIRST_LIMIT);
        self.wishes = 0;
        self.tell(window);
    }

    /// The bulk window may hold memory.
    pub(super) const fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// It may hold much.
    pub(super) const fn is_large(&self) -> bool {
        self.is_dirty && self.limit > FIRST_LIMIT
    }
}
