//! Connections that send more than a read takes: they wait for each other, and nobody waits for them.
//!
//! A read that fills its buffer leaves something behind. Were all such connections read in each turn, a handful of floods would make every
//! turn as long as it takes to go through all their buffers, and a message of anybody else would wait for that. So a turn begins
//! [`limits::GREEDY_READS_PER_TURN`] reads of them, in order; the rest is for the next turns, which do not sleep. A multishot receive
//! takes whatever comes, buffer after buffer: a connection that has more than its share of them goes back to the poll.
//!
//! What a read costs depends on what is in it: four reads of large messages are a copy, four of the smallest are thousands of answers. So
//! a turn begins no more reads than have [`limits::GREEDY_MESSAGES_PER_TURN`] messages, as those had that filled their buffers last; one in
//! any case.

use std::collections::VecDeque;

use super::{
    Shard,
    slot::{BUSY, GREEDY, THIRSTY},
};
use crate::{limits, ring::Ring};

/// Who waits, and what was begun in this turn.
pub(super) struct Greedy {
    /// By slot, each at most once: those flagged [`THIRSTY`] and [`GREEDY`].
    waiting: VecDeque<u32>,
    /// Reads begun.
    reads: u32,
    /// How many may be.
    reads_max: u32,
    /// Buffers filled by multishot receives.
    received: u32,
    /// Messages in them.
    messages: u64,
    /// Messages of the read or receive with most of them, of those that filled their buffers since the last turn's reads were begun.
    most: u64,
}

impl Default for Greedy {
    fn default() -> Self {
        let reads_max = limits::GREEDY_READS_PER_TURN;
        Self { waiting: VecDeque::new(), reads: 0, reads_max, received: 0, messages: 0, most: 0 }
    }
}

impl Greedy {
    /// Whether somebody waits for the next turn.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Those who wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Once a tick: gives back what a storm left behind.
    pub(super) fn rest(&mut self) {
        self.waiting.shrink_to(limits::KEPT_LIST_ITEMS);
    }
}

impl<R: Ring> Shard<R> {
    /// A turn begins: reads those that wait, as many as may be.
    pub(super) fn read_greedy(&mut self) {
        if let Some(reads) = limits::GREEDY_MESSAGES_PER_TURN.checked_div(self.greedy.most) {
            self.greedy.reads_max = (reads as u32).clamp(1, limits::GREEDY_READS_PER_TURN);
        }
        (self.greedy.reads, self.greedy.received) = (0, 0);
        (self.greedy.messages, self.greedy.most) = (0, 0);
        while self.greedy.reads < self.greedy.reads_max {
            let Some(slot) = self.greedy.waiting.pop_front() else { return };
            let waits = self.slab.generation(slot).is_some() && self.slab[slot].flags.has(THIRSTY | GREEDY);
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
                self.greedy.waiting.push_front(slot);
                return;
            }
            self.greedy.reads += 1;
        }
    }

    /// A read has filled its buffer, with so many messages.
    #[cold]
    pub(super) fn read_full(&mut self, messages: u64) {
        self.greedy.most = self.greedy.most.max(messages);
    }

    /// Reads a greedy connection, or lets it wait for the next turn.
    #[cold]
    pub(super) fn read_in_turn(&mut self, slot: u32) {
        let now = self.greedy.waiting.is_empty() && self.greedy.reads < self.greedy.reads_max;
        if now && self.start_read(slot) {
            self.greedy.reads += 1;
            return;
        }
        self.parts.stats.greedy.add(1);
        self.slab[slot].flags.set(THIRSTY, true);
        self.greedy.waiting.push_back(slot);
    }

    /// A multishot receive has filled its buffer, with so many messages.
    #[cold]
    pub(super) fn received_full(&mut self, slot: u32, messages: u64) {
        self.read_full(messages);
        self.greedy.received += 1;
        self.greedy.messages += messages;
        let many = self.greedy.received > limits::GREEDY_RECEIVES_PER_TURN
            || self.greedy.messages > limits::GREEDY_MESSAGES_PER_TURN;
        if many && self.slab[slot].flags.has(BUSY) {
            self.slab[slot].flags.set(GREEDY, true);
            self.leave_busy(slot);
            self.touch(slot);
        }
    }
}
