//! How many connections this machine can hold, and which limit says so: worked out before anything starts, so that
//! nobody learns it from the out-of-memory killer.

use std::{fmt, path::Path};

use procfs::{
    Current as _, Meminfo,
    process::{LimitValue, Process},
    sys::kernel::Version as KernelVersion,
};

use crate::{cgroup, limits};

/// `CAP_SYS_ADMIN`: `fs.file-max` does not bind a process that has it, `proc_sys_fs(5)`.
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// `CAP_IPC_LOCK`: what a process that has it locks is not charged, `capabilities(7)`.
const CAP_IPC_LOCK: u64 = 1 << 14;

/// The first Linux that charges the memory of rings as locked memory (liburing issue 1408); measured on 6.18.
const KERNEL_CHARGING_RINGS: (u8, u8) = (6, 14);

/// What the machine and the system allow this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `RLIMIT_NOFILE` in force: bounds a ring's table of direct descriptors, and the number of rings.
    pub files_max: u64,
    /// Open files the whole system has left (`fs.file-max` less those in use); `None` where they do not bind us.
    pub system_files_left: Option<u64>,
    /// Bytes that this process may lock (`RLIMIT_MEMLOCK`), where the kernel charges rings for it; `None` where they are free.
    pub lockable: Option<u64>,
    /// Memory that is free or page cache, or what the control group has left where that is less. Bytes.
    pub memory_left: u64,
    /// A control group, not the machine, sets `memory_left`.
    pub in_memory_group: bool,
}

impl Machine {
    /// Looks at `/proc` and the control groups. What cannot be read does not limit.
    pub fn read(files_max: u64) -> Self {
        let available = Meminfo::current().map_or(u64::MAX, |memory| unused(&memory));
        let in_group = group_memory_left();
        Self {
            files_max,
            system_files_left: system_files_left(),
            lockable: lockable(),
            memory_left: in_group.map_or(available, |left| left.min(available)),
            in_memory_group: in_group.is_some_and(|left| left < available),
        }
    }
}

/// One thing that bounds the number of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it is.
    pub name: &'static str,
    /// It allows this many connections.
    pub connections: u64,
    /// How that comes about.
    pub why: String,
    /// What lifts it, a command where there is one.
    pub mend: String,
}

/// All limits, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity(Vec<Limit>);

impl Capacity {
    /// What `shards` shards can hold on `machine`.
    pub fn of(machine: &Machine, shards: u16) -> Self {
        let mut limits = vec![memory(machine), tables(machine, shards)];
        limits.extend(machine.system_files_left.map(system_files));
        limits.extend(machine.lockable.map(|bytes| locked_memory(bytes, machine)));
        limits.sort_by_key(|limit| limit.connections);
        Self(limits)
    }

    /// Connections this machine can hold.
    pub fn connections(&self) -> u64 {
        self.lowest().connections
    }

    /// The limit that is reached first.
    pub fn lowest(&self) -> &Limit {
        &self.0[0]
    }
}

/// One line: the number, the lowest limit with its reason, and what the others allow.
impl fmt::Display for Capacity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lowest = self.lowest();
        write!(
            formatter,
            "this machine can hold {} connections; the lowest limit is {}: {}",
            lowest.connections, lowest.name, lowest.why
        )?;
        for other in &self.0[1..] {
            write!(formatter, "; {} would allow {}", other.name, other.connections)?;
        }
        Ok(())
    }
}

/// Bytes of memory that nobody uses, page cache included. `MemAvailable` (`proc_meminfo(5)`) would count half of the
/// reclaimable slabs as well: inodes and dentries of open sockets, which cannot be reclaimed. Memory that is shared
/// (tmpfs) stands among the cached and is not given up either.
fn unused(memory: &Meminfo) -> u64 {
    let cache = (memory.buffers + memory.cached).saturating_sub(memory.shmem.unwrap_or_default());
    memory.mem_free + cache
}

fn memory(machine: &Machine) -> Limit {
    let reserve = limits::MEMORY_RESERVE_BYTES.min(machine.memory_left / limits::MEMORY_RESERVE_SHARE);
    let left = machine.memory_left - reserve;
    let of = if machine.in_memory_group { "left in the control group" } else { "available" };
    Limit {
        name: "memory",
        connections: left / limits::CONNECTION_BYTES,
        why: format!(
            "{} MiB {of}, {} MiB of them kept for traffic, {} bytes a connection",
            machine.memory_left >> 20,
            reserve >> 20,
            limits::CONNECTION_BYTES
        ),
        mend: if machine.in_memory_group {
            "raise the control group's limit (systemctl set-property UNIT MemoryMax=...)".to_owned()
        } else {
            "end what else holds memory, or add some".to_owned()
        },
    }
}

fn tables(machine: &Machine, shards: u16) -> Limit {
    let places = machine.files_max.min(limits::RING_PLACES_MAX.into());
    // A ring takes one file of the process, the connections in it none.
    let files = machine.files_max - limits::PROCESS_FILES_RESERVED.min(machine.files_max / 2);
    let rings = (limits::RINGS_MAX as u64 * u64::from(shards)).min(files);
    Limit {
        name: "open files",
        connections: places * rings,
        why: format!(
            "a limit of {} open files allows {rings} rings of {places} connections each",
            machine.files_max
        ),
        mend: "ulimit -Hn 1048576 before the start, or LimitNOFILE=1048576 in the unit file".to_owned(),
    }
}

fn system_files(left: u64) -> Limit {
    Limit {
        name: "fs.file-max",
        connections: left.saturating_sub(limits::PROCESS_FILES_RESERVED),
        why: format!("{left} files are left to open in the whole system, and each connection is one"),
        mend: format!("sysctl -w fs.file-max={}", limits::FILE_MAX_ADVISED),
    }
}

fn locked_memory(lockable: u64, machine: &Machine) -> Limit {
    let places = machine.files_max.min(limits::RING_PLACES_MAX.into());
    let rings = lockable / limits::RING_LOCKED_BYTES;
    Limit {
        name: "locked memory",
        connections: places * rings,
        why: format!(
            "{} KiB that may be locked hold {rings} rings of {places} connections each",
            lockable >> 10
        ),
        mend: "ulimit -Hl unlimited before the start, LimitMEMLOCK=infinity in the unit file, or the capability CAP_IPC_LOCK"
            .to_owned(),
    }
}

fn lockable() -> Option<u64> {
    let charges =
        KernelVersion::current().is_ok_and(|kernel| (kernel.major, kernel.minor) >= KERNEL_CHARGING_RINGS);
    if !charges || is_capable(CAP_IPC_LOCK) {
        return None;
    }
    match Process::myself().ok()?.limits().ok()?.max_locked_memory.soft_limit {
        LimitValue::Unlimited => None,
        LimitValue::Value(bytes) => Some(bytes),
    }
}

fn is_capable(capability: u64) -> bool {
    let status = Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.capeff & capability != 0)
}

fn system_files_left() -> Option<u64> {
    if is_capable(CAP_SYS_ADMIN) {
        return None;
    }
    let state = procfs::sys::fs::file_nr().ok()?;
    Some(state.max.saturating_sub(state.allocated))
}

/// What the tightest control group of this process has left; `None` where none is limited.
fn group_memory_left() -> Option<u64> {
    let memories = cgroup::groups(Path::new("/")).into_iter().filter_map(|group| group.memory());
    memories.map(cgroup::GroupMemory::left).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: Machine = Machine {
        files_max: 1 << 20,
        system_files_left: None,
        lockable: None,
        memory_left: 64 << 30,
        in_memory_group: false,
    };

    #[test]
    fn the_lowest_limit_is_named_with_its_reason() {
        let memory = Capacity::of(&ROOMY, 2);
        assert_eq!(memory.lowest().name, "memory");
        let expected = ((64 << 30) - limits::MEMORY_RESERVE_BYTES) / limits::CONNECTION_BYTES;
        assert_eq!(memory.connections(), expected);
        assert!(memory.to_string().contains("65536 MiB available"), "{memory}");

        let files = Capacity::of(&Machine { system_files_left: Some(100_000), ..ROOMY }, 2);
        assert_eq!(files.lowest().name, "fs.file-max");
        assert!(files.lowest().mend.starts_with("sysctl -w fs.file-max="));
        assert!(files.to_string().contains(&format!("memory would allow {expected}")), "{files}");
    }

    #[test]
    fn a_low_file_limit_bounds_tables_and_rings() {
        let few = Machine { files_max: 64, ..ROOMY };
        assert_eq!(Capacity::of(&few, 8).connections(), 32 * 64, "half of so few files are for rings");
        let usual = Machine { files_max: 1_024, ..ROOMY };
        assert_eq!(Capacity::of(&usual, 8).connections(), 512 * 1_024);
        assert_eq!(Capacity::of(&usual, 8).lowest().name, "open files");
        let box_of_ours = Machine { files_max: 20_000, memory_left: 23 << 30, ..ROOMY };
        assert!(Capacity::of(&box_of_ours, 2).connections() > 5_000_000, "five million on 24 GiB");
    }

    #[test]
    fn rings_that_are_charged_as_locked_memory_bound_the_connections() {
        // Without rights on Linux 6.18, under the usual 8 MiB, 55 rings open and the 56th does not.
        let usual = Capacity::of(&Machine { lockable: Some(8 << 20), ..ROOMY }, 2);
        assert_eq!(usual.lowest().name, "locked memory");
        assert!((50 * 16_384..=55 * 16_384).contains(&usual.connections()), "{usual}");
        assert!(usual.lowest().mend.contains("LimitMEMLOCK"), "{usual}");
        assert_ne!(Capacity::of(&ROOMY, 2).lowest().name, "locked memory");
    }

    #[test]
    fn a_small_machine_keeps_a_quarter_and_holds_the_rest() {
        let small = Capacity::of(&Machine { memory_left: 1 << 30, ..ROOMY }, 1);
        assert_eq!(small.connections(), (768 << 20) / limits::CONNECTION_BYTES);
        assert!(small.to_string().contains("1024 MiB available, 256 MiB of them kept"), "{small}");
    }

    #[test]
    fn inodes_of_sockets_and_shared_memory_are_not_free() {
        let mut memory = Meminfo::current().expect("/proc");
        (memory.mem_free, memory.buffers, memory.cached) = (1_000, 20, 300);
        (memory.shmem, memory.mem_available, memory.s_reclaimable) = (Some(200), Some(7_000), Some(4_000));
        assert_eq!(unused(&memory), 1_000 + 20 + 300 - 200);
    }

    #[test]
    fn a_control_group_is_named() {
        let grouped = Machine { memory_left: 8 << 30, in_memory_group: true, ..ROOMY };
        let capacity = Capacity::of(&grouped, 2);
        assert!(capacity.to_string().contains("left in the control group"), "{capacity}");
        assert!(capacity.lowest().mend.contains("MemoryMax"));
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read(20_000);
        assert!(machine.memory_left > 0 && machine.files_max == 20_000);
    }
}
