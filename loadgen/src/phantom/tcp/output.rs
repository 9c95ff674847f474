//! What leaves: segments as the windows allow, acknowledgements, resets, and everything again when its time has come.

use super::phantom::{ACK_LATER, ACK_NOW};
use super::{End, Stack, State};
use crate::phantom::limits::{MSS_OFFERED, RETRIES_MAX, SYN_RETRIES_MAX};
use crate::phantom::packet::{ACK, FIN, PSH, RST, SYN, Segment};
use crate::phantom::wire::Wire;
use std::ops::Range;

impl<W: Wire> Stack<W> {
    /// Sends what the windows allow, new or again, and sees to the timer. Each round sends a segment, and the windows
    /// bound their number.
    pub(super) fn pump(&mut self, phantom: u32) {
        let own = self.phantoms[phantom as usize];
        let Some(number) = own.flight.checked_sub(1) else { return };
        if !may_send(own.state) {
            return;
        }
        loop {
            let flight = self.flights.at(number);
            let sent = flight.next.wrapping_sub(flight.una) as usize;
            let Some(left) = flight.out.len().checked_sub(sent) else { break };
            let window = u32::from(own.snd_wnd).min(flight.cwnd) as usize;
            let room = window.saturating_sub(sent);
            let bytes = left.min(room).min(usize::from(own.mss));
            // A small piece only where nothing else will bring an acknowledgement (RFC 9293 section 3.8.6.2.1).
            let silly = bytes < left && bytes < usize::from(own.mss) && sent > 0;
            let fin = flight.fin && bytes == left;
            if silly || bytes == 0 && !(fin && room > 0) {
                break;
            }
            let seq = flight.next;
            let next = seq.wrapping_add(bytes as u32 + u32::from(fin));
            flight.next = next;
            let snd_nxt = &mut self.phantoms[phantom as usize].snd_nxt;
            if seq == *snd_nxt {
                flight.timed.get_or_insert((next, self.now_us));
            } else {
                self.counts.retransmits += 1;
                flight.timed = None;
            }
            if next.wrapping_sub(*snd_nxt).cast_signed() > 0 {
                *snd_nxt = next;
            }
            let push = if bytes == left && bytes > 0 { PSH } else { 0 };
            self.emit(phantom, seq, ACK | push | if fin { FIN } else { 0 }, sent..sent + bytes);
            if fin {
                break;
            }
        }
        self.arm(phantom);
    }

    /// The timer runs while anything is unacknowledged, or waits for a window (RFC 6298 section 5.1).
    pub(super) fn arm(&mut self, phantom: u32) {
        let own = self.phantoms[phantom as usize];
        let Some(number) = own.flight.checked_sub(1) else { return };
        let flight = self.flights.look(number);
        let waits = flight.una != own.snd_nxt || !flight.out.is_empty() || flight.fin;
        let at_us = self.now_us + flight.backoff.rto_us();
        match own.state {
            State::FinWait2 => (),
            _ if !waits => self.flights.wheel.disarm(number),
            _ if !self.flights.wheel.is_armed(number) => self.flights.wheel.arm(number, at_us),
            _ => (),
        }
    }

    /// A flight's time has come. Returns the end of the connection where that is it.
    pub(super) fn expired(&mut self, phantom: u32) -> Option<End> {
        let own = self.phantoms[phantom as usize];
        let number = own.flight.checked_sub(1)?;
        if own.state == State::FinWait2 {
            self.abort(phantom);
            return Some(End::TimedOut);
        }
        let flight = self.flights.at(number);
        let opening = matches!(own.state, State::SynSent | State::SynReceived);
        if flight.backoff.retries >= if opening { SYN_RETRIES_MAX } else { RETRIES_MAX } {
            self.abort(phantom);
            return Some(End::TimedOut);
        }
        flight.backoff.expired();
        flight.timed = None;
        if opening {
            self.counts.retransmits += 1;
            self.send_syn(phantom);
        } else if own.snd_wnd == 0 {
            self.probe(phantom);
        } else {
            let outstanding = own.snd_nxt.wrapping_sub(flight.una);
            flight.halve(outstanding, u32::from(own.mss));
            flight.cwnd = u32::from(own.mss);
            flight.next = flight.una;
            flight.recover = None;
            flight.duplicates = 0;
            self.pump(phantom);
        }
        self.arm(phantom);
        None
    }

    /// One byte, or the FIN, into a closed window (RFC 9293 section 3.8.6.1).
    fn probe(&mut self, phantom: u32) {
        let own = &mut self.phantoms[phantom as usize];
        let Some(number) = own.flight.checked_sub(1) else { return };
        let flight = self.flights.at(number);
        let (seq, bytes) = (flight.una, flight.out.len().min(1));
        let fin = flight.fin && bytes == flight.out.len();
        let next = seq.wrapping_add(bytes as u32 + u32::from(fin));
        if next.wrapping_sub(own.snd_nxt).cast_signed() > 0 {
            own.snd_nxt = next;
        }
        if next.wrapping_sub(flight.next).cast_signed() > 0 {
            flight.next = next;
        }
        self.emit(phantom, seq, ACK | if fin { FIN } else { 0 }, 0..bytes);
    }

    /// Sends the oldest segment again: what a loss is answered with before the timer (RFC 5681 section 3.2).
    pub(super) fn resend_first(&mut self, phantom: u32) {
        let own = self.phantoms[phantom as usize];
        let Some(number) = own.flight.checked_sub(1) else { return };
        let flight = self.flights.at(number);
        flight.timed = None;
        let outstanding = own.snd_nxt.wrapping_sub(flight.una) as usize;
        let bytes = flight.out.len().min(usize::from(own.mss)).min(outstanding);
        let fin = flight.fin && bytes == flight.out.len() && outstanding > bytes;
        let seq = flight.una;
        self.counts.retransmits += 1;
        self.emit(phantom, seq, ACK | PSH | if fin { FIN } else { 0 }, 0..bytes);
    }

    /// SYN, or in SYN-RECEIVED the answer to one.
    pub(super) fn send_syn(&mut self, phantom: u32) {
        let own = self.phantoms[phantom as usize];
        let flags = if own.state == State::SynReceived { SYN | ACK } else { SYN };
        let ack = if flags & ACK == 0 { 0 } else { own.rcv_nxt };
        let (from, to) = (self.setup.addresses.endpoint(phantom), self.setup.server);
        let seq = own.snd_nxt.wrapping_sub(1);
        let mss = Some(MSS_OFFERED);
        let window = self.window(phantom);
        let segment = Segment { from, to, seq, ack, flags, window, mss, payload: &[] };
        let length = segment.write(&mut self.packet);
        self.put_on_wire(length);
        self.arm(phantom);
    }

    /// An acknowledgement without data.
    pub(super) fn send_acknowledgement(&mut self, phantom: u32) {
        let seq = self.phantoms[phantom as usize].snd_nxt;
        self.emit(phantom, seq, ACK, 0..0);
    }

    /// RST of our own will.
    pub(super) fn send_reset(&mut self, phantom: u32) {
        let seq = self.phantoms[phantom as usize].snd_nxt;
        self.emit(phantom, seq, RST | ACK, 0..0);
    }

    /// RST in answer to a segment that belongs to no connection (RFC 9293 section 3.10.7.1).
    pub(super) fn answer_with_reset(&mut self, segment: &Segment<'_>) {
        if segment.has(RST) {
            return;
        }
        let (seq, ack, flags) = if segment.has(ACK) {
            (segment.ack, 0, RST)
        } else {
            (0, segment.seq.wrapping_add(segment.sequence_length()), RST | ACK)
        };
        let (from, to) = (segment.to, segment.from);
        let answer = Segment { from, to, seq, ack, flags, window: 0, mss: None, payload: &[] };
        let length = answer.write(&mut self.packet);
        self.put_on_wire(length);
    }

    /// Writes a segment with that part of the phantom's output and puts it on the wire. All that is owed is acknowledged
    /// by it.
    fn emit(&mut self, phantom: u32, seq: u32, flags: u8, part: Range<usize>) {
        let window = self.window(phantom);
        let own = &mut self.phantoms[phantom as usize];
        own.owed &= !(ACK_NOW | ACK_LATER);
        let payload = match own.flight.checked_sub(1) {
            Some(number) => &self.flights.look(number).out[part],
            None => &[],
        };
        let segment = Segment {
            from: self.setup.addresses.endpoint(phantom),
            to: self.setup.server,
            seq,
            ack: own.rcv_nxt,
            flags,
            window,
            mss: None,
            payload,
        };
        let length = segment.write(&mut self.packet);
        self.put_on_wire(length);
    }

    /// What the wire has no room for is lost, as it would be in any queue on the way, and comes again.
    fn put_on_wire(&mut self, length: Option<usize>) {
        let Some(packet) = length.and_then(|length| self.packet.get(..length)) else { return };
        match self.wire.send(packet) {
            Ok(true) => self.counts.packets_out += 1,
            Ok(false) => self.counts.wire_full += 1,
            Err(error) => self.failure = Some(error),
        }
    }
}

/// Whether data, or a FIN, may leave in this state.
fn may_send(state: State) -> bool {
    matches!(state, State::Established | State::CloseWait | State::FinWait1 | State::LastAck | State::Closing)
}
