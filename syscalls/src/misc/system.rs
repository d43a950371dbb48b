//! `sysinfo`, `reboot`, `vhangup`.

use linux_abi::misc::{REBOOT_MAGIC1, REBOOT_MAGIC2, SysInfo};
use linux_abi::{Errno, UserPtr};
use sentry::fs::proc::figures;
use sentry::task::{Capability, Current};

/// `sysinfo(2)`: <https://man7.org/linux/man-pages/man2/sysinfo.2.html>
pub(crate) fn sysinfo(current: &mut Current, info: UserPtr<SysInfo>) -> Result<(), Errno> {
    let memory = figures::memory(current.kernel());
    let loads = current.kernel().load.averages(figures::cpu_ns(current.kernel()));
    let answer = SysInfo {
        // LINUX: SI_LOAD_SHIFT.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
        loads: loads.map(|load| (load * 65536.0) as u64),
        uptime: i64::try_from(figures::uptime_ns() / 1_000_000_000).unwrap_or(i64::MAX),
        totalram: memory.total,
        freeram: memory.free,
        procs: u16::try_from(figures::task_count(current.kernel())).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..SysInfo::default()
    };
    current.write_object(info, &answer)
}

/// `reboot(2)`: <https://man7.org/linux/man-pages/man2/reboot.2.html>
pub(crate) fn reboot(current: &mut Current, magic: u32, magic2: u32) -> Result<(), Errno> {
    if !current.credentials().has(Capability::SysBoot) {
        return Err(Errno::EPERM);
    }
    if magic != REBOOT_MAGIC1 || !REBOOT_MAGIC2.contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    // A container's machine is its host's, which it may not restart, whatever capability it holds.
    Err(Errno::EPERM)
}
