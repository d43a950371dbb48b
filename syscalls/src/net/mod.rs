//! Handlers of the `net` family of system calls.
