//! Connections whose opening handshake is not over: how long one may take, how many there may be, and who has to go.
//!
//! A client that behaves sends its request as soon as it is connected, so that the oldest of many is the one least likely to do so: when
//! there are too many, it goes first, and a newcomer is never refused for those who only wait.

use std::collections::VecDeque;

use super::{
    Shard,
    slot::{HANDSHAKING, Life},
    trace::Step,
};
use crate::{limits, ring::Ring};

/// What a shard allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshakes {
    /// `--handshake-s`.
    pub seconds_max: u16,
    /// Of this shard.
    pub count_max: u32,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { seconds_max: limits::HANDSHAKE_S_MAX, count_max: limits::HANDSHAKES_MAX }
    }
}

/// Those under way.
#[derive(Default)]
pub(super) struct UnderWay {
    pub(super) allowed: Handshakes,
    pub(super) count: u32,
    /// By slot and generation, the oldest first, and beside them at most as many again whose handshake is over.
    queue: VecDeque<(u32, u32)>,
}

impl<R: Ring> Shard<R> {
    /// Allows something else than [`Handshakes::default`].
    #[must_use]
    pub fn with_handshakes(mut self, allowed: Handshakes) -> Self {
        self.handshakes.allowed = allowed;
        self
    }

    /// A connection was accepted and let in.
    pub(super) fn handshake_begins(&mut self, slot: u32) {
        let generation = self.slab.generation(slot).unwrap_or_default();
        self.slab[slot].flags.set(HANDSHAKING, true);
        let most = self.handshakes.allowed.count_max;
        if self.handshakes.count >= most {
            self.end_oldest_handshake();
        }
        let under_way = &mut self.handshakes;
        under_way.count += 1;
        if under_way.queue.len() >= 2 * most as usize {
            let slab = &self.slab;
            under_way.queue.retain(|(slot, generation)| {
                slab.holds(*slot, *generation) && slab[*slot].flags.has(HANDSHAKING)
            });
        }
        under_way.queue.push_back((slot, generation));
    }

    /// The handshake has succeeded or failed, or its connection ends.
    pub(super) fn handshake_is_over(&mut self, slot: u32) {
        let flags = &mut self.slab[slot].flags;
        if flags.has(HANDSHAKING) {
            flags.set(HANDSHAKING, false);
            self.handshakes.count -= 1;
        }
    }

    fn end_oldest_handshake(&mut self) {
        while let Some((slot, generation)) = self.handshakes.queue.pop_front() {
            if self.slab.holds(slot, generation) && self.slab[slot].flags.has(HANDSHAKING) {
                debug_assert!(self.slab[slot].life == Life::Live, "one that ends is no longer under way");
                self.parts.stats.handshakes_crowded_out.add(1);
                self.trace(slot, Step::TimedOut);
                self.end(slot);
                self.touch(slot);
                return;
            }
        }
    }

    /// Once a tick: gives back what a storm left behind.
    pub(super) fn rest_handshakes(&mut self) {
        if self.handshakes.count == 0 {
            self.handshakes.queue.clear();
            self.handshakes.queue.shrink_to(limits::KEPT_LIST_ITEMS);
        }
    }
}
