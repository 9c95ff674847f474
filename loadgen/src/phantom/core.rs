//! The connections of one thread's phantoms up to whole WebSocket messages: handshake, frames, failures and new attempts.
//! What the phantoms do with their messages is a [`Role`]'s.

use super::frame::{self, CLOSE, Frame, PING, PONG};
use super::handshake::{Refusal, Upgrade};
use super::limits::{CONNECTING_MAX, INPUT_BYTES_MAX, UP_TIMEOUT};
use super::tcp::{Arrival, End, Stack, Stage, mix};
use super::wire::Wire;
use crate::limits::{BACKOFF_MAX, BACKOFF_MIN, CONNECT_ATTEMPTS_MAX, SERVER_PAUSE_MAX};
use crate::meters::Counters;
use crate::worker::{Context, Next, Phase};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tungstenite::protocol::frame::coding::{Data, OpCode};

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
        let at_us = self.stack.now_us() + UP_TIMEOUT.as_micros() as u64;
        self.deadlines.push_back((phantom, self.stack.incarnation(phantom), at_us));
        true
    }

    /// Takes what came of a packet.
    pub fn arrived(&mut self, role: &mut impl Role<W>, arrival: &Arrival<'_>) {
        let phantom = arrival.phantom;
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
        self.move_to(phantom, Stage::Upgrading);
        let sent = written.is_ok() && self.stack.send(phantom, &request);
        self.scratch = request;
        if !sent {
            let text = written.err().unwrap_or_else(|| "no room for the upgrade request".into());
            self.fail(role, phantom, &text, true);
        }
    }

    fn data(&mut self, role: &mut impl Role<W>, phantom: u32, bytes: &[u8]) {
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

    fn frame(&mut self, role: &mut impl Role<W>, phantom: u32, frame: &Frame<'_>) {
        match frame.opcode {
            PING => _ = self.send(phantom, PONG, frame.payload),
            PONG => (),
            CLOSE => {
                self.send(phantom, CLOSE, frame.payload);
                let code = frame.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default());
                self.dropped(&format!("closed by the server: {code} {reason}"));
                self.leave(role, phantom);
            }
            OpCode::Data(Data::Text) if frame.fin => self.message(role, phantom, true, frame.payload),
            OpCode::Data(Data::Binary) if frame.fin => self.message(role, phantom, false, frame.payload),
            OpCode::Data(_) => self.fragment(role, phantom, frame),
            OpCode::Control(_) => self.fail(role, phantom, "a frame with a reserved opcode", false),
        }
    }

    /// A part of a message (RFC 6455 section 5.4): kept behind a byte that tells text from binary.
    fn fragment(&mut self, role: &mut impl Role<W>, phantom: u32, frame: &Frame<'_>) {
        let Some(flight) = self.stack.make_flight(phantom) else {
            return self.fail(role, phantom, "no room to keep a part of a message", false);
        };
        let continues = frame.opcode == OpCode::Data(Data::Continue);
        if continues == flight.message.is_empty()
            || flight.message.len() + frame.payload.len() > INPUT_BYTES_MAX
        {
            return self.fail(
                role,
                phantom,
                "a fragment out of turn, or a message longer than a phantom takes",
                false,
            );
        }
        if !continues {
            flight.message.push(u8::from(frame.opcode == OpCode::Data(Data::Text)));
        }
        flight.message.extend_from_slice(frame.payload);
        if frame.fin {
            let message = std::mem::take(&mut flight.message);
            self.message(role, phantom, message[0] == 1, &message[1..]);
        }
    }

    fn message(&mut self, role: &mut impl Role<W>, phantom: u32, text: bool, payload: &[u8]) {
        match role.message(self, phantom, text, payload) {
            Ok(Next::Continue) => (),
            Ok(Next::Reconnect(pause)) => {
                self.hang_up(role, phantom);
                self.pause(phantom, pause.min(SERVER_PAUSE_MAX));
            }
            Err(text) => {
                self.context.ledger.borrow_mut().violation();
                self.fail(role, phantom, &text, false);
            }
        }
    }

    /// Sends a frame. False where the connection or its room is missing.
    pub fn send(&mut self, phantom: u32, opcode: OpCode, payload: &[u8]) -> bool {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        // Random to whoever does not know the seed (RFC 6455 section 10.3), and computed.
        let mask = mix(self.stack.now_us() << 24 ^ u64::from(phantom)) as u32;
        frame::write(&mut out, opcode, payload, mask.to_le_bytes());
        let sent = self.stack.send(phantom, &out);
        self.scratch = out;
        sent
    }

    /// Says goodbye in order: close frame (where the server has not said it first) and FIN.
    pub fn leave(&mut self, role: &mut impl Role<W>, phantom: u32) {
        self.move_to(phantom, Stage::Leaving);
        role.closed(self, phantom);
        if !self.stack.close(phantom) {
            self.hang_up(role, phantom);
        }
    }

    /// Ends the connection with RST, whatever it is.
    pub fn hang_up(&mut self, role: &mut impl Role<W>, phantom: u32) {
        let stage = self.stack.stage(phantom);
        self.stack.abort(phantom);
        self.move_to(phantom, Stage::Down);
        if matches!(stage, Stage::Greeting | Stage::Up) {
            role.closed(self, phantom);
        }
    }

    fn dropped(&mut self, text: &str) {
        Counters::add(&self.counters().dropped);
        self.context.meters.borrow_mut().error(text);
    }

    /// Something is wrong with the connection: it ends, and is made again after a pause where that may help.
    fn fail(&mut self, role: &mut impl Role<W>, phantom: u32, text: &str, is_final: bool) {
        let was_up = self.stack.stage(phantom) == Stage::Up;
        self.hang_up(role, phantom);
        self.failed(phantom, text, was_up, is_final);
    }

    fn failed(&mut self, phantom: u32, text: &str, was_up: bool, is_final: bool) {
        if was_up {
            self.dropped(text);
        } else {
            self.context.meters.borrow_mut().error(text);
        }
        let failures = self.stack.failures(phantom).saturating_add(1);
        self.stack.set_failures(phantom, failures);
        if is_final || u32::from(failures) >= CONNECT_ATTEMPTS_MAX {
            self.move_to(phantom, Stage::Failed);
            Counters::add(&self.counters().failed);
        } else {
            self.pause(phantom, self.backoff(phantom, failures));
        }
    }

    /// Doubled each time, half of it at random (RFC 6455 section 7.2.3).
    fn backoff(&self, phantom: u32, failures: u8) -> Duration {
        let full = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
        let random = mix(self.stack.now_us() ^ u64::from(phantom) << 32) as u32;
        full.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
    }

    /// Makes a phantom connect after a pause.
    pub fn pause(&mut self, phantom: u32, pause: Duration) {
        if self.stack.stage(phantom) == Stage::Down {
            self.move_to(phantom, Stage::Pausing);
            self.pauses.push(Reverse((self.stack.now_us() + pause.as_micros() as u64, phantom)));
        }
    }

    /// The peer ended its side: nothing more will come, so that ours ends, too.
    fn peer_finished(&mut self, role: &mut impl Role<W>, phantom: u32) {
        match self.stack.stage(phantom) {
            Stage::Leaving => _ = self.stack.close(phantom),
            Stage::Up => {
                self.dropped("connection ended without a close frame");
                self.leave(role, phantom);
            }
            stage if stage.is_coming_up() => {
                self.fail(role, phantom, "connection ended before the handshake was done", false);
            }
            _ => _ = self.stack.close(phantom),
        }
    }

    /// A connection is over.
    pub fn ended(&mut self, role: &mut impl Role<W>, phantom: u32, end: End) {
        let stage = self.stack.stage(phantom);
        if matches!(stage, Stage::Down | Stage::Pausing | Stage::Failed) {
            return;
        }
        if stage == Stage::Leaving {
            self.move_to(phantom, Stage::Down);
            if role.is_wanted(phantom) {
                self.pause(phantom, self.backoff(phantom, 1));
            }
            return;
        }
        self.move_to(phantom, Stage::Down);
        if matches!(stage, Stage::Greeting | Stage::Up) {
            role.closed(self, phantom);
        }
        self.failed(phantom, &end.to_string(), stage == Stage::Up, false);
    }

    /// Gives up what took too long, and connects again whose pause is over. Returns the time of the next pause's end.
    pub fn turn(&mut self, role: &mut impl Role<W>) -> u64 {
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
