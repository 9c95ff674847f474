//! Phantoms that misbehave on purpose: they stop reading, or vanish.

use super::phantom::{ACK_QUEUED, OFFERS_LITTLE, SILENT, STALLED};
use super::{Arrival, End, Stack, State};
use crate::phantom::limits::{SLOW_WINDOW_BYTES, WINDOW_BYTES};
use crate::phantom::packet::{FIN, RST, Segment};
use crate::phantom::wire::Wire;

impl<W: Wire> Stack<W> {
    /// Lets a phantom offer a small window from its next connection on, as a client with a small receive buffer does.
    pub fn offer_little(&mut self, phantom: u32) {
        self.phantoms[phantom as usize].owed |= OFFERS_LITTLE;
    }

    /// The window a phantom offers now. What it leaves unread takes from it, so that its right edge never moves back
    /// (RFC 9293 section 3.8.6: a receiver should not shrink the window).
    pub(super) fn window(&self, phantom: u32) -> u16 {
        let own = &self.phantoms[phantom as usize];
        if own.owed & OFFERS_LITTLE == 0 {
            return WINDOW_BYTES;
        }
        let unread = own.flight.checked_sub(1).map_or(0, |number| self.flights.look(number).unread);
        SLOW_WINDOW_BYTES.saturating_sub(unread)
    }

    /// The phantom does not read until [`Self::resume`], or until its connection ends: what comes has to be counted with
    /// [`super::Flight::leave_unread`].
    pub fn stall(&mut self, phantom: u32) {
        self.phantoms[phantom as usize].owed |= STALLED;
    }

    /// Whether the phantom does not read.
    pub fn is_stalled(&self, phantom: u32) -> bool {
        self.phantoms[phantom as usize].owed & STALLED != 0
    }

    /// The phantom reads again: the server is told that its window is open.
    pub fn resume(&mut self, phantom: u32) {
        self.phantoms[phantom as usize].owed &= !STALLED;
        if let Some(flight) = self.flight(phantom) {
            flight.unread = 0;
        }
        if self.state(phantom) == State::Established {
            self.send_acknowledgement(phantom);
        }
    }

    /// The phantom vanishes: no FIN, no RST, no acknowledgement, until its next connection.
    pub fn vanish(&mut self, phantom: u32) {
        self.let_go(phantom);
        let own = &mut self.phantoms[phantom as usize];
        own.owed = own.owed & (ACK_QUEUED | OFFERS_LITTLE) | SILENT;
    }

    /// Whether the phantom has vanished.
    pub fn is_silent(&self, phantom: u32) -> bool {
        self.phantoms[phantom as usize].owed & SILENT != 0
    }

    /// What comes for a phantom that has vanished is dropped; the first FIN or RST shows that the server has given it up.
    pub(super) fn in_silence(&mut self, segment: &Segment<'_>, arrival: &mut Arrival<'_>) {
        let own = &mut self.phantoms[arrival.phantom as usize];
        if own.state != State::Closed && (segment.has(FIN) || segment.has(RST)) {
            own.state = State::Closed;
            arrival.finished = segment.has(FIN);
            arrival.end = Some(End::GivenUp);
        }
    }
}
