//! Does an installed policy really end a process that steps out of it, on every thread, and let it live otherwise?
//!
//! Each trial runs this test binary again as a child, with a variable that tells it what to do under which policy.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use seccomp::policy::{Gofer, Platform, gofer, sentry};
use seccomp::{Policy, Unexpected, install};

const VARIABLE: &str = "SECCOMP_TRIAL";
const SIGSYS: i32 = 31;

fn trial(policy: &str, deed: &str) -> ExitStatus {
    Command::new(std::env::current_exe().expect("this binary has a path"))
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, format!("{policy}:{deed}"))
        .stdout(std::process::Stdio::null())
        .status()
        .expect("the test binary starts again")
}

fn policy(name: &str) -> (Policy, Unexpected) {
    match name {
        "sentry" => (sentry(Platform::Systrap), Unexpected::Kill),
        "sentry-refuse" => (sentry(Platform::Systrap), Unexpected::Refuse),
        "ptrace" => (sentry(Platform::Ptrace), Unexpected::Kill),
        // The standard library opens relative to the working directory.
        "gofer" => (gofer(Gofer { proc_fds: libc::AT_FDCWD, host_sockets: true }), Unexpected::Kill),
        "gofer-alone" => (gofer(Gofer { proc_fds: 3, host_sockets: false }), Unexpected::Kill),
        other => panic!("no policy {other}"),
    }
}

fn act(deed: &str) {
    match deed {
        "write" => std::io::stdout().write_all(b"alive\n").expect("stdout takes a line"),
        "thread" => {
            std::thread::spawn(|| vec![1_u8; 8 << 20].len()).join().map(|_| ()).expect("a thread runs")
        }
        "open" => drop(std::fs::File::open("/etc/hostname")),
        "open-absent" => {
            let error = std::fs::File::open("/etc/hostname").expect_err("the filter refuses");
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
        "fork" => drop(Command::new("/bin/true").status()),
        "unix" => drop(std::os::unix::net::UnixStream::connect("/nowhere")),
        "tcp" => drop(std::net::TcpListener::bind("127.0.0.1:0")),
        "unix-refused" => {
            let error = std::os::unix::net::UnixDatagram::unbound().expect_err("the filter refuses");
            assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        }
        other => panic!("no deed {other}"),
    }
}

/// Not a test by itself: the child's side of a trial.
#[test]
fn child() {
    let Ok(order) = std::env::var(VARIABLE) else { return };
    let (name, deed) = order.split_once(':').expect("POLICY:DEED");
    let (policy, unexpected) = policy(name);
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let early = deed.strip_prefix("early-").map(str::to_owned);
    // A thread that stood there before the filter is behind it as well.
    let thread = std::thread::spawn(move || {
        let ordered = gone.recv();
        if let (Ok(()), Some(deed)) = (ordered, early) {
            act(&deed);
        }
    });
    install(&policy, unexpected).expect("the host has seccomp filters");
    go.send(()).expect("the thread waits");
    thread.join().expect("the thread ends");
    if !deed.starts_with("early-") {
        act(deed);
    }
    std::process::exit(0);
}

#[test]
fn what_the_policy_names_still_works() {
    for (policy, deed) in [
        ("sentry", "write"),
        ("sentry", "thread"),
        ("sentry", "tcp"),
        ("sentry", "open-absent"),
        ("ptrace", "thread"),
        ("ptrace", "open-absent"),
        ("gofer", "open"),
        ("gofer-alone", "open-absent"),
        ("gofer", "thread"),
        ("gofer", "unix"),
    ] {
        assert_eq!(trial(policy, deed).code(), Some(0), "{policy} {deed}");
    }
}

#[test]
fn what_it_does_not_name_kills() {
    for (policy, deed) in [
        ("sentry", "fork"),
        ("sentry", "unix"),
        ("ptrace", "unix"),
        ("gofer", "tcp"),
        ("gofer", "fork"),
        ("gofer-alone", "unix"),
    ] {
        assert_eq!(trial(policy, deed).signal(), Some(SIGSYS), "{policy} {deed}");
    }
}

#[test]
fn threads_from_before_the_filter_are_behind_it() {
    assert_eq!(trial("sentry", "early-unix").signal(), Some(SIGSYS));
    assert_eq!(trial("gofer", "early-unix").code(), Some(0));
}

#[test]
fn a_refusing_policy_refuses() {
    assert_eq!(trial("sentry-refuse", "unix-refused").code(), Some(0));
}
