//! Many callers at once, many handles, and a call that never returns.

mod common;

use std::sync::Barrier;

use common::{Gofer, OWNER};
use gofer_protocol::wire::CHANNELS_MAX;
use gofer_protocol::{Errno, Node};

#[test]
fn many_threads_share_one_client() {
    const THREADS: usize = 3 * CHANNELS_MAX;
    const FILES: usize = 50;
    let gofer = Gofer::start();
    let root = gofer.root();
    let together = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (client, together) = (&gofer.client, &together);
            scope.spawn(move || {
                together.wait();
                let (dir, _) =
                    client.mkdir(root, format!("d{thread}").as_bytes(), 0o755, OWNER).expect("mkdir");
                for file in 0..FILES {
                    let name = format!("f{file}");
                    let made = client.create(dir, name.as_bytes(), 0o644, OWNER, 2).expect("create");
                    let (found, stat) = client.walk(dir, name.as_bytes()).expect("walk");
                    assert_eq!(stat.ino, made.stat.ino);
                    client.close(found);
                    client.close(made.node);
                }
                assert_eq!(client.read_dir(dir, 0).expect("page").len(), FILES);
            });
        }
    });
    assert!(gofer.client.channels() <= CHANNELS_MAX);
    assert_eq!(std::fs::read_dir(gofer.path("root")).expect("readable").count(), THREADS);
}

#[test]
fn handles_are_limited_and_come_back_when_closed() {
    let gofer = Gofer::start_with(|_, dir| std::fs::write(dir.join("root/a"), b"").expect("write"));
    let (client, root) = (&gofer.client, gofer.root());
    let limit = client.limits().expect("limits").nodes_max as usize;
    let mut nodes: Vec<Node> = Vec::new();
    let refused = loop {
        match client.walk(root, b"a") {
            Ok((node, _)) => nodes.push(node),
            Err(errno) => break errno,
        }
        assert!(nodes.len() <= limit);
    };
    assert_eq!((refused, nodes.len()), (Errno::ENFILE, limit - 1));
    assert_eq!(client.create(root, b"b", 0o600, OWNER, 2).err(), Some(Errno::ENFILE));
    assert!(!gofer.path("root/b").exists(), "what nobody gets a handle of is not left behind");
    assert!(client.stat(root).is_ok() && client.open(nodes[0], 0).is_ok(), "the others still work");
    nodes.drain(..).for_each(|node| client.close(node));
    client.flush_closes();
    assert!(client.walk(root, b"a").is_ok());
}

#[test]
fn a_gofer_that_was_killed_is_eio_for_everybody() {
    let gofer = Gofer::start();
    let root = gofer.root();
    assert!(gofer.client.is_alive());
    let pid = rustix::process::Pid::from_raw(gofer.pid().cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    // Killed is not yet gone: until it can be waited for, it may still answer.
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).expect("our child");
    std::thread::scope(|scope| {
        for _ in 0..2 * CHANNELS_MAX {
            scope.spawn(|| assert_eq!(gofer.client.stat(root).err(), Some(Errno::EIO)));
        }
    });
    assert!(!gofer.client.is_alive());
    gofer.client.close(root);
    gofer.client.flush_closes();
}

#[test]
fn a_call_that_blocks_holds_up_nobody_else() {
    let gofer = Gofer::start();
    // A listener whose queue is full makes `connect` wait for as long as nobody accepts.
    let kind = rustix::net::SocketType::STREAM;
    let listener = rustix::net::socket(rustix::net::AddressFamily::UNIX, kind, None).expect("socket");
    let address = rustix::net::SocketAddrUnix::new(gofer.path("vol/busy")).expect("short enough");
    rustix::net::bind(&listener, &address).expect("bind");
    rustix::net::listen(&listener, 0).expect("listen");
    let client = &gofer.client;
    let volume = client.attach(1).expect("mount 1").0;
    let (busy, _) = client.walk(volume, b"busy").expect("it is there");
    let first = client.connect(busy, 1).expect("there is room for one");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.connect(busy, 1));
        // Only once the second connect occupies its channel do we need more than one.
        while client.channels() < 2 {
            client.stat(volume).expect("stat");
        }
        for _ in 0..100 {
            client.stat(volume).expect("stat");
        }
        drop(rustix::net::accept(&listener).expect("accept the first"));
        waiting.join().expect("no panic").expect("the second gets its turn");
    });
    drop(first);
}
