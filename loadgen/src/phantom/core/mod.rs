//! The connections of one thread's phantoms up to whole WebSocket messages: handshake, frames, failures and new attempts.
//! What the phantoms do with their messages is a [`Role`]'s.

mod ends;
mod frames;
mod odd;

use super::frame;
use super::handshake::{Refusal, Upgrade};
use super::limits::{CONNECTING_MAX, UP_TIMEOUT};
use super::tcp::{Arrival, Stack, Stage};
use super::wire::Wire;
use crate::limits::BACKOFF_MIN;
use crate::meters::Counters;
use crate::worker::{Context, Next, Phase};
use odd::Odd;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

/// What the phantoms of a scenario do. Nothing here waits.
pub trait Role<W: Wire> {
    /// The server agreed to the upgrade.
    fn opened(&mut self, core: &mut Core<W>, phantom: u32);
    /// A message came, text or binary.
    ///
    /// # Errors
    /// Why the connection has to end, in a sentence.
    fn message(
        &mut self,
        core: &mut Core<W>,
        phantom: u32,
        text: bool,
        payload: &[u8],
    ) -> Result<Next, String>;
    /// The connection that was opened is gone.
    fn closed(&mut self, core: &mut Core<W>, phantom: u32);
    /// Whether the phantom is meant to be connected.
    fn is_wanted(&self, phantom: u32) -> bool;
    /// The run's phase has changed.
    fn enter(&mut self, core: &mut Core<W>, phase: Phase);
    /// Does a bounded part of what is due. Returns when it wants its next turn, on the stack's clock.
    fn turn(&mut self, core: &mut Core<W>) -> u64;
}

/// What came of the connections of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Connections begun.
    pub begun: u64,
    /// Connections that the generator began too late.
    pub late: u64,
    /// Answers whose Sec-WebSocket-Accept did not fit.
    pub accept_wrong: u64,
    /// Answers to the upgrade with another status than 101.
    pub refused: u64,
}

impl std::ops::AddAssign for Attempts {
    fn add_assign(&mut self, other: Self) {
        self.begun += other.begun;
        self.late += other.late;
        self.accept_wrong += other.accept_wrong;
        self.refused += other.refused;
    }
}

/// The connections of one thread.
pub struct Core<W> {
    /// Their TCP.
    pub stack: Stack<W>,
    /// What this thread shares with the run.
    pub context: Rc<Context>,
    /// What came of the connections.
    pub attempts: Attempts,
    upgrade: Upgrade,
    /// Connections in the making.
    coming: usize,
    /// Their deadlines with the incarnation that is meant: in order, because all may take equally long. What is up is
    /// taken from the front, so that it holds little more than what is coming.
    deadlines: VecDeque<(u32, u16, u64)>,
    /// Phantoms that come back after a pause, by time. One that was hung up meanwhile and paused again stands here twice, and
    /// comes back at the earlier of both.
    pauses: BinaryHeap<Reverse<(u64, u32)>>,
    /// Those that misbehave.
    odd: Odd,
    /// A frame or request that is being written.
    scratch: Vec<u8>,
}

impl<W: Wire> Core<W> {
    /// No connection yet.
    pub fn new(stack: Stack<W>, context: Rc<Context>, upgrade: Upgrade) -> Self {
        Self {
            stack,
            context,
            attempts: Attempts::default(),
            upgrade,
            coming: 0,
            deadlines: VecDeque::new(),
            pauses: BinaryHeap::new(),
            odd: Odd::default(),
            scratch: Vec::new(),
        }
    }

    fn counters(&self) -> &Counters {
        &self.context.shared.counters
    }

    /// The number within the run.
    pub fn client(&self, phantom: u32) -> u32 {
        self.stack.addresses().client(phantom)
    }

    /// Moves a phantom's session on; the counts of what is coming up and what is open follow.
    fn move_to(&mut self, phantom: u32, stage: Stage) {
        let before = self.stack.stage(phantom);
        self.stack.set_stage(phantom, stage);
        self.coming += usize::from(stage.is_coming_up());
        self.coming -= usize::from(before.is_coming_up());
        if stage == Stage::Up && before != Stage::Up {
            self.counters().open.fetch_add(1, Relaxed);
        } else if before == Stage::Up && stage != Stage::Up {
            self.counters().open.fetch_sub(1, Relaxed);
        }
        if stage == Stage::Leaving && before != Stage::Leaving {
            self.counters().leaving.fetch_add(1, Relaxed);
        } else if before == Stage::Leaving && stage != Stage::Leaving {
            self.counters().leaving.fetch_sub(1, Relaxed);
        }
    }

    /// Whether another connection may be begun.
    pub fn may_connect(&self) -> bool {
        self.coming < CONNECTING_MAX && self.stack.has_room()
    }

    /// Begins a phantom's connection. False where it has one, is given up, or there is no room.
    pub fn connect(&mut self, phantom: u32) -> bool {
        let stage = self.stack.stage(phantom);
        if !matches!(stage, Stage::Down | Stage::Pausing) || !self.may_connect() || !self.stack.open(phantom)
        {
            return false;
        }
        self.attempts.begun += 1;
        self.move_to(phantom, Stage::Connecting);
        if !self.drips(phantom) {
            let at_us = self.stack.now_us() + UP_TIMEOUT.as_micros() as u64;
            self.deadlines.push_back((phantom, self.stack.incarnation(phantom), at_us));
        }
        true
    }

    /// Takes what came of a packet.
    pub fn arrived(&mut self, role: &mut impl Role<W>, arrival: &Arrival<'_>) {
        let phantom = arrival.phantom;
        if self.stack.is_silent(phantom) {
            return self.given_up(arrival);
        }
        if arrival.opened {
            self.request(role, phantom);
        }
        if !arrival.data.is_empty() {
            self.data(role, phantom, arrival.data);
        }
        // A hole is closed once at most by a packet.
        if let Some(held) = self.stack.take_held(phantom) {
            self.data(role, phantom, &held);
            self.stack.put_back(phantom, held);
        }
        if let Some(end) = arrival.end {
            self.ended(role, phantom, end);
        } else if arrival.finished {
            self.peer_finished(role, phantom);
        }
        self.stack.settle(phantom);
    }

    fn request(&mut self, role: &mut impl Role<W>, phantom: u32) {
        if self.stack.stage(phantom) != Stage::Connecting {
            return;
        }
        let client = self.client(phantom);
        let user = self.context.shared.plan.user(client);
        let mut request = std::mem::take(&mut self.scratch);
        request.clear();
        let written = self.upgrade.write(&mut request, client, user, self.stack.incarnation(phantom));
        if let Some(flight) = self.stack.flight(phantom) {
            flight.pinned = true;
        }
        if written.is_ok() && self.drips(phantom) {
            self.drip_from_now(phantom, &request);
            self.scratch = request;
            return;
        }
        self.move_to(phantom, Stage::Upgrading);
        let sent = written.is_ok() && self.stack.send(phantom, &request);
        self.scratch = request;
        if !sent {
            let text = written.err().unwrap_or_else(|| "no room for the upgrade request".into());
            self.fail(role, phantom, &text, true);
        }
    }

    fn data(&mut self, role: &mut impl Role<W>, phantom: u32, bytes: &[u8]) {
        if self.stack.is_stalled(phantom) {
            return self.leave_unread(role, phantom, bytes);
        }
        if self.stack.stage(phantom) == Stage::Dripping {
            return self.drip_ended(phantom, Ok(bytes));
        }
        let waiting = self.stack.flight(phantom).map(|flight| std::mem::take(&mut flight.input));
        let mut input = waiting.unwrap_or_default();
        if input.is_empty() {
            let used = self.consume(role, phantom, bytes);
            input.extend_from_slice(&bytes[used..]);
        } else {
            input.extend_from_slice(bytes);
            let used = self.consume(role, phantom, &input);
            input.drain(..used);
        }
        if input.is_empty() {
            if let Some(flight) = self.stack.flight(phantom) {
                flight.input = input;
            }
        } else if let Some(flight) = self.stack.make_flight(phantom) {
            flight.input = input;
        } else {
            // Acknowledged already, so that it cannot be had again.
            self.fail(role, phantom, "no room to keep a part of a message", false);
        }
    }

    /// Takes whole answers and frames from the front of `bytes`; returns how much that was.
    fn consume(&mut self, role: &mut impl Role<W>, phantom: u32, bytes: &[u8]) -> usize {
        let mut used = 0;
        // Each round takes at least two bytes, or is the last.
        loop {
            let rest = &bytes[used..];
            match self.stack.stage(phantom) {
                Stage::Upgrading => match self.answer(role, phantom, rest) {
                    Some(length) => used += length,
                    None => break,
                },
                Stage::Greeting | Stage::Up => match frame::read(rest) {
                    Ok(Some(frame)) => {
                        used += frame.bytes;
                        self.frame(role, phantom, &frame);
                    }
                    Ok(None) => break,
                    Err(text) => {
                        self.context.ledger.borrow_mut().violation();
                        self.fail(role, phantom, text, false);
                    }
                },
                // What comes behind the end is of no interest.
                _ => return bytes.len(),
            }
        }
        used
    }

    fn answer(&mut self, role: &mut impl Role<W>, phantom: u32, bytes: &[u8]) -> Option<usize> {
        let (client, incarnation) = (self.client(phantom), self.stack.incarnation(phantom));
        match self.upgrade.check(bytes, client, incarnation) {
            Ok(Some(length)) => {
                self.move_to(phantom, Stage::Greeting);
                role.opened(self, phantom);
                Some(length)
            }
            Ok(None) => None,
            Err(refusal) => {
                self.attempts.accept_wrong += u64::from(refusal == Refusal::Accept);
                self.attempts.refused += u64::from(matches!(refusal, Refusal::Status(..)));
                self.fail(role, phantom, &refusal.to_string(), refusal.is_final());
                // The connection is over: what was left of its input would hold a flight that nobody gives back.
                Some(bytes.len())
            }
        }
    }

    /// The session is ready: the connection is made, in full.
    pub fn up(&mut self, phantom: u32) {
        if self.stack.stage(phantom) != Stage::Greeting {
            return;
        }
        self.move_to(phantom, Stage::Up);
        let now_us = self.stack.now_us();
        if let Some(flight) = self.stack.flight(phantom) {
            flight.pinned = false;
            let took_us = now_us.saturating_sub(flight.begun_us);
            self.context.meters.borrow_mut().connect.saturating_record(took_us);
        }
        if self.stack.incarnation(phantom) > 1 {
            Counters::add(&self.counters().reconnects);
        }
        self.stack.set_failures(phantom, 0);
    }

    /// Gives up what took too long, and connects again whose pause is over. Returns the time of the next pause's end.
    pub fn turn(&mut self, role: &mut impl Role<W>) -> u64 {
        let drip_us = self.drip();
        self.come_up(role).min(drip_us)
    }

    fn come_up(&mut self, role: &mut impl Role<W>) -> u64 {
        let now_us = self.stack.now_us();
        // Each round takes one from the queue.
        while let Some(&(phantom, incarnation, at_us)) = self.deadlines.front() {
            let coming =
                self.stack.stage(phantom).is_coming_up() && self.stack.incarnation(phantom) == incarnation;
            if coming && at_us > now_us {
                break;
            }
            self.deadlines.pop_front();
            if coming {
                self.fail(
                    role,
                    phantom,
                    "not up in time: no SYN-ACK, no answer to the upgrade, or no Welcome",
                    false,
                );
            }
        }
        while let Some(&Reverse((at_us, phantom))) = self.pauses.peek() {
            if at_us > now_us {
                return at_us;
            }
            if !self.may_connect() {
                // A packet or a timer has to make room first.
                return u64::MAX;
            }
            self.pauses.pop();
            if self.stack.stage(phantom) != Stage::Pausing {
                continue;
            }
            if !role.is_wanted(phantom) {
                self.move_to(phantom, Stage::Down);
            } else if !self.connect(phantom) {
                self.move_to(phantom, Stage::Down);
                self.pause(phantom, BACKOFF_MIN);
            }
        }
        u64::MAX
    }
}
