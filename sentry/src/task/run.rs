//! The life of a task: run guest code, serve what it asks, deliver signals, until it ends.
//!
//! ```text
//! run guest ── Syscall ──> table ──┐
//!     ^    ── Fault ────> signal ──┤
//!     │    ── Interrupted ─────────┤     WaitInterrupted: a call of its own, which answers a restart code
//!     └───── deliver signals <─────┘        Died, or exit: the thread ends
//! ```

use platform::{Context, Exit};

use super::signal::{Flow, Restart};
use super::{Current, Outcome, SyscallAbi};

/// Runs the task until it has ended; called on its own sentry thread. Answers its guest thread, if that may be used again.
pub fn run(mut current: Current, abi: &dyn SyscallAbi) -> Option<Box<dyn Context>> {
    while step(&mut current, abi) == Flow::Run {}
    current.end()
}

/// As [`run`], for a task whose guest thread was started before this thread came to it.
pub(super) fn run_started(mut current: Current, abi: &dyn SyscallAbi) -> Option<Box<dyn Context>> {
    match guest_step(&mut current, abi) {
        Flow::Run => run(current, abi),
        Flow::End => current.end(),
    }
}

/// Runs guest code once, and does what it wants.
fn step(current: &mut Current, abi: &dyn SyscallAbi) -> Flow {
    // A task may have been told to end or to stop before it ever ran.
    if current.task().is_interrupted() && current.deliver_signals(None) == Flow::End {
        return Flow::End;
    }
    guest_step(current, abi)
}

fn guest_step(current: &mut Current, abi: &dyn SyscallAbi) -> Flow {
    let mut restart = None;
    let exit = current.run_guest();
    // First of all: what the guest has been told must be so before anything is done on the strength of it.
    current.make_queued(abi);
    match exit {
        Exit::Syscall => {
            current.patch_call_site();
            let number = current.regs.orig_rax;
            let args = current.regs.args();
            let outcome = abi.call(current, number, args);
            if current.kernel().config.strace {
                trace(current, abi, (number, args), outcome);
            }
            current.review_licence(|| abi.leaves_descriptors(number));
            match outcome {
                Outcome::Return(value) => current.regs.rax = value,
                Outcome::Error(errno) if errno.is_restart() => restart = Some(Restart { errno, number }),
                Outcome::Error(errno) => current.regs.rax = errno.to_return(),
                Outcome::KeepRegs => {}
                Outcome::Exit => return Flow::End,
            }
        }
        Exit::Fault(fault) => current.fault(fault),
        // It may have changed its mask, and not looked yet whether a signal waits.
        Exit::Interrupted => current.task().mark_interrupted(),
        Exit::WaitInterrupted { waited_ns } => {
            let number = current.regs.orig_rax;
            restart = Some(Restart { errno: abi.wait_interrupted(current, number, waited_ns), number });
            current.task().mark_interrupted();
        }
        Exit::Died => current.died(),
    }
    if restart.is_some() || current.task().is_interrupted() {
        if let Err(errno) = current.context_mut().finish_call() {
            current.regs.rax = errno.to_return();
        }
        return current.deliver_signals(restart);
    }
    Flow::Run
}

/// Writes one line of `--strace`, after the call: who, what, with which registers, and what came of it.
pub(super) fn trace(current: &Current, abi: &dyn SyscallAbi, call: (u64, [u64; 6]), outcome: Outcome) {
    let (number, args) = call;
    let name = abi.name(number).map_or_else(|| format!("syscall_{number}"), str::to_owned);
    let args = args.map(|arg| format!("{arg:#x}")).join(", ");
    let result = match outcome {
        Outcome::Return(value) => format!("{value:#x}"),
        Outcome::Error(errno) => format!("-1 {}", errno.name()),
        Outcome::KeepRegs => "(registers set)".to_owned(),
        Outcome::Exit => "(ended)".to_owned(),
    };
    tracing::debug!(target: "strace", "[{}] {} {name}({args}) = {result}", current.task().tid(), current.task().name_text());
}
