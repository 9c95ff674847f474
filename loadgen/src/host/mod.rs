//! What /proc tells of the machine, the gateway's process and our own.

mod network;
mod slab;
pub mod threads;
pub mod tree;

pub use network::Network;
pub use slab::SlabGrowth;

use crate::limits::{REST, REST_LOOK_EVERY, REST_MAX};
use crate::report::{Host, MemoryPerClient};
use procfs::process::{Process, Stat};
use procfs::{Current, Meminfo};
use serde::Serialize;
use std::thread;
use std::time::Instant;

/// What is read of memory and network at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Sums.
    pub memory: Memory,
    /// Counts of the calling thread's network namespace.
    pub network: Network,
    slab: Vec<slab::Cache>,
}

/// A reading of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// `Slab`: `SReclaimable` and `SUnreclaim`.
    pub slab: u64,
    /// `MemTotal - MemFree - Buffers - Cached`. `MemAvailable` would count dentries and inodes of sockets as free.
    pub used: u64,
    /// The resident set of the gateway and what it started; `null` where its process is not known.
    pub gateway_rss: Option<u64>,
    /// The same with shared pages divided by those who share them.
    pub gateway_pss: Option<u64>,
    /// The generator's resident set.
    pub generator_rss: u64,
}

/// What can be read each second without a cost that the run would feel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Glance {
    /// `Slab`, in bytes.
    pub slab: u64,
    /// The gateway's resident set; `None` where its process is not known.
    pub gateway_rss: Option<u64>,
    /// The generator's resident set.
    pub generator_rss: u64,
}

impl Glance {
    /// Reads now.
    pub fn take(gateway_pid: Option<i32>) -> Self {
        Self {
            slab: Meminfo::current().map_or(0, |info| info.slab),
            gateway_rss: gateway_pid.and_then(resident_bytes_of_server),
            generator_rss: resident_bytes(std::process::id() as i32).unwrap_or_default(),
        }
    }
}

/// CPU time of a process in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// In user mode.
    pub user_s: f64,
    /// In the kernel.
    pub system_s: f64,
}

impl Reading {
    /// Reads now.
    pub fn take(gateway_pid: Option<i32>) -> Self {
        Self { memory: Memory::read(gateway_pid), network: Network::read(), slab: slab::read() }
    }

    /// Reads once the gateway's resident set has stayed the same for [`REST`], or [`REST_MAX`] has passed: what a start took
    /// and gives back must not be credited to the clients.
    pub fn at_rest(gateway_pid: Option<i32>) -> Self {
        let resident = || gateway_pid.and_then(resident_bytes_of_server);
        let (begun, mut since, mut last) = (Instant::now(), Instant::now(), resident());
        while last.is_some() && since.elapsed() < REST && begun.elapsed() < REST_MAX {
            thread::sleep(REST_LOOK_EVERY);
            let now = resident();
            if now != last {
                (since, last) = (Instant::now(), now);
            }
        }
        Self::take(gateway_pid)
    }

    /// The slab caches that grew from `self` to `later`, the largest first.
    pub fn slab_growth(&self, later: &Self, clients: u64) -> Vec<SlabGrowth> {
        slab::growth(&self.slab, &later.slab, clients)
    }
}

impl Memory {
    /// Reads now; what cannot be read counts as 0, the gateway's as not measured.
    fn read(gateway_pid: Option<i32>) -> Self {
        let Ok(info) = Meminfo::current() else { return Self::default() };
        let free = info.mem_free + info.buffers + info.cached;
        Self {
            slab: info.slab,
            used: info.mem_total.saturating_sub(free),
            gateway_rss: gateway_pid.and_then(resident_bytes_of_server),
            gateway_pss: gateway_pid.and_then(proportional_bytes_of_server),
            generator_rss: own_rss_bytes(),
        }
    }

    /// Growth from `self` to `later`, by client.
    pub fn growth(&self, later: &Self, clients: u64) -> MemoryPerClient {
        if clients == 0 {
            return MemoryPerClient::default();
        }
        let each = |before: u64, after: u64| Some((after as f64 - before as f64) / clients as f64);
        let both =
            |before: Option<u64>, after| before.zip(after).and_then(|(before, after)| each(before, after));
        let kernel = each(self.slab, later.slab);
        let host = each(self.used, later.used);
        let generator = each(self.generator_rss, later.generator_rss);
        let gateway = both(self.gateway_rss, later.gateway_rss);
        MemoryPerClient {
            kernel,
            gateway,
            gateway_pss: both(self.gateway_pss, later.gateway_pss),
            total: kernel.zip(gateway).map(|(kernel, gateway)| kernel + gateway),
            host,
            generator,
            server: host.zip(generator).map(|(host, generator)| host - generator),
        }
    }
}

impl Cpu {
    /// Of a process; `None` where it is gone.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Process::new(pid).ok()?.stat().ok()?;
        Some(Self::of_ticks(stat.utime, stat.stime))
    }

    /// Of a server: of its process, of all it started, and of what of that has ended; `None` where it is gone.
    pub fn of_server(pid: i32) -> Option<Self> {
        let ended = |ticks: i64| ticks.max(0) as u64;
        let each =
            |stat: &Stat| Self::of_ticks(stat.utime + ended(stat.cutime), stat.stime + ended(stat.cstime));
        tree::stats(pid).iter().map(each).reduce(|sum, one| Self {
            user_s: sum.user_s + one.user_s,
            system_s: sum.system_s + one.system_s,
        })
    }

    fn of_ticks(user: u64, system: u64) -> Self {
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        Self { user_s: seconds(user), system_s: seconds(system) }
    }

    /// Both together.
    pub fn total_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    /// What was spent since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self { user_s: self.user_s - earlier.user_s, system_s: self.system_s - earlier.system_s }
    }
}

/// Whether a process of that number exists and can be looked at.
pub fn is_alive(pid: i32) -> bool {
    Process::new(pid).is_ok()
}

/// Our own CPU time in seconds.
pub fn own_cpu_s() -> f64 {
    Process::myself().ok().and_then(|own| Cpu::of(own.pid())).unwrap_or_default().total_s()
}

/// Our own resident set in bytes.
pub fn own_rss_bytes() -> u64 {
    Process::myself().ok().and_then(|own| resident_bytes(own.pid())).unwrap_or_default()
}

/// The machine for the report.
pub fn host() -> Host {
    Host {
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        memory_bytes: Meminfo::current().map_or(0, |info| info.mem_total),
    }
}

/// The sum over its processes; pages that they share count once in each.
fn resident_bytes_of_server(pid: i32) -> Option<u64> {
    tree::members(pid).into_iter().filter_map(resident_bytes).reduce(|sum, bytes| sum + bytes)
}

fn proportional_bytes_of_server(pid: i32) -> Option<u64> {
    tree::members(pid).into_iter().filter_map(proportional_bytes).reduce(|sum, bytes| sum + bytes)
}

fn resident_bytes(pid: i32) -> Option<u64> {
    let pages = Process::new(pid).ok()?.statm().ok()?.resident;
    Some(pages * procfs::page_size())
}

/// From `smaps_rollup`, whose sums the kernel takes from all page tables: some milliseconds for each gigabyte.
fn proportional_bytes(pid: i32) -> Option<u64> {
    let maps = Process::new(pid).ok()?.smaps_rollup().ok()?.memory_map_rollup;
    maps.into_iter().next()?.extension.map.get("Pss").copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_by_client_and_only_where_it_was_measured() {
        let before = Memory {
            slab: 1000,
            used: 5000,
            gateway_rss: Some(100),
            gateway_pss: Some(90),
            generator_rss: 0,
        };
        let after = Memory {
            slab: 5000,
            used: 9000,
            gateway_rss: Some(300),
            gateway_pss: Some(250),
            generator_rss: 40,
        };
        let growth = before.growth(&after, 4);
        assert_eq!((growth.kernel, growth.gateway, growth.total), (Some(1000.0), Some(50.0), Some(1050.0)));
        assert_eq!(
            (growth.gateway_pss, growth.host, growth.generator),
            (Some(40.0), Some(1000.0), Some(10.0))
        );
        let unseen = Memory { gateway_rss: None, ..after };
        assert_eq!(before.growth(&unseen, 4).total, None);
        assert_eq!(before.growth(&after, 0), MemoryPerClient::default());
    }

    #[test]
    fn this_machine_and_process_can_be_read() {
        let Memory { slab, used, gateway_rss, gateway_pss, generator_rss } =
            Memory::read(Some(std::process::id() as i32));
        assert!(slab > 0 && used > slab && generator_rss > 0);
        assert!(gateway_rss > Some(0) && gateway_pss > Some(0) && gateway_pss <= gateway_rss);
        assert!(Cpu::of(-1).is_none() && host().cpus > 0);
        assert_eq!(Memory::read(Some(-1)).gateway_pss, None);
    }

    #[test]
    fn cpu_of_an_interval_is_told_by_mode() {
        let (early, late) = (Cpu { user_s: 1.0, system_s: 2.0 }, Cpu { user_s: 1.5, system_s: 4.0 });
        assert_eq!(late.since(&early), Cpu { user_s: 0.5, system_s: 2.0 });
        assert!((late.total_s() - 5.5).abs() < 1e-9);
    }
}
