//! Device nodes: who answers when one is opened?
//!
//! [`register`] tells the virtual file system of all drivers here: memory devices (major 1) and terminals (major 5).
//! The nodes themselves lie on whatever file system `/dev` is.

mod memory;

use std::sync::Arc;

use super::tty::devpts;
use crate::kernel::Kernel;

/// Registers the drivers of character devices.
pub fn register(kernel: &Kernel) {
    kernel.vfs.add_device(memory::MAJOR, Arc::new(memory::Memory));
    kernel.vfs.add_device(devpts::TTY_MAJOR, Arc::new(devpts::TerminalDevices));
    kernel.vfs.add_type(Arc::new(devpts::DevPtsType));
}
