//! Handlers of the `fs` family of system calls.
