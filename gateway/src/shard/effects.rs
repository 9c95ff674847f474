//! What the router wants done.

use roost_proto::tier::{Action, Effect};
use roost_proto::v1;

use super::{Shard, company::Patience, slot::Life, trace::Step};
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
        let Some((generation, connection)) = self.slab.occupied_mut(slot) else { return };
        let phase = connection.conn.phase();
        if generation != effect.session.generation
            || connection.life != Life::Live
            || !matches!(phase, Phase::Attaching | Phase::Open)
        {
            return;
        }
        if let Some(took) = self.probe.answered(slot, effect.session.generation, &effect.action) {
            self.parts.stats.send.add(took);
        }
        let patience = self.company.patience(&effect.action);
        let alone = self.outboxes.len(connection.outbox) == 0;
        let out = self.outboxes.open(&mut connection.outbox);
        match &effect.action {
            Action::Frame(frame) => connection.conn.send_frame(frame, &mut self.scratch, out),
            Action::Event(event) => {
                if connection.conn.send_event(event, &mut self.json_event, out).is_err() {
                    self.parts.stats.corrupt_events.add(1);
                    tracing::error!(
                        user = connection.conn.identity().map(|who| who.user),
                        "an event in the store cannot be read; it was not delivered"
                    );
                }
            }
            Action::Close { code, reason } => {
                self.say_go_away(slot, reconnect_window_ms(*code), reason);
                self.say_close(slot, *code, reason);
            }
            // Calls are none of a shard's; their answers go where they came from.
            Action::Answer(_) => return,
        }
        self.parts.stats.frames_sent.add(1);
        if phase == Phase::Attaching && is_welcome(&effect.action) {
            self.trace(slot, Step::Welcomed);
            self.take_early_input(slot);
        }
        if let Some(patience) = patience {
            self.let_wait(slot, patience, alone);
        } else {
            self.outboxes.hurry(self.slab[slot].outbox);
            self.touch(slot);
        }
    }

    /// What was just put into a connection's outbox waits for company. `alone`: nothing was in it before.
    fn let_wait(&mut self, slot: u32, patience: Patience, alone: bool) {
        let (outbox, due_ms) = (self.slab[slot].outbox, patience.ends_ms(self.now_ms));
        if self.outboxes.len(outbox) > limits::WAITING_BYTES_MAX {
            self.outboxes.hurry(outbox);
            self.touch(slot);
        } else if self.outboxes.wait(outbox, alone, due_ms) {
            self.company.wait(patience, due_ms, slot, self.slab.generation(slot).unwrap_or_default());
        }
    }

    /// Looks at the connections whose outboxes have waited long enough.
    pub(super) fn send_due(&mut self) {
        while let Some((slot, generation)) = self.company.next_due(self.now_ms) {
            if self.slab.holds(slot, generation) {
                self.touch(slot);
            }
        }
    }

    pub(super) fn say_go_away(&mut self, slot: u32, reconnect_ms: (u32, u32), reason: &str) {
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
}

fn is_welcome(action: &Action) -> bool {
    matches!(action, Action::Frame(frame) if matches!(frame.body, Some(v1::server_frame::Body::Welcome(_))))
}

/// When a client that was sent away with this close code should come back.
fn reconnect_window_ms(code: u16) -> (u32, u32) {
    match code {
        close_code::TRY_AGAIN_LATER => limits::GO_AWAY_RECONNECT_MS,
        // Replaced, or against a rule: coming back at once would only repeat it.
        _ => limits::GO_AWAY_POLICY_MS,
    }
}
