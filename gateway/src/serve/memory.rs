//! What a connection costs right now: growth of this process and of the kernel's slabs since nobody was connected.

use procfs::{Current as _, Meminfo, process::Process};

/// Memory at one moment, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Slabs of the whole machine, `Slab` in `proc_meminfo(5)`: sockets, files and what the ring keeps for them.
    pub kernel: u64,
    /// Resident memory of this process, `proc_pid_statm(5)`.
    pub user: u64,
}

impl Memory {
    /// As it is now; 0 for what cannot be read.
    pub fn now() -> Self {
        let resident = Process::myself().and_then(|process| process.statm());
        Self {
            kernel: Meminfo::current().map_or(0, |memory| memory.slab),
            user: resident.map_or(0, |statm| statm.resident * procfs::page_size()),
        }
    }

    /// Growth since `before` for each of `connections`; 0 where there are none. The kernel's part is that of the whole
    /// machine: whatever else opens sockets counts with it.
    pub fn for_each(self, before: Self, connections: u64) -> Self {
        let share = |now: u64, before: u64| now.saturating_sub(before) / connections.max(1);
        if connections == 0 {
            return Self::default();
        }
        Self { kernel: share(self.kernel, before.kernel), user: share(self.user, before.user) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_shared_by_the_connections() {
        let (before, now) = (Memory { kernel: 1_000, user: 500 }, Memory { kernel: 9_000, user: 900 });
        assert_eq!(now.for_each(before, 2), Memory { kernel: 4_000, user: 200 });
        assert_eq!(now.for_each(before, 0), Memory::default());
        assert_eq!(before.for_each(now, 2), Memory::default(), "what shrank is no cost");
    }

    #[test]
    fn this_process_has_memory() {
        let now = Memory::now();
        assert!(now.kernel > 0 && now.user > 0);
    }
}
