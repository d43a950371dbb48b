//! What the shim and the sentry say to each other, and how it travels.
//!
//! Key types: [`Request`], [`Reply`], [`Event`] (in [`message`]) and [`Channel`] (in [`channel`]).
//! This crate holds messages and framing only; it neither runs containers nor knows containerd.

#![forbid(unsafe_code)]

pub mod channel;
pub mod gofer;
pub mod message;

pub use channel::{Channel, ChannelError};
pub use gofer::{GoferConfig, GoferMount, GoferOverlay, GoferReply, IdsMapped};
pub use message::*;
