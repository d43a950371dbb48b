//! The texts of `/proc/PID`: status, stat, maps, limits and so on.

use std::fmt::Write;
use std::sync::Arc;

use linux_abi::time::USER_HZ;

use super::process::Subject;
use crate::Errno;
use crate::mm::{MemoryManager, MemoryUsage, ProgramLayout};
use crate::task::signal::{Disposition, SigSet, Signal};
use crate::task::{Capability, Process, ProcessGroup, Resource, Task};
use crate::vfs::{Descriptor, Whence};

/// Most bytes of arguments or environment that are shown.
const ARGUMENTS_MAX: u64 = 1 << 20;
const PAGE: u64 = 4096;

fn memory(subject: &Subject) -> Option<Arc<MemoryManager>> {
    subject.process.mm()
}

fn guest_text(mm: &MemoryManager, range: impl Fn(ProgramLayout) -> (u64, u64)) -> Vec<u8> {
    let (start, end) = range(mm.program());
    let len = usize::try_from(end.saturating_sub(start).min(ARGUMENTS_MAX)).unwrap_or(0);
    let mut text = vec![0; len];
    let n = mm.read(start, &mut text);
    text.truncate(n);
    text
}

pub(super) fn cmdline(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let Some(mm) = memory(subject) else { return Ok(Vec::new()) };
    // LINUX: get_mm_cmdline: a title (setproctitle) that has overwritten the end of the arguments goes on into the environment, up to its
    // first zero and one page at most.
    let program = mm.program();
    let mut last = [0];
    let is_title = mm.read(program.arg_end.wrapping_sub(1), &mut last) == 1 && last != [0];
    let reaches_on = program.env_start == program.arg_end && program.env_end > program.env_start;
    if is_title && reaches_on {
        let mut title =
            guest_text(&mm, |program| (program.arg_start, program.env_end.min(program.arg_start + PAGE)));
        let end = title.iter().position(|&byte| byte == 0).map_or(title.len(), |end| end + 1);
        title.truncate(end);
        return Ok(title);
    }
    Ok(guest_text(&mm, |program| (program.arg_start, program.arg_end)))
}

pub(super) fn environ(mm: &MemoryManager, _: &Arc<Task>) -> Vec<u8> {
    guest_text(mm, |program| (program.env_start, program.env_end))
}

fn name(subject: &Subject) -> String {
    subject.task().map_or_else(|_| String::from("defunct"), |task| task.name_text())
}

pub(super) fn comm(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    Ok(format!("{}\n", name(subject)).into_bytes())
}

pub(super) fn set_comm(subject: &Subject, writer: &Arc<Task>, text: &[u8]) -> Result<(), Errno> {
    if writer.process.key != subject.process.key {
        return Err(Errno::EINVAL);
    }
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    subject.task()?.set_name(text);
    Ok(())
}

pub(super) fn statm(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    Ok(memory(subject).map_or_else(|| "0 0 0 0 0 0 0\n".to_owned(), |mm| mm.statm()).into_bytes())
}

pub(super) fn io(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let io = match subject.task() {
        Ok(task) if subject.is_thread() => task.io.figures(),
        _ => subject.process.io(),
    };
    let lines = [
        ("rchar", io.rchar),
        ("wchar", io.wchar),
        ("syscr", io.syscr),
        ("syscw", io.syscw),
        ("read_bytes", io.read_bytes),
        ("write_bytes", io.write_bytes),
        ("cancelled_write_bytes", io.cancelled_write_bytes),
    ];
    Ok(lines.map(|(name, figure)| format!("{name}: {figure}\n")).concat().into_bytes())
}

pub(super) fn personality(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    Ok(format!("{:08x}\n", subject.task()?.scheduling().personality).into_bytes())
}

pub(super) fn schedstat(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    Ok(format!("{} 0 0\n", cpu_ns(subject).0).into_bytes())
}

pub(super) fn oom_score(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    // LINUX: 0 to 2000, two thirds of it for a process that uses nothing.
    let score = (666 + subject.process.oom_score_adj() * 2 / 3).clamp(0, 2000);
    Ok(format!("{score}\n").into_bytes())
}

pub(super) fn oom_score_adj(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    Ok(format!("{}\n", subject.process.oom_score_adj()).into_bytes())
}

pub(super) fn set_oom_score_adj(subject: &Subject, writer: &Arc<Task>, text: &[u8]) -> Result<(), Errno> {
    let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let value: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    if !(-1000..=1000).contains(&value) {
        return Err(Errno::EINVAL);
    }
    let privileged = writer.credentials().has(Capability::SysResource);
    subject.process.set_oom_score_adj(value, privileged)
}

pub(super) fn timer_slack(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    Ok(format!("{}\n", subject.task()?.timer_slack_ns()).into_bytes())
}

pub(super) fn set_timer_slack(subject: &Subject, _: &Arc<Task>, text: &[u8]) -> Result<(), Errno> {
    let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let value = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    subject.task()?.change_scheduling(|scheduling| scheduling.timer_slack_ns = value);
    Ok(())
}

pub(super) fn login_uid(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    Ok(subject.process.login.uid().to_string().into_bytes())
}

pub(super) fn set_login_uid(subject: &Subject, writer: &Arc<Task>, text: &[u8]) -> Result<(), Errno> {
    let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let uid = text.trim_end_matches(['\n', '\0']).parse().map_err(|_| Errno::EINVAL)?;
    subject.process.set_login(writer, uid)
}

pub(super) fn session_id(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    Ok(subject.process.login.session().to_string().into_bytes())
}

pub(super) fn fdinfo(descriptor: &Descriptor) -> Vec<u8> {
    let file = &descriptor.file;
    let position = match file.ops.shared_position() {
        Some(position) => position.seek(Whence::Current, 0).unwrap_or(0),
        // Somebody may hold it while it waits for bytes: rather 0 than waiting for that.
        None => file.position.try_lock().map_or(0, |position| *position),
    };
    let cloexec = if descriptor.close_on_exec { 0o2_000_000 } else { 0 };
    let ino = file.location.inode().stat().map_or(0, |stat| stat.ino);
    let flags = file.flags() | cloexec;
    let mut text =
        format!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t{}\nino:\t{ino}\n", file.location.mount.id);
    text.push_str(&file.ops.fdinfo());
    text.into_bytes()
}

pub(super) fn limits(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    const LINES: [(&str, Resource, &str); 16] = [
        ("Max cpu time", Resource::Cpu, "seconds"),
        ("Max file size", Resource::Fsize, "bytes"),
        ("Max data size", Resource::Data, "bytes"),
        ("Max stack size", Resource::Stack, "bytes"),
        ("Max core file size", Resource::Core, "bytes"),
        ("Max resident set", Resource::Rss, "bytes"),
        ("Max processes", Resource::Nproc, "processes"),
        ("Max open files", Resource::Nofile, "files"),
        ("Max locked memory", Resource::Memlock, "bytes"),
        ("Max address space", Resource::As, "bytes"),
        ("Max file locks", Resource::Locks, "locks"),
        ("Max pending signals", Resource::Sigpending, "signals"),
        ("Max msgqueue size", Resource::Msgqueue, "bytes"),
        ("Max nice priority", Resource::Nice, ""),
        ("Max realtime priority", Resource::Rtprio, ""),
        ("Max realtime timeout", Resource::Rttime, "us"),
    ];
    let mut text = format!("{:25} {:20} {:20} {:10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    let show = |value: u64| if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
    for (name, resource, unit) in LINES {
        let limit = subject.process.limit(resource);
        let _ = writeln!(text, "{name:25} {:20} {:20} {unit:10}", show(limit.soft), show(limit.hard));
    }
    Ok(text.into_bytes())
}

/// User and system time in nanoseconds.
pub(super) fn cpu_ns(subject: &Subject) -> (u64, u64) {
    match subject.task() {
        Ok(task) if subject.is_thread() => (task.cpu_ns(), task.system_ns()),
        _ => subject.process.cpu_ns(),
    }
}

/// One letter, and its word in `status`.
fn state(subject: &Subject, reader: &Arc<Task>) -> (&'static str, &'static str) {
    let Ok(task) = subject.task() else { return ("Z", "zombie") };
    if subject.process.is_zombie() || subject.has_lost_leader() {
        ("Z", "zombie")
    } else if subject.process.is_thread_stopped(task.tid()) {
        ("T", "stopped")
    } else if !Arc::ptr_eq(&task, reader) && task.is_sleeping() {
        ("S", "sleeping")
    } else {
        ("R", "running")
    }
}

/// Pending (own, shared), blocked, ignored, caught.
fn signals(process: &Process, task: &Task) -> [u64; 5] {
    let (own, shared) = task.pending_apart();
    let actions = process.actions();
    let (mut ignored, mut caught) = (SigSet::EMPTY, SigSet::EMPTY);
    for signal in (1..=64).filter_map(|number| Signal::new(number).ok()) {
        match actions.disposition(signal) {
            Disposition::Ignored => ignored = ignored.with(signal),
            Disposition::Handler => caught = caught.with(signal),
            Disposition::Default(_) => {}
        }
    }
    [own.0, shared.0, task.blocked().0, ignored.0, caught.0]
}

fn group_ids(group: Option<&Arc<ProcessGroup>>) -> (i32, i32) {
    group.map_or((0, 0), |group| (group.pgid, group.session.sid))
}

pub(super) fn status(subject: &Subject, reader: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let process = &subject.process;
    let id = subject.id();
    let (letter, word) = state(subject, reader);
    let (pgid, sid) = group_ids(process.process_group().as_ref());
    let mut text = format!("Name:\t{}\n", name(subject));
    let Ok(task) = subject.task() else {
        // What is left of a zombie.
        let _ = write!(
            text,
            "State:\t{letter} ({word})\nTgid:\t{}\nNgid:\t0\nPid:\t{id}\nPPid:\t{}\nTracerPid:\t0\n\
             Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nThreads:\t0\n",
            process.pid,
            process.parent_pid(),
            uid = process.real_uid(),
        );
        return Ok(text.into_bytes());
    };
    let credentials = task.credentials();
    let _ = write!(
        text,
        "Umask:\t{:04o}\nState:\t{letter} ({word})\nTgid:\t{}\nNgid:\t0\nPid:\t{id}\nPPid:\t{}\nTracerPid:\t0\n",
        task.fs().umask(),
        process.pid,
        process.parent_pid(),
    );
    let c = &credentials;
    let _ = writeln!(text, "Uid:\t{}\t{}\t{}\t{}", c.uid, c.euid, c.suid, c.fsuid);
    let _ = writeln!(text, "Gid:\t{}\t{}\t{}\t{}", c.gid, c.egid, c.sgid, c.fsgid);
    let groups: String = c.groups.iter().map(|gid| format!("{gid} ")).collect();
    let fd_size = task.files().numbers().len().next_power_of_two().max(64);
    let _ = write!(
        text,
        "FDSize:\t{fd_size}\nGroups:\t{groups}\nNStgid:\t{}\nNSpid:\t{id}\nNSpgid:\t{pgid}\nNSsid:\t{sid}\n",
        process.pid
    );
    if let Some(mm) = memory(subject) {
        let peak_resident = mm.peak_resident();
        let usage = mm.usage();
        let peak_resident = peak_resident.max(usage.peak_resident);
        text.push_str(&memory_lines(&MemoryUsage { peak_resident, ..usage }));
    }
    text.push_str(&signal_lines(process, &task));
    for (name, set) in [
        ("CapInh", c.inheritable),
        ("CapPrm", c.permitted),
        ("CapEff", c.effective),
        ("CapBnd", c.bounding),
        ("CapAmb", c.ambient),
    ] {
        let _ = writeln!(text, "{name}:\t{set:016x}");
    }
    let cpus = reader.kernel.machine.cpus;
    let _ = write!(
        text,
        "NoNewPrivs:\t{}\nSeccomp:\t0\nSeccomp_filters:\t0\nCpus_allowed:\t{}\nCpus_allowed_list:\t{}\n\
         Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t0\n",
        u8::from(c.no_new_privs),
        cpu_mask(cpus),
        super::system::cpu_list(cpus),
        task.voluntary_switches(),
    );
    Ok(text.into_bytes())
}

fn memory_lines(usage: &MemoryUsage) -> String {
    let mut text = String::new();
    for (name, bytes) in [
        ("VmPeak", usage.peak_size),
        ("VmSize", usage.size),
        ("VmLck", usage.locked),
        ("VmPin", 0),
        ("VmHWM", usage.peak_resident),
        ("VmRSS", usage.resident.total()),
        ("RssAnon", usage.resident.anonymous),
        ("RssFile", usage.resident.file),
        ("RssShmem", usage.resident.shared),
        ("VmData", usage.data),
        ("VmStk", usage.stack),
        ("VmExe", usage.text),
        ("VmLib", usage.library),
        ("VmPTE", usage.resident.total() / 512),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ] {
        let _ = writeln!(text, "{name}:\t{:>8} kB", bytes >> 10);
    }
    text.push_str("CoreDumping:\t0\nTHP_enabled:\t1\n");
    text
}

fn signal_lines(process: &Process, task: &Task) -> String {
    let [own, shared, blocked, ignored, caught] = signals(process, task);
    let waiting = process.kernel.tasks.waiting.held(task.credentials().uid);
    let limit = process.limit(Resource::Sigpending).soft;
    let mut text = format!("Threads:\t{}\nSigQ:\t{waiting}/{limit}\n", process.threads().len());
    for (name, set) in
        [("SigPnd", own), ("ShdPnd", shared), ("SigBlk", blocked), ("SigIgn", ignored), ("SigCgt", caught)]
    {
        let _ = writeln!(text, "{name}:\t{set:016x}");
    }
    text
}

fn cpu_mask(cpus: usize) -> String {
    let words = cpus.div_ceil(32).max(1);
    let word = |index: usize| match cpus - (index * 32).min(cpus) {
        bits if bits >= 32 => u32::MAX,
        bits => (1u32 << bits) - 1,
    };
    (0..words).rev().map(|index| format!("{:x}", word(index))).collect::<Vec<_>>().join(",")
}

/// LINUX: `do_task_stat`; fields are numbered as in `proc(5)`.
pub(super) fn stat(subject: &Subject, reader: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let process = &subject.process;
    let group = process.process_group();
    let (pgid, sid) = group_ids(group.as_ref());
    let session = group.as_ref().map(|group| &group.session);
    let tty = session.and_then(|session| session.terminal()).map_or(0, |terminal| terminal.device());
    let foreground = session.and_then(|session| session.foreground()).map_or(-1, |group| group.pgid);
    let ticks = |ns: u64| ns / (1_000_000_000 / USER_HZ);
    let (user, system) = cpu_ns(subject);
    let (child_user, child_system) = process.kernel.tasks.children_cpu_ns(process);
    let task = subject.task().ok();
    let nice = task.as_ref().map_or(0, |task| task.scheduling().nice);
    let [own, shared, blocked, ignored, caught] = task.as_ref().map_or([0; 5], |task| signals(process, task));
    let mm = memory(subject);
    let usage = mm.as_ref().map(|mm| mm.usage()).unwrap_or_default();
    // LINUX: where things lie in memory is told to those alone who may look into it.
    let program = subject.inspect(reader, |task| Ok(task.mm())).unwrap_or_default();
    let may_look = program.is_some();
    let hidden = if mm.is_some() { ProgramLayout::HIDDEN } else { ProgramLayout::default() };
    let program = program.map_or(hidden, |mm| mm.program());
    let start = task.as_ref().map_or(process.start_ns, |task| task.start_ns);
    let start = super::figures::since_boot_ns(start);
    let exit = process.kernel.tasks.exit_status(process).filter(|_| may_look);
    let exit = exit.map_or(0, |status| status.wait_status());
    let mut text = format!(
        "{} ({}) {} {} {pgid} {sid} {tty} {foreground} 0 0 0 0 0 {} {} {} {} {} {nice} {} 0 {} {} {} {}",
        subject.id(),
        name(subject),
        state(subject, reader).0,
        process.parent_pid(),
        ticks(user),
        ticks(system),
        ticks(child_user),
        ticks(child_system),
        20 + nice,
        process.threads().len(),
        ticks(start),
        usage.size,
        usage.resident.total() / PAGE,
        process.limit(Resource::Rss).soft,
    );
    // Fields 26 to 52.
    let p = &program;
    let _ = writeln!(
        text,
        " {} {} {} 0 0 {} {blocked} {ignored} {caught} 0 0 0 17 0 0 0 0 0 0 {} {} {} {} {} {} {} {exit}",
        p.start_code,
        p.end_code,
        p.start_stack,
        own | shared,
        p.start_data,
        p.end_data,
        p.start_brk,
        p.arg_start,
        p.arg_end,
        p.env_start,
        p.env_end,
    );
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_masks_are_groups_of_32() {
        assert_eq!(cpu_mask(1), "1");
        assert_eq!(cpu_mask(32), "ffffffff");
        assert_eq!(cpu_mask(34), "3,ffffffff");
    }
}
