//! What if a process has used more CPU time than it may (`RLIMIT_CPU`)? SIGXCPU each second beyond the soft limit, SIGKILL at the hard one.
//!
//! Key type: [`CpuLimit`]. LINUX: `check_process_timers`.

use std::sync::{Arc, Weak};

use platform::host::clock::{Clock, now_ns};

use super::process_timers::TimerClock;
use super::{Armed, Expire};
use crate::task::signal::{Sender, SigInfo, Signal};
use crate::task::{INFINITY, Process, Resource};

const NS_PER_S: u64 = 1_000_000_000;

/// Looks after a process that has a limit, as long as it is kept.
pub(super) struct CpuLimit {
    _watch: Arc<Watch>,
    _armed: Armed,
}

struct Watch {
    process: Weak<Process>,
}

impl CpuLimit {
    /// `None`: the process has no limit.
    pub(super) fn arm(process: &Arc<Process>) -> Option<Self> {
        let first = next_look(process)?;
        let watch = Arc::new(Watch { process: Arc::downgrade(process) });
        let receiver: Weak<dyn Expire> = Arc::<Watch>::downgrade(&watch);
        Some(Self { _armed: process.kernel.timers.arm(first, receiver), _watch: watch })
    }
}

/// When to look at the process's clock again.
fn next_look(process: &Process) -> Option<u64> {
    let limit = process.limit(Resource::Cpu);
    let seconds = limit.soft.min(limit.hard);
    let deadline = (limit.soft != INFINITY).then(|| seconds.saturating_mul(NS_PER_S))?;
    Some(TimerClock::ProcessCpu.look_at(process, deadline, now_ns(Clock::Monotonic)))
}

impl Expire for Watch {
    fn expire(&self, _: u64) -> Option<u64> {
        let process = self.process.upgrade().filter(|process| !process.is_zombie())?;
        let limit = process.limit(Resource::Cpu);
        let used = TimerClock::ProcessCpu.now(&process);
        let send = |signal: Signal| process.send(SigInfo::kernel(signal.number()), Sender::Kernel);
        if limit.soft == INFINITY {
            return None;
        }
        if used >= limit.hard.saturating_mul(NS_PER_S) {
            send(Signal::KILL);
            return None;
        }
        if used >= limit.soft.saturating_mul(NS_PER_S) {
            send(Signal::XCPU);
            process.change_limits(|limits| limits.raise_cpu());
        }
        next_look(&process)
    }
}
