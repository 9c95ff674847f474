//! `chat` and `group`: every client is a user; messages to one other or to a group, acknowledgements, read marks, receipts, and all of
//! it in the ledger.

mod membership;
mod receiving;
mod sending;
mod stall;

use super::request;
use crate::limits::WELCOME_TIMEOUT;
use crate::link::Outlet;
use crate::wire;
use crate::worker::{Context, Next, Session};
use membership::Membership;
use quanta::Instant;
use roost_proto::v1::server_frame;
use stall::Stall;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
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
    stall: Stall,
}

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// No connection, or one without Welcome.
    Unknown,
    /// Welcome has come: frames may be sent.
    Welcomed,
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
            membership: Membership::new(context.shared.plan.groups.of(client).len()),
            stall: Stall::None,
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
        self.close_stall(state);
        state.membership.all_refused();
        // All without an answer goes again, first and in the same order; the client_id keeps it from being stored twice.
        state.in_flight = 0;
        // What was not acknowledged will come again.
        state.forget_events();
    }

    fn due(&self, link: Option<&dyn Outlet>, index: u32) {
        let state = &mut *self.state.borrow_mut();
        state.queue.push_back(index);
        if let Some(link) = link {
            self.pump(state, link);
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
                self.watch_stall(state);
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
