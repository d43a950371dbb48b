//! Where do a process's input and output go, and who keeps the pipes open?
//!
//! Key types: [`Stdio`] (the addresses that containerd gave, kept as they are), [`Opened`] (three descriptors for
//! the sentry) and [`Hold`] (what we keep). The sentry reads and writes the pipes itself; nothing is copied here.
//! We hold a writer of stdin, so that an attach that goes away is no end of file, and a reader of each output, so
//! that a containerd that restarts is back-pressure and no broken pipe. Both go when the process has ended.
//!
//! Clients open their ends in the background, maybe after the request has been sent. An output is therefore opened to be
//! written first, which waits for the client's reader, and by our own reader only then, as runc's shim does: else a
//! process that ends at once, and our reader with it, could be gone when the client's open comes, which would then wait for
//! a writer for ever, and whatever was printed would be lost. Input needs no such care: a client that opens its end when the
//! process has gone has nothing to wait for, and none does.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal};
use seccomp::jail::{Jail, Namespaces, Privileges, Root, Speculation};

/// How long a logger may take to say that it is ready.
const LOGGER_LIMIT: Duration = Duration::from_secs(10);
/// How long a client may take to open its end of an output, on a host that does much else.
const READER_LIMIT: Duration = Duration::from_secs(30);
/// The longest pause between looks whether it has.
const READER_PAUSE: Duration = Duration::from_millis(10);
/// How long it may take to end once its input has.
const LOGGER_GRACE: Duration = Duration::from_secs(12);

/// A process's streams as containerd names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stdio {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// A process's streams, open.
#[derive(Debug)]
pub(crate) struct Opened {
    /// stdin, stdout, stderr for the sentry.
    pub(crate) guest: [OwnedFd; 3],
    pub(crate) hold: Hold,
}

/// What is kept open on our side; dropping it lets everything go.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    stdin: Option<File>,
    outputs: Vec<File>,
    logger: Option<Logger>,
}

impl Hold {
    /// Lets the guest see the end of its input once nobody else writes.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }
}

/// A logging program of the `binary://` kind. When it is dropped its input has ended, and it gets some time.
#[derive(Debug)]
struct Logger {
    pid: i32,
    pidfd: OwnedFd,
}

impl Drop for Logger {
    fn drop(&mut self) {
        let (pid, Ok(pidfd)) = (self.pid, self.pidfd.try_clone()) else { return };
        let reap = move || {
            if !readable(pidfd.as_fd(), LOGGER_GRACE) {
                let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
            }
            let _ = rustix::process::waitpid(Pid::from_raw(pid), rustix::process::WaitOptions::empty());
        };
        let _ = std::thread::Builder::new().name("logger".to_owned()).spawn(reap);
    }
}

fn readable(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let timeout = Timespec::try_from(limit).ok();
    matches!(rustix::event::poll(&mut fds, timeout.as_ref()), Ok(n) if n > 0)
}

/// Opens the streams of one process.
pub(crate) fn open(stdio: &Stdio, container: &str, namespace: &str) -> io::Result<Opened> {
    let mut hold = Hold::default();
    let named =
        |what: &str, address: &str, e: io::Error| io::Error::new(e.kind(), format!("{what} {address}: {e}"));
    let stdin = open_stdin(&stdio.stdin, &mut hold).map_err(|e| named("stdin", &stdio.stdin, e))?;
    if let Some(program) = stdio.stdout.strip_prefix("binary://") {
        let (stdout, stderr) = open_logger(program, container, namespace, &mut hold)
            .map_err(|e| named("logger", &stdio.stdout, e))?;
        return Ok(Opened { guest: [stdin, stdout, stderr], hold });
    }
    let stdout = open_output(&stdio.stdout, &mut hold).map_err(|e| named("stdout", &stdio.stdout, e))?;
    // With a terminal everything goes to stdout, whatever stderr says.
    let stderr = if stdio.terminal { "" } else { stdio.stderr.as_str() };
    let stderr = match stderr.strip_prefix("binary://") {
        Some(_) => stdout.try_clone()?,
        None => open_output(stderr, &mut hold).map_err(|e| named("stderr", stderr, e))?,
    };
    Ok(Opened { guest: [stdin, stdout, stderr], hold })
}

fn null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

/// The path of a named pipe or file, without its scheme.
fn path_of(address: &str) -> PathBuf {
    let path = address.strip_prefix("fifo://").or_else(|| address.strip_prefix("file://")).unwrap_or(address);
    PathBuf::from(path.split('?').next().unwrap_or_default())
}

fn nonblocking(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed())
}

/// The sentry's copies block, as a terminal or a file would.
fn blocking(file: File) -> io::Result<OwnedFd> {
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file.into())
}

fn open_stdin(address: &str, hold: &mut Hold) -> io::Result<OwnedFd> {
    if address.is_empty() {
        return null();
    }
    let path = path_of(address);
    let reader = nonblocking(OpenOptions::new().read(true)).open(&path)?;
    if reader.metadata()?.file_type().is_fifo() {
        hold.stdin = Some(nonblocking(OpenOptions::new().write(true)).open(&path)?);
    }
    blocking(reader)
}

fn open_output(address: &str, hold: &mut Hold) -> io::Result<OwnedFd> {
    if address.is_empty() {
        return null();
    }
    let path = path_of(address);
    let is_file = address.starts_with("file://") || fs::metadata(&path).is_ok_and(|m| m.is_file());
    if is_file {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        return Ok(OpenOptions::new().append(true).create(true).open(&path)?.into());
    }
    if address.contains("://") && !address.starts_with("fifo://") {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "unknown kind of address"));
    }
    let writer = open_writer(&path, READER_LIMIT)?;
    if writer.metadata()?.file_type().is_fifo() {
        hold.outputs.push(nonblocking(OpenOptions::new().read(true)).open(&path)?);
    }
    blocking(writer)
}

/// Opens to write once somebody has opened, or is opening, to read. LINUX: fifo(7): without anybody, ENXIO. A client that
/// gives up takes its pipes away, which ends the wait as well.
fn open_writer(path: &Path, limit: Duration) -> io::Result<File> {
    let begun = Instant::now();
    let mut pause = READER_PAUSE / 100;
    loop {
        match nonblocking(OpenOptions::new().write(true)).open(path) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
                if begun.elapsed() >= limit {
                    let text = format!("nobody has opened it to read in {} s", limit.as_secs());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(READER_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// `binary://PATH?key=value&...`: descriptors 3 and 4 are the outputs, 5 is closed or written when it is ready.
fn open_logger(
    address: &str,
    container: &str,
    namespace: &str,
    hold: &mut Hold,
) -> io::Result<(OwnedFd, OwnedFd)> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, "a zero byte");
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let program = File::open(path)?;
    let mut words = vec![Path::new(path).display().to_string()];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        words.extend([unescape(key), unescape(value)].into_iter().filter(|word| !word.is_empty()));
    }
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from);
    let ((out_read, out), (err_read, err), (ready, ready_write)) = (pipe()?, pipe()?, pipe()?);
    let null = null()?;
    let env = [format!("CONTAINER_ID={container}"), format!("CONTAINER_NAMESPACE={namespace}")];
    let path_variable = std::env::var("PATH").map(|path| format!("PATH={path}"));
    let jail = Jail {
        program: program.as_fd(),
        args: words.into_iter().map(CString::new).collect::<Result<_, _>>().map_err(invalid)?,
        env: env
            .into_iter()
            .chain(path_variable)
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(invalid)?,
        fds: vec![
            null.as_fd(),
            null.as_fd(),
            null.as_fd(),
            out_read.as_fd(),
            err_read.as_fd(),
            ready_write.as_fd(),
        ],
        namespaces: Namespaces::NONE,
        root: Root::Inherited,
        privileges: Privileges::Inherited,
        die_with_parent: false,
        speculation: Speculation::Host,
    };
    let started = jail.prepare().and_then(seccomp::jail::Held::release).map_err(io::Error::other)?;
    drop(ready_write);
    let logger = Logger { pid: started.pid, pidfd: started.pidfd };
    if !readable(ready.as_fd(), LOGGER_LIMIT) {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the logger does not get ready"));
    }
    hold.logger = Some(logger);
    Ok((out, err))
}

/// `%20` and `+` of a query.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let value = match byte {
            b'+' => b' ',
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            other => other,
        };
        bytes.push(value);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn fifo(directory: &Path, name: &str) -> String {
        let path = directory.join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .expect("made");
        path.display().to_string()
    }

    /// A client that opens its end to read some time later, as containerd's does in the background, and reads all.
    fn late_reader(path: &str) -> std::thread::JoinHandle<String> {
        let path = path.to_owned();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            fs::read_to_string(path).expect("read to the end")
        })
    }

    #[test]
    fn an_output_waits_for_its_reader_and_nothing_is_lost_when_all_ends_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        for terminal in [false, true] {
            let stdio = Stdio {
                stdin: String::new(),
                stdout: fifo(directory.path(), &format!("out-{terminal}")),
                stderr: if terminal { String::new() } else { fifo(directory.path(), "err") },
                terminal,
            };
            let readers =
                [&stdio.stdout, &stdio.stderr].map(|path| (!path.is_empty()).then(|| late_reader(path)));
            let Opened { guest: [_, stdout, stderr], hold } = open(&stdio, "c", "n").expect("opens");
            File::from(stdout).write_all(b"out").expect("written");
            if !terminal {
                File::from(stderr).write_all(b"err").expect("written");
            }
            // The process has ended, as far as anybody here knows.
            drop(hold);
            let texts = readers.map(|reader| reader.map(|reader| reader.join().expect("no hang")));
            assert_eq!(texts, [Some("out".to_owned()), (!terminal).then(|| "err".to_owned())]);
        }
    }

    #[test]
    fn an_output_that_nobody_opens_is_given_up_and_one_that_is_taken_away_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = PathBuf::from(fifo(directory.path(), "out"));
        let error = open_writer(&path, Duration::from_millis(20)).expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let gone = path.clone();
        let remover = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            fs::remove_file(gone).expect("removed");
        });
        let error = open_writer(&path, READER_LIMIT).expect_err("taken away");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        remover.join().expect("removed");
    }

    #[test]
    fn fifos_end_when_the_hold_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let stdio = Stdio {
            stdin: fifo(directory.path(), "in"),
            stdout: fifo(directory.path(), "out"),
            ..Stdio::default()
        };
        let reader = nonblocking(OpenOptions::new().read(true)).open(&stdio.stdout).expect("opens");
        let Opened { guest: [stdin, stdout, _], mut hold } = open(&stdio, "c", "n").expect("opens");
        // A client that goes away, as containerd does at its restart, is no broken pipe.
        drop(reader);
        // A writer that comes and goes is no end of file while the hold lasts.
        OpenOptions::new().write(true).open(&stdio.stdin).expect("opens").write_all(b"hi").expect("written");
        let mut stdin = File::from(stdin);
        let mut two = [0; 2];
        stdin.read_exact(&mut two).expect("read");
        assert_eq!(&two, b"hi");
        hold.close_stdin();
        assert_eq!(stdin.read(&mut two).expect("the end"), 0);
        File::from(stdout).write_all(b"out").expect("written");
    }

    #[test]
    fn files_are_appended_to_and_their_directories_made() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a/b/log");
        let stdio = Stdio { stdout: format!("file://{}", path.display()), ..Stdio::default() };
        for _ in 0..2 {
            let opened = open(&stdio, "c", "n").expect("opens");
            let [_, stdout, _] = opened.guest;
            File::from(stdout).write_all(b"x").expect("written");
        }
        assert_eq!(fs::read(path).expect("there"), b"xx");
    }

    #[test]
    fn a_logger_gets_its_pipes_arguments_and_environment() {
        let directory = tempfile::tempdir().expect("a directory");
        let (script, out) = (directory.path().join("logger"), directory.path().join("out"));
        // A static shell by its own path: the logger is executed by descriptor.
        fs::copy("/bin/busybox", &script).expect("busybox is installed");
        let body = format!("exec 5>&-; {{ echo $CONTAINER_ID $0; cat <&3; }} >{}", out.display());
        let query: String = body.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let link = directory.path().join("sh");
        std::os::unix::fs::symlink(&script, &link).expect("linked");
        let stdio = Stdio { stdout: format!("binary://{}?-c={query}", link.display()), ..Stdio::default() };
        let Opened { guest, hold } = open(&stdio, "c1", "n").expect("opens");
        let [_, stdout, stderr] = guest;
        File::from(stdout).write_all(b"line\n").expect("written");
        drop(stderr);
        let pidfd = hold.logger.as_ref().expect("a logger").pidfd.try_clone().expect("a descriptor");
        assert!(readable(pidfd.as_fd(), Duration::from_secs(5)), "the logger ends with its input");
        let text = fs::read_to_string(out).expect("logged");
        assert!(text.starts_with("c1 ") && text.ends_with("line\n"), "{text}");
    }

    #[test]
    fn an_address_that_is_not_there_is_named() {
        let stdio = Stdio { stdout: "/none/such".to_owned(), ..Stdio::default() };
        let error = open(&stdio, "c", "n").expect_err("nothing there").to_string();
        assert!(error.starts_with("stdout /none/such: "), "{error}");
        let stdio = Stdio { stdout: "carrier-pigeon://x".to_owned(), ..Stdio::default() };
        assert!(open(&stdio, "c", "n").is_err());
    }
}
