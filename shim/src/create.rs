//! How is a container made, and unmade when something on the way fails?
//!
//! Key function: [`create`], which blocks. Order: root file system, cgroups, the sandbox if it is the pod's first
//! container, hooks, streams, then gofer and sentry. Every step that leaves something behind adds its undoing to
//! [`Undo`], which runs backwards unless all went well.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context;
use containerd_shim_protos::api::CreateTaskRequest;
use sandbox::cgroup::{Cgroup, CgroupPath, Tree};
use sandbox::fields;
use sandbox::hooks::{self, State};
use sandbox::plan::{self, Plan, Role};
use sandbox::rootfs::{self, RootMount};
use sandbox::{BootOptions, Sandbox};

use crate::config::{ANNOTATIONS, Config};
use crate::failure::{Asked, Failure, Outcome};
use crate::io::{self, Stdio};
use crate::log;
use crate::pod::{Pod, Running};
use crate::process::Process;
use crate::record::{self, Record};
use crate::task::Task;

/// What to do, backwards, if the rest fails.
#[derive(Default)]
struct Undo(Vec<Box<dyn FnOnce() + Send>>);

impl Undo {
    fn add(&mut self, step: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(step));
    }

    /// All went well.
    fn forget(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for step in self.0.drain(..).rev() {
            step();
        }
    }
}

/// Makes the container. Blocks; must run in the runtime's context.
pub(crate) fn create(pod: &Arc<Pod>, request: &CreateTaskRequest) -> Outcome<Arc<Task>> {
    let bundle = PathBuf::from(&request.bundle);
    let mut undo = Undo::default();
    let mut plan = plan::plan(&request.id, &bundle, &plan::read_spec(&bundle)?)?;
    if plan.has_host_name {
        plan.container.hostname = plan::host_name();
    }
    if !request.checkpoint.is_empty() {
        return Err(Failure::new(ttrpc::Code::UNIMPLEMENTED, "checkpoints are not supported"));
    }
    plan.container.process.terminal = request.terminal;

    let mut record = announce(pod, &bundle, &plan, &mut undo)?;
    mount_root(request, &bundle, &mut undo)?;
    let (cgroup, sandbox_cgroup) = cgroups(&plan, &mut undo)?;
    if cgroup.as_ref().is_some_and(Cgroup::is_v2) {
        plan.notes.extend(fields::missing_on_v2(&plan.resources));
    }
    let running = running(pod, request, &plan, sandbox_cgroup, &mut undo)?;
    pods_namespaces(pod, &running, &mut plan)?;
    let mut state = State::new(&request.id, &bundle, &plan.oci_version, &plan.annotations);
    state.pid = running.sandbox.sentry.pid;
    for (kind, hooks) in [
        ("prestart", &plan.hooks.prestart),
        ("createRuntime", &plan.hooks.create_runtime),
        ("createContainer", &plan.hooks.create_container),
    ] {
        hooks::run(kind, hooks, &state)?;
    }

    let stdio = Stdio {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    };
    let opened = io::open(&stdio, &request.id, &pod.namespace)?;
    let [stdin, stdout, stderr] = &opened.guest;
    let fds = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let cgroup_shared = plan.role == Role::Sandbox;
    let limits = std::sync::Mutex::new((plan.container.memory_limit, plan.container.tasks_limit));
    let container = running
        .sandbox
        .create(plan.container, plan.gofer, cgroup.as_ref(), fds)
        .map_err(|error| Failure::of_process(Asked::Create, error))?;
    state.pid = container.pid;
    state.status = "created";
    let pids = [running.sandbox.sentry.pid, container.gofer.pid];
    // The sentry is the first container's to clean up.
    note_processes(pod, &mut record, if bundle == pod.bundle { &pids } else { &pids[1..] }, &bundle);
    undo.forget();
    let task = Arc::new(Task {
        id: request.id.clone(),
        bundle,
        init: Process::new(stdio, opened.hold),
        container,
        cgroup,
        cgroup_shared,
        limits,
        hooks: plan.hooks,
        state,
        noted: std::sync::Mutex::default(),
        execs: std::sync::Mutex::default(),
        paused: AtomicBool::new(false),
        freezer: std::sync::Mutex::default(),
        ending: AtomicBool::new(false),
        oom_told: AtomicU64::new(0),
    });
    task.note(plan.notes);
    Ok(task)
}

/// Namespaces that are named by a path must be the pod's, where the container is anyway; among those of processes it may
/// be that of any container of the pod.
fn pods_namespaces(pod: &Pod, running: &Running, plan: &mut Plan) -> Outcome<()> {
    if !matches!(plan.role, Role::Member(_)) {
        return Ok(());
    }
    let which = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    for (kind, path) in &plan.joins {
        let ns = if kind == "network" { "net" } else { kind };
        if kind == "pid"
            && let Some(task) = pod.task_of(path)
        {
            // The first one's is the pod's.
            if task.bundle != pod.bundle {
                plan.container.share_pid_namespace = false;
                plan.container.pid_namespace_of = Some(task.id.clone());
            }
            continue;
        }
        let own = PathBuf::from(format!("/proc/{}/ns/{ns}", running.sandbox.sentry.pid));
        let is_pods = running.joins.contains(&(kind.clone(), path.clone()))
            || which(path).is_some_and(|found| Some(found) == which(&own));
        if !is_pods {
            let text = format!("config.json: linux.namespaces: {kind} {}: not of this pod", path.display());
            return Err(Failure::invalid(text));
        }
    }
    for (key, value) in plan.annotations.iter().filter(|(key, _)| key.starts_with(ANNOTATIONS)) {
        if !running.annotations.contains(&(key.clone(), value.clone())) {
            let field = format!("annotations.{key}");
            let why = "it is the pod's first container that decides for the sandbox";
            plan.notes.push(fields::note(&field, &serde_json::json!(value), why));
        }
    }
    Ok(())
}

fn mount_root(request: &CreateTaskRequest, bundle: &Path, undo: &mut Undo) -> Outcome<()> {
    let mount = |m: &containerd_shim_protos::api::Mount| RootMount {
        kind: m.type_.clone(),
        source: m.source.clone(),
        target: m.target.clone(),
        options: m.options.clone(),
    };
    let mounts: Vec<_> = request.rootfs.iter().map(mount).collect();
    rootfs::mount(bundle, &mounts)?;
    let mounted = bundle.to_path_buf();
    undo.add(move || rootfs::unmount(&mounted));
    Ok(())
}

/// The container's cgroup and the one for a new sentry.
///
/// A pod's sandbox container shares its cgroup with the sentry, which serves the whole pod: the tiny CPU weight
/// that the kubelet gives to a pause container must not be applied there.
fn cgroups(plan: &Plan, undo: &mut Undo) -> Outcome<(Option<Cgroup>, Option<Cgroup>)> {
    let Some(path) = &plan.cgroup else { return Ok((None, None)) };
    let tree = Tree::detect().context("cgroups")?;
    let mut resources = plan.resources.clone();
    if plan.role == Role::Sandbox
        && let Some(cpu) = &mut resources.cpu
    {
        cpu.shares = None;
    }
    let (cgroup, sandbox) = if plan.role == Role::Alone {
        let (container, sandbox) = tree.create_alone(path, &resources).context("cgroup")?;
        (container, Some(sandbox))
    } else {
        (tree.create(path, &resources).context("cgroup")?, None)
    };
    // The sandbox's lies in the container's.
    let made = [sandbox.clone(), Some(cgroup.clone())];
    undo.add(move || {
        for cgroup in made.into_iter().flatten() {
            cgroup.kill();
            let _ = cgroup.remove();
        }
    });
    let sandbox = if plan.role == Role::Sandbox { Some(cgroup.clone()) } else { sandbox };
    Ok((Some(cgroup), sandbox))
}

/// The pod's sandbox; boots it for the first container.
fn running(
    pod: &Arc<Pod>,
    request: &CreateTaskRequest,
    plan: &Plan,
    cgroup: Option<Cgroup>,
    undo: &mut Undo,
) -> Outcome<Arc<Running>> {
    let mut slot = pod.sandbox();
    match (&*slot, &plan.role) {
        (Some(running), Role::Member(_)) => return Ok(Arc::clone(running)),
        (Some(_), Role::Alone | Role::Sandbox) => {
            return Err(Failure::precondition("the sandbox runs already"));
        }
        (None, Role::Member(id)) => {
            return Err(Failure::precondition(format!("the pod's sandbox {id} does not run")));
        }
        (None, Role::Alone | Role::Sandbox) => {}
    }
    let config = Config::load(request.options.as_ref())?.annotated(&plan.annotations)?;
    let (log, tail) = sentry_log(&config, &request.id)?;
    let notices = pod.notices.clone();
    let generation = pod.generations.fetch_add(1, Ordering::Relaxed);
    let options = BootOptions {
        config: config.boot(&request.id, &plan.container.hostname),
        programs: config.programs()?,
        network: plan.network.clone(),
        sysctls: plan.container.sysctls.clone(),
        cgroup: cgroup.clone(),
        hardening: config.hardening()?,
        log: log.as_fd(),
    };
    let sandbox = Sandbox::boot(options, move |notice| drop(notices.send((generation, notice))))?;
    let (platform, fallback) = &sandbox.platform;
    let report = sandbox.report();
    tracing::info!(
        platform,
        fallback,
        pid = sandbox.sentry.pid,
        uid = report.uid,
        core_scheduling = report.core_scheduling,
        speculation = report.speculation,
        "sandbox booted"
    );
    let (joins, annotations) = (plan.joins.clone(), plan.annotations.clone());
    let running = Arc::new(Running { generation, sandbox, cgroup, tail, joins, annotations });
    *slot = Some(Arc::clone(&running));
    let pod = Arc::clone(pod);
    undo.add(move || pod.end_sandbox());
    Ok(running)
}

fn sentry_log(config: &Config, id: &str) -> anyhow::Result<(OwnedFd, log::Tail)> {
    match &config.debug_log {
        Some(path) => {
            let path = path.replace("%ID%", id);
            let file = std::fs::File::options().create(true).append(true).open(&path);
            Ok((file.with_context(|| format!("debug log {path}"))?.into(), log::Tail::default()))
        }
        None => Ok(log::child_log().context("log pipe")?),
    }
}

/// Notes on disk what there will be to clean up, before any of it is made: this process may be killed at any time.
fn announce(pod: &Pod, bundle: &Path, plan: &Plan, undo: &mut Undo) -> Outcome<Record> {
    let text = |path: &CgroupPath| path.as_path().display().to_string();
    let cgroups = match &plan.cgroup {
        Some(path) if plan.role == Role::Alone => path.of_a_container_alone().iter().map(text).collect(),
        path => path.iter().map(text).collect(),
    };
    let record = Record { cgroups, ..Record::default() };
    pod.link.note(bundle, &record).with_context(|| Record::place(bundle))?;
    let (link, noted) = (Arc::clone(&pod.link), bundle.to_path_buf());
    undo.add(move || link.forget(&noted));
    if bundle != pod.bundle
        && let Some(mut first) = Record::load(&pod.bundle)
    {
        first.members.push(bundle.to_path_buf());
        first.store(&pod.bundle).with_context(|| Record::place(&pod.bundle))?;
    }
    Ok(record)
}

/// Adds the processes. They die with this one, so that failing to note them is no reason not to run.
fn note_processes(pod: &Pod, record: &mut Record, pids: &[i32], bundle: &Path) {
    record.processes.extend(pids.iter().filter_map(|pid| record::Process::of(*pid)));
    if let Err(error) = pod.link.note(bundle, record) {
        tracing::warn!(%error, "cannot note the container's processes");
    }
}
