//! What /proc tells of the machine, the gateway's process and our own.

use crate::report::{Host, MemoryPerClient};
use procfs::process::Process;
use procfs::{Current, Meminfo};

/// A reading of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    slab: u64,
    used: u64,
    gateway_rss: Option<u64>,
    own_rss: u64,
}

impl Memory {
    /// Reads now; what cannot be read counts as 0, the gateway's as not measured.
    pub fn read(gateway_pid: Option<i32>) -> Self {
        let Ok(info) = Meminfo::current() else { return Self::default() };
        let free = info.mem_free + info.buffers + info.cached;
        Self {
            slab: info.slab,
            used: info.mem_total.saturating_sub(free),
            gateway_rss: gateway_pid.and_then(resident_bytes),
            own_rss: Process::myself().ok().and_then(|own| resident_bytes(own.pid())).unwrap_or_default(),
        }
    }

    /// Growth from `self` to `later`, by client.
    pub fn growth(&self, later: &Self, clients: u64) -> MemoryPerClient {
        if clients == 0 {
            return MemoryPerClient::default();
        }
        let each = |before: u64, after: u64| Some((after as f64 - before as f64) / clients as f64);
        let kernel = each(self.slab, later.slab);
        let gateway = self.gateway_rss.zip(later.gateway_rss).and_then(|(before, after)| each(before, after));
        MemoryPerClient {
            kernel,
            gateway,
            total: kernel.zip(gateway).map(|(kernel, gateway)| kernel + gateway),
            host: each(self.used, later.used),
            generator: each(self.own_rss, later.own_rss),
        }
    }
}

/// Whether a process of that number exists and can be looked at.
pub fn is_alive(pid: i32) -> bool {
    Process::new(pid).is_ok()
}

/// CPU time of a process, user and system, in seconds; `None` where it is gone.
pub fn cpu_s(pid: i32) -> Option<f64> {
    let stat = Process::new(pid).ok()?.stat().ok()?;
    Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// Our own CPU time in seconds.
pub fn own_cpu_s() -> f64 {
    Process::myself().ok().and_then(|own| cpu_s(own.pid())).unwrap_or_default()
}

/// The machine for the report.
pub fn host() -> Host {
    Host {
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        memory_bytes: Meminfo::current().map_or(0, |info| info.mem_total),
    }
}

fn resident_bytes(pid: i32) -> Option<u64> {
    let pages = Process::new(pid).ok()?.statm().ok()?.resident;
    Some(pages * procfs::page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_by_client_and_only_where_it_was_measured() {
        let before = Memory { slab: 1000, used: 5000, gateway_rss: Some(100), own_rss: 0 };
        let after = Memory { slab: 5000, used: 9000, gateway_rss: Some(300), own_rss: 40 };
        let growth = before.growth(&after, 4);
        assert_eq!((growth.kernel, growth.gateway, growth.total), (Some(1000.0), Some(50.0), Some(1050.0)));
        let unseen = Memory { gateway_rss: None, ..after };
        assert_eq!(before.growth(&unseen, 4).total, None);
        assert_eq!(before.growth(&after, 0), MemoryPerClient::default());
    }

    #[test]
    fn this_machine_and_process_can_be_read() {
        let memory = Memory::read(Some(std::process::id() as i32));
        assert!(memory.slab > 0 && memory.used > memory.slab && memory.own_rss > 0);
        assert_eq!(memory.gateway_rss.map(|rss| rss > 0), Some(true));
        assert!(cpu_s(-1).is_none() && host().cpus > 0);
    }
}
