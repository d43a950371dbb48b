//! What do guests believe about their machine? Release, processors, memory, host names, boot id, kernel log.
//!
//! Key types: [`Machine`] (one per sandbox), [`Uts`] (host names of one container).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use control::BootConfig;
use platform::host::clock::{Clock, now_ns};
use platform::host::{file, machine};

use crate::kernel_log::KernelLog;
use crate::sysctls::Sysctls;

/// The release that `uname(2)` tells; programs look for features by it.
pub const RELEASE: &str = "6.6.0-rvisor";
/// The version that `uname(2)` tells.
pub const VERSION: &str = "#1 SMP rvisor";

/// LINUX: `PROC_UTS_INIT_INO`; further namespaces count down from below the kernel's own numbers.
const UTS_INIT_INO: u32 = 0xefff_fffe;
/// Numbers that namespaces made by guests can have before they are used again.
const UTS_IDS: u32 = 0x1000_0000;

/// How old the figure of used memory may be.
const USED_AGE_NS: u64 = 200_000_000;

/// The machine as guests see it.
#[derive(Debug)]
pub struct Machine {
    /// Number of processors.
    pub cpus: usize,
    memory_limit: u64,
    /// Total and free memory of the host at boot, in bytes.
    host_memory: (u64, u64),
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The kernel log.
    pub log: KernelLog,
    /// What has been set of `/proc/sys`.
    pub sysctls: Sysctls,
    default_hostname: String,
    /// What all guests held, and when that was asked. LOCK: leaf.
    used: Mutex<Option<(u64, u64)>>,
    /// Host names by container. LOCK: leaf.
    uts: Mutex<HashMap<String, Arc<Uts>>>,
    uts_made: AtomicU32,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What there is.
    pub total: u64,
    /// What is left.
    pub free: u64,
}

/// Host name and domain name: a UTS namespace. Each container begins with one.
#[derive(Debug)]
pub struct Uts {
    /// As `/proc/PID/ns/uts` shows it.
    pub id: u32,
    /// LOCK: leaf.
    names: Mutex<(Vec<u8>, Vec<u8>)>,
}

impl Machine {
    /// As the sandbox was told at boot.
    #[must_use]
    pub fn new(config: &BootConfig) -> Self {
        let cpus = if config.cpus == 0 { machine::processors() } else { config.cpus as usize };
        let memory_limit = if config.memory_bytes == 0 { u64::MAX } else { config.memory_bytes };
        let host_memory = machine::memory();
        let log = KernelLog::new(RELEASE, cpus, memory_limit.min(host_memory.0));
        let default_hostname =
            if config.hostname.is_empty() { "rvisor".to_owned() } else { config.hostname.clone() };
        Self {
            cpus,
            memory_limit,
            host_memory,
            boot_id: random_uuid(),
            log,
            sysctls: Sysctls::default(),
            default_hostname,
            used: Mutex::default(),
            uts: Mutex::default(),
            uts_made: AtomicU32::new(0),
        }
    }

    /// Memory now. `used` counts what all guests hold, in bytes, which takes time: it is asked only where a limit was set, and
    /// not again within [`USED_AGE_NS`]. The host was asked at boot: the filter forbids to ask again.
    #[must_use]
    pub fn memory(&self, used: impl FnOnce() -> u64) -> Memory {
        let (total, free) = self.host_memory;
        if self.memory_limit >= total {
            return Memory { total, free };
        }
        let now = now_ns(Clock::Monotonic);
        let last = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = match last {
            Some((then, used)) if now.saturating_sub(then) < USED_AGE_NS => used,
            _ => {
                let used = used();
                *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, used));
                used
            }
        };
        Memory { total: self.memory_limit, free: self.memory_limit.saturating_sub(used).min(free) }
    }

    /// The host names of a container.
    #[must_use]
    pub fn uts(&self, container: &str) -> Arc<Uts> {
        let mut all = self.uts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(uts) = all.get(container) {
            return Arc::clone(uts);
        }
        let names = Mutex::new((self.default_hostname.clone().into_bytes(), b"(none)".to_vec()));
        let uts = Arc::new(Uts { id: UTS_INIT_INO, names });
        all.insert(container.to_owned(), Arc::clone(&uts));
        uts
    }

    /// A namespace that begins with another's names (`CLONE_NEWUTS`).
    #[must_use]
    pub fn copy_uts(&self, from: &Uts) -> Arc<Uts> {
        let id = UTS_INIT_INO - 16 - self.uts_made.fetch_add(1, Ordering::Relaxed) % UTS_IDS;
        Arc::new(Uts { id, names: Mutex::new(from.names().clone()) })
    }

    /// A container is gone.
    pub fn forget_container(&self, container: &str) {
        self.uts.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }
}

impl Uts {
    fn names(&self) -> std::sync::MutexGuard<'_, (Vec<u8>, Vec<u8>)> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `nodename`.
    #[must_use]
    pub fn hostname(&self) -> Vec<u8> {
        self.names().0.clone()
    }

    /// `sethostname(2)`; the caller has checked the length.
    pub fn set_hostname(&self, name: &[u8]) {
        self.names().0 = name.to_vec();
    }

    /// `domainname`.
    #[must_use]
    pub fn domainname(&self) -> Vec<u8> {
        self.names().1.clone()
    }

    /// `setdomainname(2)`; the caller has checked the length.
    pub fn set_domainname(&self, name: &[u8]) {
        self.names().1 = name.to_vec();
    }
}

/// A random UUID, version 4, as `/proc/sys/kernel/random/uuid` gives one.
#[must_use]
pub fn random_uuid() -> String {
    let mut bytes = [0; 16];
    file::random(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_have_host_names_of_their_own() {
        let machine = Machine::new(&BootConfig { hostname: "pod".into(), ..BootConfig::default() });
        machine.uts("a").set_hostname(b"one");
        assert_eq!(machine.uts("a").hostname(), b"one");
        assert_eq!(machine.uts("b").hostname(), b"pod");
        // Another one of the same name begins anew.
        machine.forget_container("a");
        assert_eq!(machine.uts("a").hostname(), b"pod");
    }

    #[test]
    fn a_limit_bounds_the_memory_that_guests_see() {
        let config = BootConfig { memory_bytes: 1 << 20, ..BootConfig::default() };
        let memory = Machine::new(&config).memory(|| 4096);
        assert_eq!(memory, Memory { total: 1 << 20, free: (1 << 20) - 4096 });
    }

    #[test]
    fn uuids_are_version_four() {
        let uuid = random_uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"));
    }
}
