//! A sentry and a gofer that do as little as the shim's tests need.
//!
//! Started as `rvisor-gofer` it answers and waits for its end. Started as `rvisor-sentry` it speaks the control
//! protocol; a guest "program" is one of: `exit N`, `echo TEXT`, `cat`, `sleep`, `crash`, `deaf` (ignores signals but
//! the ninth). The stub template that it names is itself.

#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a crashing sentry says why")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use control::{
    Channel, ContainerConfig, Event, Failure, FailureKind, FromSentry, GoferConfig, GoferReply,
    ProcessConfig, Reply, Request, ToSentry,
};

fn main() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("a socket");
    let channel = Arc::new(Channel::new(socket));
    match std::env::args().next().as_deref() {
        Some("rvisor-gofer") => gofer(&channel),
        _ => Sentry { channel, containers: HashMap::new(), alive: Arc::default() }.run(),
    }
}

fn gofer(channel: &Channel) {
    let Ok((config, fds)) = channel.receive::<GoferConfig>() else { return };
    if !std::path::Path::new(&config.root).is_dir() {
        let why = format!("root {} is not a directory", config.root);
        channel.send(&GoferReply::Failed(why), &[]).expect("told");
        return;
    }
    channel.send(&GoferReply::Ready, &[]).expect("told");
    let mut socket = File::from(fds.into_iter().next().expect("the protocol socket"));
    let _ = socket.read(&mut [0; 16]);
}

struct Container {
    config: ContainerConfig,
    stdio: Option<Vec<File>>,
    /// Keeps the gofer up.
    _gofer: OwnedFd,
}

/// Processes by container and exec id.
type Alive = Arc<Mutex<HashMap<(String, Option<String>), bool>>>;

struct Sentry {
    channel: Arc<Channel>,
    containers: HashMap<String, Container>,
    alive: Alive,
}

impl Sentry {
    fn run(mut self) {
        while let Ok((ToSentry { id, request }, fds)) = self.channel.receive::<ToSentry>() {
            let last = matches!(request, Request::Shutdown);
            let mut template = None;
            let result = self.serve(request, fds, &mut template);
            let fds: Vec<_> = template.iter().map(AsFd::as_fd).collect();
            self.channel.send(&FromSentry::Reply { id, result }, &fds).expect("the shim lives");
            if last {
                return;
            }
        }
    }

    fn serve(
        &mut self,
        request: Request,
        fds: Vec<OwnedFd>,
        template: &mut Option<OwnedFd>,
    ) -> Result<Reply, Failure> {
        match request {
            Request::Boot(_) => Ok(Reply::Booted { platform: "fake".to_owned(), fallback: None }),
            Request::Create(config) => {
                let mut fds = fds.into_iter();
                let gofer = fds.next().expect("the gofer's socket");
                if config.process.args[0] == "missing" {
                    return Err(failure(FailureKind::InvalidArgument, "missing: no such file or directory"));
                }
                let stdio = Some(fds.map(File::from).collect());
                let own = rustix::process::getpid();
                let flags = rustix::process::PidfdFlags::empty();
                *template = Some(rustix::process::pidfd_open(own, flags).expect("a pidfd"));
                self.containers
                    .insert(config.container.clone(), Container { config: *config, stdio, _gofer: gofer });
                Ok(Reply::Created { pid: 1 })
            }
            Request::Start { container } => {
                let found = self.containers.get_mut(&container).ok_or_else(unknown)?;
                let stdio =
                    found.stdio.take().ok_or_else(|| failure(FailureKind::FailedPrecondition, "runs"))?;
                let process = found.config.process.clone();
                self.launch((container, None), &process, stdio);
                Ok(Reply::Ok)
            }
            Request::Exec { container, exec, process } => {
                self.containers.get(&container).ok_or_else(unknown)?;
                self.launch((container, Some(exec)), &process, fds.into_iter().map(File::from).collect());
                Ok(Reply::Started { pid: 2 })
            }
            Request::Signal { container, exec, signal, .. } => self.signal((container, exec), signal),
            Request::Delete { container } => {
                self.containers.remove(&container).map(|_| Reply::Ok).ok_or_else(unknown)
            }
            Request::Resize { .. } | Request::Limit { .. } | Request::Shutdown => Ok(Reply::Ok),
            Request::Usage { .. } => Ok(Reply::Usage { memory: 4096, tasks: 1 }),
            Request::Pids { .. } | Request::Status => Err(failure(FailureKind::Internal, "not in this fake")),
        }
    }

    fn launch(&self, key: (String, Option<String>), process: &ProcessConfig, mut stdio: Vec<File>) {
        let words: Vec<&str> = process.args.iter().map(String::as_str).collect();
        self.alive.lock().expect("whole").insert(key.clone(), words[0] == "deaf");
        match words[..] {
            ["exit", status] => {
                drop(stdio);
                exited(&self.channel, &self.alive, &key, status.parse().expect("a number"));
            }
            ["echo", text] => {
                stdio[1].write_all(text.as_bytes()).expect("written");
                drop(stdio);
                exited(&self.channel, &self.alive, &key, 0);
            }
            ["cat"] => {
                let (channel, alive) = (Arc::clone(&self.channel), Arc::clone(&self.alive));
                std::thread::spawn(move || {
                    let (mut input, mut output) = (stdio.remove(0), stdio.remove(0));
                    let _ = std::io::copy(&mut input, &mut output);
                    drop((input, output, stdio));
                    exited(&channel, &alive, &key, 0);
                });
            }
            ["crash"] => {
                eprintln!("sentry: something impossible");
                std::process::abort();
            }
            _ => {}
        }
    }

    fn signal(&self, key: (String, Option<String>), signal: i32) -> Result<Reply, Failure> {
        let deaf = self.alive.lock().expect("whole").get(&key).copied();
        match deaf {
            None if self.containers.contains_key(&key.0) && key.1.is_none() => {}
            None => return Err(unknown()),
            Some(true) if signal != 9 => return Ok(Reply::Ok),
            Some(_) => {}
        }
        if self.alive.lock().expect("whole").contains_key(&key) || key.1.is_none() {
            exited(&self.channel, &self.alive, &key, 128 + signal);
        }
        Ok(Reply::Ok)
    }
}

fn exited(channel: &Channel, alive: &Alive, key: &(String, Option<String>), status: i32) {
    alive.lock().expect("whole").remove(key);
    let (container, exec) = key.clone();
    let event = Event::Exited { container, exec, status, killed_by_host: false };
    let _ = channel.send(&FromSentry::Event(event), &[]);
}

fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure { kind, message: message.to_owned() }
}

fn unknown() -> Failure {
    failure(FailureKind::NotFound, "no such container")
}
