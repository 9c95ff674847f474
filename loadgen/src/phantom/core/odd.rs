//! Phantoms that misbehave: they stop reading, vanish, or send their upgrade request a byte at a time.

use super::{Core, Role};
use crate::meters::Counters;
use crate::odd::drip_end;
use crate::phantom::limits::WORK_BATCH;
use crate::phantom::tcp::{Arrival, Flight, Stage};
use crate::phantom::wire::Wire;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::io::ErrorKind;

/// What a thread keeps of them.
#[derive(Debug, Default)]
pub(super) struct Odd {
    /// Phantoms that drip, with the time of the next byte: in order, because all pause equally long.
    drips: VecDeque<(u64, u32)>,
    /// When those vanished that the server still holds. At most as many as there are phantoms.
    vanished: FxHashMap<u32, u64>,
}

impl<W: Wire> Core<W> {
    /// Whether a phantom sends its request a byte at a time.
    pub(super) fn drips(&self, phantom: u32) -> bool {
        self.context.shared.drips(self.client(phantom))
    }

    /// Keeps what a phantom does not read; the window it offers shrinks with it.
    pub(super) fn leave_unread(&mut self, role: &mut impl Role<W>, phantom: u32, bytes: &[u8]) {
        match self.stack.make_flight(phantom) {
            Some(flight) => flight.leave_unread(bytes),
            None => self.fail(role, phantom, "no room to keep a part of a message", false),
        }
    }

    /// Lets a phantom read again what waited for it.
    pub fn resume(&mut self, role: &mut impl Role<W>, phantom: u32) {
        self.stack.resume(phantom);
        let waiting = self.stack.flight(phantom).map(|flight| std::mem::take(&mut flight.input));
        if let Some(input) = waiting.filter(|input| !input.is_empty()) {
            self.data(role, phantom, &input);
        }
        self.stack.settle(phantom);
    }

    /// A phantom is gone: it says nothing any more, whatever comes.
    pub fn vanish(&mut self, phantom: u32) {
        self.move_to(phantom, Stage::Done);
        self.stack.vanish(phantom);
        self.odd.vanished.insert(phantom, self.stack.now_us());
        Counters::add(&self.counters().odd_begun);
    }

    /// The server has ended its connection to a phantom that vanished.
    pub(super) fn given_up(&mut self, arrival: &Arrival<'_>) {
        if let Some(at_us) = self.odd.vanished.remove(&arrival.phantom) {
            let how = if arrival.finished { "FIN" } else { "RST" };
            self.context.meters.borrow_mut().ended(self.stack.now_us() - at_us, how);
            Counters::add(&self.counters().odd_ended);
        }
    }

    /// The connection is open: from now on a byte at a time.
    pub(super) fn drip_from_now(&mut self, phantom: u32, request: &[u8]) {
        self.move_to(phantom, Stage::Dripping);
        if let Some(flight) = self.stack.flight(phantom) {
            flight.message.extend_from_slice(request);
        }
        self.odd.drips.push_back((self.stack.now_us(), phantom));
        Counters::add(&self.counters().ready);
        Counters::add(&self.counters().odd_begun);
    }

    /// Sends the bytes that are due. Returns when the next one is.
    pub(super) fn drip(&mut self) -> u64 {
        let now_us = self.stack.now_us();
        let pause_us = self.context.shared.options.cli.odd.drip_ms * 1000;
        for _ in 0..WORK_BATCH {
            match self.odd.drips.front() {
                None => return u64::MAX,
                Some(&(at_us, _)) if at_us > now_us => return at_us,
                Some(_) => (),
            }
            let Some((_, phantom)) = self.odd.drips.pop_front() else { break };
            if self.stack.stage(phantom) != Stage::Dripping {
                continue;
            }
            let first = self.stack.flight(phantom).and_then(Flight::next_drip);
            // Behind the last byte it waits for the answer.
            if let Some(byte) = first {
                self.stack.send(phantom, &[byte]);
                self.stack.settle(phantom);
                self.odd.drips.push_back((now_us + pause_us, phantom));
            }
        }
        now_us
    }

    /// What came of a request that was dripped.
    pub(super) fn drip_ended(&mut self, phantom: u32, answer: Result<&[u8], ErrorKind>) {
        let begun_us = self.stack.flight(phantom).map_or(0, |flight| flight.begun_us);
        self.stack.abort(phantom);
        self.move_to(phantom, Stage::Done);
        self.context.drip_ended(self.stack.now_us().saturating_sub(begun_us), &drip_end(answer));
    }
}
