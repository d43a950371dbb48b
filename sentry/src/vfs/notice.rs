//! Who is told by a signal that a file has become ready (`O_ASYNC`, `F_SETOWN`, `F_SETSIG`)?
//!
//! Key types: [`FileOwner`] (what `fcntl(2)` sets), [`Notice`] (an entry in the file's wait queue, or a watch of the host's descriptor). A
//! notice comes under whatever locks its waker holds, so the signal itself is sent by the timer thread. LINUX: `send_sigio`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use linux_abi::signal::SigInfo;
use platform::host::clock::{Clock, now_ns};
use platform::host::poller::{Ready, Watch};

use super::{FileOps, OpenFile};
use crate::descriptors::{Charge, Use};
use crate::kernel::Kernel;
use crate::sync::{Events, Registration, Wake};
use crate::task::signal::{Sender, Signal};
use crate::task::{PidNamespace, Process, Task};
use crate::time::{Armed, Expire};

/// `F_OWNER_TID`, `F_OWNER_PID`, `F_OWNER_PGRP`.
pub mod owner_kind {
    /// A thread.
    pub const TID: i32 = 0;
    /// A process.
    pub const PID: i32 = 1;
    /// A process group.
    pub const PGRP: i32 = 2;
}

/// `SIGIO`, which is sent unless `F_SETSIG` names another.
const SIGIO: i32 = 29;
/// LINUX: `POLL_IN`, `POLL_OUT`, `POLL_ERR`, `POLL_HUP`.
const POLL_IN: i32 = 1;
const POLL_OUT: i32 = 2;
const POLL_ERR: i32 = 4;
const POLL_HUP: i32 = 6;

/// Who is told of a file's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileOwner {
    /// See [`owner_kind`].
    pub kind: i32,
    /// Its number; 0: nobody.
    pub id: i32,
    /// `F_SETSIG`; 0: SIGIO without details.
    pub signal: u8,
    /// Real and effective user of who set it: the owner is told only if that one may signal it.
    pub users: [u32; 2],
}

/// Tells the owner of one open file.
pub struct Notice {
    file: Weak<OpenFile>,
    kernel: Weak<Kernel>,
    namespace: Arc<PidNamespace>,
    /// The descriptor by which `O_ASYNC` was set.
    fd: i32,
    me: Weak<Notice>,
    /// What has happened and is not told yet, as [`Events`].
    events: AtomicU32,
    /// LOCK: before the timer heap.
    armed: Mutex<Option<Armed>>,
}

/// Keeps a file's notices coming.
pub(super) enum Source {
    Queue(Registration),
    Host { _watch: Watch, _charge: Charge, _notice: Arc<Notice> },
}

impl Notice {
    /// Begins to tell of `file`'s events; `None`: it has none to tell of.
    pub(super) fn start(file: &Arc<OpenFile>, task: &Task, fd: i32) -> Option<Source> {
        let notice = Arc::new_cyclic(|me| Self {
            file: Arc::downgrade(file),
            kernel: Arc::downgrade(&task.kernel),
            namespace: Arc::clone(&task.process.namespace),
            fd,
            me: me.clone(),
            events: AtomicU32::new(0),
            armed: Mutex::new(None),
        });
        if let Some(host) = file.ops.host_descriptor() {
            let receiver: Arc<dyn Ready> = Arc::<Self>::clone(&notice);
            let charge = task.kernel.descriptors.share(&task.process.container).take(Use::Object).ok()?;
            let watch = task.kernel.poller.watch(host, &receiver).ok()?;
            return Some(Source::Host { _watch: watch, _charge: charge, _notice: notice });
        }
        let queue = file.ops.wait_queue()?;
        Some(Source::Queue(queue.register(file.ops.concerns(), notice)))
    }

    fn note(&self, events: Events) {
        self.events.fetch_or(events.bits(), Ordering::AcqRel);
        let Some(kernel) = self.kernel.upgrade() else { return };
        let receiver: Weak<dyn Expire> = Weak::<Self>::clone(&self.me);
        let armed = kernel.timers.arm(now_ns(Clock::Monotonic), receiver);
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some(armed);
    }

    fn send(&self, owner: FileOwner, signal: Signal, info: SigInfo) {
        let may = |task: &Arc<Task>| {
            let theirs = task.credentials();
            let [real, effective] = owner.users;
            effective == 0 || [real, effective].iter().any(|&uid| uid == theirs.suid || uid == theirs.uid)
        };
        let tell = |process: &Arc<Process>| {
            // A queue that is full gets the plain signal instead.
            if process.any_thread().is_some_and(|task| may(&task)) && !process.send(info, Sender::Kernel) {
                process.send(SigInfo::kernel(SIGIO), Sender::Kernel);
            }
        };
        debug_assert_eq!(signal.number(), info.signo);
        match owner.kind {
            owner_kind::TID => {
                if let Some(task) = self.namespace.task(owner.id).filter(may) {
                    task.send(info, Sender::Kernel);
                }
            }
            owner_kind::PID => self.namespace.process(owner.id).iter().for_each(tell),
            _ => {
                let (Some(kernel), Some(group)) = (self.kernel.upgrade(), self.namespace.group(owner.id))
                else {
                    return;
                };
                kernel.tasks.members(&group).iter().for_each(tell);
            }
        }
    }
}

impl Wake for Notice {
    fn wake(&self, events: Events) {
        self.note(events);
    }
}

impl Ready for Notice {
    fn ready(&self, events: u32) {
        self.note(Events::from_bits_truncate(events));
    }
}

impl Expire for Notice {
    fn expire(&self, _: u64) -> Option<u64> {
        let events = Events::from_bits_truncate(self.events.swap(0, Ordering::AcqRel));
        let owner = self.file.upgrade().map(|file| file.owner())?;
        let number = if owner.signal == 0 { SIGIO } else { i32::from(owner.signal) };
        let signal = Signal::new(number).ok().filter(|_| owner.id != 0)?;
        let kinds = [
            (Events::READABLE, POLL_IN),
            (Events::WRITABLE, POLL_OUT),
            (Events::ERR, POLL_ERR),
            (Events::HUP, POLL_HUP),
        ];
        for (of, code) in kinds.into_iter().filter(|(of, _)| events.intersects(*of)) {
            let info = match owner.signal {
                0 => SigInfo::kernel(SIGIO),
                _ => SigInfo::poll(number, code, i64::from((events & of).bits()), self.fd),
            };
            self.send(owner, signal, info);
        }
        None
    }
}

/// Stops a file's notices.
pub(super) fn stop(source: Source, ops: &dyn FileOps) {
    if let (Source::Queue(registration), Some(queue)) = (source, ops.wait_queue()) {
        queue.unregister(registration);
    }
}
