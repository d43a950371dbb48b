//! Handlers of the `signal` family of system calls.
