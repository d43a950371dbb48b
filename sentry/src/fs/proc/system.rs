//! `/proc/*`: the machine as text, beside processes and `/proc/sys`.

use std::fmt::Write;
use std::sync::Arc;

use linux_abi::time::USER_HZ;
use platform::host::clock::{Clock, now_ns};
use platform::host::machine::cpuid;

use super::super::pseudo::{Attributes, Kind, Text, Tree};
use super::super::sys::processors::Cache;
use super::figures;
use crate::kernel::Kernel;
use crate::machine::{RELEASE, VERSION};
use crate::task::Task;

const NS_PER_TICK: u64 = 1_000_000_000 / USER_HZ;

/// Adds a file whose text hangs on the kernel only.
fn kernel_file(tree: &mut Tree, path: &str, make: fn(&Arc<Kernel>) -> String) {
    tree.file(path, move |task: &Arc<Task>| Ok(make(&task.kernel).into_bytes()));
}

pub(super) fn fill(tree: &mut Tree) {
    kernel_file(tree, "meminfo", meminfo);
    kernel_file(tree, "cpuinfo", cpuinfo);
    kernel_file(tree, "stat", stat);
    kernel_file(tree, "uptime", uptime);
    kernel_file(tree, "loadavg", loadavg);
    kernel_file(tree, "filesystems", filesystems);
    kernel_file(tree, "vmstat", vmstat);
    kernel_file(tree, "interrupts", |kernel| {
        let heads: String = (0..kernel.machine.cpus).map(|cpu| format!("       CPU{cpu}")).collect();
        format!("    {heads}\n")
    });
    tree.text("version", format!("Linux version {RELEASE} (rvisor@sandbox) (rustc) {VERSION}\n"));
    tree.text("cmdline", "quiet\n");
    tree.text("devices", DEVICES);
    tree.text("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    tree.text("partitions", "major minor  #blocks  name\n\n");
    for empty in ["diskstats", "kallsyms", "modules", "locks", "fb", "misc", "dma", "iomem", "ioports"] {
        tree.text(empty, "");
    }
    tree.text("cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\n");
    tree.text("consoles", "");
    tree.text("execdomains", "0-0\tLinux           \t[kernel]\n");
    tree.text("sysvipc/shm", "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n");
    tree.text(
        "sysvipc/sem",
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n",
    );
    tree.text("sysvipc/msg", "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n");
    tree.text("tty/drivers", "/dev/tty             /dev/tty        5       0 system:/dev/tty\n");
    tree.dir("fs");
    tree.dir("bus");
    tree.dir("irq");
    tree.link("mounts", "self/mounts");
    tree.link("net", "self/net");
    let kmsg = Text::new(Attributes::new(0, 0o400), |task: &Arc<Task>| {
        Ok(task.kernel.machine.log.read_all(crate::kernel_log::LOG_SIZE * 2, false).into_bytes())
    });
    tree.put("kmsg", Kind::File, kmsg);
}

const DEVICES: &str =
    "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n";

fn meminfo(kernel: &Arc<Kernel>) -> String {
    let memory = figures::memory(kernel);
    let (total, free) = (memory.total >> 10, memory.free >> 10);
    let used = total - free.min(total);
    let mut text = String::new();
    for (name, kib) in [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", used),
        ("Inactive", 0),
        ("Active(anon)", used),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", used),
        ("Mapped", 0),
        ("Shmem", 0),
        ("KReclaimable", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("CommitLimit", total),
        ("Committed_AS", used),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 0),
        ("AnonHugePages", 0),
        ("Hugepagesize", 2048),
    ] {
        let _ = writeln!(text, "{:<15} {kib:>8} kB", format!("{name}:"));
    }
    let (position, line) = ("Hugepagesize:", "HugePages_Total:       0\nHugePages_Free:        0\n");
    text.replace(position, &format!("{line}{position}"))
}

/// `0-3`, or `0` for a single one.
pub(in crate::fs) fn cpu_list(cpus: usize) -> String {
    if cpus <= 1 { "0".to_owned() } else { format!("0-{}", cpus - 1) }
}

/// Names of feature bits: leaf, subleaf, register (eax is 0), and from bit 0 on; `-` is a bit without a name here.
const FEATURES: [(u32, u32, usize, &str); 6] = [
    (
        1,
        0,
        3,
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm - pbe",
    ),
    (
        0x8000_0001,
        0,
        3,
        "- - - - - - - - - - - syscall - - - - - - - - nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow",
    ),
    (
        1,
        0,
        2,
        "pni pclmulqdq - - - - - - - ssse3 - - fma cx16 - - - pcid - sse4_1 sse4_2 x2apic movbe popcnt - aes xsave - avx f16c rdrand hypervisor",
    ),
    (0x8000_0001, 0, 2, "lahf_lm - - - - abm sse4a misalignsse 3dnowprefetch - - - - - - - fma4 - - - - tbm"),
    (
        7,
        0,
        1,
        "fsgsbase - - bmi1 hle avx2 - - bmi2 erms invpcid rtm - - - - avx512f avx512dq rdseed adx - avx512ifma - clflushopt clwb - avx512pf avx512er avx512cd sha_ni avx512bw avx512vl",
    ),
    (
        7,
        0,
        2,
        "- avx512vbmi umip pku ospke - avx512_vbmi2 - gfni vaes vpclmulqdq avx512_vnni avx512_bitalg - avx512_vpopcntdq - - - - - - - rdpid",
    ),
];

fn features() -> String {
    let mut names = Vec::new();
    for (leaf, subleaf, register, bits) in FEATURES {
        let word = cpuid(leaf, subleaf)[register];
        let named = bits.split(' ').enumerate();
        names.extend(named.filter(|(bit, name)| word >> bit & 1 == 1 && *name != "-").map(|(_, name)| name));
    }
    names.join(" ")
}

fn registers_text(registers: impl IntoIterator<Item = u32>) -> String {
    let bytes: Vec<u8> = registers.into_iter().flat_map(u32::to_le_bytes).filter(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

fn cpuinfo(kernel: &Arc<Kernel>) -> String {
    let [max_leaf, ebx, ecx, edx] = cpuid(0, 0);
    let vendor = registers_text([ebx, edx, ecx]);
    let model_name = registers_text((0x8000_0002..=0x8000_0004).flat_map(|leaf| cpuid(leaf, 0)));
    let signature = cpuid(1, 0)[0];
    let (base_family, base_model) = (signature >> 8 & 0xf, signature >> 4 & 0xf);
    let family = if base_family == 0xf { base_family + (signature >> 20 & 0xff) } else { base_family };
    let model = base_model | (signature >> 16 & 0xf) << 4;
    let features = features();
    // LINUX: `x86_cache_size`, the last level's.
    let cache_size = Cache::all().last().map_or(0, Cache::size_kib);
    let cpus = kernel.machine.cpus;
    let mut text = String::new();
    for cpu in 0..cpus {
        let _ = write!(
            text,
            "processor\t: {cpu}\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n\
             model name\t: {model_name}\nstepping\t: {}\nmicrocode\t: 0xffffffff\ncpu MHz\t\t: 2000.000\n\
             cache size\t: {cache_size} KB\nphysical id\t: 0\nsiblings\t: {cpus}\ncore id\t\t: {cpu}\ncpu cores\t: {cpus}\n\
             apicid\t\t: {cpu}\ninitial apicid\t: {cpu}\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {max_leaf}\n\
             wp\t\t: yes\nflags\t\t: {features}\nbugs\t\t:\nbogomips\t: 4000.00\nclflush size\t: 64\n\
             cache_alignment\t: 64\naddress sizes\t: 46 bits physical, 48 bits virtual\npower management:\n\n",
            signature & 0xf,
        );
    }
    text
}

/// User, system and idle time of all processors, in ticks.
fn cpu_ticks(kernel: &Arc<Kernel>) -> (u64, u64, u64) {
    let (user, system) = figures::cpu_ns(kernel);
    let total = figures::uptime_ns().saturating_mul(kernel.machine.cpus as u64);
    let idle = total.saturating_sub(user.saturating_add(system));
    (user / NS_PER_TICK, system / NS_PER_TICK, idle / NS_PER_TICK)
}

fn stat(kernel: &Arc<Kernel>) -> String {
    let (user, system, idle) = cpu_ticks(kernel);
    let cpus = kernel.machine.cpus as u64;
    let mut text = format!("cpu  {user} 0 {system} {idle} 0 0 0 0 0 0\n");
    for cpu in 0..cpus {
        let share = |ticks: u64| ticks / cpus.max(1);
        let _ = writeln!(text, "cpu{cpu} {} 0 {} {} 0 0 0 0 0 0", share(user), share(system), share(idle));
    }
    let boot = now_ns(Clock::Realtime).saturating_sub(figures::uptime_ns()) / 1_000_000_000;
    let tasks = kernel.tasks.born();
    let switches: u64 = kernel.tasks.all().iter().map(|process| process.voluntary_switches()).sum();
    let _ = write!(
        text,
        "intr 0\nctxt {switches}\nbtime {boot}\nprocesses {tasks}\nprocs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n"
    );
    text
}

fn uptime(kernel: &Arc<Kernel>) -> String {
    let up = figures::uptime_ns() / 10_000_000;
    let (.., idle) = cpu_ticks(kernel);
    format!("{}.{:02} {}.{:02}\n", up / 100, up % 100, idle / USER_HZ, idle % USER_HZ)
}

fn loadavg(kernel: &Arc<Kernel>) -> String {
    let last = kernel.tasks.all().iter().map(|process| process.pid).max().unwrap_or(0);
    let [one, five, fifteen] = kernel.load.averages(figures::cpu_ns(kernel));
    format!("{one:.2} {five:.2} {fifteen:.2} 1/{} {last}\n", figures::task_count(kernel))
}

fn filesystems(kernel: &Arc<Kernel>) -> String {
    kernel.vfs.type_names().iter().map(|name| format!("nodev\t{name}\n")).collect()
}

fn vmstat(kernel: &Arc<Kernel>) -> String {
    let free = figures::memory(kernel).free / 4096;
    let mut text = format!("nr_free_pages {free}\n");
    for name in ["pgpgin", "pgpgout", "pswpin", "pswpout", "pgfault", "pgmajfault", "oom_kill"] {
        let _ = writeln!(text, "{name} 0");
    }
    text
}
