//! `shmget`, `shmat`, `shmdt`, `shmctl`.

use linux_abi::ipc::{
    IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, SHM_EXEC, SHM_INFO, SHM_LOCK, SHM_RDONLY, SHM_REMAP, SHM_RND,
    SHM_STAT, SHM_STAT_ANY, SHM_UNLOCK, ShmLimits, ShmidDs,
};
use linux_abi::mm::Prot;
use linux_abi::{Errno, PAGE_SIZE, UserPtr};
use sentry::ipc::{SHMALL, SHMMAX, SHMMNI};
use sentry::task::Current;

use super::{Me, index, namespace};

/// `shmget(2)`: <https://man7.org/linux/man-pages/man2/shmget.2.html>
pub(crate) fn shmget(current: &mut Current, key: i32, size: u64, flags: u32) -> Result<i32, Errno> {
    let descriptors = current.kernel().descriptors.share(&current.process().container);
    namespace(current).shared_memory.get(&Me::of(current).caller(), &descriptors, key, size, flags)
}

/// `shmat(2)`: <https://man7.org/linux/man-pages/man2/shmat.2.html>
pub(crate) fn shmat(current: &mut Current, id: i32, addr: u64, flags: u32) -> Result<u64, Errno> {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let rounded = if flags & SHM_RND != 0 { addr & !(PAGE_SIZE - 1) } else { addr };
    if !rounded.is_multiple_of(PAGE_SIZE) || (rounded == 0 && flags & SHM_REMAP != 0) {
        return Err(Errno::EINVAL);
    }
    let mut prot = Prot::READ;
    prot.set(Prot::WRITE, flags & SHM_RDONLY == 0);
    prot.set(Prot::EXEC, flags & SHM_EXEC != 0);
    let segment = namespace(current).shared_memory.attach(&Me::of(current).caller(), id, prot, flags)?;
    let limits = crate::mm::limits(current);
    let (mm, context) = current.mm_and_context();
    mm.attach(context, rounded, flags & SHM_REMAP != 0, prot, segment, &limits)
}

/// `shmdt(2)`: <https://man7.org/linux/man-pages/man2/shmdt.2.html>
pub(crate) fn shmdt(current: &mut Current, addr: u64) -> Result<(), Errno> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let (mm, context) = current.mm_and_context();
    let id = mm.detach(context, addr)?;
    let segment = namespace(current).shared_memory.lock().get(id);
    if let Ok(segment) = segment {
        segment.note_detach(current.process().pid);
    }
    Ok(())
}

/// `shmctl(2)`: <https://man7.org/linux/man-pages/man2/shmctl.2.html>
pub(crate) fn shmctl(
    current: &mut Current,
    id: i32,
    command: u32,
    buf: UserPtr<ShmidDs>,
) -> Result<u64, Errno> {
    let all = std::sync::Arc::clone(&namespace(current).shared_memory);
    let me = Me::of(current);
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        IPC_STAT | SHM_STAT | SHM_STAT_ANY => {
            let (result, segment) = {
                let table = all.lock();
                if command == IPC_STAT { (0, table.get(id)?) } else { table.at_index(id)? }
            };
            if command != SHM_STAT_ANY {
                segment.check(&me.caller(), 0o4)?;
            }
            current.write_object(buf, &segment.stat())?;
            Ok(u64::from(result.cast_unsigned()))
        }
        IPC_SET => {
            let new = current.read_object(buf)?;
            let segment = all.lock().get(id)?;
            segment.set(&me.caller(), &new.perm).map(|()| 0)
        }
        IPC_RMID => all.remove(&me.caller(), id).map(|()| 0),
        SHM_LOCK | SHM_UNLOCK => {
            let segment = all.lock().get(id)?;
            segment.set_locked(&me.caller(), command == SHM_LOCK).map(|()| 0)
        }
        IPC_INFO => {
            let limits = ShmLimits {
                shmmax: SHMMAX,
                shmmin: 1,
                shmmni: SHMMNI as u64,
                shmseg: SHMMNI as u64,
                shmall: SHMALL,
                unused: [0; 4],
            };
            current.write_object(buf.cast(), &limits)?;
            index(all.lock().highest_index())
        }
        SHM_INFO => {
            current.write_object(buf.cast(), &all.usage())?;
            index(all.lock().highest_index())
        }
        _ => Err(Errno::EINVAL),
    }
}
