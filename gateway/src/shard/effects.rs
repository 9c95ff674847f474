//! What the router wants done, and the drain.

use roost_proto::tier::{Action, Effect};
use roost_proto::v1;

use super::{
    Shard,
    slot::{Life, UNWELCOMED},
};
use crate::{
    conn::{Phase, close_code},
    limits,
    ring::Ring,
};

impl<R: Ring> Shard<R> {
    /// Takes effects from the mailbox, no more than a turn's budget.
    pub(super) fn take_effects(&mut self) {
        for _ in 0..limits::EFFECTS_PER_TURN_MAX {
            let Some(effect) = self.parts.mailbox.take() else { return };
            self.take_effect(&effect);
        }
    }

    fn take_effect(&mut self, effect: &Effect) {
        let slot = effect.session.slot;
        if !self.slab.holds(slot, effect.session.generation) {
            return;
        }
        let connection = &mut self.slab[slot];
        if connection.life != Life::Live || connection.conn.phase() != Phase::Open {
            return;
        }
        let out = self.outboxes.open(&mut connection.outbox);
        match &effect.action {
            Action::Frame(frame) => connection.conn.send_frame(frame, &mut self.scratch, out),
            Action::Event(event) => {
                if connection.conn.send_event(event, &mut self.scratch, out).is_err() {
                    self.parts.stats.corrupt_events.add(1);
                    tracing::error!(
                        user = connection.conn.identity().map(|who| who.user),
                        "an event in the store cannot be read; it was not delivered"
                    );
                }
            }
            Action::Close { code, reason } => {
                self.say_go_away(slot, (0, 0), reason);
                self.say_close(slot, *code, reason);
            }
        }
        self.parts.stats.frames_sent.add(1);
        self.welcomed(slot);
        self.touch(slot);
    }

    /// The first effect of a session is its Welcome, or its end: frames that came before it may go on.
    fn welcomed(&mut self, slot: u32) {
        let flags = &mut self.slab[slot].flags;
        if !flags.has(UNWELCOMED) {
            return;
        }
        flags.set(UNWELCOMED, false);
        for request in self.early.remove(&slot).unwrap_or_default() {
            self.submit(request);
        }
    }

    fn say_go_away(&mut self, slot: u32, reconnect_ms: (u32, u32), reason: &str) {
        let go_away = v1::GoAway {
            reconnect_min_ms: reconnect_ms.0,
            reconnect_max_ms: reconnect_ms.1,
            reason: reason.to_owned(),
        };
        let frame = v1::ServerFrame { body: Some(go_away.into()), ..Default::default() };
        let connection = &mut self.slab[slot];
        let out = self.outboxes.open(&mut connection.outbox);
        connection.conn.send_frame(&frame, &mut self.scratch, out);
    }

    /// Sends everybody away, once: GoAway where the router's frames are spoken, then Close 1001.
    pub(super) fn drain(&mut self) {
        if std::mem::replace(&mut self.drained, true) {
            return;
        }
        for slot in 0..self.slab.slots() {
            if self.slab.generation(slot).is_none() || self.slab[slot].life != Life::Live {
                continue;
            }
            if self.slab[slot].conn.phase() == Phase::Open {
                if self.slab[slot].conn.identity().is_some() {
                    self.say_go_away(slot, limits::GO_AWAY_RECONNECT_MS, "the gateway is being restarted");
                }
                self.say_close(slot, close_code::GOING_AWAY, "the gateway is going away");
            } else {
                // Answered with 503 when its head is whole; otherwise its time runs out.
                self.slab[slot].conn.refuse_upgrade();
            }
        }
    }
}
