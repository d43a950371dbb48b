//! Handlers of the `mm` family of system calls.
