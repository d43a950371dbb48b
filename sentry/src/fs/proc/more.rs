//! The texts of `/proc/PID` that few programs read: scheduling, timers, children, what Linux's own subsystems would tell.

use std::fmt::Write;
use std::sync::Arc;

use super::mounts::path_for;
use super::process::Subject;
use super::status;
use crate::Errno;
use crate::mm::MemoryManager;
use crate::task::Task;

/// `sched`: LINUX `proc_sched_show_task`, as far as it is known here.
pub(super) fn sched(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let task = subject.task()?;
    let scheduling = task.scheduling();
    let (user, system) = status::cpu_ns(subject);
    let switches = task.voluntary_switches();
    let runtime = user.saturating_add(system);
    let mut text =
        format!("{} ({}, #threads: {})\n", task.name_text(), subject.id(), subject.process.threads().len());
    text.push_str(&"-".repeat(67));
    text.push('\n');
    let runtime = format!("{}.{:06}", runtime / 1_000_000, runtime % 1_000_000);
    for (name, value) in [
        ("se.sum_exec_runtime", runtime),
        ("nr_switches", switches.to_string()),
        ("nr_voluntary_switches", switches.to_string()),
        ("nr_involuntary_switches", "0".into()),
        ("policy", scheduling.policy.to_string()),
        ("prio", (120 + scheduling.nice).to_string()),
    ] {
        let _ = writeln!(text, "{name:<45}:{value:>21}");
    }
    Ok(text.into_bytes())
}

/// `autogroup`: one for each session. LINUX: `proc_sched_autogroup_show_task`.
pub(super) fn autogroup(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let session = subject.process.process_group().map_or(0, |group| group.session.sid);
    Ok(format!("/autogroup-{session} nice 0\n").into_bytes())
}

/// `syscall`: LINUX `proc_pid_syscall`; which call a sleeping task is in is not kept.
pub(super) fn syscall(subject: &Subject, reader: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let task = subject.task()?;
    let sleeps = !Arc::ptr_eq(&task, reader) && task.is_sleeping();
    Ok(if sleeps { b"-1 0x0 0x0\n".to_vec() } else { b"running\n".to_vec() })
}

/// `timers`: LINUX `show_timer`.
pub(super) fn timers(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let timers = subject.process.timers.posix();
    Ok(timers.iter().map(|timer| timer.proc_text(subject.process.pid)).collect::<String>().into_bytes())
}

/// `children` of a thread.
pub(super) fn children(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let children = subject.process.kernel.tasks.children_of_thread(&subject.task()?);
    Ok(children.iter().map(|child| format!("{} ", child.pid)).collect::<String>().into_bytes())
}

/// `numa_maps`: one node, one policy.
pub(super) fn numa_maps(mm: &MemoryManager, reader: &Arc<Task>) -> Vec<u8> {
    let maps = mm.maps(&path_for(reader));
    let mut text = String::new();
    for line in String::from_utf8_lossy(&maps).lines() {
        let start = line.split('-').next().unwrap_or_default();
        let name = line.split_whitespace().nth(5);
        let _ = match name {
            Some("[stack]") => writeln!(text, "{start} default stack"),
            Some("[heap]") => writeln!(text, "{start} default heap"),
            Some(file) if file.starts_with('/') => writeln!(text, "{start} default file={file}"),
            _ => writeln!(text, "{start} default"),
        };
    }
    text.into_bytes()
}
