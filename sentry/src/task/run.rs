//! The life of a task: run guest code, serve what it asks, deliver signals, until it ends.
//!
//! ```text
//! run guest ── Syscall ──> table ──┐
//!     ^    ── Fault ────> signal ──┤
//!     │    ── Interrupted ─────────┤
//!     └───── deliver signals <─────┘        Died, or exit: the thread ends
//! ```

use platform::Exit;

use super::{Current, Outcome, SyscallAbi};

/// Runs the task until it has ended; called on its own sentry thread.
pub fn run(mut current: Current, abi: &dyn SyscallAbi) {
    loop {
        match current.run_guest() {
            Exit::Syscall => {
                let number = current.regs.orig_rax;
                let args = current.regs.args();
                match abi.call(&mut current, number, args) {
                    Outcome::Return(value) => current.regs.rax = value,
                    Outcome::Error(errno) => current.regs.rax = errno.to_return(),
                    Outcome::KeepRegs => {}
                    Outcome::Exit => return,
                }
            }
            Exit::Fault(_) | Exit::Interrupted => {}
            Exit::Died => return,
        }
    }
}
