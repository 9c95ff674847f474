//! `chat` and `group`: every client is a user; messages to one other or to a group, acknowledgements, read marks, receipts, and all of
//! it in the ledger.

mod membership;

use super::request;
use crate::ledger::Delivery;
use crate::limits::{
    ACK_EVENTS_MAX, READ_MESSAGES_MAX, RETRIES_MAX, SERVER_PAUSE_MAX, UNANSWERED_MAX, WELCOME_TIMEOUT,
};
use crate::link::Outlet;
use crate::meters::Counters;
use crate::payload;
use crate::wire;
use crate::worker::{Context, Next, Session};
use membership::{CREATE_ID, Membership};
use quanta::Instant;
use roost_proto::v1::{Code, Error, Event, Mark, Receipt, Sent, Welcome, address, event, server_frame};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tungstenite::Message;
use tungstenite::handshake::client::Request;

/// A user with one device.
pub struct Chat {
    context: Rc<Context>,
    client: u32,
    place: usize,
    state: RefCell<State>,
}

struct State {
    standing: Standing,
    connected_once: bool,
    ready: bool,
    heartbeat: Duration,
    last_sent: Instant,
    /// Messages without an answer, in the order of sending; the first `in_flight` of them left on this connection,
    /// `in_flight <= queue.len()`.
    queue: VecDeque<u32>,
    in_flight: usize,
    /// Messages the server refused for now, with the times at which they go again (microseconds of the run).
    postponed: Vec<(u64, u32)>,
    retries: rustc_hash::FxHashMap<u32, u8>,
    /// The last event's place; 0 where all is acknowledged.
    ack_due: u64,
    events_unacknowledged: u32,
    /// When the oldest of them is to be acknowledged at the latest.
    ack_at: Option<Instant>,
    /// Places of the stream that were there when the first session began: to be taken before the run is ready.
    backlog_head: u64,
    reads: Vec<u64>,
    membership: Membership,
}

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// No connection, or one without Welcome.
    Unknown,
    /// Welcome has come: frames may be sent.
    Welcomed,
}

impl Chat {
    fn frame(
        &self,
        state: &mut State,
        link: &dyn Outlet,
        frame: &roost_proto::v1::ClientFrame,
        mark: Option<u64>,
    ) {
        state.last_sent = self.context.shared.clock.now();
        let message = self.context.shared.options.cli.encoding.write(frame);
        // Where it is closed the reading side sees it, and the frame is written again for the next connection.
        let _ = link.send(message, mark);
    }

    /// Sends what is queued, as far as the bounds allow. `fresh`: the message that became due just now.
    fn pump(&self, state: &mut State, link: &dyn Outlet, fresh: Option<u32>) {
        while state.standing == Standing::Welcomed
            && state.in_flight < state.queue.len().min(UNANSWERED_MAX)
            && link.has_room()
        {
            // Goes with the message, in one packet.
            self.acknowledge(state, link);
            let index = state.queue[state.in_flight];
            state.in_flight += 1;
            let plan = &self.context.shared.plan;
            let to = state.membership.group().map_or_else(
                || address::To::User(plan.user(plan.receiver[index as usize])),
                address::To::Group,
            );
            let frame = wire::send(index + 1, to, self.client_id(index), plan.payload(index));
            let mark = (fresh == Some(index)).then(|| plan.at_us[index as usize]);
            if self.context.ledger.borrow_mut().handed(index) {
                Counters::add(&self.context.shared.counters.sent);
            }
            self.frame(state, link, &frame, mark);
        }
    }

    /// 16 bytes: the run, the message.
    fn client_id(&self, index: u32) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.context.shared.run_id.to_le_bytes());
        id[8..12].copy_from_slice(&index.to_le_bytes());
        id
    }

    /// The message behind a `client_id` of this run.
    fn index(&self, client_id: &[u8]) -> Option<u32> {
        let (run, rest) = client_id.split_first_chunk::<8>()?;
        let (index, _) = rest.split_first_chunk::<4>()?;
        let index = u32::from_le_bytes(*index);
        let known = u64::from_le_bytes(*run) == self.context.shared.run_id
            && (index as usize) < self.context.shared.plan.len();
        known.then_some(index)
    }

    fn welcome(&self, state: &mut State, link: &dyn Outlet, welcome: &Welcome) {
        self.context.ledger.borrow_mut().welcomed(self.client, welcome.acknowledged, welcome.head);
        state.standing = Standing::Welcomed;
        let asked = self.context.shared.options.cli.payload_bytes;
        let most = welcome.payload_bytes_max;
        // 0 is a server that does not say.
        if most > 0 && asked > most as usize {
            let _ = self.context.shared.ruled_out.set(format!(
                "--payload-bytes {asked} is more than this server takes: its Welcome says payload_bytes_max {most}"
            ));
        }
        if welcome.heartbeat_s > 0 {
            state.heartbeat = Duration::from_secs(u64::from(welcome.heartbeat_s));
        }
        if !std::mem::replace(&mut state.connected_once, true) {
            self.context.connected();
            state.backlog_head = if welcome.head > welcome.acknowledged { welcome.head } else { 0 };
        }
        self.ready(state);
        self.pump(state, link, None);
    }

    fn ready(&self, state: &mut State) {
        let is_member = state.membership.group().is_some() || self.context.shared.plan.groups() == 0;
        if is_member && state.backlog_head == 0 && !std::mem::replace(&mut state.ready, true) {
            Counters::add(&self.context.shared.counters.ready);
        }
    }

    fn sent(&self, state: &mut State, link: &dyn Outlet, sent: &Sent) {
        let plan = &self.context.shared.plan;
        let own = self.index(&sent.client_id).filter(|&index| plan.sender[index as usize] == self.client);
        let Some(index) = own else { return self.context.ledger.borrow_mut().violation() };
        let answer = self.context.ledger.borrow_mut().answered(plan, index, sent.id);
        let counters = &self.context.shared.counters;
        counters.receipts.fetch_add(answer.receipts_delivered, Relaxed);
        if answer.first {
            Counters::add(&counters.answered);
            let (at_us, now_us) = (plan.at_us[index as usize], self.context.now_us());
            // Who went offline with the answer on its way waits for no server.
            if !plan.is_offline_within(self.client, at_us, now_us) {
                let latency_us = now_us.saturating_sub(at_us);
                self.context.meters.borrow_mut().latency_sent.saturating_record(latency_us);
            }
        }
        state.forget(index);
        self.pump(state, link, None);
    }

    fn refused(&self, state: &mut State, link: &dyn Outlet, reply_to: u32, error: &Error) {
        let code = error.code.as_known();
        self.context.meters.borrow_mut().error(&format!("Error {:?}: {}", error.code, error.message));
        if reply_to == CREATE_ID {
            return state.membership.refused();
        }
        let index = reply_to.wrapping_sub(1);
        if !state.forget(index) {
            return;
        }
        let tries = state.retries.entry(index).or_default();
        *tries += 1;
        let passing = matches!(code, Some(Code::UNAVAILABLE | Code::RATE_LIMITED | Code::INTERNAL));
        if passing && *tries <= RETRIES_MAX {
            self.context.ledger.borrow_mut().postponed(index);
            let pause = Duration::from_millis(u64::from(error.retry_after_ms).max(100)).min(SERVER_PAUSE_MAX);
            state.postponed.push((self.context.now_us() + pause.as_micros() as u64, index));
        } else {
            self.context.ledger.borrow_mut().refused(index);
            Counters::add(&self.context.shared.counters.refused);
        }
        self.pump(state, link, None);
    }

    fn event(&self, state: &mut State, link: &dyn Outlet, event: &Event) {
        if self.context.ledger.borrow_mut().event(self.client, event.seq) {
            match &event.body {
                Some(event::Body::Message(message)) => self.delivered(state, event.seq, message),
                Some(event::Body::Receipt(receipt)) => self.receipt(receipt),
                Some(event::Body::Group(info)) => self.joined(state, info),
                None => (),
            }
        }
        state.ack_due = state.ack_due.max(event.seq);
        state.events_unacknowledged += 1;
        if state.backlog_head > 0 && event.seq >= state.backlog_head {
            state.backlog_head = 0;
            self.ready(state);
        }
        if state.events_unacknowledged >= ACK_EVENTS_MAX {
            self.acknowledge(state, link);
        } else if state.ack_at.is_none() {
            state.ack_at = Some(self.context.flush_later(self.place));
        }
    }

    fn delivered(&self, state: &mut State, seq: u64, message: &roost_proto::v1::Message) {
        let plan = &self.context.shared.plan;
        let mut ledger = self.context.ledger.borrow_mut();
        let Some(index) = self.index(&message.client_id) else {
            ledger.counted().foreign += 1;
            return;
        };
        let (at, sender) = (index as usize, plan.sender[index as usize]);
        let header = payload::parse(&message.payload);
        let expected = payload::Header { sender: plan.user(sender), at_us: plan.at_us[at], index };
        let to = message.to.as_option().and_then(|address| address.to.clone());
        let own =
            state.membership.group().map_or(address::To::User(plan.user(self.client)), address::To::Group);
        if header != Some(expected) || message.from != expected.sender || to != Some(own) {
            ledger.violation();
        }
        if ledger.delivered(plan, self.client, seq, index, message.id) != Delivery::First {
            return;
        }
        Counters::add(&self.context.shared.counters.received);
        let (at_us, now_us) = (plan.at_us[at], self.context.now_us());
        let away = [sender, self.client].iter().any(|&client| plan.is_offline_within(client, at_us, now_us));
        let mut meters = self.context.meters.borrow_mut();
        let latency = if away { &mut meters.latency_offline } else { &mut meters.latency };
        latency.saturating_record(now_us.saturating_sub(at_us));
        // The share is spread over the numbers, the same in every run with this seed.
        let read_share = self.context.shared.options.read_share();
        if f64::from(index.wrapping_mul(2_654_435_769)) < read_share * f64::from(u32::MAX) {
            state.reads.push(message.id);
        }
    }

    fn receipt(&self, receipt: &Receipt) {
        let mut ledger = self.context.ledger.borrow_mut();
        let Some(mark) = receipt.mark.as_known() else { return ledger.violation() };
        for &id in &receipt.message {
            let new = ledger.receipt(&self.context.shared.plan, self.client, mark, receipt.by, id);
            if new && mark == Mark::DELIVERED {
                Counters::add(&self.context.shared.counters.receipts);
            }
        }
    }

    /// Acknowledges all that came, and tells what was read.
    fn acknowledge(&self, state: &mut State, link: &dyn Outlet) {
        if state.standing != Standing::Welcomed {
            return;
        }
        if state.ack_due > 0 {
            self.frame(state, link, &wire::ack(state.ack_due), None);
            self.context.ledger.borrow_mut().acknowledged(self.client, state.ack_due);
            state.forget_events();
        }
        while !state.reads.is_empty() {
            let rest = state.reads.split_off(state.reads.len().min(READ_MESSAGES_MAX));
            let read = std::mem::replace(&mut state.reads, rest);
            self.frame(state, link, &wire::read(read), None);
        }
    }

    /// Queues again what the server refused for now and whose time has come.
    fn retry(&self, state: &mut State, link: &dyn Outlet) {
        let now_us = self.context.now_us();
        let State { postponed, queue, .. } = state;
        postponed.retain(|&(at_us, index)| {
            let due = at_us <= now_us;
            if due {
                queue.push_back(index);
            }
            !due
        });
        self.pump(state, link, None);
    }
}

impl State {
    /// No event waits for its acknowledgement any more.
    fn forget_events(&mut self) {
        (self.ack_due, self.events_unacknowledged, self.ack_at) = (0, 0, None);
    }

    /// Takes a message out of the queue; false where it is not in flight.
    fn forget(&mut self, index: u32) -> bool {
        let place = self.queue.iter().take(self.in_flight).position(|&queued| queued == index);
        if let Some(place) = place {
            self.queue.remove(place);
            self.in_flight -= 1;
        }
        place.is_some()
    }
}

impl Session for Chat {
    fn new(context: Rc<Context>, client: u32, place: usize) -> Self {
        let state = State {
            standing: Standing::Unknown,
            connected_once: false,
            ready: false,
            heartbeat: Duration::from_secs(context.shared.options.cli.heartbeat_s),
            last_sent: context.shared.ramp_begun,
            queue: VecDeque::new(),
            in_flight: 0,
            postponed: Vec::new(),
            retries: rustc_hash::FxHashMap::default(),
            ack_due: 0,
            events_unacknowledged: 0,
            ack_at: None,
            backlog_head: 0,
            reads: Vec::new(),
            membership: Membership::default(),
        };
        Self { context, client, place, state: RefCell::new(state) }
    }

    fn request(&self) -> Result<Request, String> {
        request(&self.context.shared.options, self.context.shared.plan.user(self.client))
    }

    fn opened(&self, _link: &dyn Outlet) {
        self.state.borrow_mut().last_sent = self.context.shared.clock.now();
    }

    fn message(&self, link: &dyn Outlet, message: &Message) -> Result<Next, String> {
        let Some(frame) = self.context.shared.options.cli.encoding.read(message)? else {
            return Ok(Next::Continue);
        };
        let state = &mut *self.state.borrow_mut();
        match frame.body {
            Some(server_frame::Body::Welcome(welcome)) => self.welcome(state, link, &welcome),
            Some(server_frame::Body::Event(event)) => self.event(state, link, &event),
            Some(server_frame::Body::Sent(sent)) => self.sent(state, link, &sent),
            Some(server_frame::Body::Group(info)) => self.joined(state, &info),
            Some(server_frame::Body::Error(error)) => self.refused(state, link, frame.reply_to, &error),
            Some(server_frame::Body::GoAway(away)) => {
                let (min, max) = (away.reconnect_min_ms, away.reconnect_max_ms.max(away.reconnect_min_ms));
                // Spread over the window by the client's number.
                let after =
                    min + self.client.wrapping_mul(2_654_435_769) % (max - min).saturating_add(1).max(1);
                return Ok(Next::Reconnect(Duration::from_millis(u64::from(after))));
            }
            _ => (),
        }
        Ok(Next::Continue)
    }

    fn closed(&self) {
        let state = &mut *self.state.borrow_mut();
        state.standing = Standing::Unknown;
        state.membership.refused();
        // All without an answer goes again, first and in the same order; the client_id keeps it from being stored twice.
        state.in_flight = 0;
        // What was not acknowledged will come again.
        state.forget_events();
    }

    fn due(&self, link: Option<&dyn Outlet>, index: u32) {
        let state = &mut *self.state.borrow_mut();
        state.queue.push_back(index);
        if let Some(link) = link {
            // Only where nothing waits before it can the generator be blamed for its lateness.
            let fresh = (state.in_flight + 1 == state.queue.len()).then_some(index);
            self.pump(state, link, fresh);
        }
    }

    fn begin(&self, _link: Option<&dyn Outlet>) {}

    fn flush(&self, link: Option<&dyn Outlet>) {
        let state = &mut *self.state.borrow_mut();
        // Where a message took the acknowledgement along, what came after it has its own time.
        let due = state.ack_at.is_some_and(|at| at <= self.context.shared.clock.now());
        if let Some(link) = link.filter(|_| due) {
            self.acknowledge(state, link);
        }
    }

    fn sweep(&self, link: Option<&dyn Outlet>) {
        let Some(link) = link else { return };
        let state = &mut *self.state.borrow_mut();
        let silent = self.context.shared.clock.now().saturating_duration_since(state.last_sent);
        match state.standing {
            Standing::Unknown if silent > WELCOME_TIMEOUT => {
                self.context.meters.borrow_mut().error("no Welcome in time");
                link.cut();
            }
            Standing::Unknown => (),
            Standing::Welcomed => {
                self.create(state, link);
                if !state.postponed.is_empty() {
                    self.retry(state, link);
                }
                // Of a connection that broke before they were told.
                if !state.reads.is_empty() && state.ack_at.is_none() {
                    self.acknowledge(state, link);
                }
                let share = self.context.shared.options.cli.heartbeat_share;
                if silent > state.heartbeat.mul_f64(share) {
                    self.frame(state, link, &wire::heartbeat(), None);
                }
            }
        }
    }
}
