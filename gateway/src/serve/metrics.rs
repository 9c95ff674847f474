//! The gateway's figures for `GET /metrics`, read from the shards' counters when somebody asks.

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use roost_gateway::shard::{CLOSE_CODES, Cell, REFUSAL_STATUSES, Stats};
use roost_router::Handle;

use super::memory::Memory;

/// Where the figures come from.
pub struct Sources {
    /// Counters of the shards.
    pub shards: Vec<Arc<Stats>>,
    /// The router, where there is one.
    pub router: Option<Handle>,
    /// `--max-connections`.
    pub connections_max: u64,
    /// Memory before the first connection.
    pub before: Memory,
}

/// A registry over all of them.
pub fn registry(sources: Sources) -> Registry {
    let mut registry = Registry::with_prefix("roost");
    let Sources { shards, router, connections_max, before } = sources;
    registry.register_collector(Box::new(Density { shards: shards.clone(), connections_max, before }));
    registry.register_collector(Box::new(Shards(shards)));
    if let Some(router) = router {
        registry.register_collector(Box::new(Router(router)));
    }
    registry
}

/// What a connection costs, and how many there may be.
#[derive(Debug)]
struct Density {
    shards: Vec<Arc<Stats>>,
    connections_max: u64,
    before: Memory,
}

impl Collector for Density {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let connections = self.shards.iter().map(|stats| stats.connections.value()).sum();
        let now = Memory::now();
        let each = now.for_each(self.before, connections);
        let gauges = [
            ("connections_max", "Connections there may be (--max-connections)", self.connections_max),
            (
                "connection_kernel_bytes",
                "Growth of the machine's kernel slabs since the start, for each connection",
                each.kernel,
            ),
            (
                "connection_user_bytes",
                "Growth of this process's resident memory since the start, for each connection",
                each.user,
            ),
            ("resident_bytes", "Resident memory of this process", now.user),
        ];
        for (name, help, value) in gauges {
            let metric = ConstGauge::new(value as i64);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}

struct Shards(Vec<Arc<Stats>>);

impl std::fmt::Debug for Shards {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Shards({})", self.0.len())
    }
}

/// Name, help, where the value is.
type Column = (&'static str, &'static str, fn(&Stats) -> &Cell);

const COUNTERS: &[Column] = &[
    ("accepted", "Connections accepted", |stats| &stats.accepted),
    ("accept_errors", "Accepts that failed: the table or the machine was full", |stats| &stats.accept_errors),
    ("ended", "Connections that are gone", |stats| &stats.ended),
    ("upgraded", "Upgrades answered with 101", |stats| &stats.upgraded),
    ("handshakes_timed_out", "Connections whose handshake took too long", |stats| {
        &stats.handshakes_timed_out
    }),
    ("reaped", "Sessions closed because nothing came from them", |stats| &stats.reaped),
    ("messages_received", "Whole WebSocket messages that came", |stats| &stats.messages_received),
    ("frames_sent", "Frames of the router that were sent", |stats| &stats.frames_sent),
    ("received_bytes", "Bytes that came", |stats| &stats.bytes_received),
    ("sent_bytes", "Bytes that were sent", |stats| &stats.bytes_sent),
    ("receive_buffers_exhausted", "Receives that found no buffer and were armed again", |stats| {
        &stats.receive_buffers_exhausted
    }),
    ("router_full", "Requests the router's queue had no room for at first", |stats| &stats.router_full),
    ("corrupt_events", "Events of the store that could not be read", |stats| &stats.corrupt_events),
];

const GAUGES: &[Column] = &[
    ("connections", "Connections now, those on their way in or out included", |stats| &stats.connections),
    ("outboxes", "Connections with output that waits", |stats| &stats.outboxes),
    ("assembly_bytes", "Bytes of partial input held", |stats| &stats.assembly_bytes),
    ("backlog_requests", "Requests held because the router's queue is full", |stats| &stats.backlog_requests),
    ("mailbox_effects", "Effects waiting for the shard", |stats| &stats.mailbox_effects),
];

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, cell) in COUNTERS {
            let values = self.0.iter().map(|stats| cell(stats).value());
            by_shard(&mut encoder, name, help, values, ConstCounter::new)?;
        }
        for (name, help, cell) in GAUGES {
            let values = self.0.iter().map(|stats| cell(stats).value());
            by_shard(&mut encoder, name, help, values, |value| ConstGauge::new(value as i64))?;
        }
        self.by_number(
            &mut encoder,
            "refused",
            "Upgrades refused, by HTTP status",
            "status",
            &REFUSAL_STATUSES,
            |stats| &stats.refused,
        )?;
        self.by_number(
            &mut encoder,
            "closed",
            "Sessions closed by the gateway, by close code",
            "code",
            &CLOSE_CODES,
            |stats| &stats.closed,
        )
    }
}

impl Shards {
    fn by_number(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        label: &str,
        numbers: &[u16],
        cells: fn(&Stats) -> &[Cell],
    ) -> Result<(), std::fmt::Error> {
        let metric = ConstCounter::new(0_u64);
        let mut family = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
        for (place, number) in numbers.iter().enumerate() {
            let total: u64 = self.0.iter().map(|stats| cells(stats)[place].value()).sum();
            let value = if *number == 0 { "other".to_owned() } else { number.to_string() };
            ConstCounter::new(total).encode(family.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }
}

fn by_shard<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = u64>,
    metric: impl Fn(u64) -> M,
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, metric(0).metric_type())?;
    for (shard, value) in values.enumerate() {
        metric(value).encode(family.encode_family(&[("shard", shard.to_string())])?)?;
    }
    Ok(())
}

struct Router(Handle);

impl std::fmt::Debug for Router {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Router")
    }
}

impl Collector for Router {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = self.0.stats();
        let counters = [
            (
                "router_messages",
                "Messages accepted, those answered as duplicates not counted",
                stats.messages,
            ),
            ("router_events", "Events stored in streams", stats.events),
            ("router_batches", "Batches committed", stats.batches),
            (
                "router_commit_us",
                "Microseconds spent in commits, all router threads together",
                stats.commit_us,
            ),
            ("router_store_errors", "Reads and commits of the store that failed", stats.store_errors),
            ("router_unavailable", "Requests answered UNAVAILABLE", stats.refused),
        ];
        for (name, help, value) in counters {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        let gauges = [
            ("router_sessions", "Sessions attached", stats.sessions),
            ("router_queue_requests", "Requests waiting for a router thread", stats.queue_depth),
            ("router_effects_held", "Effects held for shards whose mailbox is full", stats.effects_held),
            ("router_commit_us_max", "The longest commit, microseconds", stats.commit_us_max),
        ];
        for (name, help, value) in gauges {
            let metric = ConstGauge::new(value as i64);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}
