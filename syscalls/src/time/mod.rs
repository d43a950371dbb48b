//! Handlers of the `time` family of system calls.
