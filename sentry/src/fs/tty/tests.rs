//! Master and slave as programs see them, without job control (the test task leads no session).

use super::*;
use crate::io::VecSink;
use crate::task::Task;

fn terminal() -> (Arc<Task>, Arc<Master>, Arc<Slave>) {
    let task = crate::testing::task();
    let tty = Tty::new(&task.kernel, 0, &Weak::new());
    assert_eq!(tty.open_slave().err(), Some(Errno::EIO));
    tty.set_locked(false);
    let slave = tty.open_slave().unwrap();
    (task, Arc::new(Master(tty)), slave)
}

fn read(task: &Arc<Task>, file: &dyn FileOps, flags: u32) -> Result<Vec<u8>, Errno> {
    let mut sink = VecSink::new(100);
    file.read(&Op { task, flags }, &mut sink, 0).map(|_| sink.bytes)
}

fn write(task: &Arc<Task>, file: &dyn FileOps, mut bytes: &[u8]) -> Result<usize, Errno> {
    file.write(&Op { task, flags: 0 }, &mut bytes, 0)
}

#[test]
fn what_is_typed_is_echoed_and_read() {
    let (task, master, slave) = terminal();
    assert_eq!(read(&task, &*slave, 0), Err(Errno::EAGAIN));
    assert_eq!(write(&task, &*master, b"hi\r"), Ok(3));
    assert_eq!(slave.readiness(), Events::READABLE | Events::WRITABLE);
    assert_eq!(read(&task, &*slave, 0), Ok(b"hi\n".to_vec()));
    assert_eq!(read(&task, &*master, 0), Ok(b"hi\r\n".to_vec()));
    assert_eq!(read(&task, &*master, 0), Err(Errno::EAGAIN));
}

#[test]
fn the_master_reads_to_the_end_and_then_gets_an_error() {
    let (task, master, slave) = terminal();
    assert_eq!(write(&task, &*slave, b"bye\n"), Ok(4));
    drop(slave);
    assert!(master.readiness().contains(Events::HUP | Events::IN));
    assert_eq!(read(&task, &*master, 0), Ok(b"bye\r\n".to_vec()));
    assert_eq!(read(&task, &*master, 0), Err(Errno::EIO));
}

#[test]
fn closing_the_master_hangs_up() {
    let (task, master, slave) = terminal();
    drop(master);
    assert_eq!(read(&task, &*slave, 0), Ok(Vec::new()));
    assert_eq!(write(&task, &*slave, b"x"), Err(Errno::EIO));
    assert!(slave.readiness().contains(Events::HUP | Events::IN | Events::OUT));
    assert_eq!(slave.tty().open_slave().err(), Some(Errno::EIO));
}

#[test]
fn a_writer_waits_while_output_is_stopped() {
    let (task, master, slave) = terminal();
    write(&task, &*master, b"\x13").unwrap();
    assert_eq!(write(&task, &*slave, b"x"), Err(Errno::EAGAIN));
    write(&task, &*master, b"\x11").unwrap();
    assert_eq!(write(&task, &*slave, b"x"), Ok(1));
}

#[test]
fn packet_mode_puts_a_byte_in_front() {
    let (task, master, slave) = terminal();
    master.tty().lock().packet_mode = true;
    write(&task, &*slave, b"x").unwrap();
    assert_eq!(read(&task, &*master, 0), Ok(vec![0, b'x']));
}

#[test]
fn a_read_with_a_time_limit_gives_up() {
    let (task, _master, slave) = terminal();
    let tty = Arc::clone(slave.tty());
    let mut termios = *tty.lock().discipline.termios();
    termios.lflag = 0;
    termios.cc[cc::VMIN] = 0;
    termios.cc[cc::VTIME] = 1;
    tty.lock().discipline.set_termios(termios);
    assert_eq!(read(&task, &*slave, 0), Err(Errno::EAGAIN));
    std::thread::sleep(std::time::Duration::from_millis(120));
    assert_eq!(read(&task, &*slave, 0), Ok(Vec::new()));
}

#[test]
fn terminals_are_numbered_and_forgotten() {
    use crate::vfs::{FileSystemType, MountRequest};
    let task = crate::testing::task();
    let request = MountRequest {
        kernel: &task.kernel,
        pid_namespace: &task.process.namespace,
        descriptors: &task.kernel.descriptors.share("test"),
        source: b"devpts",
        options: "newinstance,ptmxmode=0666,mode=0620,gid=5",
        uid: 0,
        gid: 0,
    };
    let root = devpts::DevPtsType.mount(&request).unwrap().root();
    let place = task.fs().root();
    let open = |name: &[u8]| root.lookup(&task, name).unwrap().open(&task, &place, 2);
    let first = open(b"ptmx").unwrap();
    let second = open(b"ptmx").unwrap();
    let stat = root.lookup(&task, b"1").unwrap().stat().unwrap();
    assert_eq!((stat.rdev, stat.mode & 0o777, stat.gid), (makedev(136, 1), 0o620, 5));
    assert_eq!(open(b"0").err(), Some(Errno::EIO));
    first.as_any().downcast_ref::<Master>().unwrap().tty().set_locked(false);
    assert!(open(b"0").is_ok());
    drop(first);
    assert_eq!(root.lookup(&task, b"0").err(), Some(Errno::ENOENT));
    drop(open(b"ptmx").unwrap());
    drop(second);
}
