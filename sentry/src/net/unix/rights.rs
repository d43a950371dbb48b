//! Which open files are on their way between sockets (`SCM_RIGHTS`), and which of them can never arrive?
//!
//! Key types: [`Rights`] (the files of one packet), [`InFlight`] (who has how many under way).
//! A socket that is nowhere but in queues which nobody can read any more is garbage that reference counts cannot see:
//! [`collect`] finds it. LINUX: net/unix/garbage.c.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use linux_abi::net::{Ucred, option as so};
use platform::host::clock::{Clock, now_ns};
use zerocopy::FromBytes;

use super::queue::{Identity, Packet, bury};
use super::{UnixEnd, UnixSocket};
use crate::Errno;
use crate::net::control::Cmsg;
use crate::net::{Namespace, lock};
use crate::task::{Capability, Resource, Task};
use crate::vfs::{Fd, OpenFile};

/// Most files that go with one message. LINUX: `SCM_MAX_FD`, EINVAL above.
const FILES_MAX: usize = 253;
/// Most files under way in the whole sandbox, the privileged's included; ETOOMANYREFS above.
const IN_FLIGHT_MAX: usize = 1 << 17;
/// From so many sockets under way on, sending more looks for garbage first.
const COLLECT_FROM: usize = 64;
/// With more sockets in the sandbox than this, looking for garbage is dear,
const MANY_SOCKETS: usize = 256;
/// and done once in so many nanoseconds at most.
const COLLECT_INTERVAL_NS: u64 = 200_000_000;

/// Files under way.
#[derive(Default)]
pub struct InFlight {
    /// By the sender's user. LOCK: leaf.
    by_user: Mutex<HashMap<u32, usize>>,
    total: AtomicUsize,
    /// How many of them are `AF_UNIX` sockets.
    sockets: AtomicUsize,
    /// When garbage was looked for last, on the monotonic clock.
    collected_ns: AtomicU64,
}

#[cfg(test)]
impl InFlight {
    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

/// The files of a packet.
pub struct Rights {
    files: Vec<Arc<OpenFile>>,
    in_flight: Arc<InFlight>,
    uid: u32,
    sockets: usize,
}

/// The `AF_UNIX` socket behind an open file, if it is one.
fn socket_of(file: &OpenFile) -> Option<&Arc<UnixSocket>> {
    file.ops.as_any().downcast_ref::<UnixEnd>().map(|end| &end.0)
}

impl Rights {
    fn new(task: &Task, files: Vec<Arc<OpenFile>>) -> Result<Self, Errno> {
        let credentials = task.credentials();
        let in_flight = Arc::clone(&task.kernel.net.in_flight);
        let uid = credentials.uid;
        let is_privileged = credentials.has(Capability::SysResource) || credentials.has(Capability::SysAdmin);
        let limit = task.process.limit(Resource::Nofile).soft;
        let sockets = files.iter().filter(|file| socket_of(file).is_some()).count();
        let total = in_flight.total.fetch_add(files.len(), Ordering::Relaxed) + files.len();
        let mut by_user = lock(&in_flight.by_user);
        let mine = by_user.entry(uid).or_default();
        // LINUX: too_many_unix_fds looks at what was there before.
        let too_many = *mine as u64 > limit && !is_privileged || total > IN_FLIGHT_MAX;
        *mine += files.len();
        drop(by_user);
        in_flight.sockets.fetch_add(sockets, Ordering::Relaxed);
        let rights = Self { files, in_flight, uid, sockets };
        if too_many { Err(Errno::ETOOMANYREFS) } else { Ok(rights) }
    }

    /// The files, to be given to a receiver.
    pub fn files(&self) -> Vec<Arc<OpenFile>> {
        self.files.clone()
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        self.in_flight.total.fetch_sub(self.files.len(), Ordering::Relaxed);
        self.in_flight.sockets.fetch_sub(self.sockets, Ordering::Relaxed);
        let mut by_user = lock(&self.in_flight.by_user);
        if let Some(count) = by_user.get_mut(&self.uid) {
            *count = count.saturating_sub(self.files.len());
            if *count == 0 {
                by_user.remove(&self.uid);
            }
        }
    }
}

/// What goes with a message besides its bytes. LINUX: `__scm_send`.
///
/// # Errors
/// EBADF, EINVAL, EPERM, ETOOMANYREFS.
pub fn take_control(task: &Arc<Task>, control: &[Cmsg]) -> Result<(Option<Rights>, Identity), Errno> {
    let table = task.files();
    let mut files = Vec::new();
    let mut claimed = None;
    for message in control.iter().filter(|message| message.level == so::SOL_SOCKET) {
        match message.kind {
            so::SCM_RIGHTS => {
                let numbers = message.data.chunks_exact(4);
                if numbers.len() + files.len() > FILES_MAX {
                    return Err(Errno::EINVAL);
                }
                for number in numbers {
                    let number = i32::read_from_bytes(number).map_err(|_| Errno::EINVAL)?;
                    files.push(table.get_any(Fd(number))?);
                }
            }
            so::SCM_CREDENTIALS => {
                let ucred = Ucred::read_from_bytes(&message.data).map_err(|_| Errno::EINVAL)?;
                check_claim(task, ucred)?;
                claimed = Some(ucred);
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    let rights = if files.is_empty() { None } else { Some(Rights::new(task, files)?) };
    if rights.as_ref().is_some_and(|rights| rights.sockets > 0) {
        collect_above(&task.kernel.net, COLLECT_FROM);
    }
    Ok((rights, Identity::of_sender(task, claimed)))
}

/// LINUX: `scm_check_creds`.
fn check_claim(task: &Task, claim: Ucred) -> Result<(), Errno> {
    let own = task.credentials();
    let pid = claim.pid == task.process.pid || own.has(Capability::SysAdmin);
    let uid = [own.uid, own.euid, own.suid].contains(&claim.uid) || own.has(Capability::Setuid);
    let gid = [own.gid, own.egid, own.sgid].contains(&claim.gid) || own.has(Capability::Setgid);
    if !(pid && uid && gid) {
        return Err(Errno::EPERM);
    }
    // LINUX: __scm_send: find_get_pid.
    let namespace = &task.process.namespace;
    let is_there = claim.pid == task.process.pid
        || namespace.task(claim.pid).is_some()
        || namespace.process(claim.pid).is_some()
        || namespace.group(claim.pid).is_some();
    if is_there { Ok(()) } else { Err(Errno::ESRCH) }
}

/// Looks for garbage if any socket is under way at all. LOCK: none may be held.
pub fn collect_if_needed(namespace: &Namespace) {
    collect_above(namespace, 0);
}

fn collect_above(namespace: &Namespace, sockets: usize) {
    let in_flight = &namespace.in_flight;
    if in_flight.sockets.load(Ordering::Relaxed) <= sockets {
        return;
    }
    let now = now_ns(Clock::Monotonic);
    let is_recent = now < in_flight.collected_ns.load(Ordering::Relaxed).saturating_add(COLLECT_INTERVAL_NS);
    if is_recent && lock(&namespace.unix_sockets).len() > MANY_SOCKETS {
        return;
    }
    in_flight.collected_ns.store(now, Ordering::Relaxed);
    collect(namespace);
}

/// Which sockets a socket's queues hold.
struct Held {
    socket: Arc<UnixSocket>,
    /// Files in its queue, and in those of connections that it has not accepted.
    files: Vec<Arc<OpenFile>>,
}

fn name_of(socket: &Arc<UnixSocket>) -> usize {
    Arc::as_ptr(socket).addr()
}

/// Empties the queues of sockets that nobody can reach. One snapshot of all queues serves for counting and for following,
/// so that a file which moves meanwhile counts as reachable.
fn collect(namespace: &Namespace) {
    let sockets: Vec<_> = lock(&namespace.unix_sockets).iter().filter_map(Weak::upgrade).collect();
    // What has not been accepted is reached through its listener alone.
    let held: Vec<Held> =
        sockets.into_iter().filter(|socket| !lock(&socket.state).is_pending).map(snapshot).collect();
    let mut queued: HashMap<usize, (usize, Arc<OpenFile>)> = HashMap::new();
    for file in held.iter().flat_map(|held| &held.files) {
        if let Some(socket) = socket_of(file) {
            queued.entry(name_of(socket)).or_insert_with(|| (0, Arc::clone(file))).0 += 1;
        }
    }
    // A file that is only in queues has, besides those references, one in each snapshot entry and one in `queued`.
    let is_only_queued =
        |name: usize| queued.get(&name).is_some_and(|(count, file)| Arc::strong_count(file) <= 2 * count + 1);
    let by_name: HashMap<usize, &Held> = held.iter().map(|held| (name_of(&held.socket), held)).collect();
    let mut reached: HashSet<usize> = by_name.keys().copied().filter(|&name| !is_only_queued(name)).collect();
    let mut to_follow: Vec<usize> = reached.iter().copied().collect();
    while let Some(name) = to_follow.pop() {
        let files = by_name.get(&name).map_or(&[][..], |held| &held.files);
        for socket in files.iter().filter_map(|file| socket_of(file)) {
            if reached.insert(name_of(socket)) {
                to_follow.push(name_of(socket));
            }
        }
    }
    let mut garbage: Vec<Packet> = Vec::new();
    for held in held.iter().filter(|held| !reached.contains(&name_of(&held.socket))) {
        garbage.extend(held.socket.take_packets());
        garbage.extend(held.socket.pending().iter().flat_map(|pending| pending.take_packets()));
    }
    drop(by_name);
    drop(queued);
    drop(held);
    bury(garbage);
}

fn snapshot(socket: Arc<UnixSocket>) -> Held {
    let mut files = socket.queued_files();
    for pending in socket.pending() {
        files.extend(pending.queued_files());
    }
    Held { socket, files }
}
