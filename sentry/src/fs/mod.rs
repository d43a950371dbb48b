//! File systems and file-like objects: one folder or file per kind.

pub mod anon;
pub mod dev;
pub mod epoll;
pub mod eventfd;
pub mod gofer;
pub mod host_file;
pub mod host_stdio;
pub mod host_stream;
pub mod inotify;
pub mod pipe;
pub mod proc;
pub mod pseudo;
pub mod signalfd;
pub mod sys;
pub mod timerfd;
pub mod tmpfs;
pub mod tty;

use std::sync::Arc;

use crate::kernel::Kernel;

/// Tells a new kernel which file systems, devices and special files there are.
pub fn register(kernel: &Arc<Kernel>) {
    kernel.vfs.add_type(Arc::new(tmpfs::TmpFsType));
    kernel.vfs.set_fifo_driver(Arc::new(pipe::Fifos));
    kernel.vfs.add_type(Arc::new(proc::ProcType));
    sys::register(kernel);
    dev::register(kernel);
}
