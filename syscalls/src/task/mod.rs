//! Handlers of the `task` family of system calls.
