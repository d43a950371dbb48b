//! Which socket is a server's, and does anybody listen on it?
//!
//! Its name stands for one containerd, namespace and group of containers. Nothing here waits: a server that does not
//! accept must not stop whoever asks.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sha2::{Digest, Sha256};

/// LINUX: unix(7): 108 bytes with the final zero.
const PATH_MAX: usize = 106;

/// One address for each containerd, namespace and group.
pub(crate) fn path(directory: &Path, address: &str, namespace: &str, group: &str) -> anyhow::Result<PathBuf> {
    let digest = Sha256::digest(format!("{address}/{namespace}/{group}"));
    let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = directory.join(name);
    if path.as_os_str().len() > PATH_MAX {
        bail!("socket directory {} is too long", directory.display());
    }
    Ok(path)
}

/// A socket without a name yet.
pub(crate) fn new() -> anyhow::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).context("socket")
}

/// True if somebody listens there, whether he accepts or not.
pub(crate) fn is_served(path: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(socket) = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else {
        return true;
    };
    let Ok(address) = SocketAddrUnix::new(path) else { return false };
    // LINUX: unix(7): EAGAIN is a full queue.
    matches!(rustix::net::connect(&socket, &address), Ok(()) | Err(Errno::AGAIN))
}

/// Gives the socket its name, taking over one that nobody serves: left by a server that was killed.
pub(crate) fn bind(socket: &OwnedFd, path: &Path) -> anyhow::Result<()> {
    /// Connections that wait to be accepted.
    const BACKLOG: i32 = 128;
    let name = || format!("socket {}", path.display());
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).context("socket directory")?;
    }
    let address = SocketAddrUnix::new(path).with_context(name)?;
    match rustix::net::bind(socket, &address) {
        Err(Errno::ADDRINUSE) if !is_served(path) => {
            fs::remove_file(path).context("remove an old socket")?;
            rustix::net::bind(socket, &address).with_context(name)?;
        }
        other => other.with_context(name)?,
    }
    rustix::net::listen(socket, BACKLOG).with_context(name)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).context("socket permissions")
}

/// Removes the name, if nobody listens there; false if somebody does.
pub(crate) fn remove_if_dead(path: &Path) -> bool {
    if is_served(path) {
        return false;
    }
    let _ = fs::remove_file(path);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_named_for_containerd_namespace_and_group() {
        let path =
            |address, group| path(Path::new("/run/containerd/s"), address, "ns", group).expect("short");
        assert_eq!(path("/a", "g"), path("/a", "g"));
        assert_ne!(path("/a", "g"), path("/b", "g"));
        assert_ne!(path("/a", "g"), path("/a", "h"));
        assert_eq!(path("/a", "g").file_name().expect("a name").len(), 64);
        assert!(super::path(Path::new(&"/long".repeat(20)), "/a", "ns", "g").is_err());
    }

    #[test]
    fn a_socket_left_behind_is_taken_over_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let first = new().expect("a socket");
        bind(&first, &path).expect("binds");
        assert!(is_served(&path));
        assert!(bind(&new().expect("a socket"), &path).is_err());
        remove_if_dead(&path);
        assert!(path.exists());
        drop(first);
        assert!(!is_served(&path));
        let second = new().expect("a socket");
        bind(&second, &path).expect("takes it over");
        drop(second);
        remove_if_dead(&path);
        assert!(!path.exists());
    }

    #[test]
    fn a_server_that_never_accepts_is_seen_without_waiting() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let socket = new().expect("a socket");
        bind(&socket, &path).expect("binds");
        // More than the queue holds.
        assert!((0..200).all(|_| is_served(&path)));
    }
}
