//! Do a container's first program, its input, its output and its exit status arrive?

use anyhow::{Result, ensure};

use super::Case;
use crate::world::{BUSYBOX, World};

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    vec![
        Case::demo("run: echo", |w| w.run(BUSYBOX, &["echo", "hi"])?.ok()?.prints("hi").map(drop)),
        Case::demo("run: a shell pipeline", pipeline),
        Case::new("run: exit status 0", |w| w.run(BUSYBOX, &["true"])?.ok().map(drop)),
        Case::new("run: exit status 1", |w| w.run(BUSYBOX, &["false"])?.status_is(1).map(drop)),
        Case::new("run: exit status 42", |w| {
            w.run(BUSYBOX, &["sh", "-c", "exit 42"])?.status_is(42).map(drop)
        }),
        Case::new("run: exit status 255", |w| {
            w.run(BUSYBOX, &["sh", "-c", "exit 255"])?.status_is(255).map(drop)
        }),
        Case::new("run: killed by its own signal is 128 + signal", killed),
        Case::new("run: standard error is apart from standard output", streams),
        Case::new("run: standard input arrives", stdin),
        Case::new("run: a megabyte of output arrives whole", megabyte),
        Case::new("run: environment", environment),
        Case::new("run: working directory", working_directory),
        Case::new("run: user and group", user),
        Case::new("run: a read-only root refuses writes", read_only),
        Case::new("run: a bind mount shows the host's directory", bind_mount),
        Case::new("run: a write to the root can be read back", write_back),
        Case::new("run: a thousand short processes", thousand),
        Case::new("run: init is process 1", |w| {
            w.run(BUSYBOX, &["sh", "-c", "echo $$"])?.ok()?.prints("1").map(drop)
        }),
        Case::new("run: the host name is its own", hostname),
    ]
}

fn pipeline(w: &World) -> Result<()> {
    let script = "seq 1 1000 | grep 7 | sort -rn | head -n 3 | tr '\\n' ' '; echo; uname -s; ls / | wc -l";
    let answer = w.run(BUSYBOX, &["sh", "-c", script])?.ok()?;
    ensure!(answer.stdout.starts_with("997 987 979"), "wrong result: {answer}");
    Ok(())
}

fn killed(w: &World) -> Result<()> {
    w.run(BUSYBOX, &["sh", "-c", "sh -c 'kill -9 $$'; echo status $?"])?.ok()?.prints("status 137").map(drop)
}

fn streams(w: &World) -> Result<()> {
    let answer = w.run(BUSYBOX, &["sh", "-c", "echo out; echo err >&2"])?.ok()?.prints("out")?;
    ensure!(answer.stderr.trim() == "err", "standard error is {:?}", answer.stderr);
    Ok(())
}

fn stdin(w: &World) -> Result<()> {
    // Not `cat`: ctr 1.6 never tells the shim that its input has ended.
    let container = w.container();
    let answer = container.run_with(&["--rm"], BUSYBOX, &["head", "-n1"], Some("first\nsecond\n"), 60)?;
    answer.ok()?.prints("first").map(drop)
}

fn megabyte(w: &World) -> Result<()> {
    let answer = w.run(BUSYBOX, &["sh", "-c", "yes 0123456789abcde | head -n 65536"])?.ok()?;
    ensure!(answer.stdout.len() == 1 << 20, "{} bytes arrived", answer.stdout.len());
    Ok(())
}

fn environment(w: &World) -> Result<()> {
    let answer =
        w.container().run(&["--rm", "--env", "COLOUR=blue"], BUSYBOX, &["sh", "-c", "echo $COLOUR"])?;
    answer.ok()?.prints("blue").map(drop)
}

fn working_directory(w: &World) -> Result<()> {
    w.container().run(&["--rm", "--cwd", "/etc"], BUSYBOX, &["pwd"])?.ok()?.prints("/etc").map(drop)
}

fn user(w: &World) -> Result<()> {
    // ctr 1.6 has the switch for exec only.
    let container = w.container();
    container.start(&["sleep", "1000"])?;
    let command = ["sh", "-c", "id -u; id -g; touch /x 2>/dev/null || echo refused"];
    let mut argv = vec!["tasks", "exec", "--user", "1234:5678", "--exec-id", "e", &container.id];
    argv.extend(command);
    let answer = w.ctr(&argv);
    container.clean();
    answer?.ok()?.prints("1234\n5678\nrefused").map(drop)
}

fn read_only(w: &World) -> Result<()> {
    let script = "touch /new 2>/dev/null && echo written || echo refused";
    w.container()
        .run(&["--rm", "--read-only"], BUSYBOX, &["sh", "-c", script])?
        .ok()?
        .prints("refused")
        .map(drop)
}

fn bind_mount(w: &World) -> Result<()> {
    let directory = w.dir.path().join("shared");
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("greeting"), "from the host\n")?;
    let mount = format!("type=bind,src={},dst=/shared,options=rbind:rw", directory.display());
    let script = "cat /shared/greeting; echo from the guest > /shared/answer";
    w.container()
        .run(&["--rm", "--mount", &mount], BUSYBOX, &["sh", "-c", script])?
        .ok()?
        .prints("from the host")?;
    let answer = std::fs::read_to_string(directory.join("answer"))?;
    ensure!(answer == "from the guest\n", "the host reads {answer:?}");
    Ok(())
}

fn write_back(w: &World) -> Result<()> {
    let script = "mkdir /d && seq 1 5000 > /d/f && wc -l < /d/f && mv /d/f /d/g && ln -s g /d/l && tail -n1 /d/l && rm -r /d && ls -d /d 2>/dev/null || echo gone";
    w.run(BUSYBOX, &["sh", "-c", script])?.ok()?.prints("5000\n5000\ngone").map(drop)
}

fn thousand(w: &World) -> Result<()> {
    let script = "i=0; while [ $i -lt 1000 ]; do /bin/true || exit 1; i=$((i+1)); done; echo $i";
    w.run(BUSYBOX, &["sh", "-c", script])?.ok()?.prints("1000").map(drop)
}

fn hostname(w: &World) -> Result<()> {
    let script = "hostname changed 2>/dev/null; hostname";
    let answer = w.run(BUSYBOX, &["sh", "-c", script])?.ok()?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    ensure!(host.trim() != "changed", "the guest changed the host's name");
    ensure!(!answer.stdout.trim().is_empty(), "no name at all");
    Ok(())
}
