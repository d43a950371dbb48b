//! `sysinfo(2)`, `syslog(2)`, `reboot(2)`, `getrandom(2)`: structures and constants.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct sysinfo`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in sysinfo(2)")]
pub struct SysInfo {
    pub uptime: i64,
    /// Scaled by 65536.
    pub loads: [u64; 3],
    pub totalram: u64,
    pub freeram: u64,
    pub sharedram: u64,
    pub bufferram: u64,
    pub totalswap: u64,
    pub freeswap: u64,
    pub procs: u16,
    pub padding: [u16; 3],
    pub totalhigh: u64,
    pub freehigh: u64,
    pub mem_unit: u32,
    pub tail: u32,
}

/// Bytes in a field of `struct new_utsname`.
pub const UTS_FIELD: usize = 65;
/// `GRND_NONBLOCK`.
pub const GRND_NONBLOCK: u32 = 1;
/// `GRND_RANDOM`.
pub const GRND_RANDOM: u32 = 2;
/// `GRND_INSECURE`.
pub const GRND_INSECURE: u32 = 4;
/// `LINUX_REBOOT_MAGIC1`.
pub const REBOOT_MAGIC1: u32 = 0xfee1_dead;
/// `LINUX_REBOOT_MAGIC2` and its three brothers.
pub const REBOOT_MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
