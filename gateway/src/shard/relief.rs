//! Room for partial messages while many hold on to theirs.
//!
//! A message that is not whole takes memory of the shard's bound ([`crate::conn::Rules::assembly_bytes_max`]). Those who send all but the
//! last byte could take all of it, and every other client whose message comes in two pieces would be closed. So connections that hold
//! much are closed before that: first those that have sent nothing for a while, then any.

use super::{Shard, slot::Life};
use crate::{
    conn::{Phase, SHORT_OF_MEMORY, close_code},
    limits,
    ring::Ring,
};

impl<R: Ring> Shard<R> {
    /// Looks at a slice of the slab where partial input takes much of its bound.
    pub(super) fn relieve(&mut self) {
        let most = self.parts.rules.assembly_bytes_max;
        if self.assembly_bytes <= most / 2 {
            return;
        }
        let slots = self.slab.slots();
        for _ in 0..slots.min(limits::RELIEF_SLOTS_PER_TURN_MAX) {
            let slot = if self.relieved >= slots { 0 } else { self.relieved };
            self.relieved = slot + 1;
            let patience_s = if self.assembly_bytes > most / 4 * 3 { 0 } else { limits::RELIEF_SILENT_S };
            if self.slab.generation(slot).is_some() && self.hogs(slot, patience_s) {
                self.parts.stats.relieved.add(1);
                self.say_close(slot, close_code::TRY_AGAIN_LATER, SHORT_OF_MEMORY);
            }
            if self.assembly_bytes <= most / 2 {
                return;
            }
        }
    }

    /// Whether a connection holds much of a message or of a request's head, and nothing came of it for so long; of a head, since the
    /// connection was accepted.
    fn hogs(&self, slot: u32, patience_s: u16) -> bool {
        let connection = &self.slab[slot];
        let spared = match connection.conn.phase() {
            Phase::Open => limits::RELIEF_SPARED_BYTES,
            Phase::Handshake | Phase::Refusing => limits::RELIEF_SPARED_HEAD_BYTES,
            Phase::Attaching | Phase::Closed => return false,
        };
        connection.life == Life::Live
            && connection.conn.partial_bytes() >= spared
            && self.now.since(connection.heard) >= patience_s
    }
}
