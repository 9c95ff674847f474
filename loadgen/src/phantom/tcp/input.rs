//! What arrives: RFC 9293 section 3.10.7, in its order, with the challenges of RFC 5961.

use super::phantom::{ACK_LATER, ACK_NOW, Phantom};
use super::{Arrival, End, Stack, State};
use crate::phantom::limits::{MSS_DEFAULT, MSS_MIN, MSS_OFFERED, WINDOW_BYTES, WINDOW_INITIAL_SEGMENTS};
use crate::phantom::packet::{self, ACK, FIN, RST, SYN, Segment};
use crate::phantom::wire::Wire;

impl<W: Wire> Stack<W> {
    /// Takes a packet. After its arrival was dealt with, [`Stack::settle`] has to be called for its phantom.
    pub fn input<'a>(&mut self, packet: &'a [u8]) -> Option<Arrival<'a>> {
        self.counts.packets_in += 1;
        let Ok(segment) = packet::parse(packet, self.setup.verify) else {
            self.counts.malformed += 1;
            return None;
        };
        let phantom = self.setup.addresses.find(segment.to).filter(|_| segment.from == self.setup.server);
        let Some(phantom) = phantom else {
            self.counts.strangers += 1;
            return None;
        };
        let mut arrival = Arrival { phantom, opened: false, data: &[], finished: false, end: None };
        match self.state(phantom) {
            _ if self.is_silent(phantom) => self.in_silence(&segment, &mut arrival),
            State::Closed => self.answer_with_reset(&segment),
            State::SynSent => self.in_syn_sent(&segment, &mut arrival),
            _ => self.synchronised(segment, &mut arrival),
        }
        Some(arrival)
    }

    /// RFC 9293 section 3.10.7.3.
    fn in_syn_sent(&mut self, segment: &Segment<'_>, arrival: &mut Arrival<'_>) {
        let phantom = arrival.phantom;
        let snd_nxt = self.phantoms[phantom as usize].snd_nxt;
        let acknowledged = segment.has(ACK) && segment.ack == snd_nxt;
        if segment.has(ACK) && !acknowledged {
            return self.answer_with_reset(segment);
        }
        if segment.has(RST) {
            if acknowledged {
                self.forget(phantom);
                arrival.end = Some(End::Refused);
            }
            return;
        }
        if !segment.has(SYN) {
            return;
        }
        let own = &mut self.phantoms[phantom as usize];
        own.rcv_nxt = segment.seq.wrapping_add(1);
        own.snd_wnd = segment.window;
        own.mss = segment.mss.unwrap_or(MSS_DEFAULT).clamp(MSS_MIN, MSS_OFFERED);
        if acknowledged {
            own.owed |= ACK_NOW;
            self.establish(arrival);
        } else {
            // Both opened at once. Data with the SYN is not acknowledged, and comes again.
            own.state = State::SynReceived;
            self.send_syn(phantom);
        }
    }

    /// The SYN is acknowledged.
    fn establish(&mut self, arrival: &mut Arrival<'_>) {
        let own = &mut self.phantoms[arrival.phantom as usize];
        own.state = State::Established;
        arrival.opened = true;
        let Some(number) = own.flight.checked_sub(1) else { return };
        let (snd_nxt, mss) = (own.snd_nxt, u32::from(own.mss));
        let backoff = self.rtt.backoff();
        let flight = self.flights.at(number);
        (flight.una, flight.next, flight.backoff) = (snd_nxt, snd_nxt, backoff);
        flight.cwnd = WINDOW_INITIAL_SEGMENTS * mss;
        self.flights.wheel.disarm(number);
        self.pump(arrival.phantom);
    }

    /// RFC 9293 section 3.10.7.4.
    fn synchronised<'a>(&mut self, mut segment: Segment<'a>, arrival: &mut Arrival<'a>) {
        let phantom = arrival.phantom;
        let own = self.phantoms[phantom as usize];
        let answers_ours = segment.has(ACK) && segment.ack == own.snd_nxt;
        if own.state == State::SynReceived && segment.has(SYN) && answers_ours && offset(&segment, &own) == -1
        {
            // The other's answer to our SYN, both having opened at once: its SYN is known.
            segment.flags &= !SYN;
            segment.seq = own.rcv_nxt;
        }
        if !is_acceptable(&segment, &own, self.window(phantom)) {
            if !segment.has(RST) {
                self.challenge(phantom);
            }
            return;
        }
        if segment.has(RST) {
            if offset(&segment, &own) == 0 {
                self.forget(phantom);
                arrival.end = (own.state != State::TimeWait).then_some(End::Reset);
            } else {
                self.challenge(phantom);
            }
            return;
        }
        if segment.has(SYN) {
            return self.challenge(phantom);
        }
        if !segment.has(ACK) || !self.acknowledgement(&segment, arrival) {
            return;
        }
        self.text(&segment, arrival);
    }

    /// Anything odd is answered by where we stand (RFC 5961), a bounded number of times a second.
    fn challenge(&mut self, phantom: u32) {
        if self.may_challenge() {
            self.counts.challenges += 1;
            self.phantoms[phantom as usize].owed |= ACK_NOW;
        }
    }

    /// The acknowledgement and the window. False where the segment is to be dropped.
    fn acknowledgement(&mut self, segment: &Segment<'_>, arrival: &mut Arrival<'_>) -> bool {
        let phantom = arrival.phantom;
        let own = self.phantoms[phantom as usize];
        let ahead = segment.ack.wrapping_sub(own.snd_nxt).cast_signed();
        if own.state == State::SynReceived {
            if ahead != 0 {
                self.answer_with_reset(segment);
                return false;
            }
            self.phantoms[phantom as usize].snd_wnd = segment.window;
            self.establish(arrival);
            return true;
        }
        let una = own.flight.checked_sub(1).map_or(own.snd_nxt, |number| self.flights.at(number).una);
        let acknowledged = segment.ack.wrapping_sub(una).cast_signed();
        // Not sent yet, or older than any window: RFC 5961 section 5.
        if ahead > 0 || acknowledged < -i32::from(WINDOW_BYTES) {
            self.challenge(phantom);
            return false;
        }
        let window_before = own.snd_wnd;
        // No SND.WL1 and SND.WL2 are kept: what begins where we expect it, or later, and acknowledges no less than was
        // acknowledged, is no older than what came before.
        if offset(segment, &own) >= 0 && acknowledged >= 0 {
            self.phantoms[phantom as usize].snd_wnd = segment.window;
        }
        if segment.window == 0
            && let Some(number) = own.flight.checked_sub(1)
        {
            // A peer that answers probes is there, however long it keeps its window closed (RFC 9293 section 3.8.6.1).
            self.flights.at(number).backoff.retries = 0;
        }
        if acknowledged > 0 {
            self.acknowledged(segment.ack, arrival);
        } else if acknowledged == 0 && segment.sequence_length() == 0 && segment.window == window_before {
            self.duplicate(phantom);
        }
        if arrival.end.is_some() {
            return false;
        }
        self.pump(phantom);
        true
    }

    /// Something new is acknowledged: the output shrinks, the timer begins anew.
    fn acknowledged(&mut self, ack: u32, arrival: &mut Arrival<'_>) {
        let phantom = arrival.phantom;
        let own = self.phantoms[phantom as usize];
        let Some(number) = own.flight.checked_sub(1) else { return };
        let flight = self.flights.at(number);
        let length = ack.wrapping_sub(flight.una);
        let data = (length as usize).min(flight.out.len());
        flight.out.drain(..data);
        let fin = flight.fin && length as usize > data;
        flight.fin &= !fin;
        flight.una = ack;
        if ack.wrapping_sub(flight.next).cast_signed() > 0 {
            flight.next = ack;
        }
        flight.duplicates = 0;
        flight.open_window(length, u32::from(own.mss));
        let partial = flight.recover.is_some_and(|recover| ack.wrapping_sub(recover).cast_signed() < 0);
        if !partial {
            flight.recover = None;
        }
        if let Some((seq, at_us)) = flight.timed
            && ack.wrapping_sub(seq).cast_signed() >= 0
        {
            flight.timed = None;
            self.rtt.sample(self.now_us.saturating_sub(at_us));
        }
        let flight = self.flights.at(number);
        flight.backoff = self.rtt.backoff();
        self.flights.wheel.disarm(number);
        if partial {
            self.resend_first(phantom);
        }
        if fin {
            self.fin_acknowledged(arrival);
        }
    }

    fn fin_acknowledged(&mut self, arrival: &mut Arrival<'_>) {
        let own = &mut self.phantoms[arrival.phantom as usize];
        match own.state {
            State::FinWait1 => {
                own.state = State::FinWait2;
                self.await_fin(arrival.phantom);
            }
            State::Closing => {
                own.state = State::TimeWait;
                arrival.end = Some(End::Finished);
            }
            State::LastAck => {
                self.forget(arrival.phantom);
                arrival.end = Some(End::Finished);
            }
            _ => (),
        }
    }

    /// The same acknowledgement again, without data: something after it has arrived, and it has not.
    fn duplicate(&mut self, phantom: u32) {
        let own = self.phantoms[phantom as usize];
        let Some(number) = own.flight.checked_sub(1) else { return };
        let flight = self.flights.at(number);
        let outstanding = own.snd_nxt.wrapping_sub(flight.una);
        if outstanding == 0 || !flight.duplicate() {
            return;
        }
        flight.halve(outstanding, u32::from(own.mss));
        flight.cwnd = flight.ssthresh;
        flight.recover = Some(own.snd_nxt);
        self.resend_first(phantom);
    }

    /// The data and the FIN.
    fn text<'a>(&mut self, segment: &Segment<'a>, arrival: &mut Arrival<'a>) {
        let phantom = arrival.phantom;
        let window = self.window(phantom);
        let own = &mut self.phantoms[phantom as usize];
        if !matches!(own.state, State::Established | State::FinWait1 | State::FinWait2) {
            // Nothing may come behind a FIN; the FIN itself again is answered as out of the window.
            return;
        }
        let at = offset(segment, own);
        let mut data = segment.payload;
        let mut fin = segment.has(FIN);
        let beyond = at + data.len() as i32 - i32::from(window);
        if beyond > 0 {
            data = &data[..data.len().saturating_sub(beyond as usize)];
            fin = false;
        }
        if at > 0 {
            self.counts.out_of_order += 1;
            own.owed |= ACK_NOW;
            let seq = segment.seq;
            if !data.is_empty()
                && let Some(flight) = self.make_flight(phantom)
            {
                flight.hold(seq, data);
            }
            return;
        }
        data = data.get(at.unsigned_abs() as usize..).unwrap_or_default();
        if !data.is_empty() {
            let second = own.owed & ACK_LATER != 0 || data.len() > usize::from(MSS_OFFERED);
            own.owed |= if second { ACK_NOW } else { ACK_LATER };
            own.rcv_nxt = own.rcv_nxt.wrapping_add(data.len() as u32);
            arrival.data = data;
            self.close_hole(phantom);
        }
        let end = segment.seq.wrapping_add(segment.payload.len() as u32);
        if fin && self.phantoms[phantom as usize].rcv_nxt == end {
            self.peer_finished(arrival);
        }
    }

    /// What lies beyond a hole joins, where the hole is closed now.
    fn close_hole(&mut self, phantom: u32) {
        let own = &mut self.phantoms[phantom as usize];
        let Some(number) = own.flight.checked_sub(1) else { return };
        let flight = self.flights.at(number);
        if flight.held.is_empty() {
            return;
        }
        own.owed |= ACK_NOW;
        let over = own.rcv_nxt.wrapping_sub(flight.held_seq).cast_signed();
        if over < 0 {
            return;
        }
        flight.held.drain(..(over as usize).min(flight.held.len()));
        flight.held_seq = own.rcv_nxt;
        own.rcv_nxt = own.rcv_nxt.wrapping_add(flight.held.len() as u32);
    }

    fn peer_finished(&mut self, arrival: &mut Arrival<'_>) {
        let own = &mut self.phantoms[arrival.phantom as usize];
        own.rcv_nxt = own.rcv_nxt.wrapping_add(1);
        own.owed |= ACK_NOW;
        arrival.finished = true;
        match own.state {
            State::Established => own.state = State::CloseWait,
            State::FinWait1 => own.state = State::Closing,
            State::FinWait2 => {
                own.state = State::TimeWait;
                self.let_go(arrival.phantom);
                arrival.end = Some(End::Finished);
            }
            _ => (),
        }
    }
}

/// Where the segment begins, as seen from the next sequence number expected.
fn offset(segment: &Segment<'_>, own: &Phantom) -> i32 {
    segment.seq.wrapping_sub(own.rcv_nxt).cast_signed()
}

/// The four cases of RFC 9293 section 3.10.7.4, first.
fn is_acceptable(segment: &Segment<'_>, own: &Phantom, window: u16) -> bool {
    let within = |at: i32| (0..i32::from(window)).contains(&at);
    let (at, length) = (offset(segment, own), segment.sequence_length());
    at == 0 && length == 0 || within(at) || length > 0 && within(at.wrapping_add(length.cast_signed() - 1))
}
