//! Does everyday software of a Debian image run: bash, python3, gcc, redis?

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Case;
use crate::command::{quietly, wait_until};
use crate::world::{DEBIAN, World};

const PORT: &str = "8080";
/// The client outside: no proxy, whatever the machine's environment says.
const FETCH: &str = "
import sys, urllib.request as u
print(u.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=5).read().decode())";

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    vec![
        Case::demo("debian: bash", bash),
        Case::demo("debian: python3 threads", python_threads),
        Case::demo("debian: python3 subprocess", python_subprocess),
        Case::demo("debian: an http server is fetched from outside the sandbox", http_server),
        Case::demo("debian: gcc compiles a C program that runs", gcc),
        Case::new("debian: ThreadSanitizer finds a race, and none where there is none", thread_sanitizer),
        Case::demo("debian: redis-server is driven by redis-benchmark inside", redis),
        Case::new("debian: ps sees the container's processes only", ps),
        Case::new("debian: python3 sockets, pipes and files", python_io),
    ]
}

fn bash(w: &World) -> Result<()> {
    let script = "declare -A m=([a]=1 [b]=2); for k in \"${!m[@]}\"; do echo $k=${m[$k]}; done | sort | paste -sd,; \
        diff <(seq 3) <(seq 3) && echo same; trap 'echo bye' EXIT; (exit 3); echo $?";
    w.run(DEBIAN, &["bash", "-c", script])?.ok()?.prints("a=1,b=2\nsame\n3\nbye").map(drop)
}

fn python_threads(w: &World) -> Result<()> {
    let script = "
import threading, queue
q, lock, total = queue.Queue(), threading.Lock(), [0]
def work():
    while (n := q.get()) is not None:
        with lock: total[0] += n
threads = [threading.Thread(target=work) for _ in range(16)]
for t in threads: t.start()
for n in range(10000): q.put(n)
for t in threads: q.put(None)
for t in threads: t.join()
print(total[0])";
    w.run(DEBIAN, &["python3", "-c", script])?.ok()?.prints("49995000").map(drop)
}

fn python_subprocess(w: &World) -> Result<()> {
    let script = "
import subprocess
out = subprocess.run(['sh', '-c', 'tr a-z A-Z; exit 5'], input=b'quiet', capture_output=True)
print(out.stdout.decode(), out.returncode)
p = subprocess.Popen(['sleep', '100']); p.kill(); print(p.wait())";
    w.run(DEBIAN, &["python3", "-c", script])?.ok()?.prints("QUIET 5\n-9").map(drop)
}

fn http_server(w: &World) -> Result<()> {
    let container = w.container();
    let network = format!("network:{}", w.netns());
    let script =
        format!("echo hello from the sandbox > /tmp/page && exec python3 -m http.server {PORT} -d /tmp");
    container.run(&["-d", "--with-ns", &network], DEBIAN, &["sh", "-c", &script])?.ok()?;
    let url = format!("http://127.0.0.1:{PORT}/page");
    let fetch = || w.outside(&["python3", "-c", FETCH, &url]);
    let served =
        wait_until("the page is served", Duration::from_secs(20), || Ok(quietly(fetch)?.status == 0));
    let fetched = served.and_then(|()| fetch());
    container.clean();
    fetched?.ok()?.prints("hello from the sandbox").map(drop)
}

fn gcc(w: &World) -> Result<()> {
    let script = r#"cat > /tmp/a.c <<'C'
#include <stdio.h>
#include <math.h>
int main(void) { double s = 0; for (int i = 1; i <= 1000; i++) s += sqrt(i); printf("%.3f\n", s); return 7; }
C
gcc -O2 -o /tmp/a /tmp/a.c -lm && /tmp/a; echo status $?"#;
    w.run(DEBIAN, &["sh", "-c", script])?.ok()?.prints("21097.456\nstatus 7").map(drop)
}

fn thread_sanitizer(w: &World) -> Result<()> {
    let script = r#"cat > /tmp/a.c <<'C'
#include <pthread.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int count;
static void *add(void *is_careful) {
    for (int i = 0; i < 1000; i++) {
        if (is_careful) pthread_mutex_lock(&mutex);
        count++;
        if (is_careful) pthread_mutex_unlock(&mutex);
    }
    return 0;
}
int main(int argc, char **argv) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) pthread_create(threads + i, 0, add, argc > 1 ? argv : 0);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], 0);
    return 0;
}
C
# A host may strew programs wider than this compiler's library can bear.
bits=$(cat /proc/sys/vm/mmap_rnd_bits 2> /dev/null || echo 28)
if [ "$bits" -gt 28 ]; then still='setarch -R'; fi
for how in -pie -no-pie; do
    gcc -g -fsanitize=thread $how -o /tmp/a /tmp/a.c
    $still /tmp/a 2> /tmp/said; echo $? $(grep -om 1 'data race' /tmp/said)
    $still /tmp/a careful 2> /tmp/said; echo $? $(grep -c . /tmp/said)
done"#;
    w.run(DEBIAN, &["sh", "-c", script])?.ok()?.prints("66 data race\n0 0\n66 data race\n0 0").map(drop)
}

fn redis(w: &World) -> Result<()> {
    let script = "redis-server --save '' --appendonly no --daemonize yes --logfile /tmp/log > /dev/null
for i in $(seq 100); do redis-cli ping 2>/dev/null | grep -q PONG && break; sleep 0.1; done
redis-benchmark -q -n 5000 -t set,get && redis-cli set k v && redis-cli get k && redis-cli shutdown nosave; echo done";
    let answer = w.run(DEBIAN, &["bash", "-c", script])?.ok()?;
    let lines = answer.stdout.replace('\r', "\n");
    for operation in ["SET:", "GET:"] {
        let found = lines.lines().any(|l| l.starts_with(operation) && l.contains("requests per second"));
        ensure!(found, "no figure for {operation} {answer}");
    }
    answer.mentions("OK\nv\n")?.mentions("done").map(drop)
}

fn ps(w: &World) -> Result<()> {
    let answer = w.run(DEBIAN, &["sh", "-c", "sleep 50 & ps -eo pid,args --no-headers"])?.ok()?;
    let count = answer.stdout.lines().count();
    ensure!((2..=4).contains(&count) && answer.stdout.contains("sleep 50"), "ps shows {answer}");
    Ok(())
}

fn python_io(w: &World) -> Result<()> {
    let script = "
import os, socket, select, mmap, tempfile, signal
a, b = socket.socketpair(); a.sendall(b'x' * 100000); n = 0
while n < 100000: n += len(b.recv(65536))
s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname()); d, _ = s.accept()
c.sendall(b'tcp'); p = select.poll(); p.register(d, select.POLLIN); p.poll(1000); print(n, d.recv(9).decode())
with tempfile.TemporaryFile() as f:
    f.write(b'0' * 8192); f.flush(); m = mmap.mmap(f.fileno(), 8192); m[4096:4099] = b'abc'; m.flush()
    f.seek(4096); print(f.read(3).decode())
r, wr = os.pipe(); pid = os.fork()
if pid == 0: os.write(wr, b'child'); os._exit(3)
print(os.read(r, 10).decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
got = []; signal.signal(signal.SIGUSR1, lambda *a: got.append(1)); os.kill(os.getpid(), signal.SIGUSR1); print(len(got))";
    w.run(DEBIAN, &["python3", "-c", script])?.ok()?.prints("100000 tcp\nabc\nchild 3\n1").map(drop)
}
