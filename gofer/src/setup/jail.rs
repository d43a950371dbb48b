//! Which privileges the gofer gives up before its first request, and which it keeps.
//!
//! Key function: [`enter`]. It acts on the calling thread, so it runs while there is only one; threads made later inherit.

use std::os::fd::AsRawFd;

use anyhow::Context;
use control::{Channel, GoferReply, IdsMapped};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags};
use seccomp::policy::Gofer;

use crate::serve::Server;

/// What acting for any user of the container needs: give files to their owner (`CHOWN`), pass permission checks that
/// the sentry has already made (`DAC_OVERRIDE`, `DAC_READ_SEARCH`), act as any file's owner (`FOWNER`), keep
/// set-group-ID where Linux would (`FSETID`), make files as their owner (`SETUID`, `SETGID`; of the calls that these allow
/// the filter names `setfsuid` and `setfsgid` only).
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// Leaves the host's user namespace, drops all capabilities but [`KEPT`], forbids gaining any, and enters seccomp.
pub(crate) fn enter(control: &Channel, server: &Server) -> anyhow::Result<()> {
    leave_user_namespace(control)?;
    drop_capabilities().context("cannot drop capabilities")?;
    rustix::thread::set_no_new_privs(true).context("cannot set no_new_privs")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot become undumpable")?;
    enter_seccomp(server)
}

/// A user namespace in which every id is what it is outside: files have the same owners, and the capabilities that are kept
/// mean files and nothing else. LINUX: user_namespaces(7): towards a process of the namespace outside it has none, so that even a
/// process of uid 0 without capabilities cannot be looked into (`ptrace(2)`, "Ptrace access mode checking").
fn leave_user_namespace(control: &Channel) -> anyhow::Result<()> {
    if !rustix::thread::capabilities(None)?.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(()); // rootless: it stands in one already, or has nothing to lose
    }
    #[expect(deprecated, reason = "the other form is unsafe, because of a flag that is not used here")]
    match rustix::thread::unshare(UnshareFlags::NEWUSER) {
        Ok(()) => {}
        Err(error @ (Errno::NOSPC | Errno::INVAL | Errno::PERM)) => {
            tracing::warn!("no user namespace for the gofer ({error}): it stays in the host's");
            return Ok(());
        }
        Err(error) => return Err(error).context("cannot make a user namespace"),
    }
    // LINUX: commit_creds: new capabilities make a process forget it. Whoever answers below was alive when it was set again.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot ask to die with the parent")?;
    control.send(&GoferReply::MapIds, &[]).context("cannot ask for ids")?;
    control.receive::<IdsMapped>().context("nobody has mapped the ids")?;
    Ok(())
}

fn drop_capabilities() -> rustix::io::Result<()> {
    let held = rustix::thread::capabilities(None)?;
    // The bounding set needs SETPCAP to shrink; without it (rootless) it has no meaning, as no_new_privs stands.
    if held.effective.contains(CapabilitySet::SETPCAP) {
        // A thread that acts as a file's owner keeps what is left: the sentry has made the checks of permission.
        rustix::thread::set_capabilities_secure_bits(
            CapabilitiesSecureBits::NO_SETUID_FIXUP | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED,
        )?;
        for bit in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            if KEPT.contains(capability) {
                continue;
            }
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                Err(rustix::io::Errno::INVAL) => break, // past the last one the kernel knows
                Err(errno) => return Err(errno),
            }
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let kept = held.permitted & KEPT;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )
}

/// The host calls of `seccomp::policy::gofer` for this container and no others: any other ends the process.
fn enter_seccomp(server: &Server) -> anyhow::Result<()> {
    let policy = seccomp::policy::gofer(Gofer {
        proc_fds: server.proc_fds.as_raw_fd(),
        host_sockets: server.mounts.iter().any(|mount| mount.allow_host_sockets),
    });
    seccomp::install(&policy, seccomp::Unexpected::Kill).context("cannot enter seccomp")
}
