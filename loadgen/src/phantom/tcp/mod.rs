//! TCP (RFC 9293) for millions of clients of one server, without I/O of its own: packets and the time in, packets out
//! through a [`Wire`], and what came of a packet as an [`Arrival`].
//!
//! What it has: both ways of opening and closing, retransmission with backoff (RFC 6298), slow start, congestion
//! avoidance, fast retransmission (RFC 5681) with partial acknowledgements (RFC 6582), the peer's window with probes,
//! delayed acknowledgements, one run of bytes beyond a hole, keepalive answers, challenge acknowledgements (RFC 5961).
//! What it has not: window scaling, timestamps, selective acknowledgements, urgent data, a timer for TIME-WAIT.

mod flight;
mod input;
mod odd;
mod output;
mod phantom;
mod rtt;
mod wheel;

pub use flight::Flight;
pub use phantom::{Phantom, Stage, State};

use super::address::Addresses;
use super::limits::{
    ACK_DELAY, ACKS_WAITING_MAX, CHALLENGES_PER_S_MAX, FIN_WAIT, MSS_DEFAULT, OUT_BYTES_MAX, PACKET_BYTES_MAX,
};
use super::packet::Endpoint;
use super::wire::Wire;
use flight::Flights;
use phantom::{ACK_LATER, ACK_NOW, ACK_QUEUED, LASTING};
use rtt::{Backoff, Rtt};
use serde::Serialize;
use std::collections::VecDeque;
use std::io;

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// Both sides said goodbye, and all of it arrived.
    #[error("closed")]
    Finished,
    /// The server answered the SYN with RST.
    #[error("connection refused")]
    Refused,
    /// The server reset the connection.
    #[error("connection reset by the server")]
    Reset,
    /// The server ended its connection to a phantom that had vanished.
    #[error("given up by the server")]
    GivenUp,
    /// Nothing was acknowledged for too long.
    #[error("the server's TCP does not answer")]
    TimedOut,
}

/// What came of a packet.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// The phantom it was for.
    pub phantom: u32,
    /// The connection is open now.
    pub opened: bool,
    /// Data in order; where a hole was closed, more of it waits in [`Stack::take_held`].
    pub data: &'a [u8],
    /// The peer sends no more data behind this.
    pub finished: bool,
    /// The connection is over.
    pub end: Option<End>,
}

/// Counts of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Packets taken from the wire.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Packets that were none of TCP over IPv4, were cut, or had a wrong checksum.
    pub malformed: u64,
    /// Packets for nobody, or from somebody else than the server.
    pub strangers: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Segments of data that came before an earlier one.
    pub out_of_order: u64,
    /// Packets the wire had no room for; they count as lost on the way.
    pub wire_full: u64,
    /// Challenge acknowledgements (RFC 5961).
    pub challenges: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.packets_in += other.packets_in;
        self.packets_out += other.packets_out;
        self.malformed += other.malformed;
        self.strangers += other.strangers;
        self.retransmits += other.retransmits;
        self.out_of_order += other.out_of_order;
        self.wire_full += other.wire_full;
        self.challenges += other.challenges;
    }
}

/// How a stack is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The server.
    pub server: Endpoint,
    /// The phantoms' addresses.
    pub addresses: Addresses,
    /// Seed of the initial sequence numbers.
    pub seed: u64,
    /// Whether checksums of arriving packets are checked: see [`super::packet::parse`].
    pub verify: bool,
    /// Flights at most.
    pub flights: u32,
}

/// The TCP of one thread's phantoms.
pub struct Stack<W> {
    /// What packets travel on.
    pub wire: W,
    /// What happened so far.
    pub counts: Counts,
    setup: Setup,
    phantoms: Vec<Phantom>,
    flights: Flights,
    /// Phantoms that owe an acknowledgement, with the time it is due: in order, because all wait equally long.
    acks: VecDeque<(u32, u64)>,
    rtt: Rtt,
    now_us: u64,
    /// Challenge acknowledgements of the second that `.0` numbers.
    challenges: (u64, u32),
    /// The packet that is being written.
    packet: Box<[u8]>,
    due: Vec<u32>,
    failure: Option<io::Error>,
}

impl<W: Wire> Stack<W> {
    /// A stack whose phantoms are all closed.
    pub fn new(wire: W, setup: Setup) -> Self {
        Self {
            wire,
            counts: Counts::default(),
            setup,
            phantoms: vec![Phantom::default(); setup.addresses.len() as usize],
            flights: Flights::new(setup.flights),
            acks: VecDeque::new(),
            rtt: Rtt::default(),
            now_us: 0,
            challenges: (0, 0),
            packet: vec![0; PACKET_BYTES_MAX].into(),
            due: Vec::new(),
            failure: None,
        }
    }

    /// Sets the time, in microseconds; it never goes back.
    pub fn set_now(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us);
    }

    /// The time.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Number of phantoms.
    pub fn len(&self) -> u32 {
        self.phantoms.len() as u32
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.phantoms.is_empty()
    }

    /// Where a phantom's connection stands.
    pub fn state(&self, phantom: u32) -> State {
        self.phantoms[phantom as usize].state
    }

    /// Where a phantom's session stands.
    pub fn stage(&self, phantom: u32) -> Stage {
        self.phantoms[phantom as usize].stage
    }

    /// Says where a phantom's session stands.
    pub fn set_stage(&mut self, phantom: u32, stage: Stage) {
        self.phantoms[phantom as usize].stage = stage;
    }

    /// How many attempts of a phantom failed in a row, as the session counts them.
    pub fn failures(&self, phantom: u32) -> u8 {
        self.phantoms[phantom as usize].failures
    }

    /// Sets what [`Self::failures`] tells.
    pub fn set_failures(&mut self, phantom: u32, failures: u8) {
        self.phantoms[phantom as usize].failures = failures;
    }

    /// How many connections this phantom has begun, modulo 2^16.
    pub fn incarnation(&self, phantom: u32) -> u16 {
        self.phantoms[phantom as usize].incarnation
    }

    /// The phantoms' addresses.
    pub fn addresses(&self) -> &Addresses {
        &self.setup.addresses
    }

    /// Flights in use, and acknowledgements that wait.
    pub fn busy(&self) -> (usize, usize) {
        (self.flights.used(), self.acks.len())
    }

    /// Whether another phantom can become busy.
    pub fn has_room(&self) -> bool {
        self.flights.has_room()
    }

    /// The error that made the wire useless, once.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// The phantom's flight, where it is busy.
    pub fn flight(&mut self, phantom: u32) -> Option<&mut Flight> {
        let number = self.phantoms[phantom as usize].flight.checked_sub(1)?;
        Some(self.flights.at(number))
    }

    /// The phantom's flight, taken from the pool where it has none; `None` where that is empty.
    pub fn make_flight(&mut self, phantom: u32) -> Option<&mut Flight> {
        let number = self.take_flight(phantom, self.rtt.backoff())?;
        Some(self.flights.at(number))
    }

    fn take_flight(&mut self, phantom: u32, backoff: Backoff) -> Option<u32> {
        let own = &mut self.phantoms[phantom as usize];
        if own.flight == 0 {
            own.flight = self.flights.take(phantom, own.snd_nxt, u32::from(own.mss), backoff)? + 1;
        }
        Some(own.flight - 1)
    }

    /// Begins a connection: SYN. False where the pool of flights is empty, or the phantom has a connection.
    pub fn open(&mut self, phantom: u32) -> bool {
        let own = &mut self.phantoms[phantom as usize];
        if !matches!(own.state, State::Closed | State::TimeWait) {
            return false;
        }
        self.let_go(phantom);
        let iss = self.initial_sequence(phantom);
        let own = &mut self.phantoms[phantom as usize];
        own.incarnation = own.incarnation.wrapping_add(1);
        (own.snd_nxt, own.rcv_nxt, own.snd_wnd, own.mss) = (iss, 0, 0, MSS_DEFAULT);
        own.owed &= LASTING;
        let Some(number) = self.take_flight(phantom, Backoff::syn()) else { return false };
        self.flights.at(number).begun_us = self.now_us;
        let own = &mut self.phantoms[phantom as usize];
        own.state = State::SynSent;
        own.snd_nxt = iss.wrapping_add(1);
        self.send_syn(phantom);
        true
    }

    /// Above every sequence number of the connection before (RFC 9293 section 3.4.1), so that a server which keeps that
    /// one in TIME-WAIT takes the SYN; otherwise not to be guessed from another phantom's.
    fn initial_sequence(&self, phantom: u32) -> u32 {
        let own = &self.phantoms[phantom as usize];
        let client = u64::from(self.setup.addresses.client(phantom));
        let number = client << 16 | u64::from(own.incarnation);
        let random = mix(self.setup.seed ^ mix(number)) as u32;
        if own.incarnation == 0 { random } else { own.snd_nxt.wrapping_add(1 << 17 | random >> 16) }
    }

    /// Whether a phantom's output has room for that many bytes more.
    pub fn has_room_for(&self, phantom: u32, bytes: usize) -> bool {
        match self.phantoms[phantom as usize].flight.checked_sub(1) {
            Some(number) => self.flights.look(number).out.len() + bytes <= OUT_BYTES_MAX,
            None => self.flights.has_room() && bytes <= OUT_BYTES_MAX,
        }
    }

    /// Sends data. False, and nothing is sent, where there is no connection or no room: [`Self::has_room_for`].
    pub fn send(&mut self, phantom: u32, data: &[u8]) -> bool {
        let open = matches!(
            self.state(phantom),
            State::SynSent | State::SynReceived | State::Established | State::CloseWait
        );
        if !open || !self.has_room_for(phantom, data.len()) {
            return false;
        }
        let Some(flight) = self.make_flight(phantom) else { return false };
        if flight.fin {
            return false;
        }
        flight.out.extend_from_slice(data);
        self.pump(phantom);
        true
    }

    /// Ends the connection in order: FIN behind what is to be sent. False where the pool of flights is empty.
    pub fn close(&mut self, phantom: u32) -> bool {
        let next = match self.state(phantom) {
            State::Established | State::SynReceived => State::FinWait1,
            State::CloseWait => State::LastAck,
            State::SynSent => {
                self.forget(phantom);
                return true;
            }
            _ => return true,
        };
        // From SYN-RECEIVED it would have to wait for ESTABLISHED; a phantom that leaves so early may reset.
        if self.state(phantom) == State::SynReceived {
            self.abort(phantom);
            return true;
        }
        let Some(flight) = self.make_flight(phantom) else { return false };
        flight.fin = true;
        self.phantoms[phantom as usize].state = next;
        self.pump(phantom);
        true
    }

    /// Ends the connection at once: RST (RFC 9293 section 3.10.5).
    pub fn abort(&mut self, phantom: u32) {
        let state = self.state(phantom);
        if !matches!(state, State::Closed | State::TimeWait | State::SynSent) {
            self.send_reset(phantom);
        }
        self.forget(phantom);
    }

    /// Takes what lay beyond a hole that is closed now; [`Self::put_back`] returns the memory.
    pub fn take_held(&mut self, phantom: u32) -> Option<Vec<u8>> {
        let own = self.phantoms[phantom as usize];
        let flight = self.flights.at(own.flight.checked_sub(1)?);
        if flight.held.is_empty() || flight.held_seq.wrapping_sub(own.rcv_nxt).cast_signed() > 0 {
            return None;
        }
        Some(std::mem::take(&mut flight.held))
    }

    /// Returns the memory of [`Self::take_held`].
    pub fn put_back(&mut self, phantom: u32, mut held: Vec<u8>) {
        if let Some(flight) = self.flight(phantom).filter(|flight| flight.held.is_empty()) {
            held.clear();
            flight.held = held;
        }
    }

    /// Ends the dealing with a packet: an acknowledgement that is owed leaves, an idle flight goes back to the pool.
    pub fn settle(&mut self, phantom: u32) {
        let own = &mut self.phantoms[phantom as usize];
        let waits = own.owed & (ACK_LATER | ACK_QUEUED) == ACK_LATER;
        if own.owed & ACK_NOW != 0 || (waits && self.acks.len() >= ACKS_WAITING_MAX) {
            self.send_acknowledgement(phantom);
        } else if waits {
            own.owed |= ACK_QUEUED;
            self.acks.push_back((phantom, self.now_us + ACK_DELAY.as_micros() as u64));
        }
        let own = self.phantoms[phantom as usize];
        let waits = matches!(
            own.state,
            State::SynSent
                | State::SynReceived
                | State::FinWait1
                | State::FinWait2
                | State::Closing
                | State::LastAck
        );
        if own.flight != 0 && !waits && self.flights.at(own.flight - 1).is_idle(own.snd_nxt) {
            self.let_go(phantom);
        }
    }

    /// Does what time asks for: delayed acknowledgements, retransmissions, ends. The connections that ended go to
    /// `ended`.
    pub fn tick(&mut self, ended: &mut Vec<(u32, End)>) {
        // Each round takes one from the queue.
        while let Some(&(phantom, at_us)) = self.acks.front()
            && at_us <= self.now_us
        {
            self.acks.pop_front();
            let own = &mut self.phantoms[phantom as usize];
            own.owed &= !ACK_QUEUED;
            if own.owed & ACK_LATER != 0 {
                self.send_acknowledgement(phantom);
            }
        }
        let mut due = std::mem::take(&mut self.due);
        self.flights.wheel.expire(self.now_us, &mut due);
        for number in due.drain(..) {
            let phantom = self.flights.at(number).owner;
            if let Some(end) = self.expired(phantom) {
                ended.push((phantom, end));
            }
        }
        self.due = due;
    }

    /// Whether a challenge acknowledgement may leave now (RFC 5961 section 7).
    fn may_challenge(&mut self) -> bool {
        let second = self.now_us / 1_000_000;
        if self.challenges.0 != second {
            self.challenges = (second, 0);
        }
        self.challenges.1 += 1;
        self.challenges.1 <= CHALLENGES_PER_S_MAX
    }

    /// Waits for the peer's FIN, for a time.
    fn await_fin(&mut self, phantom: u32) {
        let at_us = self.now_us + FIN_WAIT.as_micros() as u64;
        if let Some(number) = self.take_flight(phantom, self.rtt.backoff()) {
            self.flights.wheel.arm(number, at_us);
        }
    }

    fn forget(&mut self, phantom: u32) {
        let own = &mut self.phantoms[phantom as usize];
        own.state = State::Closed;
        own.owed &= LASTING;
        self.let_go(phantom);
    }

    fn let_go(&mut self, phantom: u32) {
        let own = &mut self.phantoms[phantom as usize];
        if let Some(number) = std::mem::take(&mut own.flight).checked_sub(1) {
            self.flights.give(number);
        }
    }
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014).
pub(in crate::phantom) fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
