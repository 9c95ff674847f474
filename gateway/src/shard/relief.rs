//! Room for partial messages while many hold on to theirs.
//!
//! A message that is not whole takes memory of the shard's bound ([`crate::conn::Rules::assembly_bytes_max`]), and so does input of
//! paused connections (`parked.rs`). Those who send all but the last byte could take all of it, and every other client whose message
//! comes in two pieces would be closed. So connections that hold much are closed before that: first those that have sent nothing for a
//! while, then any. Thousands who hold little each do the same harm: where little room is left for some seconds, those who hold half of
//! what was spared go, too, then a quarter, and so on, each time the silent before the others.

use super::{
    Shard,
    slot::{Life, PARKED},
};
use crate::{
    conn::{Phase, SHORT_OF_MEMORY, close_code},
    limits,
    ring::Ring,
    timers::Tick,
};

/// Where the next turn goes on, and how long there has been little room.
#[derive(Default)]
pub(super) struct Relief {
    next: u32,
    /// Looks through the slab, one in a tick at most, that ended with little room.
    rounds: u8,
    /// When the last of them ended.
    ended: Tick,
}

impl Relief {
    /// The part of what is spared otherwise that is spared now, as a power of a half.
    fn halvings(&self) -> u8 {
        self.rounds / 2
    }

    /// Whether nothing must have come of a connection for a while, also where little room is left.
    fn is_patient(&self) -> bool {
        self.rounds > 0 && self.rounds.is_multiple_of(2)
    }

    /// A look through the slab has ended. Where there is room again, those who hold little are spared again step by step.
    fn round_ends(&mut self, now: Tick, little_room: bool) {
        if self.ended != now {
            self.ended = now;
            let next = if little_room { self.rounds + 1 } else { self.rounds.saturating_sub(1) };
            self.rounds = next.min(limits::RELIEF_ROUNDS_MAX);
        }
    }
}

impl<R: Ring> Shard<R> {
    /// Whether partial input takes so much that somebody may have to go.
    pub(super) fn is_pressed(&self) -> bool {
        self.assembly_bytes > self.parts.rules.assembly_bytes_max / 2
    }

    /// Looks at a slice of the slab where partial input takes much of its bound.
    pub(super) fn relieve(&mut self) {
        if !self.is_pressed() {
            self.relief.rounds = 0;
            return;
        }
        let slots = self.slab.slots();
        for _ in 0..slots.min(limits::RELIEF_SLOTS_PER_TURN_MAX) {
            let little_room = self.assembly_bytes > self.parts.rules.assembly_bytes_max / 4 * 3;
            if self.relief.next >= slots {
                self.relief.next = 0;
                self.relief.round_ends(self.now, little_room);
            }
            let slot = self.relief.next;
            self.relief.next += 1;
            let patient = !little_room || self.relief.is_patient();
            if self.slab.generation(slot).is_some() && self.hogs(slot, patient) {
                self.parts.stats.relieved.add(1);
                self.say_close(slot, close_code::TRY_AGAIN_LATER, SHORT_OF_MEMORY);
            }
            if !self.is_pressed() {
                return;
            }
        }
    }

    /// Whether a connection holds much of a message or of a request's head, or of input that waits; of the patient, only where nothing
    /// came of it for a while (of a head, since the connection was accepted).
    fn hogs(&self, slot: u32, patient: bool) -> bool {
        let connection = &self.slab[slot];
        let spared = match connection.conn.phase() {
            Phase::Open => limits::RELIEF_SPARED_BYTES,
            Phase::Handshake | Phase::Refusing => limits::RELIEF_SPARED_HEAD_BYTES,
            Phase::Attaching | Phase::Closed => return false,
        };
        let kept =
            if connection.flags.has(PARKED) { self.parked.get(&slot).map_or(0, Vec::capacity) } else { 0 };
        let patience_s = if patient { limits::RELIEF_SILENT_S } else { 0 };
        connection.life == Life::Live
            && connection.conn.partial_bytes() + kept >= (spared >> self.relief.halvings()).max(1)
            && self.now.since(connection.heard) >= patience_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spared_comes_back_step_by_step_where_there_is_room_again() {
        let mut relief = Relief::default();
        let looks = |relief: &mut Relief, from: u16, count: u16, little_room| {
            (from..from + count).for_each(|tick| relief.round_ends(Tick(tick), little_room));
            relief.halvings()
        };
        assert_eq!(looks(&mut relief, 1, 6, true), 3);
        assert_eq!(looks(&mut relief, 6, 1, true), 3, "one look in a tick counts");
        assert_eq!(looks(&mut relief, 7, 4, false), 1);
        assert_eq!(looks(&mut relief, 11, 4, false), 0, "and no more than all of it");
        assert_eq!(looks(&mut relief, 15, u16::from(u8::MAX), true), limits::RELIEF_ROUNDS_MAX / 2);
    }
}
