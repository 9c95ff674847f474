//! The gateway's figures for `GET /metrics`, read from the shards' counters when somebody asks.

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use roost_gateway::{
    conn::RATE_LIMITED,
    limits,
    shard::{CLOSE_CODES, Cell, REFUSAL_STATUSES, Stats},
};
use roost_router::{Handle, LIMITED};

use super::memory::Memory;

/// A registry over all shards and, where there is one, the router.
pub fn registry(density: Density, router: Option<Handle>) -> Registry {
    let mut registry = Registry::with_prefix("roost");
    registry.register_collector(Box::new(Shards(density.shards.clone())));
    registry.register_collector(Box::new(density));
    if let Some(router) = router {
        registry.register_collector(Box::new(Router(router)));
    }
    registry
}

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
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let connections = self.sum(|stats| &stats.connections);
        let now = Memory::now();
        let each = now.for_each(self.before, connections);
        let shards = self.shards.len();
        let read_buffers = (usize::from(limits::READ_BUFFERS) * shards) as u64;
        let provided_buffers = (limits::PROVIDED_BUFFERS_MAX * shards) as u64;
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
            ("read_buffers_max", "Read buffers of all shards", read_buffers),
            ("provided_buffers_max", "Buffers that may be provided for multishot receives", provided_buffers),
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
    ("receive_buffers_exhausted", "Multishot receives that found no provided buffer", |stats| {
        &stats.receive_buffers_exhausted
    }),
    ("read_buffers_exhausted", "Reads that had to wait for a read buffer", |stats| {
        &stats.read_buffers_exhausted
    }),
    ("became_busy", "Connections that went from the poll to multishot receive", |stats| &stats.became_busy),
    ("ring_failures", "Further io_urings that could not be opened", |stats| &stats.ring_failures),
    ("router_full", "Requests the router's queue had no room for at first", |stats| &stats.router_full),
    ("corrupt_events", "Events of the store that could not be read", |stats| &stats.corrupt_events),
];

const GAUGES: &[Column] = &[
    ("connections", "Connections now, those on their way in or out included", |stats| &stats.connections),
    ("refusing", "Connections beyond --max-connections on their way out", |stats| &stats.refusing),
    ("outboxes", "Connections with output that waits", |stats| &stats.outboxes),
    ("assembly_bytes", "Bytes of partial input held", |stats| &stats.assembly_bytes),
    ("backlog_requests", "Requests held because the router's queue is full", |stats| &stats.backlog_requests),
    ("mailbox_effects", "Effects waiting for the shard", |stats| &stats.mailbox_effects),
    ("rings", "io_urings open", |stats| &stats.rings),
    ("ring_descriptors", "Direct descriptors in use", |stats| &stats.ring_descriptors),
    ("ring_descriptors_max", "Places for direct descriptors in the rings that are open", |stats| {
        &stats.ring_descriptors_max
    }),
    ("busy_connections", "Connections received by multishot receive", |stats| &stats.busy_connections),
    ("read_buffers", "Read buffers in use", |stats| &stats.read_buffers),
    ("read_waiting", "Connections that wait for a read buffer", |stats| &stats.read_waiting),
    ("provided_buffers", "Buffers provided for multishot receives", |stats| &stats.provided_buffers),
    ("slab_blocks", "Blocks of the slab that are mapped", |stats| &stats.slab_blocks),
    ("slab_slots", "Slots in the mapped blocks of the slab", |stats| &stats.slab_slots),
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
        )?;
        let limited = |kind: usize| self.0.iter().map(|stats| stats.rate_limited[kind].value()).sum();
        let help = "Frames answered RATE_LIMITED by a connection's limit, by limit";
        by_kind(&mut encoder, "rate_limited", help, &RATE_LIMITED, limited)
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

fn by_kind(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kinds: &[&'static str],
    count: impl Fn(usize) -> u64,
) -> Result<(), std::fmt::Error> {
    let metric = ConstCounter::new(0_u64);
    let mut family = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
    for (place, kind) in kinds.iter().enumerate() {
        ConstCounter::new(count(place)).encode(family.encode_family(&[("kind", *kind)])?)?;
    }
    Ok(())
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
            (
                "router_presence_notices",
                "Presence notices told because something changed",
                stats.presence_notices,
            ),
            (
                "router_presence_refused",
                "Users that a session wanted to follow and is not told of, because a table was full",
                stats.presence_refused,
            ),
            (
                "router_whispers_dropped",
                "Presence and typing dropped between router threads, because a queue was full",
                stats.whispers_dropped,
            ),
            (
                "router_rate_uncounted",
                "Requests let through uncounted because a table of users' limits was full",
                stats.rate_uncounted,
            ),
        ];
        for (name, help, value) in counters {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        let help = "Requests answered RATE_LIMITED by a user's limit, by limit";
        by_kind(&mut encoder, "router_rate_limited", help, &LIMITED, |kind| stats.rate_limited[kind])?;
        let gauges = [
            ("router_sessions", "Sessions attached", stats.sessions),
            ("router_sessions_bytes", "Memory of the router's session tables, bytes", stats.sessions_bytes),
            ("router_users_cached", "Users' records cached", stats.users_cached),
            ("router_followers", "Pairs of a session and a user whose presence it follows", stats.followers),
            (
                "router_registrations",
                "Devices whose sessions were welcomed and whose registrations wait to be stored",
                stats.registrations,
            ),
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
