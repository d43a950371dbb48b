//! Pipes, as pipe(7) and fifo(7) say.

use super::*;
use crate::io::VecSink;

fn put(end: &End, bytes: &[u8]) -> Result<usize, Errno> {
    end.pipe.write(&mut &bytes[..], false)
}

fn take(end: &End, n: usize) -> Result<Vec<u8>, Errno> {
    let mut sink = VecSink::new(n);
    end.pipe.read(&mut sink).map(|_| sink.bytes)
}

#[test]
fn reading_an_empty_pipe_would_wait_while_there_is_a_writer() {
    let (reader, writer) = Pipe::new().ends();
    assert_eq!(take(&reader, 10), Err(Errno::EAGAIN));
    drop(writer);
    assert_eq!(take(&reader, 10), Ok(Vec::new()));
}

#[test]
fn writing_without_reader_is_a_broken_pipe() {
    let (reader, writer) = Pipe::new().ends();
    drop(reader);
    assert_eq!(put(&writer, b"x"), Err(Errno::EPIPE));
    assert_eq!(writer.readiness() & Events::ERR, Events::ERR);
}

#[test]
fn a_write_of_pipe_buf_is_all_or_nothing() {
    let (reader, writer) = Pipe::new().ends();
    assert_eq!(put(&writer, &vec![1; DEFAULT_CAPACITY - 10]), Ok(DEFAULT_CAPACITY - 10));
    assert_eq!(put(&writer, &[2; 11]), Err(Errno::EAGAIN));
    assert_eq!(put(&writer, &[2; 10]), Ok(10));
    assert_eq!(reader.available(), DEFAULT_CAPACITY);
}

#[test]
fn a_long_write_goes_in_as_far_as_there_is_room() {
    let (_reader, writer) = Pipe::new().ends();
    assert_eq!(put(&writer, &vec![1; DEFAULT_CAPACITY + 1]), Ok(DEFAULT_CAPACITY));
    assert_eq!(put(&writer, &vec![1; PIPE_BUF + 1]), Err(Errno::EAGAIN));
}

#[test]
fn readiness_follows_content_and_ends() {
    let (reader, writer) = Pipe::new().ends();
    assert_eq!(reader.readiness(), Events::empty());
    assert_eq!(writer.readiness(), Events::WRITABLE);
    put(&writer, &vec![1; DEFAULT_CAPACITY - PIPE_BUF + 1]).unwrap();
    assert_eq!(reader.readiness(), Events::READABLE);
    assert_eq!(writer.readiness(), Events::empty());
    drop(writer);
    assert_eq!(reader.readiness(), Events::READABLE | Events::HUP);
}

#[test]
fn a_page_is_free_when_all_of_it_has_been_read() {
    let (reader, writer) = Pipe::new().ends();
    put(&writer, &vec![1; DEFAULT_CAPACITY]).unwrap();
    take(&reader, PIPE_BUF - 1).unwrap();
    assert_eq!((writer.readiness(), put(&writer, b"x")), (Events::empty(), Err(Errno::EAGAIN)));
    take(&reader, 1).unwrap();
    assert_eq!((writer.readiness(), put(&writer, b"x")), (Events::WRITABLE, Ok(1)));
}

#[test]
fn what_does_not_go_on_in_the_last_page_begins_a_new_one() {
    let (_reader, writer) = Pipe::new().ends();
    for _ in 0..DEFAULT_CAPACITY / PIPE_BUF {
        assert_eq!(put(&writer, &[1; 2049]), Ok(2049));
    }
    assert_eq!(put(&writer, &[1; 2049]), Err(Errno::EAGAIN));
    assert_eq!(put(&writer, &[1; 2047]), Ok(2047));
}

#[test]
fn a_fifo_reader_that_never_met_a_writer_is_not_hung_up() {
    let slot = FifoSlot::default();
    let reader = open_fifo(&slot, O_NONBLOCK).unwrap();
    assert_eq!(reader.readiness(), Events::empty());
    let writer = open_fifo(&slot, O_WRONLY | O_NONBLOCK).unwrap();
    drop(writer);
    assert_eq!(reader.readiness(), Events::HUP);
}

#[test]
fn a_fifo_has_no_nonblocking_writer_without_a_reader() {
    let slot = FifoSlot::default();
    assert_eq!(open_fifo(&slot, O_WRONLY | O_NONBLOCK).err(), Some(Errno::ENXIO));
}

#[test]
fn capacity_is_rounded_and_limited() {
    let (reader, writer) = Pipe::new().ends();
    assert_eq!(writer.set_capacity(5000), Ok(8192));
    assert_eq!(writer.set_capacity(0), Err(Errno::EINVAL));
    assert_eq!(writer.set_capacity(2 << 20), Err(Errno::EPERM));
    put(&writer, &[0; 5000]).unwrap();
    assert_eq!(reader.set_capacity(4096), Err(Errno::EBUSY));
    assert_eq!(reader.capacity(), 8192);
}

#[test]
fn tee_copies_and_splice_moves() {
    let (reader, writer) = Pipe::new().ends();
    let (reader2, writer2) = Pipe::new().ends();
    put(&writer, b"data").unwrap();
    assert_eq!(reader.copy_to(&writer2, 3, false), Ok(3));
    assert_eq!(reader.available(), 4);
    assert_eq!(reader.copy_to(&writer2, 100, true), Ok(4));
    assert_eq!(take(&reader2, 100), Ok(b"datdata".to_vec()));
    assert_eq!(reader.copy_to(&writer, 1, false), Err(Errno::EINVAL));
}

#[test]
fn draining_takes_only_what_was_used() {
    let (reader, writer) = Pipe::new().ends();
    put(&writer, b"abcdef").unwrap();
    assert_eq!(reader.drain_with(4, |bytes| Ok(bytes.len() - 1)), Ok(3));
    assert_eq!(take(&reader, 10), Ok(b"def".to_vec()));
    assert_eq!(reader.drain_with(4, |_| Ok(0)), Err(Errno::EAGAIN));
}

#[test]
fn a_fifo_waits_for_its_other_end() {
    let slot = FifoSlot::default();
    let reader = open_fifo(&slot, 0).unwrap();
    assert_eq!(reader.open_ready(), Err(Errno::EAGAIN));
    let writer = open_fifo(&slot, O_WRONLY).unwrap();
    assert_eq!((reader.open_ready(), writer.open_ready()), (Ok(()), Ok(())));
    drop(writer);
    assert_eq!(reader.open_ready(), Ok(()));
}

#[test]
fn a_pipe_opened_again_by_its_link_waits_for_nobody() {
    let pipe = Pipe::new();
    let (reader, writer) = pipe.ends();
    put(&writer, b"left").unwrap();
    drop(writer);
    let again = pipe.open(0).unwrap();
    assert_eq!(again.open_ready(), Ok(()));
    assert_eq!((take(&again, 4), take(&again, 4)), (Ok(b"left".to_vec()), Ok(Vec::new())));
    drop((reader, again));
    assert_eq!(pipe.open(O_WRONLY | O_NONBLOCK).unwrap().open_ready(), Ok(()));
}
