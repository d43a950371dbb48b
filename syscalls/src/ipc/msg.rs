//! `msgget`, `msgsnd`, `msgrcv`, `msgctl`.

use linux_abi::ipc::{
    IPC_INFO, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT, MSG_COPY, MSG_EXCEPT, MSG_INFO, MSG_STAT,
    MSG_STAT_ANY, MsgInfo, MsqidDs,
};
use linux_abi::{Errno, UserPtr};
use sentry::ipc::{MSGMAX, MSGMNB, MSGMNI, Message, Selector};
use sentry::sync::Events;
use sentry::task::{Current, WaitEnd};

use super::{Me, index, int, namespace};

/// `struct msgbuf` begins with the type.
const TYPE_LEN: u64 = 8;

/// `msgget(2)`: <https://man7.org/linux/man-pages/man2/msgget.2.html>
pub(crate) fn msgget(current: &mut Current, key: i32, flags: u32) -> Result<i32, Errno> {
    namespace(current).messages.get(&Me::of(current).caller(), key, flags)
}

/// `msgsnd(2)`: <https://man7.org/linux/man-pages/man2/msgsnd.2.html>
pub(crate) fn msgsnd(
    current: &mut Current,
    id: i32,
    buf: UserPtr<i64>,
    len: usize,
    flags: u32,
) -> Result<(), Errno> {
    let kind = current.read_object(buf)?;
    if len > MSGMAX || id < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut text = vec![0; len];
    current.read_user(buf.byte_add(TYPE_LEN).addr(), &mut text)?;
    let message = Message { kind, text };
    let queue = namespace(current).messages.find(id)?;
    let me = Me::of(current);
    if queue.send(&me.caller(), &message)? {
        return Ok(());
    }
    if flags & IPC_NOWAIT != 0 {
        return Err(Errno::EAGAIN);
    }
    let sent = current.wait(&[(&queue.changed, Events::WRITABLE)], None, |_| {
        match queue.send(&me.caller(), &message) {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(errno) => Some(Err(errno)),
        }
    });
    ended(sent)
}

/// LINUX: never restarted after a handler, signal(7).
fn ended<T>(end: Result<Result<T, Errno>, WaitEnd>) -> Result<T, Errno> {
    end.unwrap_or(Err(Errno::ERESTARTNOHAND))
}

/// `msgrcv(2)`: <https://man7.org/linux/man-pages/man2/msgrcv.2.html>
pub(crate) fn msgrcv(
    current: &mut Current,
    id: i32,
    buf: UserPtr<i64>,
    len: usize,
    kind: i64,
    flags: u32,
) -> Result<usize, Errno> {
    if id < 0 || i64::try_from(len).is_err() {
        return Err(Errno::EINVAL);
    }
    if flags & MSG_COPY != 0 && (flags & MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0) {
        return Err(Errno::EINVAL);
    }
    let queue = namespace(current).messages.find(id)?;
    let me = Me::of(current);
    let selector = Selector { kind, flags, room: len };
    let message = match queue.receive(&me.caller(), selector)? {
        Some(message) => message,
        None if flags & IPC_NOWAIT != 0 => return Err(Errno::ENOMSG),
        None => ended(current.wait(&[(&queue.changed, Events::READABLE)], None, |_| {
            queue.receive(&me.caller(), selector).transpose()
        }))?,
    };
    current.write_object(buf, &message.kind)?;
    current.write_user(buf.byte_add(TYPE_LEN).addr(), &message.text)?;
    Ok(message.text.len())
}

/// `msgctl(2)`: <https://man7.org/linux/man-pages/man2/msgctl.2.html>
pub(crate) fn msgctl(
    current: &mut Current,
    id: i32,
    command: u32,
    buf: UserPtr<MsqidDs>,
) -> Result<u64, Errno> {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let ipc = namespace(current);
    let me = Me::of(current);
    match command {
        IPC_INFO | MSG_INFO => {
            let usage = (command == MSG_INFO).then(|| {
                let table = ipc.messages.lock();
                let stats: Vec<MsqidDs> = table.iter().map(|(_, queue)| queue.stat()).collect();
                let sum = |field: fn(&MsqidDs) -> u64| stats.iter().map(field).sum::<u64>();
                (table.used(), sum(|stat| stat.qnum), sum(|stat| stat.cbytes))
            });
            let small = |n: u64| i32::try_from(n).unwrap_or(i32::MAX);
            let (queues, messages, bytes) = usage.unwrap_or((0, 0, 0));
            let info = MsgInfo {
                msgpool: if usage.is_some() { int(queues) } else { small(MSGMNB * MSGMNI as u64 / 1024) },
                msgmap: if usage.is_some() { small(messages) } else { small(MSGMNB) },
                msgmax: int(MSGMAX),
                msgmnb: small(MSGMNB),
                msgmni: int(MSGMNI),
                msgssz: 16,
                msgtql: if usage.is_some() { small(bytes) } else { small(MSGMNB) },
                msgseg: 0xffff,
                pad: 0,
            };
            current.write_object(buf.cast(), &info)?;
            index(ipc.messages.lock().highest_index())
        }
        IPC_STAT | MSG_STAT | MSG_STAT_ANY => {
            let (result, queue) = {
                let table = ipc.messages.lock();
                if command == IPC_STAT { (0, table.get(id)?) } else { table.at_index(id)? }
            };
            if command != MSG_STAT_ANY {
                queue.check(&me.caller(), 0o4)?;
            }
            current.write_object(buf, &queue.stat())?;
            Ok(u64::from(result.cast_unsigned()))
        }
        IPC_SET => {
            let new = current.read_object(buf)?;
            ipc.messages.find(id)?.set(&me.caller(), &new).map(|()| 0)
        }
        IPC_RMID => ipc.messages.remove(&me.caller(), id).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}
