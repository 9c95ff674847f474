//! A connection's input: from the receive buffer through its protocol to the router's queue.

use roost_proto::tier::{Full, Request, SessionId};

use super::{
    Parts, Shard,
    backlog::Backlog,
    slot::{
        self, ATTACHED, BUSY, ENDED, GREEDY, HUNG, Life, PAUSED, POLLING, READABLE, READING, RECEIVING,
        THIRSTY,
    },
    trace::Step,
};
use crate::{
    conn::{Ask, Identity, Next, Phase, Turn},
    limits,
    ring::{Buffer, Completion, Op, Ring, Token},
};

/// Where a connection's input is.
pub(super) enum Source<'a> {
    /// In a buffer of the ring.
    Buffer(Buffer, usize),
    /// In memory of our own.
    Kept(&'a mut [u8]),
}

/// Poll events after which nothing but the end of the stream, or an error, follows what can be read.
const ENDS: i32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32;

impl<R: Ring> Shard<R> {
    /// The poll has fired: the connection is read before the turn ends.
    pub(super) fn polled(&mut self, slot: u32, completion: &Completion) {
        let flags = &mut self.slab[slot].flags;
        if !completion.more {
            flags.set(POLLING, false);
        }
        if completion.result > 0 {
            flags.set(READABLE, true);
            flags.set(HUNG, flags.has(HUNG) || completion.result & ENDS != 0);
        } else if completion.result != -libc::ECANCELED {
            // The kernel could not arm it (ENOMEM): an end that is seen beats a connection nobody hears any more.
            flags.set(ENDED, true);
        }
        self.touch(slot);
    }

    /// A read has completed. A short one has taken all there was: for what comes after it the poll fires again. One
    /// that filled its buffer, or that follows news of the peer's end, is followed by another in the next turn.
    pub(super) fn read(&mut self, slot: u32, completion: &Completion) {
        self.slab[slot].flags.set(READING, false);
        match completion.result {
            bytes if bytes > 0 => {
                let before = self.parts.stats.messages_received.value();
                self.take_buffer(slot, completion);
                let full = bytes as u32 == limits::RECEIVE_BUFFER_BYTES;
                if full {
                    self.read_full(self.parts.stats.messages_received.value() - before);
                }
                let flags = &mut self.slab[slot].flags;
                flags.set(GREEDY, full);
                flags.set(READABLE, flags.has(READABLE) || full || flags.has(HUNG));
                self.consider_busy(slot);
            }
            // Nothing there: somebody (a send) has taken the error the poll told of.
            again if again == -libc::EAGAIN => self.slab[slot].flags.set(HUNG, false),
            again if again == -libc::EINTR => self.slab[slot].flags.set(READABLE, true),
            _ => self.slab[slot].flags.set(ENDED, true),
        }
        self.touch_unsettled(slot);
    }

    /// A multishot receive has completed, once more or for the last time.
    pub(super) fn received(&mut self, slot: u32, completion: &Completion) {
        if !completion.more {
            self.slab[slot].flags.set(RECEIVING, false);
            self.touch(slot);
        }
        let (bytes, before) = (completion.result, self.parts.stats.messages_received.value());
        self.take_buffer(slot, completion);
        match -bytes {
            full if full == -(limits::RECEIVE_BUFFER_BYTES as i32) => {
                self.received_full(slot, self.parts.stats.messages_received.value() - before);
            }
            negative if negative < 0 => {}
            libc::ENOBUFS => {
                self.parts.stats.receive_buffers_exhausted.add(1);
                self.leave_busy(slot);
            }
            // Paused by us, or on its way back to the poll; `settle` goes on.
            libc::ECANCELED => {}
            _ => {
                self.slab[slot].flags.set(ENDED, true);
                self.touch(slot);
            }
        }
    }

    /// Takes what a completion brought through the protocol, and gives the buffer back.
    fn take_buffer(&mut self, slot: u32, completion: &Completion) {
        let Some(buffer) = completion.buffer else { return };
        if let Ok(bytes) = usize::try_from(completion.result) {
            self.parts.stats.bytes_received.add(bytes as u64);
            let full = self.backlog.is_full() && self.hold_back(slot);
            if full || (self.slab[slot].flags.has(PAUSED) && self.slab[slot].life == Life::Live) {
                self.park(slot, buffer, bytes);
            } else if self.slab[slot].life == Life::Live {
                self.take_input(slot, Source::Buffer(buffer, bytes));
            } else {
                self.discard(slot, bytes);
            }
        }
        self.parts.ring.recycle(buffer);
    }

    /// Arms what the connection waits on, and reads it when there is something to read.
    pub(super) fn listen(&mut self, slot: u32) {
        let generation = self.slab.generation(slot).unwrap_or_default();
        let flags = self.slab[slot].flags;
        let descriptor = self.slab[slot].descriptor;
        if flags.any(RECEIVING | ENDED) {
            return;
        }
        if flags.has(BUSY) && !flags.any(POLLING | READING) {
            if flags.has(PAUSED) {
                return;
            }
            if self.parts.ring.receive(descriptor, Token::new(Op::Receive, generation, slot)) {
                self.slab[slot].flags.set(RECEIVING, true);
                self.slab[slot].flags.set(READABLE, false);
                return;
            }
            self.leave_busy(slot);
        }
        let flags = self.slab[slot].flags;
        if !flags.any(BUSY | POLLING) {
            self.slab[slot].flags.set(POLLING, true);
            self.parts.ring.poll(descriptor, Token::new(Op::Poll, generation, slot));
        }
        if flags.has(READABLE) && !flags.any(READING | PAUSED | THIRSTY) {
            if flags.has(GREEDY) {
                self.read_in_turn(slot);
                return;
            }
            let in_turn = self.thirsty.is_empty();
            if !(in_turn && self.start_read(slot)) {
                self.parts.stats.read_buffers_exhausted.add(1);
                self.slab[slot].flags.set(THIRSTY, true);
                self.thirsty.push_back(slot);
            }
        }
    }

    /// False when no buffer is free.
    pub(super) fn start_read(&mut self, slot: u32) -> bool {
        let token = Token::new(Op::Read, self.slab.generation(slot).unwrap_or_default(), slot);
        let connection = &mut self.slab[slot];
        if !self.parts.ring.read(connection.descriptor, token) {
            return false;
        }
        connection.flags.set(READABLE, false);
        connection.flags.set(READING, true);
        true
    }

    /// Reads those that waited for a buffer, in their order. An entry whose connection is gone is told by the flag, which
    /// a successor in the slot has only when it waits itself.
    pub(super) fn read_thirsty(&mut self) {
        while let Some(slot) = self.thirsty.pop_front() {
            let waits = self.slab.generation(slot).is_some() && self.slab[slot].flags.has(THIRSTY);
            if !waits {
                continue;
            }
            self.slab[slot].flags.set(THIRSTY, false);
            let due = self.slab[slot].is_to_be_read();
            if !due || (self.backlog.is_full() && self.hold_back(slot)) {
                continue;
            }
            if !self.start_read(slot) {
                self.slab[slot].flags.set(THIRSTY, true);
                self.thirsty.push_front(slot);
                return;
            }
        }
    }

    /// Takes input through the protocol. One that made its outbox long is paused before more of its input is looked at.
    #[inline]
    pub(super) fn take_input(&mut self, slot: u32, input: Source<'_>) {
        let Some(header_bytes) = self.past_proxy_header(slot, &input) else { return };
        let Self { parts, slab, outboxes, asks, notes, scratch, assembly_bytes, now, moment, .. } = self;
        let connection = &mut slab[slot];
        if connection.life != Life::Live {
            return;
        }
        let input = match input {
            Source::Buffer(buffer, bytes) => parts.ring.buffer(buffer, bytes),
            Source::Kept(bytes) => bytes,
        };
        let before = outboxes.len(connection.outbox);
        let out = outboxes.write(connection.outbox);
        let mut turn = Turn { out, asks, notes, messages: 0, assembly_bytes, scratch, now: *moment };
        let next = connection.conn.receive(&mut input[header_bytes..], &parts.rules, &mut turn);
        parts.stats.messages_received.add(turn.messages);
        if matches!(connection.conn.phase(), Phase::Attaching | Phase::Open) {
            let first = connection.heard != *now;
            connection.reads = if first { 1 } else { connection.reads.saturating_add(1) };
            connection.heard = *now;
        }
        outboxes.written(&mut connection.outbox);
        let after = outboxes.len(connection.outbox);
        if after > before {
            outboxes.hurry(connection.outbox);
        }
        self.received_by(slot, next);
        if self.outboxes.is_long(after) {
            self.pause(slot);
        }
    }

    /// The session has begun: what its client sent before is received now.
    pub(super) fn take_early_input(&mut self, slot: u32) {
        let mut early = self.slab[slot].conn.attached(&mut self.assembly_bytes);
        if self.backlog.is_full() && !early.is_empty() {
            return self.park_early(slot, early);
        }
        let Self { parts, slab, outboxes, asks, notes, scratch, assembly_bytes, moment, .. } = self;
        let connection = &mut slab[slot];
        let out = outboxes.open(&mut connection.outbox);
        let mut turn = Turn { out, asks, notes, messages: 0, assembly_bytes, scratch, now: *moment };
        let next = connection.conn.receive(&mut early, &parts.rules, &mut turn);
        parts.stats.messages_received.add(turn.messages);
        self.received_by(slot, next);
    }

    /// Carries out what came of a connection's input.
    fn received_by(&mut self, slot: u32, next: Next) {
        self.count_notes(slot);
        self.ask(slot);
        if next != Next::Stay {
            self.finish(slot);
            self.slab[slot].flags.set(slot::OVER, next == Next::Over);
        }
        if self.slab[slot].conn.is_early() {
            self.pause(slot);
        }
        self.touch_unsettled(slot);
    }

    /// Hands the asks of a connection to the router, in order.
    fn ask(&mut self, slot: u32) {
        if self.asks.is_empty() {
            return;
        }
        let who = self.slab.occupied_mut(slot);
        let who = who.and_then(|(generation, connection)| Some((generation, connection.conn.identity()?)));
        let Some((generation, Identity { user, device })) = who else {
            self.asks.clear();
            return;
        };
        let session = SessionId { gateway: 0, shard: self.parts.number, slot, generation };
        let Self { parts, slab, asks, probe, backlog, .. } = self;
        let mut attaches = false;
        for ask in asks.drain(..) {
            let request = match ask {
                Ask::Attach => {
                    slab[slot].flags.set(ATTACHED, true);
                    attaches = true;
                    Request::Attach { session, user, device }
                }
                Ask::Frame { id, body } => {
                    probe.asked(slot, generation, id, &body);
                    Request::Frame { session, user, device, id, body }
                }
            };
            hand_over(parts, backlog, request);
        }
        if attaches {
            self.trace(slot, Step::Attaching);
        }
        if !self.backlog.is_empty() {
            self.pause(slot);
            self.hold(slot);
        }
    }

    /// Hands a request to the router, or holds it behind those that wait already. Reads wait behind nobody.
    pub(super) fn submit(&mut self, request: Request) {
        hand_over(&self.parts, &mut self.backlog, request);
    }

    pub(super) fn session(&self, slot: u32) -> SessionId {
        let generation = self.slab.generation(slot).unwrap_or_default();
        SessionId { gateway: 0, shard: self.parts.number, slot, generation }
    }
}

#[inline]
fn hand_over<R>(parts: &Parts<R>, backlog: &mut Backlog, request: Request) {
    let Some(uplink) = &parts.uplink else { return };
    if !backlog.is_empty() && !request.is_read() {
        backlog.push(request);
    } else if let Err(Full(request)) = uplink.submit(request) {
        parts.stats.router_full.add(1);
        backlog.push(request);
    }
}
