//! Which privileges the gofer gives up before its first request, and which it keeps.
//!
//! Key function: [`enter`]. It acts on the calling thread, so it runs while there is only one; threads made later inherit.

use anyhow::Context;
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// What acting for any user of the container needs: give files to their owner (`CHOWN`), pass permission checks that
/// the sentry has already made (`DAC_OVERRIDE`, `DAC_READ_SEARCH`), act as any file's owner (`FOWNER`), keep
/// set-group-ID where Linux would (`FSETID`).
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID);

/// Drops all capabilities but [`KEPT`], forbids gaining any, and enters seccomp.
pub(crate) fn enter() -> anyhow::Result<()> {
    drop_capabilities().context("cannot drop capabilities")?;
    rustix::thread::set_no_new_privs(true).context("cannot set no_new_privs")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot become undumpable")?;
    enter_seccomp()
}

fn drop_capabilities() -> rustix::io::Result<()> {
    let held = rustix::thread::capabilities(None)?;
    // The bounding set needs SETPCAP to shrink; without it (rootless) it has no meaning, as no_new_privs stands.
    if held.effective.contains(CapabilitySet::SETPCAP) {
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

/// The host calls of `seccomp::policy::gofer` and no others: any other ends the process.
fn enter_seccomp() -> anyhow::Result<()> {
    seccomp::install(&seccomp::policy::gofer(), seccomp::Unexpected::Kill).context("cannot enter seccomp")
}
