//! Handlers of the `ipc` family of system calls.
