//! Does anything grow or stick when the same is done over and over?
//!
//! Few rounds in an ordinary run; `make soak` has thousands.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Case;
use crate::command::wait_until;
use crate::processes::{self, Role};
use crate::world::{Container, World};

/// Rounds after which everything has what it needs: these in a short run, the other ones in a long.
const WARM: usize = 20;
const WARM_IN_LONG_RUN: usize = 100;
/// What a process may have grown by since then, in KiB, whatever the number of rounds.
const GROWTH_KIB: u64 = 2048;

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    vec![
        Case { needs_ours: true, ..Case::new("soak: execs in one container leave nothing", execs) },
        Case {
            needs_ours: true,
            ..Case::new("soak: containers whose parts are killed leave nothing", cycles)
        },
    ]
}

/// What one process holds.
struct Holds {
    who: &'static str,
    descriptors: usize,
    kib: u64,
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} descriptors, {} KiB", self.who, self.descriptors, self.kib)
    }
}

/// Descriptors and private memory of each of a container's own processes, and descriptors of containerd (its
/// memory is its garbage collector's affair).
fn figures(w: &World, id: &str) -> Result<Vec<Holds>> {
    let mut all = Vec::new();
    for role in [Role::Shim, Role::Guard, Role::Sentry, Role::Gofer] {
        let part = processes::find(id, role).with_context(|| format!("no {}", role.word()))?;
        let (descriptors, kib) = part.figures()?;
        all.push(Holds { who: role.word(), descriptors, kib });
    }
    let (descriptors, _) = w.containerd_process().context("containerd")?.figures()?;
    all.push(Holds { who: "containerd", descriptors, kib: 0 });
    Ok(all)
}

fn execs(w: &World) -> Result<()> {
    let container = w.container();
    // Longer than any soak.
    let outcome = container.start(&["sleep", "1000000"]).and_then(|()| execs_in(w, &container));
    container.clean();
    outcome
}

fn execs_in(w: &World, c: &Container<'_>) -> Result<()> {
    let round = |n: usize| c.exec(&format!("e{n}"), &["true"])?.ok().map(drop);
    let rounds = w.options.soak.max(WARM + 1);
    let warm = if rounds > 10 * WARM_IN_LONG_RUN { WARM_IN_LONG_RUN } else { WARM };
    for n in 0..warm {
        round(n)?;
    }
    let before = figures(w, &c.id)?;
    for n in warm..rounds {
        round(n).with_context(|| format!("exec {n}"))?;
    }
    let mut last = String::new();
    // Threads that wait for more work keep some seconds.
    wait_until("all is as it was", Duration::from_secs(15), || {
        let now = figures(w, &c.id)?;
        let grew = |(then, now): &(&Holds, &Holds)| {
            now.descriptors > then.descriptors || now.kib > then.kib + GROWTH_KIB
        };
        let grown: Vec<_> = before.iter().zip(&now).filter(grew).collect();
        last =
            grown.iter().map(|(then, now)| format!("{then}, and now {now}")).collect::<Vec<_>>().join("; ");
        Ok(grown.is_empty())
    })
    .context(last)
}

/// A container each, of which one part is killed, another one each time; the runner looks for what is left.
fn cycles(w: &World) -> Result<()> {
    let parts = [Role::Shim, Role::Sentry, Role::Gofer, Role::Stub, Role::Guard];
    // As many as two fifths of the execs.
    for n in 0..(w.options.soak * 2 / 5).max(parts.len()) {
        let (container, role) = (w.container(), parts[n % parts.len()]);
        container.start(&["sleep", "1000"]).with_context(|| format!("round {n}"))?;
        // An exec in every second; it may be ended by the death, or end before it.
        if n % 2 == 0 {
            container.exec("e", &["true"])?.ok()?;
        }
        let part =
            processes::find(&container.id, role).with_context(|| format!("round {n}: no {}", role.word()))?;
        part.kill()?;
        container.clean();
        ensure!(
            container.state()? == "NONE",
            "round {n}: it cannot be removed after the death of its {}",
            role.word()
        );
    }
    Ok(())
}
