//! A connection's input: from the receive buffer through its protocol to the router's queue.

use roost_proto::tier::{Full, Request, SessionId};

use super::{
    Shard,
    slot::{self, ATTACHED, ENDED, HELD, Life, RECEIVING},
};
use crate::{
    conn::{Ask, Next, Phase, Turn, close_code},
    limits,
    ring::{Completion, Ring},
};

impl<R: Ring> Shard<R> {
    pub(super) fn received(&mut self, slot: u32, completion: &Completion) {
        if !completion.more {
            self.slab[slot].flags.set(RECEIVING, false);
            self.touch(slot);
        }
        if completion.result > 0 {
            if let Some(buffer) = completion.buffer {
                self.take_input(slot, buffer, completion.result as usize);
                self.parts.ring.recycle(buffer);
            }
            return;
        }
        if let Some(buffer) = completion.buffer {
            self.parts.ring.recycle(buffer);
        }
        match -completion.result {
            libc::ENOBUFS => self.parts.stats.receive_buffers_exhausted.add(1),
            // Paused by us; `settle` arms it again.
            libc::ECANCELED => {}
            _ => {
                self.slab[slot].flags.set(ENDED, true);
                self.touch(slot);
            }
        }
    }

    fn take_input(&mut self, slot: u32, buffer: u16, bytes: usize) {
        let Self { parts, slab, outboxes, asks, notes, scratch, assembly_bytes, now, .. } = self;
        let connection = &mut slab[slot];
        parts.stats.bytes_received.add(bytes as u64);
        if connection.life != Life::Live {
            return;
        }
        let input = parts.ring.buffer(buffer, bytes);
        let out = outboxes.open(&mut connection.outbox);
        let mut turn = Turn { out, asks, notes, assembly_bytes, scratch };
        let next = connection.conn.receive(input, &parts.rules, &mut turn);
        if matches!(connection.conn.phase(), Phase::Attaching | Phase::Open) {
            connection.heard = *now;
        }
        self.received_by(slot, next);
    }

    /// The session has begun: what its client sent before is received now.
    pub(super) fn take_early_input(&mut self, slot: u32) {
        let Self { parts, slab, outboxes, asks, notes, scratch, assembly_bytes, .. } = self;
        let connection = &mut slab[slot];
        let mut early = connection.conn.attached(assembly_bytes);
        let out = outboxes.open(&mut connection.outbox);
        let mut turn = Turn { out, asks, notes, assembly_bytes, scratch };
        let next = connection.conn.receive(&mut early, &parts.rules, &mut turn);
        self.received_by(slot, next);
    }

    /// Carries out what came of a connection's input.
    fn received_by(&mut self, slot: u32, next: Next) {
        self.count_notes();
        self.ask(slot);
        if next != Next::Stay {
            self.finish(slot);
            self.slab[slot].flags.set(slot::OVER, next == Next::Over);
        }
        if self.slab[slot].conn.is_early() {
            self.pause(slot);
        }
        self.touch(slot);
    }

    /// Hands the asks of a connection to the router, in order.
    fn ask(&mut self, slot: u32) {
        if self.asks.is_empty() {
            return;
        }
        let Some(identity) = self.slab[slot].conn.identity() else {
            self.asks.clear();
            return;
        };
        let session = self.session(slot);
        let (user, device) = (identity.user, identity.device);
        // Taken and put back, so that its memory serves every message.
        let mut asks = std::mem::take(&mut self.asks);
        for ask in asks.drain(..) {
            let request = match ask {
                Ask::Attach => {
                    self.slab[slot].flags.set(ATTACHED, true);
                    Request::Attach { session, user, device }
                }
                Ask::Frame { id, body } => Request::Frame { session, user, device, id, body },
            };
            self.submit(request);
        }
        self.asks = asks;
        if self.backlog.len() > limits::BACKLOG_REQUESTS_MAX {
            self.say_close(slot, close_code::TRY_AGAIN_LATER, "the gateway is overloaded; come back later");
        } else if !self.backlog.is_empty() {
            self.pause(slot);
            self.hold(slot);
        }
    }

    /// Hands a request to the router, or holds it behind those that wait already.
    pub(super) fn submit(&mut self, request: Request) {
        let Some(uplink) = &self.parts.uplink else { return };
        if !self.backlog.is_empty() {
            self.backlog.push_back(request);
        } else if let Err(Full(request)) = uplink.submit(request) {
            self.parts.stats.router_full.add(1);
            self.backlog.push_back(request);
        }
    }

    pub(super) fn session(&self, slot: u32) -> SessionId {
        let generation = self.slab.generation(slot).unwrap_or_default();
        SessionId { gateway: 0, shard: self.parts.number, slot, generation }
    }

    pub(super) fn offer_backlog(&mut self) {
        let Some(uplink) = &self.parts.uplink else { return };
        while let Some(request) = self.backlog.pop_front() {
            if let Err(Full(request)) = uplink.submit(request) {
                self.backlog.push_front(request);
                return;
            }
        }
        for (slot, generation) in std::mem::take(&mut self.held) {
            if self.slab.holds(slot, generation) {
                self.slab[slot].flags.set(HELD, false);
                self.touch(slot);
            }
        }
    }

    /// Looks at `slot` again when the router has taken the backlog.
    pub(super) fn hold(&mut self, slot: u32) {
        if !self.slab[slot].flags.has(HELD) {
            self.slab[slot].flags.set(HELD, true);
            let generation = self.slab.generation(slot).unwrap_or_default();
            self.held.push((slot, generation));
        }
    }
}
