//! What a connection costs, and how many there may be.

use std::sync::Arc;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use roost_gateway::{
    families as f, limits,
    shard::{Cell, Stats},
};

use super::Writer;
use crate::serve::memory::Memory;

/// What a connection costs, and how many there may be.
#[derive(Clone, Debug)]
pub struct Density {
    /// Counters of the shards.
    pub shards: Vec<Arc<Stats>>,
    /// `--max-connections`.
    pub connections_max: u64,
    /// Memory before the first connection.
    pub before: Memory,
}

impl Density {
    fn sum(&self, cell: fn(&Stats) -> &Cell) -> u64 {
        self.shards.iter().map(|stats| cell(stats).value()).sum()
    }
}

/// The words of the ready line: connections and how many there may be, what one is reckoned with, rings and pools.
impl std::fmt::Display for Density {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "connections={} connections_max={} connection_kernel_bytes={} connection_user_bytes={} rings={} \
             ring_descriptors={}/{} read_buffers={}/{} slab_slots={}",
            self.sum(|stats| &stats.connections),
            self.connections_max,
            limits::CONNECTION_KERNEL_BYTES,
            limits::CONNECTION_USER_BYTES,
            self.sum(|stats| &stats.rings),
            self.sum(|stats| &stats.ring_descriptors),
            self.sum(|stats| &stats.ring_descriptors_max),
            self.sum(|stats| &stats.read_buffers),
            usize::from(limits::READ_BUFFERS) * self.shards.len(),
            self.sum(|stats| &stats.slab_slots),
        )
    }
}

impl Collector for Density {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut writer = Writer(encoder);
        let connections = self.sum(|stats| &stats.connections);
        let now = Memory::now();
        let each = now.for_each(self.before, connections);
        let shards = self.shards.len();
        writer.one(&f::CONNECTIONS_MAX, self.connections_max)?;
        writer.one(&f::CONNECTION_KERNEL_BYTES, each.kernel)?;
        writer.one(&f::CONNECTION_USER_BYTES, each.user)?;
        writer.one(&f::READ_BUFFERS_MAX, (usize::from(limits::READ_BUFFERS) * shards) as u64)?;
        writer.one(&f::PROVIDED_BUFFERS_MAX, (limits::PROVIDED_BUFFERS_MAX * shards) as u64)?;
        writer.one(&f::RESIDENT_BYTES, now.user)?;
        writer.one(&f::PROCESS_RESIDENT_BYTES, now.user)
    }
}
