//! Handlers of the `sync` family of system calls.
