//! The shards' counters, and what is wrong with the tokens that come.

use std::sync::Arc;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use roost_gateway::{
    admission::REASONS,
    auth::TOKEN_ERRORS,
    conn::RATE_LIMITED,
    families::{self as f, Family},
    shard::{CLOSE_CODES, Cell, LATENCY_US, PEER_CLOSE_CODES, REFUSAL_STATUSES, Stats},
};

use super::{Encoded, Writer};
use crate::serve::embedded::TokensRefused;

/// The collector.
#[derive(Debug)]
pub struct Shards {
    stats: Vec<Arc<Stats>>,
    tokens: Arc<TokensRefused>,
}

/// A family, and where its value is.
type Column = (&'static Family, fn(&Stats) -> &Cell);

const COLUMNS: &[Column] = &[
    (&f::ACCEPTED, |stats| &stats.accepted),
    (&f::ACCEPT_ERRORS, |stats| &stats.accept_errors),
    (&f::ENDED, |stats| &stats.ended),
    (&f::UPGRADED, |stats| &stats.upgraded),
    (&f::HANDSHAKES_TIMED_OUT, |stats| &stats.handshakes_timed_out),
    (&f::HANDSHAKES_CROWDED_OUT, |stats| &stats.handshakes_crowded_out),
    (&f::HANDSHAKES, |stats| &stats.handshakes),
    (&f::STALLED, |stats| &stats.stalled),
    (&f::OUTBOXES_CROWDED_OUT, |stats| &stats.outboxes_crowded_out),
    (&f::RELIEVED, |stats| &stats.relieved),
    (&f::CUT_SHORT, |stats| &stats.cut_short),
    (&f::OUTBOX_BYTES, |stats| &stats.outbox_bytes),
    (&f::LOST, |stats| &stats.lost),
    (&f::REAPED, |stats| &stats.reaped),
    (&f::MESSAGES_RECEIVED, |stats| &stats.messages_received),
    (&f::FRAMES_SENT, |stats| &stats.frames_sent),
    (&f::RECEIVED_BYTES, |stats| &stats.bytes_received),
    (&f::SENT_BYTES, |stats| &stats.bytes_sent),
    (&f::PAUSED, |stats| &stats.paused),
    (&f::PARKED, |stats| &stats.parked),
    (&f::TURNS, |stats| &stats.turns),
    (&f::COMPLETIONS, |stats| &stats.completions),
    (&f::RECEIVE_BUFFERS_EXHAUSTED, |stats| &stats.receive_buffers_exhausted),
    (&f::READ_BUFFERS_EXHAUSTED, |stats| &stats.read_buffers_exhausted),
    (&f::READS_PUT_OFF, |stats| &stats.greedy),
    (&f::BECAME_BUSY, |stats| &stats.became_busy),
    (&f::RING_FAILURES, |stats| &stats.ring_failures),
    (&f::ROUTER_FULL, |stats| &stats.router_full),
    (&f::CORRUPT_EVENTS, |stats| &stats.corrupt_events),
    (&f::CONNECTIONS, |stats| &stats.connections),
    (&f::REFUSING, |stats| &stats.refusing),
    (&f::LISTEN_BACKLOG, |stats| &stats.listen_backlog),
    (&f::LISTEN_BACKLOG_MAX, |stats| &stats.listen_backlog_max),
    (&f::PROXIED, |stats| &stats.proxied),
    (&f::PROXY_HEADERS_REFUSED, |stats| &stats.proxy_headers_refused),
    (&f::OUTBOXES, |stats| &stats.outboxes),
    (&f::ASSEMBLY_BYTES, |stats| &stats.assembly_bytes),
    (&f::BACKLOG_REQUESTS, |stats| &stats.backlog_requests),
    (&f::BACKLOG_BYTES, |stats| &stats.backlog_bytes),
    (&f::MAILBOX_EFFECTS, |stats| &stats.mailbox_effects),
    (&f::RINGS, |stats| &stats.rings),
    (&f::RING_DESCRIPTORS, |stats| &stats.ring_descriptors),
    (&f::RING_DESCRIPTORS_MAX, |stats| &stats.ring_descriptors_max),
    (&f::BUSY_CONNECTIONS, |stats| &stats.busy_connections),
    (&f::READ_BUFFERS, |stats| &stats.read_buffers),
    (&f::READ_WAITING, |stats| &stats.read_waiting),
    (&f::PROVIDED_BUFFERS, |stats| &stats.provided_buffers),
    (&f::SLAB_BLOCKS, |stats| &stats.slab_blocks),
    (&f::SLAB_SLOTS, |stats| &stats.slab_slots),
];

impl Shards {
    /// Over the counters of all shards.
    pub fn new(stats: Vec<Arc<Stats>>, tokens: Arc<TokensRefused>) -> Self {
        Self { stats, tokens }
    }

    fn sum(&self, of: impl Fn(&Stats) -> u64) -> u64 {
        self.stats.iter().map(|stats| of(stats)).sum()
    }

    /// Cells for each of some names, all shards together.
    fn by_name<'a>(
        &'a self,
        names: impl Iterator<Item = String> + 'a,
        cells: fn(&Stats) -> &[Cell],
    ) -> impl Iterator<Item = (String, u64)> + 'a {
        names.enumerate().map(move |(place, name)| (name, self.sum(|stats| cells(stats)[place].value())))
    }

    fn encode_sums(&self, writer: &mut Writer<'_>) -> Encoded {
        let statuses = REFUSAL_STATUSES.into_iter().map(number);
        writer.by(&f::REFUSED, self.by_name(statuses, |stats| &stats.refused))?;
        let codes = CLOSE_CODES.into_iter().map(number);
        writer.by(&f::CLOSED, self.by_name(codes, |stats| &stats.closed))?;
        let codes = PEER_CLOSE_CODES.into_iter().map(number);
        writer.by(&f::CLOSED_BY_PEER, self.by_name(codes, |stats| &stats.closed_by_peer))?;
        let reasons = REASONS.iter().map(ToString::to_string);
        writer.by(&f::NOT_ADMITTED, self.by_name(reasons, |stats| &stats.not_admitted))?;
        let kinds = RATE_LIMITED.iter().map(ToString::to_string);
        writer.by(&f::RATE_LIMITED, self.by_name(kinds, |stats| &stats.rate_limited))?;
        let errors = TOKEN_ERRORS.iter().map(ToString::to_string);
        writer.by(&f::TOKENS_REFUSED, errors.zip(self.tokens.counts()))?;
        let mut counts = [0; LATENCY_US.len() + 1];
        for stats in &self.stats {
            counts.iter_mut().zip(stats.send.counts()).for_each(|(sum, count)| *sum += count);
        }
        let sum_us = self.sum(|stats| stats.send.sum_us());
        writer.histogram(&f::SEND_SECONDS, &LATENCY_US, &counts, sum_us)
    }
}

/// A status or a close code as a label.
fn number(number: u16) -> String {
    match number {
        0 => "other".to_owned(),
        // RFC 6455 section 7.1.5: it stands for none.
        1005 => "none".to_owned(),
        number => number.to_string(),
    }
}

impl Collector for Shards {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut writer = Writer(encoder);
        for (family, cell) in COLUMNS {
            writer.numbered(family, self.stats.iter().map(|stats| cell(stats).value()))?;
        }
        let asleep = self.stats.iter().map(|stats| stats.asleep_ns.value() as f64 / 1e9);
        writer.numbered_fractions(&f::ASLEEP_SECONDS, asleep)?;
        self.encode_sums(&mut writer)
    }
}
