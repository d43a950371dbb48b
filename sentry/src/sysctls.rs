//! Which sysctls have been set, and which of them does the kernel look at?
//!
//! Key type: [`Sysctls`]. They are the sandbox's: its network and its System V objects are shared by its containers. What a
//! sysctl is worth that nobody has set stands in `fs::proc::sysctl`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// LINUX: `PROT_SOCK`.
const UNPRIVILEGED_PORT_START: u16 = 1024;

/// Values by path below `/proc/sys`.
#[derive(Debug, Default)]
pub struct Sysctls {
    /// LOCK: leaf. Names are those of the configuration and of `fs::proc::sysctl`, so there are not many.
    values: Mutex<BTreeMap<String, String>>,
}

impl Sysctls {
    fn values(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets one, by its name with dots or slashes.
    pub fn set(&self, name: &str, value: &str) {
        // LINUX: proc_dointvec tells the numbers of a list with tabs between.
        let value: Vec<&str> = value.split_whitespace().collect();
        self.values().insert(name.replace('.', "/"), value.join("\t"));
    }

    /// What it was set to.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<String> {
        self.values().get(path).cloned()
    }

    /// All that have been set.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.values().keys().cloned().collect()
    }

    /// Ports below need `CAP_NET_BIND_SERVICE`. LINUX: ip-sysctl, `ip_unprivileged_port_start`.
    #[must_use]
    pub fn unprivileged_port_start(&self) -> u32 {
        let set = self.get("net/ipv4/ip_unprivileged_port_start");
        set.and_then(|text| text.parse().ok()).unwrap_or_else(|| UNPRIVILEGED_PORT_START.into())
    }

    /// Whether a group may make ping sockets. LINUX: icmp(7), `ping_group_range`; by default nobody's group on Linux, and
    /// every group here, as container engines set it.
    #[must_use]
    pub fn may_ping(&self, groups: impl IntoIterator<Item = u32>) -> bool {
        let Some(text) = self.get("net/ipv4/ping_group_range") else { return true };
        let mut range = text.split_whitespace().map(str::parse::<u32>);
        match (range.next(), range.next()) {
            (Some(Ok(low)), Some(Ok(high))) => groups.into_iter().any(|group| (low..=high).contains(&group)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_told_and_obeyed() {
        let sysctls = Sysctls::default();
        assert_eq!(sysctls.unprivileged_port_start(), 1024);
        assert!(sysctls.may_ping([5]));
        sysctls.set("net.ipv4.ip_unprivileged_port_start", "0");
        sysctls.set("net/ipv4/ping_group_range", "6 9");
        assert_eq!(sysctls.get("net/ipv4/ping_group_range").as_deref(), Some("6\t9"));
        assert_eq!(sysctls.unprivileged_port_start(), 0);
        assert!(!sysctls.may_ping([5, 10]) && sysctls.may_ping([5, 6]));
        sysctls.set("net.ipv4.ping_group_range", "1 0");
        assert!(!sysctls.may_ping([0, 1]));
        assert_eq!(sysctls.get("kernel/shmmax"), None);
    }
}
