//! What may a process use at most (`getrlimit(2)`)?
//!
//! Key types: [`Limits`], [`Resource`].

use linux_abi::task::Rlimit64;

use crate::Errno;

/// A limited resource, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
#[expect(missing_docs, reason = "named as in getrlimit(2)")]
pub enum Resource {
    Cpu = 0,
    Fsize = 1,
    Data = 2,
    Stack = 3,
    Core = 4,
    Rss = 5,
    Nproc = 6,
    Nofile = 7,
    Memlock = 8,
    As = 9,
    Locks = 10,
    Sigpending = 11,
    Msgqueue = 12,
    Nice = 13,
    Rtprio = 14,
    Rttime = 15,
}

/// No limit.
pub const INFINITY: u64 = u64::MAX;
/// Largest `RLIMIT_NOFILE` that even root may set. LINUX: `fs.nr_open`.
pub const NOFILE_MAX: u64 = 1 << 20;

const NAMES: [(&str, Resource); 16] = [
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_STACK", Resource::Stack),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
];

impl Resource {
    /// From the guest's number.
    ///
    /// # Errors
    /// EINVAL.
    pub fn from_number(number: u32) -> Result<Self, Errno> {
        let index = usize::try_from(number).map_err(|_| Errno::EINVAL)?;
        NAMES.get(index).map(|(_, resource)| *resource).ok_or(Errno::EINVAL)
    }

    /// From its name in an OCI configuration.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource)
    }
}

/// All limits of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits([Rlimit64; 16]);

impl Default for Limits {
    /// LINUX: `INIT_RLIMITS`, with the number of descriptors that container engines give.
    fn default() -> Self {
        const fn both(soft: u64, hard: u64) -> Rlimit64 {
            Rlimit64 { soft, hard }
        }
        let mut limits = [both(INFINITY, INFINITY); 16];
        limits[Resource::Stack as usize] = both(8 << 20, INFINITY);
        limits[Resource::Core as usize] = both(0, INFINITY);
        limits[Resource::Nproc as usize] = both(INFINITY, INFINITY);
        limits[Resource::Nofile as usize] = both(1024, NOFILE_MAX);
        limits[Resource::Memlock as usize] = both(8 << 20, 8 << 20);
        limits[Resource::Sigpending as usize] = both(31_000, 31_000);
        limits[Resource::Msgqueue as usize] = both(819_200, 819_200);
        limits[Resource::Nice as usize] = both(0, 0);
        limits[Resource::Rtprio as usize] = both(0, 0);
        Self(limits)
    }
}

impl Limits {
    /// The limit.
    #[must_use]
    pub const fn get(&self, resource: Resource) -> Rlimit64 {
        self.0[resource as usize]
    }

    /// Replaces it without any check (container configuration).
    pub fn set(&mut self, resource: Resource, limit: Rlimit64) {
        self.0[resource as usize] = limit;
    }

    /// The next SIGXCPU comes a second later. LINUX: `check_process_timers`.
    pub fn raise_cpu(&mut self) {
        let Rlimit64 { soft, hard } = self.get(Resource::Cpu);
        self.set(Resource::Cpu, Rlimit64 { soft: soft.saturating_add(1), hard });
    }

    /// As `prlimit(2)`; `privileged`: has `CAP_SYS_RESOURCE`.
    ///
    /// # Errors
    /// EINVAL if the soft limit is above the hard one; EPERM.
    pub fn change(&mut self, resource: Resource, limit: Rlimit64, privileged: bool) -> Result<(), Errno> {
        if limit.soft > limit.hard {
            return Err(Errno::EINVAL);
        }
        if resource == Resource::Nofile && limit.hard > NOFILE_MAX {
            return Err(Errno::EPERM);
        }
        if limit.hard > self.get(resource).hard && !privileged {
            return Err(Errno::EPERM);
        }
        self.set(resource, limit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_the_hard_limit_needs_privilege() {
        let mut limits = Limits::default();
        let more = Rlimit64 { soft: 1, hard: 9 << 20 };
        assert_eq!(limits.change(Resource::Memlock, more, false), Err(Errno::EPERM));
        assert_eq!(limits.change(Resource::Memlock, more, true), Ok(()));
        assert_eq!(limits.get(Resource::Memlock), more);
    }

    #[test]
    fn soft_above_hard_is_invalid() {
        let mut limits = Limits::default();
        let wrong = Rlimit64 { soft: 2, hard: 1 };
        assert_eq!(limits.change(Resource::Core, wrong, true), Err(Errno::EINVAL));
    }

    #[test]
    fn resources_have_linux_numbers() {
        assert_eq!(Resource::from_number(7), Ok(Resource::Nofile));
        assert_eq!(Resource::from_name("RLIMIT_RTTIME"), Some(Resource::Rttime));
        assert_eq!(Resource::from_number(16), Err(Errno::EINVAL));
        for (index, (_, resource)) in NAMES.iter().enumerate() {
            assert_eq!(*resource as usize, index);
        }
    }
}
