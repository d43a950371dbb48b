//! What has a cgroup used? One set of figures for both cgroup versions.
//!
//! Key type: [`Stats`]. The names follow version 1, since that is what most readers still expect; the shim turns
//! them into containerd's messages of either version.

use std::collections::HashMap;

/// Figures of one cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Processes killed by the host for want of memory.
    pub oom_kills: u64,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All of it.
    pub total_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In the host's kernel.
    pub system_ns: u64,
    /// How the quota was enforced.
    pub throttling: Throttling,
}

/// How a quota was enforced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods so far.
    pub periods: u64,
    /// Periods in which the group was stopped.
    pub throttled_periods: u64,
    /// For how long in all, in nanoseconds.
    pub throttled_ns: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub usage: u64,
    /// Most so far.
    pub max_usage: u64,
    /// The limit; the highest number if there is none.
    pub limit: u64,
    /// How often the limit was hit.
    pub failures: u64,
    /// Swap (version 2) or memory and swap (version 1) in use.
    pub swap_usage: u64,
    /// Its limit.
    pub swap_limit: u64,
    /// `memory.stat` as the host gives it.
    pub stat: HashMap<String, u64>,
    /// `memory.events` (version 2 only).
    pub events: HashMap<String, u64>,
}

/// Number of tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pids {
    /// Now.
    pub current: u64,
    /// Most allowed; 0 if there is no limit.
    pub limit: u64,
}
