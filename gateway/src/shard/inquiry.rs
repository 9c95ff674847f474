//! Who is connected as a user: an operator's question to all shards. Each looks through its slab a slice a turn, as a sweep does, so that
//! nobody else waits for the answer; no index by user is kept for it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Shard,
    slot::{BUSY, Life, PAUSED, Slot},
};
use crate::{
    conn::Phase,
    limits,
    ring::{Op, Ring, Token},
};

/// A connection of the user asked for, as it was when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its slot; with the shard and the generation it names the connection.
    pub slot: u32,
    /// Which holder of the slot it is.
    pub generation: u32,
    /// Device number.
    pub device: u32,
    /// The client's address where a proxy told it, the peer's otherwise; `None` where the kernel does not tell (before Linux 6.8).
    pub address: Option<SocketAddr>,
    /// Where it stands.
    pub state: &'static str,
    /// Since it was accepted, seconds.
    pub age_s: u64,
    /// Since something came from it, seconds.
    pub silent_s: u64,
    /// Bytes in its outbox; what a send in flight has taken is not among them.
    pub queued_bytes: u64,
    /// Received by multishot receive.
    pub busy: bool,
    /// Not read, because it takes too little or the router's queue is full.
    pub paused: bool,
}

/// What one shard answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Number of the shard.
    pub shard: u16,
    /// At most [`limits::INQUIRY_FOUND_MAX`].
    pub found: Vec<Found>,
    /// There are more.
    pub more: bool,
}

/// Whom to ask for, and where each shard's answer goes. It must not block.
#[derive(Clone)]
pub struct Inquiry {
    /// User number.
    pub user: u64,
    /// Called once by each shard.
    pub answer: Arc<dyn Fn(Answer) + Send + Sync>,
}

/// Where the inquiry of the moment lies. There is one at a time: a new one takes the place of an older, which shards that have not
/// answered it yet then give up.
#[derive(Default)]
pub struct Desk {
    /// Inquiries so far; a shard that has seen fewer looks at the desk. Written under the lock.
    number: AtomicU64,
    /// With its number.
    inquiry: Mutex<Option<(u64, Inquiry)>>,
}

impl Desk {
    /// Lays an inquiry before all shards; whoever does so wakes them.
    pub fn ask(&self, inquiry: Inquiry) {
        let mut open = self.inquiry.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.number.load(Ordering::Relaxed) + 1;
        *open = Some((number, inquiry));
        self.number.store(number, Ordering::Release);
    }

    /// Whether another inquiry than the one seen last lies here.
    fn is_new(&self, seen: u64) -> bool {
        self.number.load(Ordering::Acquire) != seen
    }

    /// The inquiry and its own number, read under one lock. Read apart, a number could be taken with the inquiry after it, which
    /// would then be answered twice.
    fn inquiry(&self) -> Option<(u64, Inquiry)> {
        self.inquiry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A shard's look through its slab.
pub struct Look {
    inquiry: Inquiry,
    next: u32,
    answer: Answer,
    /// Addresses that were asked for and have not come.
    addresses: usize,
}

impl<R: Ring> Shard<R> {
    /// Takes up an inquiry that is new, and goes on with the one at hand.
    pub(super) fn inquire(&mut self) {
        // An address bears no number of an inquiry: those that one asked for come before the next one begins.
        let waits = self.look.as_ref().is_some_and(|look| look.addresses > 0);
        if !waits
            && self.parts.shared.desk.is_new(self.inquiries_seen)
            && let Some((number, inquiry)) = self.parts.shared.desk.inquiry()
        {
            self.inquiries_seen = number;
            let answer = Answer { shard: self.parts.number, ..Answer::default() };
            self.look = Some(Look { inquiry, next: 0, answer, addresses: 0 });
        }
        let Some(mut look) = self.look.take() else { return };
        self.look_on(&mut look);
        if look.next >= self.slab.slots() && look.addresses == 0 {
            (look.inquiry.answer)(look.answer);
        } else {
            self.look = Some(look);
        }
    }

    /// Whether slots are still to be looked at, so that the shard must not sleep.
    pub(super) fn is_looking(&self) -> bool {
        match &self.look {
            Some(look) => look.next < self.slab.slots(),
            None => self.parts.shared.desk.is_new(self.inquiries_seen),
        }
    }

    fn look_on(&mut self, look: &mut Look) {
        let end = self.slab.slots().min(look.next.saturating_add(limits::SWEEP_SLOTS_PER_TURN_MAX));
        for slot in look.next..end {
            let Some(generation) = self.slab.generation(slot) else { continue };
            let who = self.slab[slot].conn.identity().filter(|who| who.user == look.inquiry.user);
            let Some(who) = who else { continue };
            if look.answer.found.len() == limits::INQUIRY_FOUND_MAX {
                look.answer.more = true;
                break;
            }
            let connection = &self.slab[slot];
            look.answer.found.push(Found {
                slot,
                generation,
                device: who.device,
                address: self.clients.address(slot),
                state: state(connection),
                age_s: (self.now_ms / 1_000).saturating_sub(connection.since_s.into()),
                silent_s: self.now.since(connection.heard).into(),
                queued_bytes: self.outboxes.len(connection.outbox) as u64,
                busy: connection.flags.has(BUSY),
                paused: connection.flags.has(PAUSED),
            });
            // Once the close is submitted the descriptor is the next one's.
            let told = self.clients.address(slot).is_some();
            let asks = !told && connection.life < Life::Closing;
            let token = Token::new(Op::Peer, generation, slot);
            if asks && self.parts.ring.ask_peer(connection.descriptor, token) {
                look.addresses += 1;
            }
        }
        look.next = if look.answer.more { self.slab.slots() } else { look.next.max(end) };
    }

    /// An address has come, or will not.
    pub(super) fn told_peer(&mut self, token: Token) {
        let address = self.parts.ring.take_peer(token);
        let Some(look) = &mut self.look else { return };
        let (slot, generation) = (token.slot(), token.generation());
        let found = &mut look.answer.found;
        if let Some(found) =
            found.iter_mut().find(|found| (found.slot, found.generation) == (slot, generation))
        {
            found.address = address;
            look.addresses = look.addresses.saturating_sub(1);
        }
    }
}

fn state(connection: &Slot) -> &'static str {
    match (connection.life, connection.conn.phase()) {
        (Life::Live, Phase::Handshake | Phase::Refusing) => "handshake",
        (Life::Live, Phase::Attaching) => "attaching",
        (Life::Live, Phase::Open | Phase::Closed) => "open",
        (Life::Flushing, _) => "flushing",
        (Life::Lingering, _) => "lingering",
        (Life::Ending | Life::Closing, _) => "ending",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inquiry_that_another_replaced_between_look_and_taking_is_answered_once() {
        let desk = Desk::default();
        let ask = |user| desk.ask(Inquiry { user, answer: Arc::new(|_| {}) });
        assert!(!desk.is_new(0) && desk.inquiry().is_none());
        ask(7);
        assert!(desk.is_new(0));
        ask(8);
        let (seen, inquiry) = desk.inquiry().expect("one lies there");
        assert_eq!(inquiry.user, 8);
        assert!(!desk.is_new(seen), "it would be taken up again");
        ask(9);
        assert!(desk.is_new(seen));
    }
}
