//! What a peer still sends after we have said goodbye.
//!
//! A socket that is closed with input unread is reset, and a reset overtakes the Close frame that says why (RFC 6455 section 7.1.1 has
//! the server close first, and cleanly). So input is read and thrown away until the peer's end comes. A peer that behaves sends what was
//! under way when our goodbye reached it, which buffers bound; whoever sends on is reset.

use super::{
    Shard,
    slot::{DISCARDING, Life},
};
use crate::{limits, ring::Ring};

impl<R: Ring> Shard<R> {
    /// Throws away what came of a connection that has been told goodbye.
    #[cold]
    pub(super) fn discard(&mut self, slot: u32, bytes: usize) {
        // Before that our Close frame may not have left.
        if self.slab[slot].life != Life::Lingering {
            return;
        }
        self.slab[slot].flags.set(DISCARDING, true);
        let discarded = self.discarded.entry(slot).or_default();
        *discarded += bytes;
        if *discarded > limits::DISCARDED_BYTES_MAX {
            self.parts.stats.cut_short.add(1);
            self.end(slot);
            self.touch(slot);
        }
    }

    /// Its end has come; nothing more is counted.
    pub(super) fn forget_discarded(&mut self, slot: u32) {
        if self.slab[slot].flags.has(DISCARDING) {
            self.slab[slot].flags.set(DISCARDING, false);
            self.discarded.remove(&slot);
        }
    }
}
