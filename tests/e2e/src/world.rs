//! A private containerd: its own root, state, socket, cgroup and network namespace, with the test images in it.
//!
//! Key types: [`World`], [`Container`]. Dropping the world stops everything that it started, by number, and
//! removes what it made; what is left after that is a leak of the runtime under test.

use std::cell::{Cell, OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::{Answer, COMMAND_SECONDS, quietly, run, wait_until};
use crate::cri::{Cri, HANDLER, PAUSE};
use crate::options::Options;
use crate::processes::{self, Process};

/// The small image.
pub const BUSYBOX: &str = "localhost/busybox:1";
/// The image with bash, python3, gcc and redis.
pub const DEBIAN: &str = "localhost/debian:1";

/// A running containerd and where it stands.
#[derive(Debug)]
pub struct World {
    /// The switches of the run.
    pub options: Options,
    /// In the name of everything that this run makes.
    pub mark: String,
    /// Its scratch directory.
    pub dir: tempfile::TempDir,
    ctr: String,
    socket: String,
    containerd: RefCell<Child>,
    next: Cell<u32>,
    has_debian: Cell<bool>,
    cri: OnceCell<Cri>,
}

/// A container's name and the world it lives in.
#[derive(Debug)]
pub struct Container<'a> {
    /// Its id.
    pub id: String,
    world: &'a World,
}

impl World {
    /// Starts containerd and imports the small image.
    ///
    /// # Errors
    /// When something that `tests/images/setup.sh` makes is missing, or containerd does not come up.
    pub fn start(options: &Options, mark: &str) -> Result<Self> {
        let mark = mark.to_owned();
        let dir = tempfile::Builder::new().prefix(&mark).tempdir_in("/tmp")?;
        let bin = options.containerd_bin();
        let socket = dir.path().join("c.sock").display().to_string();
        run(&["ip", "netns", "add", &mark], None, 10)?.ok()?;
        run(&["ip", "-n", &mark, "link", "set", "lo", "up"], None, 10)?.ok()?;
        let config = dir.path().join("config.toml");
        std::fs::write(&config, configuration(dir.path(), &socket, &options.runtime))?;
        write_network(dir.path())?;
        let containerd = spawn(options, &mark, &bin, &config, dir.path())?;
        let ctr = bin.join("ctr").display().to_string();
        let world = Self {
            options: options.clone(),
            mark,
            dir,
            ctr,
            socket,
            containerd: RefCell::new(containerd),
            next: Cell::new(0),
            has_debian: Cell::new(false),
            cri: OnceCell::new(),
        };
        world.answers()?;
        world.import("busybox")?;
        Ok(world)
    }

    /// Gives containerd an image.
    fn import(&self, image: &str) -> Result<()> {
        let tar = self.image(image)?;
        quietly(|| self.ctr(&["images", "import", &tar.display().to_string()])?.ok().map(drop))
    }

    /// The large image is only brought when it is needed.
    fn need(&self, image: &str) -> Result<()> {
        if image == DEBIAN && !self.has_debian.replace(true) {
            self.import("debian")?;
        }
        Ok(())
    }

    fn answers(&self) -> Result<()> {
        wait_until("containerd answers", Duration::from_secs(20), || Ok(self.ctr(&["version"])?.status == 0))
    }

    /// Does something while containerd is stopped and notices nothing.
    ///
    /// # Errors
    /// Whatever `work` says, or when containerd has gone.
    pub fn while_containerd_is_stopped<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let pid =
            i32::try_from(self.containerd.borrow().id()).ok().and_then(Pid::from_raw).context("no pid")?;
        kill_process(pid, Signal::STOP).context("stop containerd")?;
        let result = work();
        kill_process(pid, Signal::CONT).context("continue containerd")?;
        result
    }

    /// The containerd that answers now.
    #[must_use]
    pub fn containerd_process(&self) -> Option<Process> {
        processes::of_pid(self.containerd.borrow().id())
    }

    /// Kills containerd with SIGKILL and starts it again.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart_containerd(&self) -> Result<()> {
        {
            let mut containerd = self.containerd.borrow_mut();
            containerd.kill()?;
            containerd.wait()?;
            let (bin, dir) = (self.options.containerd_bin(), self.dir.path());
            *containerd = spawn(&self.options, &self.mark, &bin, &dir.join("config.toml"), dir)?;
        }
        self.answers()?;
        self.cri.get().map_or(Ok(()), Cri::ready)
    }

    /// A connection to containerd's CRI, with the images that pods need.
    ///
    /// # Errors
    /// When CRI is not ready, or an image is missing.
    pub fn cri(&self) -> Result<&Cri> {
        if self.cri.get().is_none() {
            for image in ["busybox", "pause"] {
                let tar = self.image(image)?.display().to_string();
                self.ctr(&["-n", "k8s.io", "images", "import", &tar])?.ok()?;
            }
            let cri = Cri::connect(&self.socket)?;
            return Ok(self.cri.get_or_init(|| cri));
        }
        self.cri.get().context("just made")
    }

    /// A copy of the small image's tree, for what names its root itself: a runtime writes into it (device nodes, mount points).
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn rootfs(&self) -> Result<PathBuf> {
        let path = self.dir.path().join("rootfs");
        if !path.exists() {
            self.copy_rootfs(&path)?;
        }
        Ok(path)
    }

    /// Another copy, for a case that changes it.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn copy_rootfs(&self, to: &Path) -> Result<()> {
        let from = self.options.cache.join("rootfs/busybox/.").display().to_string();
        std::fs::create_dir_all(to)?;
        run(&["cp", "-a", &from, &to.display().to_string()], None, 20)?.ok().map(drop)
    }

    fn image(&self, image: &str) -> Result<PathBuf> {
        let tar = self.options.cache.join("images").join(format!("{image}.tar"));
        ensure!(tar.exists(), "{} is missing: run tests/images/setup.sh", tar.display());
        Ok(tar)
    }

    /// `ctr` with these arguments.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn ctr(&self, arguments: &[&str]) -> Result<Answer> {
        self.ctr_with(arguments, None, COMMAND_SECONDS)
    }

    /// `ctr` with these arguments, this input and this many seconds.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn ctr_with(&self, arguments: &[&str], input: Option<&str>, seconds: u64) -> Result<Answer> {
        let mut argv = vec![self.ctr.as_str(), "-a", &self.socket];
        argv.extend_from_slice(arguments);
        run(&argv, input, seconds)
    }

    /// The beginning of a `ctr` command line, for shells and terminals.
    #[must_use]
    pub fn ctr_line(&self) -> String {
        format!("{} -a {}", self.ctr, self.socket)
    }

    /// Runs a command in the network namespace that containers of this world may share, from outside of any sandbox.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn outside(&self, argv: &[&str]) -> Result<Answer> {
        let net = format!("--net={}", self.netns());
        let mut all = vec!["nsenter", &net];
        all.extend_from_slice(argv);
        run(&all, None, COMMAND_SECONDS)
    }

    /// The shared network namespace.
    #[must_use]
    pub fn netns(&self) -> String {
        format!("/run/netns/{}", self.mark)
    }

    /// A fresh container id.
    #[must_use]
    pub fn container(&self) -> Container<'_> {
        self.next.set(self.next.get() + 1);
        Container { id: format!("{}-{}", self.mark, self.next.get()), world: self }
    }

    /// Runs a command in a throw-away container.
    ///
    /// # Errors
    /// When `ctr` could not be started.
    pub fn run(&self, image: &str, command: &[&str]) -> Result<Answer> {
        self.container().run(&["--rm"], image, command)
    }

    /// containerd's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("containerd.log")).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let containerd = self.containerd.get_mut();
        let pid = i32::try_from(containerd.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended =
            wait_until("containerd ends", Duration::from_secs(10), || Ok(containerd.try_wait()?.is_some()));
        if ended.is_err() {
            let _ = containerd.kill();
        }
        let _ = containerd.wait();
        let _ = quietly(|| run(&["ip", "netns", "del", &self.mark], None, 10));
        // The parents of the containers' cgroups are containerd's or ours to remove, not a runtime's.
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join(&self.mark).join("daemon"));
            let _ = std::fs::remove_dir(hierarchy.path().join(&self.mark));
        }
        let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.mark).join("daemon"));
        let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.mark));
    }
}

impl Container<'_> {
    /// `ctr run` with these switches.
    ///
    /// # Errors
    /// When `ctr` could not be started.
    pub fn run(&self, switches: &[&str], image: &str, command: &[&str]) -> Result<Answer> {
        self.run_with(switches, image, command, None, COMMAND_SECONDS)
    }

    /// `ctr run` with input and a time limit.
    ///
    /// # Errors
    /// When `ctr` could not be started.
    pub fn run_with(
        &self,
        switches: &[&str],
        image: &str,
        command: &[&str],
        input: Option<&str>,
        seconds: u64,
    ) -> Result<Answer> {
        self.world.need(image)?;
        let cgroup = format!("/{}/{}", self.world.mark, self.id);
        let mut argv = vec!["run", "--runtime", &self.world.options.runtime, "--cgroup", &cgroup];
        argv.extend_from_slice(switches);
        argv.extend_from_slice(&[image, &self.id]);
        argv.extend_from_slice(command);
        self.world.ctr_with(&argv, input, seconds)
    }

    /// Starts a long-running busybox container in the background.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self, command: &[&str]) -> Result<()> {
        self.run(&["-d"], BUSYBOX, command)?.ok().map(|_| ())
    }

    /// `ctr tasks exec`.
    ///
    /// # Errors
    /// When `ctr` could not be started.
    pub fn exec(&self, name: &str, command: &[&str]) -> Result<Answer> {
        let mut argv = vec!["tasks", "exec", "--exec-id", name, &self.id];
        argv.extend_from_slice(command);
        self.world.ctr(&argv)
    }

    /// `ctr tasks ps`.
    ///
    /// # Errors
    /// When `ctr` fails.
    pub fn processes(&self) -> Result<Answer> {
        self.world.ctr(&["tasks", "ps", &self.id])?.ok()
    }

    /// The state that containerd reports, e.g. `RUNNING`; `NONE` when it knows of no task.
    ///
    /// # Errors
    /// When `ctr` fails.
    pub fn state(&self) -> Result<String> {
        let list = quietly(|| self.world.ctr(&["tasks", "ls"]))?.ok()?;
        let row = list.stdout.lines().find(|line| line.split_whitespace().next() == Some(&self.id));
        Ok(row.and_then(|row| row.split_whitespace().last()).unwrap_or("NONE").to_owned())
    }

    /// Waits for a state.
    ///
    /// # Errors
    /// When it does not come in ten seconds.
    pub fn wait_for(&self, states: &[&str]) -> Result<String> {
        let mut last = String::new();
        let found = wait_until("state", Duration::from_secs(10), || {
            last = self.state()?;
            Ok(states.contains(&last.as_str()))
        });
        found.with_context(|| format!("{} is {last} in place of {}", self.id, states.join(" or ")))?;
        Ok(last)
    }

    /// Kills and removes whatever there is of it; fine when there is nothing.
    pub fn clean(&self) {
        quietly(|| self.remove());
    }

    fn remove(&self) {
        let quiet = |arguments: &[&str]| drop(self.world.ctr_with(arguments, None, 20));
        if self.state().is_ok_and(|state| state != "NONE") {
            quiet(&["tasks", "kill", "-s", "SIGKILL", &self.id]);
            let _ = self.wait_for(&["STOPPED", "NONE", "UNKNOWN"]);
            quiet(&["tasks", "rm", "-f", &self.id]);
        }
        quiet(&["containers", "rm", &self.id]);
    }
}

fn configuration(dir: &Path, socket: &str, runtime: &str) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[debug]
  level = "debug"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  netns_mounts_under_state_dir = true
  # For hosts on which a score cannot be lowered; runc insists.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{dir}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "{HANDLER}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{HANDLER}]
      runtime_type = "{runtime}"
"#
    )
}

/// The pods' network: a bridge in containerd's own network namespace, with addresses from the range for benchmarks.
fn write_network(dir: &Path) -> Result<()> {
    let ipam = serde_json::json!({
        "type": "host-local",
        "dataDir": dir.join("ipam").display().to_string(),
        "ranges": [[{"subnet": "198.18.9.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    });
    let bridge = serde_json::json!({"type": "bridge", "bridge": "pods0", "isGateway": true, "ipam": ipam});
    let list = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [bridge, {"type": "loopback"}],
    });
    std::fs::create_dir(dir.join("cni"))?;
    Ok(std::fs::write(dir.join("cni/10-pods.conflist"), list.to_string())?)
}

/// Starts containerd in its network namespace and in a cgroup with the run's mark, so that whatever comes of
/// it can be told apart later.
fn spawn(options: &Options, mark: &str, bin: &Path, config: &Path, dir: &Path) -> Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("containerd.log"))?;
    let hierarchy = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"].map(Path::new);
    let hierarchy = hierarchy.into_iter().find(|path| path.join("cgroup.procs").exists());
    let cgroup = hierarchy.context("no cgroup file system at /sys/fs/cgroup")?.join(mark).join("daemon");
    std::fs::create_dir_all(&cgroup)?;
    let mut search: Vec<PathBuf> = options.bin_dir.iter().cloned().collect();
    search.push(bin.to_owned());
    search.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
    let script = r#"echo $$ > "$1/cgroup.procs" && exec nsenter --net="/run/netns/$2" "$3" -c "$4""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(&cgroup).arg(mark).arg(bin.join("containerd")).arg(config);
    command.env("PATH", std::env::join_paths(search)?).current_dir(dir);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("start {}", bin.join("containerd").display()))
}
