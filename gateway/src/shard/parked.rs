//! Input that came for a connection after it was paused.
//!
//! A multishot receive may have filled every buffer of its ring for one fast sender before its connection is paused, and
//! each frame in them may be answered with more bytes than it has. So what is left is kept as it came, and taken buffer
//! by buffer once the connection may go on: an outbox grows beyond [`limits::OUTBOX_PAUSE_BYTES`] by the answers to
//! one buffer, not by those to all of them.

use super::{
    Shard,
    input::Source,
    slot::{Life, PARKED, PAUSED},
};
use crate::{
    conn::{SHORT_OF_MEMORY, close_code},
    limits,
    ring::{Buffer, Ring},
};

impl<R: Ring> Shard<R> {
    /// Keeps what a receive has brought for a paused connection.
    #[cold]
    pub(super) fn park(&mut self, slot: u32, buffer: Buffer, bytes: usize) {
        let Self { parts, slab, parked, assembly_bytes, .. } = self;
        if *assembly_bytes + bytes > parts.rules.assembly_bytes_max {
            self.say_close(slot, close_code::TRY_AGAIN_LATER, SHORT_OF_MEMORY);
            return;
        }
        let kept = parked.entry(slot).or_default();
        let before = kept.capacity();
        kept.extend_from_slice(parts.ring.buffer(buffer, bytes));
        *assembly_bytes += kept.capacity() - before;
        slab[slot].flags.set(PARKED, true);
        parts.stats.parked.add(1);
    }

    /// Keeps what came before a session had begun, before whatever is kept of it already; there is no room for its requests.
    #[cold]
    pub(super) fn park_early(&mut self, slot: u32, mut early: Vec<u8>) {
        let later = self.parked.remove(&slot).unwrap_or_default();
        self.assembly_bytes -= later.capacity();
        early.extend_from_slice(&later);
        self.assembly_bytes += early.capacity();
        self.parked.insert(slot, early);
        self.slab[slot].flags.set(PARKED, true);
        self.pause(slot);
        self.hold(slot);
    }

    /// Takes what was kept for connections that may go on, as far as that does not pause them again.
    pub(super) fn take_parked(&mut self) {
        for (slot, generation) in std::mem::take(&mut self.resumed) {
            if !self.slab.holds(slot, generation) || !self.slab[slot].flags.has(PARKED) {
                continue;
            }
            if self.backlog.is_full() {
                self.hold(slot);
                continue;
            }
            let flags = &mut self.slab[slot].flags;
            flags.set(PARKED | PAUSED, false);
            self.slab[slot].heard = self.now;
            let mut input = self.parked.remove(&slot).unwrap_or_default();
            self.assembly_bytes -= input.capacity();
            let mut taken = 0;
            while taken < input.len() && self.goes_on(slot) {
                let end = input.len().min(taken + limits::RECEIVE_BUFFER_BYTES as usize);
                self.take_input(slot, Source::Kept(&mut input[taken..end]));
                taken = end;
            }
            if taken < input.len() && self.slab[slot].life == Life::Live {
                input.drain(..taken);
                self.assembly_bytes += input.capacity();
                self.parked.insert(slot, input);
                self.slab[slot].flags.set(PARKED, true);
            }
            self.touch(slot);
        }
    }

    fn goes_on(&self, slot: u32) -> bool {
        self.slab[slot].life == Life::Live && !self.slab[slot].flags.has(PAUSED)
    }

    /// Forgets what was kept for a connection that takes no more input.
    pub(super) fn drop_parked(&mut self, slot: u32) {
        if self.slab[slot].flags.has(PARKED) {
            self.slab[slot].flags.set(PARKED, false);
            self.assembly_bytes -= self.parked.remove(&slot).unwrap_or_default().capacity();
        }
    }
}
