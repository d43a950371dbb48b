//! How do a container's terminal and the shim's descriptors come together? Two threads copy between them.
//!
//! Key type: [`Relay`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::TerminalMaster;
use crate::Errno;
use crate::fs::host_stream::Stream;
use crate::sync::{Events, Parker, WaitQueue, Wake};
use crate::vfs::FileOps;

const STACK_BYTES: usize = 128 << 10;
const BUFFER: usize = 8 << 10;
/// How long a thread sleeps at most before it looks again; only a safety net.
const NAP: Duration = Duration::from_millis(500);

/// How long nobody may take anything of what has been printed, once the process has ended, before the rest is dropped.
const AFTER_END: Duration = Duration::from_secs(2);

/// The copying between a terminal and two descriptors.
pub(crate) struct Relay {
    master: Arc<dyn TerminalMaster>,
    ended: AtomicBool,
    output: Mutex<Option<JoinHandle<()>>>,
    parkers: [Arc<Parker>; 2],
}

impl Relay {
    /// Starts copying: `input` to the terminal, the terminal to `output`.
    pub(crate) fn start(
        master: Arc<dyn TerminalMaster>,
        input: Arc<Stream>,
        output: Arc<Stream>,
    ) -> std::io::Result<Arc<Self>> {
        let parkers = [Arc::default(), Arc::default()];
        let relay = Arc::new(Self { master, ended: false.into(), output: Mutex::default(), parkers });
        let theirs = Arc::clone(&relay);
        spawn("tty-in", move || theirs.copy_in(&input))?;
        let theirs = Arc::clone(&relay);
        let thread = spawn("tty-out", move || theirs.copy_out(&output))?;
        *relay.output.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(relay)
    }

    /// Sets the window's size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.master.resize(columns, rows);
    }

    /// The process has ended: passes on what it has printed, and stops.
    pub(crate) fn finish(&self) {
        self.ended.store(true, Ordering::Release);
        for parker in &self.parkers {
            parker.unpark();
        }
        let thread = self.output.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn copy_in(&self, input: &Stream) {
        let parker = &self.parkers[0];
        let mut buffer = [0; BUFFER];
        let queues = [input.wait_queue(), Some(self.master.wait_queue())];
        watched(parker, &queues, || {
            while !self.has_ended() {
                match input.read_some(&mut buffer) {
                    Ok(0) => return,
                    Ok(n) => {
                        if !self.all(parker, &buffer[..n], |bytes| self.master.write(bytes)) {
                            return;
                        }
                    }
                    Err(Errno::EAGAIN) => parker.park(Some(NAP)),
                    Err(_) => return,
                }
            }
        });
    }

    fn copy_out(&self, output: &Stream) {
        let parker = &self.parkers[1];
        let mut buffer = [0; BUFFER];
        let queues = [output.wait_queue(), Some(self.master.wait_queue())];
        watched(parker, &queues, || {
            loop {
                // Asked before reading: what was printed before the end is read after it.
                let ended = self.has_ended();
                match self.master.read(&mut buffer) {
                    Ok(n) if n > 0 => {
                        // If nobody takes it, nobody takes the rest, however much that is.
                        if !self.all(parker, &buffer[..n], |bytes| output.write_some(bytes)) {
                            return;
                        }
                    }
                    _ if ended => return,
                    _ => parker.park(Some(NAP)),
                }
            }
        });
    }

    /// Puts all bytes, waiting as needed; drops them at an error. False once nobody has taken anything for some time after
    /// the end.
    fn all(&self, parker: &Parker, mut bytes: &[u8], put: impl Fn(&[u8]) -> Result<usize, Errno>) -> bool {
        let mut deadline = None;
        while !bytes.is_empty() {
            match put(bytes) {
                Ok(n) => {
                    bytes = &bytes[n..];
                    deadline = None;
                }
                Err(Errno::EAGAIN) => {
                    let now = Instant::now();
                    if self.has_ended() && *deadline.get_or_insert(now + AFTER_END) <= now {
                        return false;
                    }
                    parker.park(Some(NAP));
                }
                Err(_) => return true,
            }
        }
        true
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(body)
}

/// Runs `body` while the calling thread's parker hears of all `queues`.
fn watched(parker: &Arc<Parker>, queues: &[Option<&WaitQueue>], body: impl FnOnce()) {
    parker.adopt();
    let everything = Events::READABLE | Events::WRITABLE;
    let wake: Arc<dyn Wake> = Arc::clone(parker) as Arc<dyn Wake>;
    let entries: Vec<_> = queues
        .iter()
        .flatten()
        .map(|queue| (*queue, queue.register(everything, Arc::clone(&wake))))
        .collect();
    body();
    for (queue, registration) in entries {
        queue.unregister(registration);
    }
}
