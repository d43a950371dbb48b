//! File systems and file-like objects: one folder or file per kind.

pub mod anon;
pub mod dev;
pub mod epoll;
pub mod eventfd;
pub mod gofer;
pub mod host_file;
pub mod host_stream;
pub mod pipe;
pub mod proc;
pub mod pseudo;
pub mod signalfd;
pub mod timerfd;
pub mod tmpfs;
pub mod tty;
