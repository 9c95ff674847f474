//! What a turn tells the shard's counters.

use std::time::Duration;

use super::Shard;
use crate::ring::{Completion, Ring};

impl<R: Ring> Shard<R> {
    /// A sleep is over.
    pub(super) fn count_turn(&self, completions: &[Completion], asleep: Duration) {
        let stats = &self.parts.stats;
        stats.turns.add(1);
        stats.completions.add(completions.len() as u64);
        stats.asleep_ns.add(asleep.as_nanos() as u64);
    }

    /// What the shard has, for whoever looks at its counters.
    pub(super) fn publish(&self) {
        let stats = &self.parts.stats;
        stats.connections.set(u64::from(self.slab.live()));
        stats.refusing.set(self.refusing.into());
        stats.handshakes.set(self.handshakes.count.into());
        stats.outboxes.set(self.outboxes.in_use() as u64);
        stats.outbox_bytes.set(self.outboxes.bytes() as u64);
        stats.assembly_bytes.set(self.assembly_bytes as u64);
        stats.backlog_requests.set(self.backlog.len() as u64);
        stats.backlog_bytes.set(self.backlog.bytes() as u64);
        stats.mailbox_effects.set(self.parts.mailbox.waiting() as u64);
        stats.proxied.set(self.clients.used());
        stats.busy_connections.set(self.busy.len() as u64);
        stats.read_waiting.set((self.thirsty.len() + self.greedy.waiting()) as u64);
        stats.slab_blocks.set(self.slab.blocks() as u64);
        stats.slab_slots.set(u64::from(self.slab.slots_mapped()));
        let rings = self.parts.ring.occupancy();
        stats.rings.set(rings.rings as u64);
        stats.ring_descriptors.set(rings.descriptors);
        stats.ring_descriptors_max.set(rings.descriptors_max);
        stats.ring_failures.set(rings.ring_failures);
        stats.read_buffers.set(rings.read_buffers as u64);
        stats.provided_buffers.set(rings.provided_buffers as u64);
        stats.listen_backlog.set(rings.listen_backlog.into());
        stats.listen_backlog_max.set(rings.listen_backlog_max.into());
    }
}
