//! The router's counters.

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use roost_gateway::families::{self as f, Family};
use roost_router::{COMMIT_US, Handle, LIMITED, Stats};

use super::Writer;

/// The collector.
pub struct Router(pub Handle);

impl std::fmt::Debug for Router {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Router")
    }
}

/// A family, and where its value is.
type Column = (&'static Family, fn(&Stats) -> u64);

const COLUMNS: &[Column] = &[
    (&f::ROUTER_MESSAGES, |stats| stats.messages),
    (&f::ROUTER_EVENTS, |stats| stats.events),
    (&f::ROUTER_BATCHES, |stats| stats.batches),
    (&f::ROUTER_COMMIT_US, |stats| stats.commit_us),
    (&f::ROUTER_COMMIT_US_MAX, |stats| stats.commit_us_max),
    (&f::ROUTER_STORE_ERRORS, |stats| stats.store_errors),
    (&f::ROUTER_UNAVAILABLE, |stats| stats.refused),
    (&f::ROUTER_RATE_UNCOUNTED, |stats| stats.rate_uncounted),
    (&f::ROUTER_SESSIONS, |stats| stats.sessions),
    (&f::ROUTER_SESSIONS_BYTES, |stats| stats.sessions_bytes),
    (&f::ROUTER_USERS_CACHED, |stats| stats.users_cached),
    (&f::ROUTER_REGISTRATIONS, |stats| stats.registrations),
    (&f::ROUTER_FOLLOWERS, |stats| stats.followers),
    (&f::ROUTER_PRESENCE_NOTICES, |stats| stats.presence_notices),
    (&f::ROUTER_PRESENCE_REFUSED, |stats| stats.presence_refused),
    (&f::ROUTER_WHISPERS_DROPPED, |stats| stats.whispers_dropped),
];

impl Collector for Router {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut writer = Writer(encoder);
        let (stats, threads) = (self.0.stats(), self.0.threads());
        for (family, value) in COLUMNS {
            writer.one(family, value(&stats))?;
        }
        writer.histogram(&f::ROUTER_COMMIT_SECONDS, &COMMIT_US, &stats.commits, stats.commit_us)?;
        let kinds = LIMITED.iter().map(ToString::to_string);
        writer.by(&f::ROUTER_RATE_LIMITED, kinds.zip(stats.rate_limited))?;
        writer.one(&f::ROUTER_QUEUE_REQUESTS_MAX, self.0.queue_max())?;
        writer.numbered(&f::ROUTER_QUEUE_REQUESTS, threads.iter().map(|thread| thread.queue_depth))?;
        writer.numbered(&f::ROUTER_EFFECTS_HELD, threads.iter().map(|thread| thread.effects_held))?;
        writer.numbered(&f::ROUTER_PARTITIONS, threads.iter().map(|thread| thread.partitions))?;
        writer.numbered(&f::ROUTER_PARTITION_SESSIONS, self.0.partition_sessions())
    }
}
