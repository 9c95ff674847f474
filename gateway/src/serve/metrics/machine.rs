//! The process, and the machine under it: what its kernel tells of them. What cannot be read is 0, or has no sample.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use nix::sys::statvfs::statvfs;
use procfs::{
    CpuPressure, Current as _, IoPressure, MemoryPressure, PressureRecord,
    process::{LimitValue, Process},
};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use roost_gateway::{admission::Reason, families as f, shard::Shared};

use super::{Encoded, Writer, encode_fraction};

/// The collector.
pub struct Machine {
    shared: Arc<Shared>,
    connections_max: u64,
    data: PathBuf,
    start_s: f64,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Machine({})", self.data.display())
    }
}

impl Machine {
    /// `data` is the folder whose disk is looked at.
    pub fn new(shared: Arc<Shared>, connections_max: u64, data: &Path) -> Self {
        Self { shared, connections_max, data: data.to_owned(), start_s: start_s().unwrap_or_default() }
    }

    fn encode_process(writer: &mut Writer<'_>) -> Encoded {
        let process = Process::myself().ok();
        let stat = process.as_ref().and_then(|process| process.stat().ok());
        let cpu_ticks = stat.as_ref().map_or(0, |stat| stat.utime + stat.stime);
        let files = process.as_ref().and_then(|process| process.fd_count().ok());
        let limits = process.as_ref().and_then(|process| process.limits().ok());
        let files_max = limits.map_or(0, |limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(most) => most,
            LimitValue::Unlimited => i64::MAX as u64,
        });
        writer.fraction(&f::PROCESS_CPU_SECONDS, cpu_ticks as f64 / procfs::ticks_per_second() as f64)?;
        writer.one(&f::PROCESS_THREADS, stat.map_or(0, |stat| stat.num_threads as u64))?;
        writer.one(&f::PROCESS_OPEN_FDS, files.unwrap_or_default() as u64)?;
        writer.one(&f::PROCESS_MAX_FDS, files_max)
    }

    fn encode_admission(&self, writer: &mut Writer<'_>) -> Encoded {
        let closed = self.shared.gate.closed();
        let is_closed = |reason: Reason| match reason {
            Reason::ConnectionsMax => self.shared.connections.load(Ordering::Relaxed) >= self.connections_max,
            Reason::Draining => self.shared.draining.load(Ordering::Relaxed),
            watched => closed.by(watched),
        };
        let samples = Reason::ALL.map(|reason| (reason.name().to_owned(), is_closed(reason).into()));
        writer.by(&f::ADMISSION_CLOSED, samples)
    }

    fn encode_disk(&self, writer: &mut Writer<'_>) -> Encoded {
        let disk = statvfs(&self.data).ok();
        let bytes = |blocks: u64, size: u64| blocks.saturating_mul(size);
        let free = disk.as_ref().map_or(0, |disk| bytes(disk.blocks_available(), disk.fragment_size()));
        writer.one(&f::STORE_FREE_BYTES, free)?;
        let all = disk.as_ref().map_or(0, |disk| bytes(disk.blocks(), disk.fragment_size()));
        writer.one(&f::STORE_DISK_BYTES, all)
    }
}

/// Unix time.
fn start_s() -> Option<f64> {
    let since_boot =
        Process::myself().ok()?.stat().ok()?.starttime as f64 / procfs::ticks_per_second() as f64;
    Some(procfs::boot_time_secs().ok()? as f64 + since_boot)
}

/// What stalls there were for each resource: of some tasks, and of all (`proc_pressure_memory(5)`).
fn pressures() -> Vec<(&'static str, &'static str, PressureRecord)> {
    let both = |name, some, full| [(name, "some", some), (name, "full", full)];
    let cpu = CpuPressure::current().map(|cpu| both("cpu", cpu.some, cpu.full));
    let memory = MemoryPressure::current().map(|memory| both("memory", memory.some, memory.full));
    let io = IoPressure::current().map(|io| both("io", io.some, io.full));
    [cpu, memory, io].into_iter().flatten().flatten().collect()
}

fn encode_pressure(writer: &mut Writer<'_>) -> Encoded {
    let family = &f::PRESSURE_SECONDS;
    let mut metrics = writer.family(family)?;
    for (resource, stalled, record) in pressures() {
        let labels = [(family.labels[0], resource), (family.labels[1], stalled)];
        encode_fraction(family.kind, record.total as f64 / 1e6, metrics.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Collector for Machine {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut writer = Writer(encoder);
        writer.by(&f::BUILD_INFO, [(env!("CARGO_PKG_VERSION").to_owned(), 1)])?;
        writer.one(&f::DRAINING, self.shared.draining.load(Ordering::Relaxed).into())?;
        self.encode_admission(&mut writer)?;
        writer.fraction(&f::PROCESS_START_SECONDS, self.start_s)?;
        Self::encode_process(&mut writer)?;
        self.encode_disk(&mut writer)?;
        encode_pressure(&mut writer)
    }
}
