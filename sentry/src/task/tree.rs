//! Who is whose parent, who is in which group, and what can a parent learn about its children?
//!
//! Key types: [`ProcessTree`], [`ExitStatus`], [`WaitFor`], [`ChildEvent`]. All relations between processes lie under one
//! lock, the outermost of the kernel; signals are sent after it has been released.
//!
//! ```text
//! alive ── last thread ends ──> zombie ── parent waits, or does not care ──> gone
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use linux_abi::signal::{SigInfo, code, sa};
use linux_abi::task::wait as options;

use super::signal::{Sender, Signal};
use super::{Peaks, Process, ProcessGroup, Task, UserCounts};
use crate::Errno;
use crate::sync::Events;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By `exit(2)`, with this code.
    Code(u8),
    /// By a signal. No core file is ever written, so none is told of either.
    Signal {
        /// Which.
        signo: i32,
    },
}

impl ExitStatus {
    /// As `wait(2)` encodes it.
    #[must_use]
    pub fn wait_status(self) -> i32 {
        match self {
            Self::Code(code) => i32::from(code) << 8,
            Self::Signal { signo } => signo,
        }
    }

    /// As a shell shows it.
    #[must_use]
    pub fn shell_status(self) -> i32 {
        match self {
            Self::Code(code) => i32::from(code),
            Self::Signal { signo } => 128 + signo,
        }
    }

    /// `si_code` and `si_status`.
    #[must_use]
    pub fn child_code(self) -> (i32, i32) {
        match self {
            Self::Code(code) => (code::CLD_EXITED, i32::from(code)),
            Self::Signal { signo } => (code::CLD_KILLED, signo),
        }
    }
}

/// Which children a wait is for.
#[derive(Clone)]
pub enum WaitFor {
    /// Any.
    Any,
    /// The one with this pid.
    Pid(i32),
    /// Those in this group.
    Group(i32),
}

/// What a wait found.
#[derive(Debug, Clone)]
pub struct ChildEvent {
    /// The child.
    pub pid: i32,
    /// Its real user.
    pub uid: u32,
    /// `CLD_*`.
    pub code: i32,
    /// `si_status`.
    pub status: i32,
    /// As `wait4(2)` encodes it.
    pub wait_status: i32,
    /// User and system time of it and its children, in nanoseconds.
    pub cpu_ns: (u64, u64),
    /// Largest resident size of it and its children.
    pub peaks: Peaks,
}

struct Node {
    process: Arc<Process>,
    /// `None`: it is ours; the shim hears of its end.
    parent: Option<u64>,
    /// The parent's thread whose child it is. LINUX: `real_parent`.
    parent_task: Weak<Task>,
    children: Vec<u64>,
    group: Arc<ProcessGroup>,
    exit_signal: i32,
    exit: Option<ExitStatus>,
    /// A stop that the parent has not seen.
    stopped: Option<i32>,
    continued: bool,
    uid: u32,
    own_cpu_ns: (u64, u64),
    children_cpu_ns: (u64, u64),
    children_peaks: Peaks,
    did_exec: bool,
}

/// The processes of a sandbox and how they are related.
#[derive(Default)]
pub struct ProcessTree {
    /// LOCK: outermost.
    nodes: Mutex<HashMap<u64, Node>>,
    /// Signals that wait, by the user of whom they wait for (`RLIMIT_SIGPENDING`).
    pub waiting: Arc<UserCounts>,
    tasks: AtomicIsize,
    born: AtomicU64,
    gone_user_ns: AtomicU64,
    gone_system_ns: AtomicU64,
}

type Nodes = HashMap<u64, Node>;

fn add(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

/// What is to be done once the lock has been released.
#[derive(Default)]
struct After {
    signals: Vec<(Arc<Process>, SigInfo)>,
    wake: Vec<Arc<Process>>,
    new_parent: Vec<Arc<Process>>,
}

impl After {
    fn run(self) {
        for task in self.new_parent.iter().flat_map(|process| process.threads()) {
            task.spoil_identity();
            task.interrupt();
        }
        for process in self.wake {
            process.child_events.wake(Events::READABLE);
        }
        for (process, info) in self.signals {
            process.send(info, Sender::Kernel);
        }
    }

    /// Wakes a group that nobody can continue any more, if there is somebody to wake. LINUX: `kill_orphaned_pgrp`.
    fn wake_orphaned(&mut self, nodes: &Nodes, group: &Arc<ProcessGroup>, without: Option<u64>) {
        if !has_stopped(nodes, group) || !is_orphaned(nodes, group, without) {
            return;
        }
        for signal in [Signal::HUP, Signal::CONT] {
            let members = nodes.values().filter(|node| Arc::ptr_eq(&node.group, group));
            let info = SigInfo::kernel(signal.number());
            self.signals.extend(members.map(|node| (Arc::clone(&node.process), info)));
        }
    }

    /// A child's parent, the thread that had it, has ended. LINUX: as `SEND_SIG_NOINFO`.
    fn tell_of_death(&mut self, child: &Arc<Process>, parent: (i32, u32)) {
        for signal in child.threads().iter().filter_map(|thread| thread.parent_death_signal()) {
            let info = SigInfo::from_process(signal.number(), code::SI_USER, parent.0, parent.1);
            self.signals.push((Arc::clone(child), info));
        }
    }
}

impl ProcessTree {
    fn lock(&self) -> std::sync::MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new process: child of `parent` (or ours), in `group`, telling its parent by `exit_signal` (0: by none).
    pub fn enter(
        &self,
        process: &Arc<Process>,
        parent: Option<&Arc<Task>>,
        group: Arc<ProcessGroup>,
        exit_signal: i32,
    ) {
        let mut nodes = self.lock();
        let parent_task = parent.map(Arc::downgrade).unwrap_or_default();
        let parent = parent
            .inspect(|task| task.has_children.store(true, Ordering::Relaxed))
            .map(|task| task.process.key)
            .filter(|key| nodes.contains_key(key));
        if let Some(node) = parent.and_then(|key| nodes.get_mut(&key)) {
            node.children.push(process.key);
        }
        let node = Node {
            process: Arc::clone(process),
            parent,
            parent_task,
            children: Vec::new(),
            group,
            exit_signal,
            exit: None,
            stopped: None,
            continued: false,
            uid: 0,
            own_cpu_ns: (0, 0),
            children_cpu_ns: (0, 0),
            children_peaks: Peaks::default(),
            did_exec: false,
        };
        nodes.insert(process.key, node);
    }

    fn get<T>(&self, process: &Process, read: impl FnOnce(&Node, &Nodes) -> T) -> Option<T> {
        let nodes = self.lock();
        nodes.get(&process.key).map(|node| read(node, &nodes))
    }

    /// Its parent; `None` if that is not a guest process.
    #[must_use]
    pub fn parent(&self, process: &Process) -> Option<Arc<Process>> {
        self.get(process, |node, nodes| {
            node.parent.and_then(|key| nodes.get(&key)).map(|parent| Arc::clone(&parent.process))
        })?
    }

    /// The thread whose child it is.
    #[must_use]
    pub fn parent_task(&self, process: &Process) -> Option<Arc<Task>> {
        self.get(process, |node, _| node.parent_task.upgrade())?
    }

    /// Its children, zombies included.
    #[must_use]
    pub fn children(&self, process: &Process) -> Vec<Arc<Process>> {
        self.get(process, |node, nodes| {
            let children = node.children.iter().filter_map(|key| nodes.get(key));
            children.map(|child| Arc::clone(&child.process)).collect()
        })
        .unwrap_or_default()
    }

    /// The children of one of its threads, zombies included.
    #[must_use]
    pub fn children_of_thread(&self, thread: &Arc<Task>) -> Vec<Arc<Process>> {
        self.get(&thread.process, |node, nodes| {
            let children = node.children.iter().filter_map(|key| nodes.get(key));
            let own = children.filter(|child| child.is_child_of(thread));
            own.map(|child| Arc::clone(&child.process)).collect()
        })
        .unwrap_or_default()
    }

    /// Its process group; `None` once it has been waited for.
    #[must_use]
    pub fn group(&self, process: &Process) -> Option<Arc<ProcessGroup>> {
        self.get(process, |node, _| Arc::clone(&node.group))
    }

    /// How it ended, while it is a zombie.
    #[must_use]
    pub fn exit_status(&self, process: &Process) -> Option<ExitStatus> {
        self.get(process, |node, _| node.exit)?
    }

    /// CPU time of the children that have been waited for.
    #[must_use]
    pub fn children_cpu_ns(&self, process: &Process) -> (u64, u64) {
        self.get(process, |node, _| node.children_cpu_ns).unwrap_or_default()
    }

    /// Largest resident size of the children that have been waited for.
    #[must_use]
    pub fn children_peaks(&self, process: &Process) -> Peaks {
        self.get(process, |node, _| node.children_peaks.clone()).unwrap_or_default()
    }

    /// CPU time of processes that have ended, zombies included, in nanoseconds.
    #[must_use]
    pub fn gone_cpu_ns(&self) -> (u64, u64) {
        let [user, system] = [&self.gone_user_ns, &self.gone_system_ns].map(|ns| ns.load(Ordering::Relaxed));
        (user, system)
    }

    /// The signal by which it will tell its parent of its end.
    #[must_use]
    pub fn exit_signal(&self, process: &Process) -> i32 {
        self.get(process, |node, _| node.exit_signal).unwrap_or(0)
    }

    /// How many tasks there are in the sandbox.
    #[must_use]
    pub fn task_count(&self) -> usize {
        usize::try_from(self.tasks.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// How many tasks there have been.
    #[must_use]
    pub fn born(&self) -> u64 {
        self.born.load(Ordering::Relaxed)
    }

    /// One task more or less.
    pub(super) fn count_task(&self, change: isize) {
        self.born.fetch_add(u64::from(change > 0), Ordering::Relaxed);
        self.tasks.fetch_add(change, Ordering::Relaxed);
    }

    /// One task more, that nobody has cloned.
    pub(crate) fn started(&self) {
        self.count_task(1);
    }

    /// A process that never ran goes without a trace.
    pub(super) fn forget(&self, process: &Process) {
        reap(&mut self.lock(), process.key, false);
    }

    /// It has called exec: its parent may not change its group any more.
    pub fn mark_exec(&self, process: &Process) {
        if let Some(node) = self.lock().get_mut(&process.key) {
            node.did_exec = true;
            node.exit_signal = Signal::CHLD.number();
        }
    }

    /// It has called exec.
    #[must_use]
    pub fn did_exec(&self, process: &Process) -> bool {
        self.get(process, |node, _| node.did_exec).unwrap_or(false)
    }

    /// Moves it to another group.
    pub fn set_group(&self, process: &Process, group: Arc<ProcessGroup>) {
        if let Some(node) = self.lock().get_mut(&process.key) {
            node.group = group;
        }
    }

    /// The living members of a group.
    #[must_use]
    pub fn members(&self, group: &Arc<ProcessGroup>) -> Vec<Arc<Process>> {
        let nodes = self.lock();
        let members = nodes.values().filter(|node| Arc::ptr_eq(&node.group, group) && node.exit.is_none());
        members.map(|node| Arc::clone(&node.process)).collect()
    }

    /// The members of a group, zombies included: they can be signalled, without effect.
    #[must_use]
    pub fn all_members(&self, group: &Arc<ProcessGroup>) -> Vec<Arc<Process>> {
        let nodes = self.lock();
        let members = nodes.values().filter(|node| Arc::ptr_eq(&node.group, group));
        members.map(|node| Arc::clone(&node.process)).collect()
    }

    /// All processes that have not been waited for.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Process>> {
        self.lock().values().map(|node| Arc::clone(&node.process)).collect()
    }

    /// No member has a parent in the same session but another group: nobody could continue it.
    #[must_use]
    pub fn is_orphaned(&self, group: &Arc<ProcessGroup>) -> bool {
        is_orphaned(&self.lock(), group, None)
    }

    /// Its last thread has ended: it becomes a zombie, or goes at once; its children get a new parent.
    pub fn exited(&self, process: &Arc<Process>, status: ExitStatus, uid: u32, cpu_ns: (u64, u64)) {
        let mut after = After::default();
        let mut nodes = self.lock();
        reparent(&mut nodes, process, uid, &mut after);
        let Some(node) = nodes.get_mut(&process.key) else { return };
        self.gone_user_ns.fetch_add(cpu_ns.0, Ordering::Relaxed);
        self.gone_system_ns.fetch_add(cpu_ns.1, Ordering::Relaxed);
        node.exit = Some(status);
        node.uid = uid;
        node.own_cpu_ns = cpu_ns;
        node.stopped = None;
        node.continued = false;
        let group = Arc::clone(&node.group);
        // Its going may leave its own group without anybody to continue it.
        if node.parent.and_then(|key| nodes.get(&key)).is_some_and(|parent| could_continue(parent, &group)) {
            after.wake_orphaned(&nodes, &group, Some(process.key));
        }
        tell_parent(&mut nodes, process.key, &mut after);
        drop(nodes);
        process.exit_events.wake(Events::READABLE | Events::HUP);
        after.run();
    }

    /// A thread has ended while others of its process live on: `heir` has its children from now on.
    pub(super) fn thread_ended(&self, task: &Arc<Task>, heir: &Arc<Task>) {
        let mut after = After::default();
        let mut nodes = self.lock();
        let children = nodes.get(&task.process.key).map(|node| node.children.clone()).unwrap_or_default();
        let who = (task.process.pid, task.credentials().uid);
        for key in children {
            let Some(child) = nodes.get_mut(&key).filter(|child| child.is_child_of(task)) else { continue };
            child.parent_task = Arc::downgrade(heir);
            heir.has_children.store(true, Ordering::Relaxed);
            after.tell_of_death(&child.process, who);
        }
        drop(nodes);
        after.run();
    }

    /// It has stopped, or goes on (`signo` 0): its parent may want to know.
    pub fn stop_changed(&self, process: &Arc<Process>, signo: Option<i32>) {
        let mut after = After::default();
        let mut nodes = self.lock();
        let Some(node) = nodes.get_mut(&process.key) else { return };
        if node.exit.is_some() {
            return;
        }
        node.stopped = signo;
        node.continued = signo.is_none();
        if let Some(parent) =
            node.parent.and_then(|key| nodes.get(&key)).map(|node| Arc::clone(&node.process))
        {
            let (code, status) = match signo {
                Some(signo) => (code::CLD_STOPPED, signo),
                None => (code::CLD_CONTINUED, Signal::CONT.number()),
            };
            if parent.actions().get(Signal::CHLD).flags & sa::NOCLDSTOP == 0 {
                let info = SigInfo::child(code, process.pid, process.real_uid(), status, 0, 0);
                after.signals.push((Arc::clone(&parent), info));
            }
            after.wake.push(parent);
        }
        drop(nodes);
        after.run();
    }

    /// Looks for a child of `parent`'s process that has something to tell. `Ok(None)`: there are children, but nothing has happened.
    ///
    /// # Errors
    /// ECHILD if there is no such child.
    pub fn wait(&self, parent: &Arc<Task>, which: &WaitFor, flags: u32) -> Result<Option<ChildEvent>, Errno> {
        let mut nodes = self.lock();
        let keys = nodes.get(&parent.process.key).map(|node| node.children.clone()).unwrap_or_default();
        let mut found = false;
        for key in keys {
            let Some(child) = nodes.get_mut(&key) else { continue };
            let is_strange = flags & options::WNOTHREAD != 0 && !child.is_child_of(parent);
            // LINUX: wait_consider_task: a zombie has nothing more to tell to who does not ask for its end.
            let is_mute = child.exit.is_some() && flags & options::WEXITED == 0;
            if is_strange || is_mute || !child.matches(which, flags) {
                continue;
            }
            found = true;
            let Some(event) = child.event(flags) else { continue };
            if flags & options::WNOWAIT == 0 {
                match event.code {
                    code::CLD_STOPPED => child.stopped = None,
                    code::CLD_CONTINUED => child.continued = false,
                    _ => reap(&mut nodes, key, true),
                }
            }
            return Ok(Some(event));
        }
        if found { Ok(None) } else { Err(Errno::ECHILD) }
    }
}

impl Node {
    fn is_child_of(&self, task: &Arc<Task>) -> bool {
        std::ptr::eq(self.parent_task.as_ptr(), Arc::as_ptr(task))
    }

    fn matches(&self, which: &WaitFor, flags: u32) -> bool {
        let by_id = match which {
            WaitFor::Any => true,
            WaitFor::Pid(pid) => self.process.pid == *pid,
            WaitFor::Group(pgid) => self.group.pgid == *pgid,
        };
        let is_clone = self.exit_signal != Signal::CHLD.number();
        by_id && (flags & options::WALL != 0 || is_clone == (flags & options::WCLONE != 0))
    }

    fn event(&self, flags: u32) -> Option<ChildEvent> {
        let (code, status, wait_status) = match (self.exit, self.stopped) {
            (Some(exit), _) if flags & options::WEXITED != 0 => {
                let (code, status) = exit.child_code();
                (code, status, exit.wait_status())
            }
            (None, Some(signo)) if flags & options::WSTOPPED != 0 => {
                (code::CLD_STOPPED, signo, signo << 8 | 0x7f)
            }
            (None, _) if self.continued && flags & options::WCONTINUED != 0 => {
                (code::CLD_CONTINUED, Signal::CONT.number(), 0xffff)
            }
            _ => return None,
        };
        let uid = if self.exit.is_some() { self.uid } else { self.process.real_uid() };
        let cpu_ns = add(self.own_cpu_ns, self.children_cpu_ns);
        let mut peaks = self.process.past_peaks();
        peaks.merge(&self.children_peaks);
        Some(ChildEvent { pid: self.process.pid, uid, code, status, wait_status, cpu_ns, peaks })
    }
}

/// Removes a zombie; `count`: its times are added to its parent's account of children.
fn reap(nodes: &mut Nodes, key: u64, count: bool) {
    let Some(node) = nodes.remove(&key) else { return };
    node.process.namespace.leave_process(node.process.pid);
    node.process.keep_charge(None);
    // Not when the last reference goes: who waited may count on it.
    node.process.forget_signals();
    if let Some(parent) = node.parent.and_then(|key| nodes.get_mut(&key)) {
        parent.children.retain(|&child| child != key);
        if count {
            let spent = add(node.own_cpu_ns, node.children_cpu_ns);
            parent.children_cpu_ns = add(parent.children_cpu_ns, spent);
            // LINUX: `wait_task_zombie` adds what a child has read and written to its parent's own.
            parent.process.keep_io(node.process.past_io());
            parent.children_peaks.merge(&node.process.past_peaks());
            parent.children_peaks.merge(&node.children_peaks);
        }
    }
}

/// Tells a zombie's parent, or reaps it if the parent does not care or is not a guest.
fn tell_parent(nodes: &mut Nodes, key: u64, after: &mut After) {
    let Some(node) = nodes.get(&key) else { return };
    let Some(status) = node.exit else { return };
    let Some(parent) = node.parent.and_then(|key| nodes.get(&key)).map(|parent| Arc::clone(&parent.process))
    else {
        reap(nodes, key, false);
        return;
    };
    let chld = parent.actions().get(Signal::CHLD);
    let tells_by_chld = node.exit_signal == Signal::CHLD.number();
    let ignored = chld.handler == linux_abi::signal::SIG_IGN;
    let dismissed = tells_by_chld && (ignored || chld.flags & sa::NOCLDWAIT != 0);
    if node.exit_signal > 0 && !(tells_by_chld && ignored) {
        let (code, si_status) = status.child_code();
        let ticks = |ns: u64| ns / (1_000_000_000 / linux_abi::time::USER_HZ);
        let (utime, stime) = node.own_cpu_ns;
        let mut info =
            SigInfo::child(code, node.process.pid, node.uid, si_status, ticks(utime), ticks(stime));
        info.signo = node.exit_signal;
        after.signals.push((Arc::clone(&parent), info));
    }
    after.wake.push(parent);
    if dismissed {
        reap(nodes, key, false);
    }
}

/// Gives the children of an ending process to whoever adopts them.
fn reparent(nodes: &mut Nodes, process: &Arc<Process>, uid: u32, after: &mut After) {
    let Some(node) = nodes.get_mut(&process.key) else { return };
    let children = std::mem::take(&mut node.children);
    if children.is_empty() {
        return;
    }
    let adopter = adopter(nodes, process);
    let thread = adopter.and_then(|key| nodes.get(&key)).and_then(|node| node.process.any_thread());
    let parent_task = thread.as_ref().map(Arc::downgrade).unwrap_or_default();
    if let Some(thread) = thread {
        thread.has_children.store(true, Ordering::Relaxed);
    }
    for &key in &children {
        let Some(child) = nodes.get_mut(&key) else { continue };
        child.parent = adopter;
        child.parent_task = Weak::clone(&parent_task);
        // LINUX: reparent_leader: an adopted child tells its end by SIGCHLD.
        child.exit_signal = Signal::CHLD.number();
        let group = Arc::clone(&child.group);
        let is_zombie = child.exit.is_some();
        after.new_parent.push(Arc::clone(&child.process));
        after.tell_of_death(&child.process, (process.pid, uid));
        if let Some(adopter) = adopter.and_then(|key| nodes.get_mut(&key)) {
            adopter.children.push(key);
        }
        if is_zombie {
            tell_parent(nodes, key, after);
        }
        // Only the one who has gone could continue it: a group of its own, that is, is as well or as badly off as before.
        if nodes.get(&process.key).is_some_and(|father| could_continue(father, &group)) {
            after.wake_orphaned(nodes, &group, Some(process.key));
        }
    }
}

/// Who adopts the children of `process`: the nearest living ancestor that asked for it, else the namespace's init.
fn adopter(nodes: &Nodes, process: &Arc<Process>) -> Option<u64> {
    let mut key = nodes.get(&process.key)?.parent;
    while let Some(ancestor) = key.and_then(|key| nodes.get(&key)) {
        if ancestor.exit.is_none() && ancestor.process.is_subreaper() {
            return key;
        }
        key = ancestor.parent;
    }
    let init = process.namespace.init()?;
    let node = nodes.get(&init.key)?;
    (init.key != process.key && node.exit.is_none()).then_some(init.key)
}

/// See [`ProcessTree::is_orphaned`]; `without`: as if this process were not there.
fn is_orphaned(nodes: &Nodes, group: &Arc<ProcessGroup>, without: Option<u64>) -> bool {
    let mut members = nodes.iter().filter(|(key, node)| {
        Arc::ptr_eq(&node.group, group) && Some(**key) != without && node.exit.is_none()
    });
    !members.any(|(_, node)| {
        let parent = node.parent.filter(|key| Some(*key) != without).and_then(|key| nodes.get(&key));
        parent.is_some_and(|parent| could_continue(parent, group))
    })
}

/// A parent of one of `group`'s members: it stands outside of the group, in the same session.
fn could_continue(parent: &Node, group: &Arc<ProcessGroup>) -> bool {
    !Arc::ptr_eq(&parent.group, group) && Arc::ptr_eq(&parent.group.session, &group.session)
}

fn has_stopped(nodes: &Nodes, group: &Arc<ProcessGroup>) -> bool {
    nodes.values().any(|node| Arc::ptr_eq(&node.group, group) && node.process.is_stopped())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_encoded_as_in_wait() {
        assert_eq!(ExitStatus::Code(3).wait_status(), 0x300);
        assert_eq!(ExitStatus::Signal { signo: 9 }.wait_status(), 9);
        assert_eq!(ExitStatus::Signal { signo: 9 }.shell_status(), 137);
    }
}
