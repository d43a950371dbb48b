//! Stubs: the host processes that are guest address spaces, whatever platform runs them.
//!
//! Rooms: [`layout`] (addresses and offsets), [`blob`] and `stub.S` (the code), [`filter`] (what it may ask of the host),
//! [`arena`] (shared memory), [`agent`] (orders to clone and fork), [`process`] (life and death), [`orphans`] (children that nobody knows), [`template`] (the first stub).

pub mod agent;
pub mod arena;
pub mod blob;
pub mod filter;
pub mod layout;
pub mod orphans;
pub mod process;
pub mod template;
