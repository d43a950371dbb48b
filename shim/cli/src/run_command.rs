//! `rvisor run`: an OCI bundle in the foreground.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use sandbox::cgroup::{Cgroup, Tree};
use sandbox::plan::{self, Plan};

use crate::{Failure, SandboxArgs, complain, foreground, terminal};

/// Options of `rvisor run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    sandbox: SandboxArgs,
    /// Container id (default: made up)
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Directory with config.json
    bundle: PathBuf,
}

/// Runs it.
pub(crate) fn run(args: RunArgs) -> Result<u8, Failure> {
    let id = args.id.clone().unwrap_or_else(|| format!("run-{}", std::process::id()));
    let bundle = args.bundle.canonicalize().with_context(|| format!("bundle {}", args.bundle.display()))?;
    let mut plan = plan::plan(&id, &bundle, &plan::read_spec(&bundle)?)?;
    for note in &plan.notes {
        complain(&note.to_string());
    }
    if plan.has_host_name {
        plan.container.hostname = plan::host_name();
    }
    let process = &mut plan.container.process;
    if process.terminal && !terminal::is_interactive() {
        return Err(
            anyhow::anyhow!("config.json: process.terminal, but stdin and stdout are no terminal").into()
        );
    }
    if process.terminal && process.console_size == (0, 0) {
        process.console_size = terminal::size();
    }
    let (container, sandbox) = cgroups(&plan)?;
    let job = foreground::Job {
        sysctls: plan.container.sysctls.clone(),
        boot: args.sandbox.boot_config(&id, &plan.container.hostname),
        container: plan.container,
        gofer: plan.gofer,
        network: plan.network,
        cgroup: container.clone(),
        sandbox_cgroup: sandbox.clone(),
    };
    let result = foreground::run(job, &args.sandbox);
    for cgroup in [sandbox, container].into_iter().flatten() {
        cgroup.kill();
        if let Err(error) = cgroup.remove() {
            complain(&format!("cgroup left behind: {error}"));
        }
    }
    result
}

/// The container's cgroup and the sentry's, if the config names one.
fn cgroups(plan: &Plan) -> anyhow::Result<(Option<Cgroup>, Option<Cgroup>)> {
    let Some(path) = &plan.cgroup else { return Ok((None, None)) };
    let tree = Tree::detect().context("cgroups")?;
    let (container, sandbox) = tree.create_alone(path, &plan.resources).context("cgroup")?;
    Ok((Some(container), Some(sandbox)))
}
