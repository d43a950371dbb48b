//! `/sys/devices/system/{cpu,node}`: which processors, caches and memory nodes do guests see?
//!
//! Processors are the kernel's own count, each a core of its own in one package on one node; caches are what `cpuid` tells
//! guests, too. Key type: [`Cache`]. LINUX: Documentation/ABI/stable/sysfs-devices-{system-cpu,node}.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use platform::host::machine::cpuid;

use super::super::proc::{cpu_list, figures};
use super::super::pseudo::Tree;
use crate::Errno;
use crate::kernel::Kernel;
use crate::task::Task;

const CPU: &str = "devices/system/cpu";
const NODE: &str = "devices/system/node";
/// Leaves of `cpuid` that list caches: Intel's, AMD's.
const CACHE_LEAVES: [u32; 2] = [4, 0x8000_001d];
/// More than any processor has.
const CACHES_MAX: u32 = 8;
/// From this level on a cache is every core's.
const SHARED_LEVEL: u32 = 3;

/// One cache, as `cpuid` describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) struct Cache {
    kind: &'static str,
    level: u32,
    line: u32,
    partitions: u32,
    ways: u32,
    sets: u32,
}

impl Cache {
    /// From the registers of one subleaf; `None` ends the list.
    fn from_registers([eax, ebx, ecx, _]: [u32; 4]) -> Option<Self> {
        let kind = match eax & 0x1f {
            1 => "Data",
            2 => "Instruction",
            3 => "Unified",
            _ => return None,
        };
        Some(Self {
            kind,
            level: eax >> 5 & 7,
            line: (ebx & 0xfff) + 1,
            partitions: (ebx >> 12 & 0x3ff) + 1,
            ways: (ebx >> 22) + 1,
            sets: ecx.saturating_add(1),
        })
    }

    /// All that there are, nearest first.
    pub(in crate::fs) fn all() -> Vec<Self> {
        let list = |&leaf: &u32| {
            let is_known = cpuid(leaf & 0x8000_0000, 0)[0] >= leaf;
            let subleaves = 0..if is_known { CACHES_MAX } else { 0 };
            let caches = subleaves.map_while(|subleaf| Self::from_registers(cpuid(leaf, subleaf)));
            Some(caches.collect::<Vec<_>>()).filter(|caches| !caches.is_empty())
        };
        CACHE_LEAVES.iter().find_map(list).unwrap_or_default()
    }

    /// Bytes, in units of 1024.
    pub(in crate::fs) fn size_kib(&self) -> u64 {
        [self.line, self.partitions, self.ways, self.sets].map(u64::from).iter().product::<u64>() >> 10
    }
}

/// A set of processors as the kernel writes one. LINUX: `bitmap_print_to_pagebuf`, words of 32 from the highest down.
fn cpu_map(set: &Range<usize>, cpus: usize) -> String {
    let mut text = String::new();
    for word in (0..cpus.div_ceil(32)).rev() {
        let bit = |at: usize| u32::from(set.contains(&(word * 32 + at))) << at;
        let bits = (0..32).fold(0, |bits, at| bits | bit(at));
        let digits = (cpus - word * 32).min(32).div_ceil(4);
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{bits:0digits$x}");
    }
    text
}

/// One processor, or all of them.
struct Set {
    list: String,
    map: String,
}

impl Set {
    fn one(cpu: usize, cpus: usize) -> Self {
        Self { list: cpu.to_string(), map: cpu_map(&(cpu..cpu + 1), cpus) }
    }

    fn all(cpus: usize) -> Self {
        Self { list: cpu_list(cpus), map: cpu_map(&(0..cpus), cpus) }
    }
}

/// Puts both directories into the tree.
pub(super) fn fill(tree: &mut Tree, kernel: &Kernel) {
    let cpus = kernel.machine.cpus;
    let all = Set::all(cpus);
    for (name, value) in [
        ("online", &*all.list),
        ("possible", &all.list),
        ("present", &all.list),
        ("offline", ""),
        ("isolated", ""),
        ("kernel_max", "8191"),
        ("smt/active", "0"),
        ("smt/control", "notsupported"),
    ] {
        tree.text(&format!("{CPU}/{name}"), format!("{value}\n"));
    }
    let caches = Cache::all();
    for cpu in 0..cpus {
        let one = Set::one(cpu, cpus);
        topology(tree, cpu, &one, &all);
        for (index, cache) in caches.iter().enumerate() {
            let is_shared = cache.level >= SHARED_LEVEL;
            let (id, sharers) = if is_shared { (0, &all) } else { (cpu, &one) };
            put_cache(tree, &format!("{CPU}/cpu{cpu}/cache/index{index}"), cache, id, sharers);
        }
        if cpu > 0 {
            tree.text(&format!("{CPU}/cpu{cpu}/online"), "1\n");
        }
        tree.link(&format!("{CPU}/cpu{cpu}/node0"), "../../node/node0");
        tree.link(&format!("{NODE}/node0/cpu{cpu}"), format!("../../cpu/cpu{cpu}"));
    }
    node(tree, &all);
}

fn topology(tree: &mut Tree, cpu: usize, one: &Set, all: &Set) {
    let id = cpu.to_string();
    for (name, value) in [
        ("core_id", &*id),
        ("die_id", "0"),
        ("physical_package_id", "0"),
        ("core_cpus", &one.map),
        ("core_cpus_list", &one.list),
        ("thread_siblings", &one.map),
        ("thread_siblings_list", &one.list),
        ("core_siblings", &all.map),
        ("core_siblings_list", &all.list),
        ("die_cpus", &all.map),
        ("die_cpus_list", &all.list),
        ("package_cpus", &all.map),
        ("package_cpus_list", &all.list),
    ] {
        tree.text(&format!("{CPU}/cpu{cpu}/topology/{name}"), format!("{value}\n"));
    }
}

fn put_cache(tree: &mut Tree, path: &str, cache: &Cache, id: usize, sharers: &Set) {
    for (name, value) in [
        ("coherency_line_size", cache.line.to_string()),
        ("id", id.to_string()),
        ("level", cache.level.to_string()),
        ("number_of_sets", cache.sets.to_string()),
        ("physical_line_partition", cache.partitions.to_string()),
        ("shared_cpu_list", sharers.list.clone()),
        ("shared_cpu_map", sharers.map.clone()),
        ("size", format!("{}K", cache.size_kib())),
        ("type", cache.kind.to_owned()),
        ("ways_of_associativity", cache.ways.to_string()),
    ] {
        tree.text(&format!("{path}/{name}"), format!("{value}\n"));
    }
}

fn node(tree: &mut Tree, all: &Set) {
    for name in ["online", "possible", "has_cpu", "has_memory", "has_normal_memory"] {
        tree.text(&format!("{NODE}/{name}"), "0\n");
    }
    tree.text(&format!("{NODE}/node0/cpulist"), format!("{}\n", all.list));
    tree.text(&format!("{NODE}/node0/cpumap"), format!("{}\n", all.map));
    tree.text(&format!("{NODE}/node0/distance"), "10\n");
    tree.file(&format!("{NODE}/node0/meminfo"), node_memory);
}

fn node_memory(task: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let memory = figures::memory(&task.kernel);
    let (total, free) = (memory.total >> 10, memory.free >> 10);
    let mut text = String::new();
    for (name, kib) in [("MemTotal", total), ("MemFree", free), ("MemUsed", total.saturating_sub(free))] {
        let _ = writeln!(text, "Node 0 {:<15}{kib:>8} kB", format!("{name}:"));
    }
    // LINUX: node_read_meminfo; programs look for these lines whether there are such pages or not.
    text.push_str(
        "Node 0 HugePages_Total:     0\nNode 0 HugePages_Free:      0\nNode 0 HugePages_Surp:      0\n",
    );
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_linux_writes_them() {
        assert_eq!(cpu_map(&(0..2), 2), "3");
        assert_eq!(cpu_map(&(1..2), 8), "02");
        assert_eq!(cpu_map(&(0..33), 33), "1,ffffffff");
        assert_eq!(cpu_map(&(3..4), 40), "00,00000008");
    }

    #[test]
    fn a_cache_is_read_from_its_registers() {
        // A first-level data cache of 48 KiB: 64 sets of 12 lines of 64 bytes.
        let cache = Cache::from_registers([0x121, 11 << 22 | 63, 63, 0]).unwrap();
        assert_eq!((cache.kind, cache.level, cache.line, cache.ways, cache.sets), ("Data", 1, 64, 12, 64));
        assert_eq!(cache.size_kib(), 48);
        assert_eq!(Cache::from_registers([0; 4]), None);
    }
}
