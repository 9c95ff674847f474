//! Whether new sessions are let in. Near the machine's limits their upgrades are answered 503, and those inside live on.
//!
//! One place decides, a few times a second, from what the kernel and the shards say; shards load the outcome. Readings and time come
//! in from outside.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU8, Ordering},
};

use procfs::{FromRead as _, MemoryPressure};

use crate::{
    cgroup::{self, Group},
    limits,
};

/// Why a connection is not let in; its place in [`REASONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Tasks wait for memory.
    MemoryStall,
    /// A control group's memory is nearly used up.
    MemoryUsed,
    /// A listener's backlog has been long for a while.
    AcceptBacklog,
    /// The router's queue has been full for a while.
    RouterQueue,
    /// `--max-connections` is reached.
    ConnectionsMax,
    /// The gateway drains.
    Draining,
}

/// The names of the reasons in metrics, in the order of [`Reason`].
pub const REASONS: [&str; 6] =
    ["memory_stall", "memory_used", "accept_backlog", "router_queue", "connections_max", "draining"];

impl Reason {
    /// All of them, in the order of their names.
    pub const ALL: [Self; REASONS.len()] = [
        Self::MemoryStall,
        Self::MemoryUsed,
        Self::AcceptBacklog,
        Self::RouterQueue,
        Self::ConnectionsMax,
        Self::Draining,
    ];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        REASONS[self as usize]
    }
}

/// Those that [`Admission`] decides, with the levels at which each closes and opens, and for how long it must be beyond the first.
const WATCHED: [(Reason, (u32, u32), u64); 4] = [
    (Reason::MemoryStall, limits::ADMISSION_STALL_PERCENT, 0),
    (Reason::MemoryUsed, limits::ADMISSION_MEMORY_PERCENT, 0),
    (Reason::AcceptBacklog, limits::ADMISSION_BACKLOG_PERCENT, limits::ADMISSION_FULL_MS),
    (Reason::RouterQueue, limits::ADMISSION_HELD_REQUESTS, limits::ADMISSION_FULL_MS),
];

/// Levels at one moment. What cannot be read is 0 and closes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Percent of the last ten seconds in which some task waited for memory.
    pub stall_percent: u32,
    /// Percent of its memory that the fullest of our control groups uses.
    pub memory_percent: u32,
    /// Percent of its places that are taken in the longest listen backlog.
    pub backlog_percent: u32,
    /// Requests held for the router by the shard that holds most.
    pub held_requests: u32,
}

impl Reading {
    fn levels(self) -> [u32; WATCHED.len()] {
        [self.stall_percent, self.memory_percent, self.backlog_percent, self.held_requests]
    }
}

/// A door with hysteresis: it turns when the level has been beyond the next threshold for its time.
#[derive(Clone, Copy, Debug, Default)]
struct Door {
    closed: bool,
    /// Since when the level would turn it, milliseconds.
    since_ms: Option<u64>,
}

impl Door {
    fn look(&mut self, level: u32, (closes, opens): (u32, u32), full_ms: u64, now_ms: u64) {
        let turns = if self.closed { level < opens } else { level >= closes };
        if !turns {
            self.since_ms = None;
            return;
        }
        let hold_ms = if self.closed { limits::ADMISSION_CALM_MS } else { full_ms };
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) >= hold_ms {
            *self = Self { closed: !self.closed, since_ms: None };
        }
    }
}

/// Decides from readings whether new sessions are let in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Admission([Door; WATCHED.len()]);

impl Admission {
    /// Takes a reading; `now_ms` never goes back. The reasons that close the gateway now.
    pub fn look(&mut self, reading: Reading, now_ms: u64) -> Closed {
        let mut closed = Closed::default();
        for ((door, level), (reason, levels, full_ms)) in self.0.iter_mut().zip(reading.levels()).zip(WATCHED)
        {
            door.look(level, levels, full_ms, now_ms);
            closed.0 |= u8::from(door.closed) << reason as u8;
        }
        closed
    }
}

/// A set of the reasons that [`Admission`] decides; empty: new sessions are let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed(u8);

impl Closed {
    /// Whether `reason` is one of them.
    pub fn by(self, reason: Reason) -> bool {
        self.0 & 1 << reason as u8 != 0
    }

    /// One of them, the gravest first.
    pub fn first(self) -> Option<Reason> {
        WATCHED.into_iter().map(|(reason, ..)| reason).find(|reason| self.by(*reason))
    }
}

impl std::fmt::Display for Closed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = WATCHED.iter().filter(|(reason, ..)| self.by(*reason)).map(|(reason, ..)| reason.name());
        formatter.write_str(&names.collect::<Vec<_>>().join(", "))
    }
}

/// What was decided last, for all shards: written by one thread, loaded by the others.
#[derive(Debug, Default)]
pub struct Gate(AtomicU8);

impl Gate {
    /// Sets it.
    pub fn set(&self, closed: Closed) {
        self.0.store(closed.0, Ordering::Relaxed);
    }

    /// The reasons that close it now.
    pub fn closed(&self) -> Closed {
        Closed(self.0.load(Ordering::Relaxed))
    }
}

/// Where the kernel tells of memory.
#[derive(Debug)]
pub struct MemoryFiles {
    groups: Vec<Group>,
    /// Of our own control group, where the kernel counts for it; the machine's otherwise.
    pressure: PathBuf,
}

impl MemoryFiles {
    /// Looks once which files there are; `root` is the folder in which `proc` and `sys` lie.
    pub fn find(root: &Path) -> Self {
        let groups = cgroup::groups(root);
        let own = groups.iter().map(Group::pressure_file).find(|file| file.exists());
        // A neighbour that thrashes within a control group of its own is not our concern.
        let pressure = own.unwrap_or_else(|| root.join("proc/pressure/memory"));
        Self { groups, pressure }
    }

    /// Fills in the levels of memory.
    pub fn read(&self, reading: &mut Reading) {
        let pressure = MemoryPressure::from_file(&self.pressure);
        reading.stall_percent = pressure.map_or(0, |pressure| pressure.some.avg10.clamp(0.0, 100.0) as u32);
        let used = self.groups.iter().filter_map(Group::memory).map(cgroup::GroupMemory::used_percent);
        reading.memory_percent = used.max().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn stalled(percent: u32) -> Reading {
        Reading { stall_percent: percent, ..Reading::default() }
    }

    #[test]
    fn it_closes_above_one_level_and_opens_below_another_after_calm() {
        let (closes, opens) = limits::ADMISSION_STALL_PERCENT;
        let mut admission = Admission::default();
        assert_eq!(admission.look(stalled(closes - 1), 0), Closed::default());
        let closed = admission.look(stalled(closes), 250);
        assert_eq!(
            (closed.first(), closed.to_string().as_str()),
            (Some(Reason::MemoryStall), "memory_stall")
        );
        assert!(!closed.by(Reason::MemoryUsed));
        // In between nothing turns, however long.
        for now_ms in (500..100_000).step_by(250) {
            assert_eq!(admission.look(stalled(opens), now_ms), closed);
        }
        let calm = 100_000;
        assert_eq!(admission.look(stalled(opens - 1), calm), closed);
        assert_eq!(admission.look(stalled(opens), calm + 1_000), closed, "the calm begins anew");
        assert_eq!(admission.look(stalled(0), calm + 2_000), closed);
        let over = calm + 2_000 + limits::ADMISSION_CALM_MS;
        assert_eq!(admission.look(stalled(0), over - 1), closed);
        assert_eq!(admission.look(stalled(0), over), Closed::default());
    }

    #[test]
    fn a_queue_closes_only_when_it_is_full_without_a_pause() {
        let full = Reading { held_requests: 1, backlog_percent: 75, ..Reading::default() };
        let mut admission = Admission::default();
        let look = |admission: &mut Admission, reading, now_ms| admission.look(reading, now_ms).to_string();
        assert_eq!(look(&mut admission, full, 0), "");
        assert_eq!(look(&mut admission, Reading::default(), limits::ADMISSION_FULL_MS - 1), "");
        let again = limits::ADMISSION_FULL_MS;
        assert_eq!(look(&mut admission, full, again), "");
        assert_eq!(look(&mut admission, full, again + limits::ADMISSION_FULL_MS - 1), "");
        let closed = look(&mut admission, full, again + limits::ADMISSION_FULL_MS);
        assert_eq!(closed, "accept_backlog, router_queue");
        let gate = Gate::default();
        gate.set(admission.look(full, again * 3));
        assert_eq!(gate.closed().first(), Some(Reason::AcceptBacklog));
    }

    #[test]
    fn the_machine_is_read_from_its_files() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        let read = || {
            let mut reading = Reading::default();
            MemoryFiles::find(root.path()).read(&mut reading);
            (reading.stall_percent, reading.memory_percent)
        };
        assert_eq!(read(), (0, 0), "nothing is there");
        let pressure = |some: &str| {
            format!(
                "some avg10={some} avg60=1.00 avg300=1.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
            )
        };
        write("proc/pressure/memory", &pressure("31.50"));
        assert_eq!(read(), (31, 0), "the machine's");
        write("proc/self/cgroup", "0::/system.slice/roost.service\n");
        let folder = "sys/fs/cgroup/system.slice";
        write(&format!("{folder}/roost.service/memory.max"), "max\n");
        write(&format!("{folder}/roost.service/memory.current"), "900\n");
        write(&format!("{folder}/memory.max"), "1000\n");
        write(&format!("{folder}/memory.current"), "970\n");
        assert_eq!(read(), (31, 97), "a parent's limit counts");
        write(&format!("{folder}/memory.stat"), "inactive_file 200\nactive_file 100\n");
        write(&format!("{folder}/roost.service/memory.pressure"), &pressure("2.00"));
        assert_eq!(read(), (2, 67), "our own group's stalls, and no page cache");
        write("proc/pressure/memory", "nonsense");
        write(&format!("{folder}/roost.service/memory.pressure"), "nonsense");
        assert_eq!(read(), (0, 67));
    }
}
