//! Sockets: `AF_UNIX` of our own, IP through sockets of the host in the sandbox's network namespace, netlink.
//!
//! Key type: [`Socket`], an endpoint behind a file.

/// A socket. Methods are added with the families that need them.
pub trait Socket: Send + Sync {}
