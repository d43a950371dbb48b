//! How are `AF_UNIX` sockets named and found? LINUX: `unix(7)`, `unix_bind`, `unix_find_other`.
//!
//! Key types: [`Name`], [`Address`] (a name as a guest gives it).

use std::any::Any;
use std::sync::{Arc, Weak};

use linux_abi::net::family::AF_UNIX;

use super::UnixSocket;
use crate::Errno;
use crate::net::{Kind, lock};
use crate::task::Task;
use crate::vfs::permission::Want;
use crate::vfs::{Caller, Location, Lookup, NewKind, mode};

/// Size of `sun_path`.
const PATH_MAX: usize = 108;
/// How many names there are for automatic binding. LINUX: five hexadecimal digits.
const AUTO_NAMES: u32 = 1 << 20;

/// An address, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// Only the family: the kernel chooses a name.
    Auto,
    /// Of the file system, without zero byte.
    Path(&'a [u8]),
    /// Abstract, its leading zero byte included.
    Abstract(&'a [u8]),
}

impl<'a> Address<'a> {
    /// Takes a `struct sockaddr_un` apart.
    ///
    /// # Errors
    /// EINVAL for a wrong family or length.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Errno> {
        let (family, path) = bytes.split_first_chunk::<2>().ok_or(Errno::EINVAL)?;
        if u16::from_ne_bytes(*family) != AF_UNIX || path.len() > PATH_MAX {
            return Err(Errno::EINVAL);
        }
        Ok(match path.first() {
            None => Self::Auto,
            Some(0) => Self::Abstract(path),
            Some(_) => Self::Path(path.split(|&byte| byte == 0).next().unwrap_or(path)),
        })
    }
}

/// The name that a socket is bound to.
pub struct Name {
    /// `sun_path` as `getsockname(2)` tells it.
    path: Vec<u8>,
    /// Where its node is; keeps the node, which knows the socket.
    location: Option<Location>,
}

impl Name {
    /// As `struct sockaddr_un`.
    pub fn address(&self) -> Vec<u8> {
        [&AF_UNIX.to_ne_bytes()[..], &self.path].concat()
    }

    /// As `/proc/net/unix` shows it.
    pub fn display(&self) -> String {
        let is_path = self.location.is_some();
        let shown =
            if is_path { self.path.split_last().map_or(&[][..], |(_, path)| path) } else { &self.path };
        let text = String::from_utf8_lossy(shown).into_owned();
        if is_path { text } else { text.replace('\0', "@") }
    }
}

/// The address of a socket, or of none.
pub fn address_of(name: Option<&Arc<Name>>) -> Vec<u8> {
    name.map_or_else(|| AF_UNIX.to_ne_bytes().to_vec(), |name| name.address())
}

impl UnixSocket {
    /// `bind(2)`.
    pub(super) fn bind(&self, task: &Arc<Task>, address: &[u8]) -> Result<(), Errno> {
        let address = Address::parse(address)?;
        if lock(&self.state).name.is_some() {
            return if address == Address::Auto { Ok(()) } else { Err(Errno::EINVAL) };
        }
        match address {
            Address::Auto => self.bind_auto(),
            Address::Abstract(path) => self.bind_abstract(path),
            Address::Path(path) => self.bind_path(task, path),
        }
    }

    fn set_name(&self, path: Vec<u8>, location: Option<Location>) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        if state.name.is_some() {
            return Err(Errno::EINVAL);
        }
        state.name = Some(Arc::new(Name { path, location }));
        Ok(())
    }

    fn bind_abstract(&self, path: &[u8]) -> Result<(), Errno> {
        let mut names = lock(&self.namespace.abstract_names);
        if names.get(path).is_some_and(|there| there.strong_count() > 0) {
            return Err(Errno::EADDRINUSE);
        }
        // LOCK: names > state, here only.
        self.set_name(path.to_vec(), None)?;
        names.insert(path.to_vec(), self.me.clone());
        Ok(())
    }

    /// Binds to a free abstract name.
    pub(super) fn bind_auto(&self) -> Result<(), Errno> {
        let mut bytes = [0; 4];
        platform::host::file::random(&mut bytes);
        let first = u32::from_ne_bytes(bytes);
        for step in 0..AUTO_NAMES {
            let name = format!("\0{:05x}", first.wrapping_add(step) % AUTO_NAMES);
            match self.bind_abstract(name.as_bytes()) {
                Err(Errno::EADDRINUSE) => {}
                // Another thread has bound it meanwhile: it has a name.
                Err(Errno::EINVAL) => return Ok(()),
                result => return result,
            }
        }
        Err(Errno::ENOSPC)
    }

    /// The socket ends: an abstract name is free again, a name in the file system stays and leads nowhere.
    pub(super) fn forget(&self, name: &Name) {
        if name.location.is_none() {
            let mut names = lock(&self.namespace.abstract_names);
            // Accepted sockets share their listener's name without owning it.
            if names.get(&name.path).is_some_and(|owner| owner.ptr_eq(&self.me)) {
                names.remove(&name.path);
            }
        }
    }

    fn bind_path(&self, task: &Arc<Task>, path: &[u8]) -> Result<(), Errno> {
        let caller = Caller::of(task);
        let made = caller.mknod(&task.fs().cwd(), path, NewKind::Socket, 0o777);
        let location =
            made.map_err(|errno| if errno == Errno::EEXIST { Errno::EADDRINUSE } else { errno })?;
        if let Some(slot) = location.inode().bound_socket() {
            let me: Weak<dyn Any + Send + Sync> = self.me.clone();
            *lock(&slot.0) = Some(me);
        }
        let mut name = path.to_vec();
        name.push(0);
        self.set_name(name, Some(location))
    }
}

/// The socket that an address names.
///
/// # Errors
/// As `connect(2)`: EACCES, ENOENT, ECONNREFUSED, EPROTOTYPE.
pub fn find(task: &Arc<Task>, address: &[u8], kind: Kind) -> Result<Arc<UnixSocket>, Errno> {
    let socket = match Address::parse(address)? {
        Address::Auto => return Err(Errno::EINVAL),
        Address::Abstract(path) => {
            let names = lock(&task.kernel.net.abstract_names);
            names.get(path).and_then(Weak::upgrade).ok_or(Errno::ECONNREFUSED)?
        }
        Address::Path(path) => find_path(task, path)?,
    };
    if lock(&socket.state).is_dead {
        return Err(Errno::ECONNREFUSED);
    }
    if socket.kind != kind {
        return Err(Errno::EPROTOTYPE);
    }
    Ok(socket)
}

fn find_path(task: &Arc<Task>, path: &[u8]) -> Result<Arc<UnixSocket>, Errno> {
    let caller = Caller::of(task);
    let found = caller.find(&task.fs().cwd(), path, Lookup::FOLLOW)?;
    caller.check(&found.location, &found.access, Want::WRITE)?;
    if found.access.kind() != mode::S_IFSOCK {
        return Err(Errno::ECONNREFUSED);
    }
    let slot = found.location.inode().bound_socket().ok_or(Errno::ECONNREFUSED)?;
    let socket = lock(&slot.0).as_ref().and_then(Weak::upgrade).ok_or(Errno::ECONNREFUSED)?;
    socket.downcast::<UnixSocket>().map_err(|_| Errno::ECONNREFUSED)
}
