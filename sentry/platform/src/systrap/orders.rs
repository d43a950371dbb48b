//! What a guest thread does on the sentry's order, between two runs of guest code: calls of the host, mappings.
//!
//! The orders of [`SystrapContext`]; their pages are written here and nowhere else.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use linux_abi::{Errno, nr};

use super::context::SystrapContext;
use super::frame::Entry;
use crate::api::{ThreadCall, futex_or};
use crate::death::Death;
use crate::stub::filter::is_futex_wait;
use crate::stub::layout::{NOTIFY_NR, PASSED_FD, RW, kind, order, ro, rw};
use crate::sys::{self, Reply};

impl SystrapContext {
    /// Has the stub run an order, and waits for it.
    pub(super) fn order(&mut self, what: u32) -> Result<(), Errno> {
        self.post(what)?;
        self.finish()
    }

    pub(super) fn post(&mut self, what: u32) -> Result<(), Errno> {
        if self.dead {
            return Err(Errno::ESRCH);
        }
        self.attend();
        let slot = self.slot.as_ref().ok_or(Errno::ESRCH)?;
        slot.window.set32(ro::ORDER, what);
        self.handover.answer(&slot.window).inspect_err(|_| self.dead = true)?;
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), Errno> {
        let slot = self.slot.as_ref().ok_or(Errno::ESRCH)?;
        self.handover.wait(&slot.window).inspect_err(|_| self.dead = true)?;
        match slot.window.get32(RW + rw::KIND) {
            kind::DONE => Ok(()),
            kind::COPY_FAULT => Err(Errno::EFAULT),
            // It faulted, or somebody wrote to the page, in the middle of an order: it cannot be understood any more.
            kind => {
                self.dead = true;
                self.space.process().condemn(Death::Answer(kind));
                Err(Errno::ESRCH)
            }
        }
    }

    pub(super) fn write_call(&self, number: u64, args: [u64; 6]) -> Result<(), Errno> {
        let window = &self.slot.as_ref().ok_or(Errno::ESRCH)?.window;
        window.set64(ro::CALL_NR, number);
        for (offset, arg) in (ro::CALL_ARGS..).step_by(8).zip(args) {
            window.set64(offset, arg);
        }
        Ok(())
    }

    /// What the last call returned, as the page claims.
    pub(super) fn result(&self) -> Result<u64, Errno> {
        let value = self.slot.as_ref().ok_or(Errno::ESRCH)?.window.get64(RW + rw::RESULT);
        match value.cast_signed() {
            error @ -4095..=-1 => Err(Errno::new(i32::try_from(-error).unwrap_or(1))),
            _ => Ok(value),
        }
    }

    /// Has the stub make a call of the host.
    pub(super) fn call(&mut self, number: u64, args: [u64; 6]) -> Result<u64, Errno> {
        self.write_call(number, args)?;
        self.order(order::CALL)?;
        self.result()
    }

    /// Has the stub make a call about the guest thread itself.
    pub(super) fn order_thread_call(&mut self, call: ThreadCall) -> Result<u64, Errno> {
        match call {
            ThreadCall::Rseq { addr, len, flags, signature } => {
                /// `RSEQ_FLAG_UNREGISTER`.
                const UNREGISTER: u32 = 1;
                let args = [addr, u64::from(len), u64::from(flags), u64::from(signature), 0, 0];
                let result = self.call(nr::RSEQ, args);
                if result.is_ok() {
                    self.has_rseq = flags & UNREGISTER == 0;
                    if let Some(slot) = &self.slot {
                        slot.window.set64(RW + rw::RSEQ_ADDR, 0);
                    }
                }
                result
            }
            ThreadCall::FutexWake { addr, count, private } => {
                let operation = if private { 1 | 128 } else { 1 };
                self.call(nr::FUTEX, [addr, operation, u64::from(count), 0, 0, 0])
            }
            ThreadCall::FutexOr { addr, bit } => self.call(nr::FUTEX, futex_or(addr, bit)).map(|_| 0),
            ThreadCall::Membarrier { command, flags, cpu } => {
                self.call(nr::MEMBARRIER, [u64::from(command), u64::from(flags), u64::from(cpu), 0, 0, 0])
            }
            // On the signal stack it would sleep deaf to interrupts. By now its site has been looked at: it comes another way.
            ThreadCall::Futex { args, .. }
                if self.entry != Entry::Page && is_futex_wait(nr::FUTEX, args[1]) =>
            {
                Err(Errno::ERESTARTNOINTR)
            }
            ThreadCall::Futex { args, deadline_ns } if is_futex_wait(nr::FUTEX, args[1]) => {
                self.futex_wait(args, deadline_ns)
            }
            ThreadCall::Futex { args, .. } => self.call(nr::FUTEX, args),
        }
    }

    /// Has the stub map a file: the descriptor is passed for this one call and closed by the stub.
    pub(super) fn map_file(&mut self, args: [u64; 6], file: BorrowedFd<'_>) -> Result<u64, Errno> {
        let space = Arc::clone(&self.space);
        let _passing = space.passing();
        self.write_call(nr::MMAP, args)?;
        self.post(order::CALL_AND_CLOSE)?;
        self.allow_mapping(args, file)?;
        self.finish()?;
        self.result()
    }

    /// Receives the stub's request to map, checks that it is the one that was ordered, passes the descriptor, lets it go on.
    pub(super) fn allow_mapping(&mut self, args: [u64; 6], file: BorrowedFd<'_>) -> Result<(), Errno> {
        /// A thread that is frozen or interrupted asks again, with a new notification each time.
        const TRIES: u32 = 64;
        let number = u32::try_from(PASSED_FD).expect("small");
        let mut why = Death::Unmapped;
        for _ in 0..TRIES {
            let notification = self.handover.receive().inspect_err(|_| self.dead = true)?;
            let listener = self.handover.listener().as_fd();
            if notification.nr == i32::try_from(NOTIFY_NR).expect("small") {
                // It has not seen yet that its order is in the page.
                let _ = sys::notification_answer(listener, notification.id, Reply::Value(0));
                continue;
            }
            if notification.nr != i32::try_from(nr::MMAP).expect("small") || notification.args != args {
                let _ = sys::notification_answer(listener, notification.id, Reply::Error(libc::EPERM));
                why = Death::Mapping;
                break;
            }
            let passed = sys::notification_pass(listener, notification.id, file, number)
                .and_then(|()| sys::notification_answer(listener, notification.id, Reply::Continue));
            match passed {
                Ok(()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => {
                    why = Death::Listener(error.raw_os_error().unwrap_or(0));
                    break;
                }
            }
        }
        self.dead = true;
        self.space.process().condemn(why);
        Err(Errno::ESRCH)
    }
}
