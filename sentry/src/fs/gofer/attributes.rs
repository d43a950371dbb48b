//! What is remembered of a node's attributes, and what of it is true now?
//!
//! Key types: [`Attributes`], [`Changes`], [`Freshness`]. What permission is checked by (kind, bits, owner) changes only by
//! `set_attr`, which tells it anew. Size, times and links change by every transfer, by mappings and by names: nobody
//! writes them down, but each change is counted, and what was told before the last change is not true any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gofer_protocol::mark;
use platform::host::clock::{Clock, now_ns};

use super::Trust;
use crate::vfs::acl::Acl;
use crate::vfs::{Moment, Stat, now};

/// How long the owner and the bits of a volume's file are taken to be what they were, in nanoseconds: one walk, not more.
const FRESH_NS: u64 = 100_000;
/// A change of the host's that follows another within this time may leave the same time of change, in nanoseconds.
const TICK_NS: i64 = 20_000_000;
/// One change that has ended, in [`Changes`].
const ENDED: u64 = 1 << 32;

/// Counts what moves size, times and links. The low half: changes that are under way; the high half: those that have ended.
///
/// INVARIANT: attributes that the host told while nothing was under way are true as long as this does not change.
#[derive(Default)]
pub(super) struct Changes(AtomicU64);

/// A change that is under way.
pub(super) struct Change<'a>(&'a Changes);

impl Changes {
    /// Until what is answered is dropped, nothing that is remembered is true.
    pub(super) fn begin(&self) -> Change<'_> {
        self.0.fetch_add(1, Ordering::AcqRel);
        Change(self)
    }

    /// A change that never ends: a guest has the file mapped and may write at any time.
    pub(super) fn begin_for_ever(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// Something has changed.
    pub(super) fn add(&self) {
        self.0.fetch_add(ENDED, Ordering::AcqRel);
    }

    /// To be taken before the host is asked.
    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        // One fewer under way, one more ended.
        self.0.0.fetch_add(ENDED - 1, Ordering::AcqRel);
    }
}

/// When the host or the gofer was asked: taken before, since what is told may be as old as that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// On the monotonic clock.
    pub(super) ns: u64,
    /// In the order of what happens.
    pub(super) at: Moment,
    /// What had changed until then; `None` where that is not known.
    pub(super) changes: Option<u64>,
}

impl Asked {
    /// Before it is known which node will be told of.
    pub(super) fn for_any() -> Self {
        Self { ns: now_ns(Clock::Monotonic), at: Moment::mark(), changes: None }
    }

    /// Before this node is asked for.
    pub(super) fn after(changes: &Changes) -> Self {
        Self { ns: now_ns(Clock::Monotonic), at: Moment::mark(), changes: Some(changes.now()) }
    }
}

/// What has to be asked to know attributes that are true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Nothing: they are what was told last.
    Told,
    /// The host's descriptor, or the gofer where there is none.
    Outdated,
}

/// What was told last.
pub(super) struct Attributes {
    pub(super) stat: Stat,
    told_ns: u64,
    told_at: Moment,
    /// [`Changes`] when it was asked for.
    changes: u64,
    /// The time of change with which the owner was told, if a later one would show.
    owner_ctime_ns: Option<i64>,
    /// Which attributes that decide about rights it may have: bits of [`mark`]. PERF: permission checks and exec ask each time,
    /// which the gofer takes 50 us to answer.
    pub(super) marks: u32,
    /// Its access control list, once it has been asked for.
    pub(super) acl: Option<Arc<Acl>>,
}

impl Attributes {
    /// Of a node that has just been told of for the first time.
    pub(super) fn new(stat: Stat, marks: u32, asked: Asked) -> Self {
        let mut attributes = Self {
            stat,
            told_ns: asked.ns,
            told_at: asked.at,
            changes: 0,
            owner_ctime_ns: None,
            marks,
            acl: None,
        };
        attributes.told_owner();
        attributes
    }

    /// The gofer has told all of them anew.
    pub(super) fn learn(&mut self, stat: Stat, marks: u32, asked: Asked, trust: Trust) {
        let is_newer = match (trust, asked.changes) {
            // Nobody else changes it: what is known is as good, and may be newer.
            (Trust::Exclusive, None) => false,
            _ => asked.ns >= self.told_ns,
        };
        if is_newer {
            self.stat = stat;
            (self.told_ns, self.told_at) = (asked.ns, asked.at);
            self.changes = asked.changes.unwrap_or(self.changes);
            (self.marks, self.acl) = (marks, None);
            self.told_owner();
        }
    }

    /// An attribute has been set that the gofer has not told of.
    pub(super) fn spoil_marks(&mut self) {
        (self.marks, self.acl) = (mark::ALL, None);
    }

    /// It has no such attribute.
    pub(super) fn lacks(&self, bit: u32) -> bool {
        self.marks & bit == 0
    }

    fn told_owner(&mut self) {
        let is_settled = now().saturating_sub(self.stat.ctime_ns) > TICK_NS;
        self.owner_ctime_ns = is_settled.then_some(self.stat.ctime_ns);
    }

    /// A host descriptor has told all but the owner, which it would tell in its own numbers. `false`: the owner has to be asked
    /// of the gofer.
    pub(super) fn learn_from_host(&mut self, stat: Stat, asked: Asked, trust: Trust) -> bool {
        let (uid, gid) = (self.stat.uid, self.stat.gid);
        let owner_ns = self.told_ns;
        self.stat = Stat { uid, gid, ..stat };
        self.changes = asked.changes.unwrap_or(self.changes);
        trust == Trust::Exclusive
            || asked.ns.saturating_sub(owner_ns) < FRESH_NS
            || self.owner_ctime_ns == Some(stat.ctime_ns)
    }

    /// Are all of them true, or have been at some moment since `since`?
    pub(super) fn freshness(&self, trust: Trust, changes: &Changes, since: Moment) -> Freshness {
        let is_true = match trust {
            Trust::Exclusive => {
                let now = changes.now();
                now == self.changes && now.is_multiple_of(ENDED)
            }
            Trust::Revalidate => self.told_at > since,
        };
        if is_true { Freshness::Told } else { Freshness::Outdated }
    }

    /// Is what permission is checked by true?
    pub(super) fn is_owner_fresh(&self, trust: Trust) -> bool {
        trust == Trust::Exclusive || now_ns(Clock::Monotonic).saturating_sub(self.told_ns) < FRESH_NS
    }

    /// The next read moves the access time.
    pub(super) fn is_access_due(&self) -> bool {
        self.stat.is_access_due(now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(changes: &Changes) -> Asked {
        Asked { ns: 1, at: Moment::mark(), changes: Some(changes.now()) }
    }

    fn sized(size: u64) -> Stat {
        Stat { size, ..Stat::default() }
    }

    fn fresh(attributes: &Attributes, changes: &Changes) -> Freshness {
        attributes.freshness(Trust::Exclusive, changes, Moment::last())
    }

    #[test]
    fn nothing_is_true_while_a_change_is_under_way_nor_after_it_until_the_host_is_asked() {
        let changes = Changes::default();
        let mut attributes = Attributes::new(sized(0), 0, at(&changes));
        assert_eq!(fresh(&attributes, &changes), Freshness::Told);
        let change = changes.begin();
        assert_eq!(fresh(&attributes, &changes), Freshness::Outdated);
        // Asked in the middle of a write: the size may be the old one or the new one.
        let asked = at(&changes);
        assert!(attributes.learn_from_host(sized(5), asked, Trust::Exclusive));
        assert_eq!(fresh(&attributes, &changes), Freshness::Outdated);
        drop(change);
        assert_eq!(fresh(&attributes, &changes), Freshness::Outdated);
        assert!(attributes.learn_from_host(sized(9), at(&changes), Trust::Exclusive));
        assert_eq!((fresh(&attributes, &changes), attributes.stat.size), (Freshness::Told, 9));
    }

    #[test]
    fn a_change_between_question_and_answer_is_not_lost() {
        let changes = Changes::default();
        let mut attributes = Attributes::new(sized(0), 0, at(&changes));
        let asked = at(&changes);
        drop(changes.begin());
        attributes.learn(sized(0), 0, asked, Trust::Exclusive);
        assert_eq!(fresh(&attributes, &changes), Freshness::Outdated);
    }

    #[test]
    fn what_is_mapped_for_writing_is_asked_each_time() {
        let changes = Changes::default();
        let mut attributes = Attributes::new(sized(0), 0, at(&changes));
        changes.begin_for_ever();
        attributes.learn(sized(1), 0, at(&changes), Trust::Exclusive);
        assert_eq!(fresh(&attributes, &changes), Freshness::Outdated);
    }

    #[test]
    fn a_volume_is_asked_unless_it_was_told_since_the_call_began() {
        let changes = Changes::default();
        let before = Moment::last();
        let told = Attributes::new(sized(0), 0, Asked::for_any());
        assert_eq!(told.freshness(Trust::Revalidate, &changes, before), Freshness::Told);
        assert_eq!(told.freshness(Trust::Revalidate, &changes, Moment::last()), Freshness::Outdated);
    }
}
