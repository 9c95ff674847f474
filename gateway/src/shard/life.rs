//! A connection's life in the shard after its input was taken: what is sent, when it is read, how it ends.

use std::{sync::atomic::Ordering, time::Duration};

use roost_proto::tier::Request;

use super::{
    Shard,
    outboxes::NO_OUTBOX,
    slot::{
        ADMITTED, ATTACHED, CUT, DIRTY, ENDED, FAILED, Life, OVER, PARKED, PAUSED, POLLING, READABLE,
        READING, RECEIVING, SENDING, SHUTTING,
    },
    trace::Step,
};
use crate::{
    conn::{Phase, Turn},
    limits,
    ring::{Op, Ring, Token},
};

impl<R: Ring> Shard<R> {
    /// Looks once at each connection that was touched in this turn.
    pub(super) fn settle_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            debug_assert!(
                self.slab.generation(slot).is_some(),
                "a slot that was touched is freed in a later turn"
            );
            self.slab[slot].flags.set(DIRTY, false);
            self.settle(slot);
        }
        // Nothing that `settle` does touches a connection again, so the list can be used anew.
        debug_assert!(self.dirty.is_empty(), "a connection touched by `settle` would never be looked at");
        self.dirty = dirty;
    }

    /// Moves a connection on as far as it goes now.
    fn settle(&mut self, slot: u32) {
        if self.only_speaks(slot) {
            return;
        }
        self.begin_end(slot);
        match self.slab[slot].life {
            Life::Live => {
                self.flush(slot);
                self.regulate(slot);
            }
            Life::Flushing => self.settle_flushing(slot),
            Life::Lingering => self.settle_lingering(slot),
            Life::Ending => self.settle_ending(slot),
            Life::Closing => {}
        }
    }

    /// The everyday case, with one look at the slot: a connection that listens has something to say and nothing else to do. False, and
    /// nothing was done, where it is another.
    #[inline]
    fn only_speaks(&mut self, slot: u32) -> bool {
        let Self { parts, slab, outboxes, now_ms, .. } = self;
        let Some((generation, connection)) = slab.occupied_mut(slot) else { return false };
        let waiting = outboxes.len(connection.outbox);
        if !connection.is_attentive() || waiting == 0 || waiting > limits::OUTBOX_RESUME_BYTES {
            return false;
        }
        if !connection.flags.has(SENDING) && !outboxes.may_wait(connection.outbox, *now_ms) {
            connection.flags.set(SENDING, true);
            let bytes = outboxes.take(&mut connection.outbox);
            outboxes.departs(bytes.len());
            parts.ring.send(connection.descriptor, Token::new(Op::Send, generation, slot), bytes);
        } else {
            outboxes.counted(connection.outbox);
        }
        true
    }

    /// A socket that ended by itself is on its way out, whatever was still to be said.
    fn begin_end(&mut self, slot: u32) {
        let connection = &self.slab[slot];
        let flags = connection.flags;
        let waiting = self.outboxes.len(connection.outbox);
        let crowded = flags.has(SENDING) && self.outboxes.is_crowded(waiting);
        let over = waiting > self.outbox_bytes_max() || crowded;
        // A peer that sent FIN after its Close frame may still read our answer, and what it sent before it is taken; any
        // other end is an end.
        let finished = flags.has(ENDED) && !flags.has(PARKED) && connection.life != Life::Flushing;
        let ended = flags.has(FAILED) || finished;
        if connection.life < Life::Ending && (ended || over) {
            self.parts.stats.outboxes_crowded_out.add(u64::from(crowded));
            if connection.life == Life::Live {
                self.parts.stats.lost.add(1);
                self.trace(slot, Step::Lost);
            }
            self.end(slot);
        }
    }

    fn outbox_bytes_max(&self) -> usize {
        limits::OUTBOX_BYTES_MAX + self.parts.rules.message_bytes_max as usize
    }

    fn flush(&mut self, slot: u32) {
        let Self { parts, slab, outboxes, now, now_ms, .. } = self;
        let generation = slab.generation(slot).unwrap_or_default();
        let connection = &mut slab[slot];
        let waits = connection.life == Life::Live && outboxes.may_wait(connection.outbox, *now_ms);
        if connection.outbox == NO_OUTBOX || connection.flags.has(SENDING) || waits {
            return;
        }
        let bytes = outboxes.take(&mut connection.outbox);
        if bytes.is_empty() {
            outboxes.keep(bytes);
            return;
        }
        if connection.flags.has(PAUSED) {
            // It is not read, so that it is not heard; from now on it has its time to take this.
            connection.heard = *now;
        }
        connection.flags.set(SENDING, true);
        outboxes.departs(bytes.len());
        parts.ring.send(connection.descriptor, Token::new(Op::Send, generation, slot), bytes);
    }

    /// Reads a live connection, or stops reading it: its peer takes too little, or the router's queue is full.
    fn regulate(&mut self, slot: u32) {
        let flags = self.slab[slot].flags;
        let waiting = self.outboxes.counted(self.slab[slot].outbox);
        if !flags.has(PAUSED) {
            if self.outboxes.is_long(waiting) {
                self.pause(slot);
            } else if self.backlog.is_full() && flags.has(READABLE) {
                self.hold_back(slot);
            }
        } else if !self.backlog.is_empty() {
            self.hold(slot);
        } else if waiting <= limits::OUTBOX_RESUME_BYTES && !self.slab[slot].conn.is_early() {
            if flags.has(PARKED) {
                self.resumed.push((slot, self.slab.generation(slot).unwrap_or_default()));
            } else {
                self.slab[slot].flags.set(PAUSED, false);
                self.slab[slot].heard = self.now;
            }
        }
        self.listen(slot);
    }

    /// Reads no more: a poll that fires is only remembered, a multishot receive is ended. What has already come is kept
    /// as it came (`parked.rs`).
    pub(super) fn pause(&mut self, slot: u32) {
        let generation = self.slab.generation(slot).unwrap_or_default();
        let connection = &mut self.slab[slot];
        let first = !connection.flags.has(PAUSED);
        connection.flags.set(PAUSED, true);
        self.parts.stats.paused.add(u64::from(first));
        if first && connection.flags.has(RECEIVING) {
            self.parts.ring.cancel(connection.descriptor, Token::new(Op::Receive, generation, slot));
        }
    }

    /// All is said: what waits goes out, then a FIN.
    pub(super) fn finish(&mut self, slot: u32) {
        self.detach(slot);
        self.handshake_is_over(slot);
        self.drop_parked(slot);
        let connection = &mut self.slab[slot];
        if connection.life == Life::Live {
            connection.life = Life::Flushing;
            connection.heard = self.now;
        }
    }

    fn settle_flushing(&mut self, slot: u32) {
        self.flush(slot);
        if self.slab[slot].flags.has(SENDING) {
            return;
        }
        if self.slab[slot].flags.has(OVER) {
            self.end(slot);
            self.settle_ending(slot);
            return;
        }
        let generation = self.slab.generation(slot).unwrap_or_default();
        let connection = &mut self.slab[slot];
        connection.life = Life::Lingering;
        connection.flags.set(SHUTTING, true);
        self.parts.ring.shutdown_write(connection.descriptor, Token::new(Op::Shutdown, generation, slot));
        self.settle_lingering(slot);
    }

    fn settle_lingering(&mut self, slot: u32) {
        if self.slab[slot].flags.has(ENDED) {
            self.end(slot);
            self.settle_ending(slot);
            return;
        }
        self.slab[slot].flags.set(PAUSED, false);
        self.listen(slot);
    }

    /// Nothing more is said or heard.
    pub(super) fn end(&mut self, slot: u32) {
        self.detach(slot);
        self.handshake_is_over(slot);
        self.drop_parked(slot);
        self.forget_discarded(slot);
        let connection = &mut self.slab[slot];
        connection.conn.end(&mut self.assembly_bytes);
        connection.life = Life::Ending;
        connection.heard = self.now;
        let bytes = self.outboxes.take(&mut connection.outbox);
        self.outboxes.keep(bytes);
    }

    fn settle_ending(&mut self, slot: u32) {
        let generation = self.slab.generation(slot).unwrap_or_default();
        let connection = &mut self.slab[slot];
        let flags = connection.flags;
        for (bit, operation) in [(POLLING, Op::Poll), (RECEIVING, Op::Receive), (SENDING, Op::Send)] {
            if flags.has(bit) && !flags.has(CUT) {
                self.parts.ring.cancel(connection.descriptor, Token::new(operation, generation, slot));
            }
        }
        connection.flags.set(CUT, true);
        if flags.any(POLLING | READING | RECEIVING | SENDING | SHUTTING) {
            // Their completions bring us back here.
            return;
        }
        connection.life = Life::Closing;
        self.parts.ring.close(connection.descriptor, Token::new(Op::Close, generation, slot));
    }

    /// The shutdown was carried out.
    pub(super) fn shut(&mut self, slot: u32) {
        self.slab[slot].flags.set(SHUTTING, false);
        self.touch(slot);
    }

    /// The descriptor is closed: nothing names this slot any more.
    pub(super) fn closed(&mut self, slot: u32) {
        self.trace(slot, Step::Gone);
        self.clients.forget(slot);
        let connection = self.slab.remove(slot);
        if connection.flags.has(ADMITTED) {
            self.parts.shared.connections.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.refusing -= 1;
        }
        self.parts.stats.ended.add(1);
    }

    fn detach(&mut self, slot: u32) {
        if !self.slab[slot].flags.has(ATTACHED) {
            return;
        }
        self.slab[slot].flags.set(ATTACHED, false);
        let session = self.session(slot);
        if let Some(identity) = self.slab[slot].conn.identity() {
            self.submit(Request::Detach { session, user: identity.user, device: identity.device });
        }
    }

    /// Ends those whose time is up, among as many slots as the clock says are due.
    pub(super) fn sweep(&mut self, age: Duration) {
        for slot in self.sweep.slice(self.slab.slots(), age) {
            if self.slab.generation(slot).is_some() {
                self.sweep_one(slot);
            }
        }
    }

    fn sweep_one(&mut self, slot: u32) {
        let connection = &self.slab[slot];
        let silent_s = self.now.since(connection.heard);
        match (connection.life, connection.conn.phase()) {
            (Life::Live, Phase::Handshake | Phase::Refusing)
                if silent_s > self.handshakes.allowed.seconds_max =>
            {
                self.parts.stats.handshakes_timed_out.add(1);
                self.trace(slot, Step::TimedOut);
                self.end(slot);
            }
            (Life::Live, Phase::Attaching | Phase::Open)
                if silent_s > limits::STALLED_S_MAX && connection.flags.has(PAUSED | SENDING) =>
            {
                self.parts.stats.stalled.add(1);
                self.trace(slot, Step::Lost);
                self.end(slot);
            }
            (Life::Live, Phase::Attaching | Phase::Open)
                if silent_s > self.silence_s_max() && !connection.flags.has(PAUSED) =>
            {
                self.parts.stats.reaped.add(1);
                self.say_close(slot, crate::conn::close_code::GOING_AWAY, "no heartbeat");
            }
            (Life::Flushing | Life::Lingering, _) if silent_s > limits::CLOSE_S_MAX => self.end(slot),
            // A cancellation may come while its operation is between two states of the kernel, and find nothing.
            (Life::Ending, _) if silent_s > limits::CLOSE_S_MAX => self.slab[slot].flags.set(CUT, false),
            _ => return,
        }
        self.touch(slot);
    }

    fn silence_s_max(&self) -> u16 {
        self.parts.heartbeat_s as u16 * limits::SILENT_HEARTBEATS
    }

    /// Sends a Close frame and finishes.
    pub(super) fn say_close(&mut self, slot: u32, code: u16, reason: &str) {
        self.trace(slot, Step::Closing(code, reason));
        let Self { slab, outboxes, asks, notes, scratch, assembly_bytes, moment, .. } = self;
        let connection = &mut slab[slot];
        let out = outboxes.open(&mut connection.outbox);
        let mut turn = Turn { out, asks, notes, messages: 0, assembly_bytes, scratch, now: *moment };
        connection.conn.close(code, reason, &mut turn);
        self.count_notes(slot);
        self.finish(slot);
        self.touch(slot);
    }
}
