//! Counters of one shard: written by its thread alone, read by whoever renders the metrics.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{admission::REASONS, conn::RATE_LIMITED};

/// A number with one writer, so that counting needs no locked instruction.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds; only the shard's thread may.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    /// Replaces; only the shard's thread may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// HTTP statuses a refused upgrade is answered with; the last place counts all others.
pub const REFUSAL_STATUSES: [u16; 8] = [400, 401, 404, 405, 426, 431, 503, 0];
/// Close codes the gateway sends by itself; the last place counts all others.
pub const CLOSE_CODES: [u16; 7] = [1001, 1002, 1003, 1007, 1009, 1013, 0];

/// Close codes of clients that are counted apart: the usual ones, and 1005, which stands for none (RFC 6455 section 7.1.5). The
/// last place counts all others.
pub const PEER_CLOSE_CODES: [u16; 5] = [1000, 1001, 1002, 1005, 0];

/// Upper bounds of a latency's buckets, microseconds; one more bucket holds what is longer.
pub const LATENCY_US: [u64; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

/// Durations by size, with one writer.
#[derive(Debug, Default)]
pub struct Latencies {
    buckets: [Cell; LATENCY_US.len() + 1],
    sum_us: Cell,
}

impl Latencies {
    /// Counts one; only the shard's thread may.
    pub fn add(&self, took: Duration) {
        let us = took.as_micros() as u64;
        self.buckets[LATENCY_US.partition_point(|bound| *bound < us)].add(1);
        self.sum_us.add(us);
    }

    /// How many there are in each bucket.
    pub fn counts(&self) -> [u64; LATENCY_US.len() + 1] {
        std::array::from_fn(|place| self.buckets[place].value())
    }

    /// All of them together, microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.value()
    }
}

/// One shard's counters.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections now, those on their way in or out included.
    pub connections: Cell,
    /// Connections now that were not let in; [`crate::limits::REFUSING_MAX`] of them stop the accepting.
    pub refusing: Cell,
    /// Connections that were not let in, by [`crate::admission::Reason`].
    pub not_admitted: [Cell; REASONS.len()],
    /// Connections that were closed because no valid header of a proxy came first.
    pub proxy_headers_refused: Cell,
    /// Connections now whose client's address a proxy has told.
    pub proxied: Cell,
    /// Clients that waited to be accepted when the listener was last asked, in a tick.
    pub listen_backlog: Cell,
    /// Clients that may wait there.
    pub listen_backlog_max: Cell,
    /// Connections accepted.
    pub accepted: Cell,
    /// Accepts that failed: the table or the machine was full, or there was no memory for a slot.
    pub accept_errors: Cell,
    /// Connections that are gone.
    pub ended: Cell,
    /// Upgrades answered with 101.
    pub upgraded: Cell,
    /// Upgrades refused, by status.
    pub refused: [Cell; REFUSAL_STATUSES.len()],
    /// Close frames sent by the gateway's own decision, by code.
    pub closed: [Cell; CLOSE_CODES.len()],
    /// Close frames that came first, by code.
    pub closed_by_peer: [Cell; PEER_CLOSE_CODES.len()],
    /// Connections whose peer was gone, or took too little, while messages flowed.
    pub lost: Cell,
    /// Frames that were not taken, by the limit they were beyond.
    pub rate_limited: [Cell; RATE_LIMITED.len()],
    /// Connections whose handshake took too long.
    pub handshakes_timed_out: Cell,
    /// Connections ended in their handshake because there were too many of them.
    pub handshakes_crowded_out: Cell,
    /// Connections in their handshake now.
    pub handshakes: Cell,
    /// Sessions ended because they took nothing of what was sent to them for too long.
    pub stalled: Cell,
    /// Connections ended because too much waited for all of them together.
    pub outboxes_crowded_out: Cell,
    /// Sessions closed because partial messages took too much memory, and theirs was large.
    pub relieved: Cell,
    /// Connections reset because they went on sending after we had said goodbye.
    pub cut_short: Cell,
    /// Sessions reaped because nothing came from them.
    pub reaped: Cell,
    /// Whole messages that came.
    pub messages_received: Cell,
    /// Frames of the router that were sent.
    pub frames_sent: Cell,
    /// Bytes that came.
    pub bytes_received: Cell,
    /// Bytes that were sent.
    pub bytes_sent: Cell,
    /// Times that a connection was read no more for a while.
    pub paused: Cell,
    /// Receives that came for a connection after it was paused, and were kept as they came.
    pub parked: Cell,
    /// From a Send to its Sent, of one Send at a time.
    pub send: Latencies,
    /// Turns of the loop.
    pub turns: Cell,
    /// Completions that were taken.
    pub completions: Cell,
    /// Nanoseconds in the rings, asleep for the most part.
    pub asleep_ns: Cell,
    /// Multishot receives that found no provided buffer; their connections went back to the poll.
    pub receive_buffers_exhausted: Cell,
    /// Reads that had to wait for a read buffer.
    pub read_buffers_exhausted: Cell,
    /// Reads of connections that send more than a read takes, put off to a later turn.
    pub greedy: Cell,
    /// Connections that went from the poll to multishot receive.
    pub became_busy: Cell,
    /// Further rings that could not be opened.
    pub ring_failures: Cell,
    /// Requests the router's queue had no room for at first.
    pub router_full: Cell,
    /// Events of the store that could not be read.
    pub corrupt_events: Cell,
    /// Connections with output that waits, now.
    pub outboxes: Cell,
    /// Bytes of output now: on its way, or waiting behind what is.
    pub outbox_bytes: Cell,
    /// Bytes of partial input held now.
    pub assembly_bytes: Cell,
    /// Requests held for the router now.
    pub backlog_requests: Cell,
    /// Bytes of memory that they take.
    pub backlog_bytes: Cell,
    /// Effects waiting in the mailbox now.
    pub mailbox_effects: Cell,
    /// Rings open now.
    pub rings: Cell,
    /// Direct descriptors in use now, in all rings.
    pub ring_descriptors: Cell,
    /// Places for direct descriptors in the rings that are open now.
    pub ring_descriptors_max: Cell,
    /// Connections received by multishot receive now.
    pub busy_connections: Cell,
    /// Read buffers in use now.
    pub read_buffers: Cell,
    /// Connections that wait for a read buffer now.
    pub read_waiting: Cell,
    /// Buffers provided for multishot receives now.
    pub provided_buffers: Cell,
    /// Blocks of the slab that are mapped now.
    pub slab_blocks: Cell,
    /// Slots in them.
    pub slab_slots: Cell,
}

impl Stats {
    /// The counter of a refusal's status.
    pub fn refused(&self, status: u16) -> &Cell {
        &self.refused[place(&REFUSAL_STATUSES, status)]
    }

    /// The counter of a close code.
    pub fn closed(&self, code: u16) -> &Cell {
        &self.closed[place(&CLOSE_CODES, code)]
    }

    /// The counter of a client's close code.
    pub fn closed_by_peer(&self, code: u16) -> &Cell {
        &self.closed_by_peer[place(&PEER_CLOSE_CODES, code)]
    }
}

fn place(known: &[u16], value: u16) -> usize {
    known.iter().position(|one| *one == value).unwrap_or(known.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_into_the_first_bucket_that_holds_it() {
        let latencies = Latencies::default();
        for us in [0, 50, 51, 5_000_000, 5_000_001, u64::from(u32::MAX)] {
            latencies.add(Duration::from_micros(us));
        }
        let counts = latencies.counts();
        assert_eq!(
            (counts[0], counts[1], counts[LATENCY_US.len() - 1], counts[LATENCY_US.len()]),
            (2, 1, 1, 2)
        );
        assert_eq!(counts.iter().sum::<u64>(), 6);
        assert_eq!(latencies.sum_us(), 50 + 51 + 5_000_000 + 5_000_001 + u64::from(u32::MAX));
    }

    #[test]
    fn codes_that_are_not_counted_apart_share_the_last_place() {
        let stats = Stats::default();
        for code in [1000, 1005, 1011, 4000] {
            stats.closed_by_peer(code).add(1);
        }
        assert_eq!(stats.closed_by_peer.each_ref().map(Cell::value), [1, 0, 0, 1, 2]);
    }
}
