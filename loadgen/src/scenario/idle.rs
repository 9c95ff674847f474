//! `idle`: connect, wait for Welcome where the server knows the user, heartbeat, hold.

use super::{request, speaks_roost};
use crate::limits::WELCOME_TIMEOUT;
use crate::link::Outlet;
use crate::meters::Counters;
use crate::options::{Encoding, Options};
use crate::wire;
use crate::worker::{Context, Next, Session};
use quanta::Instant;
use roost_proto::v1::server_frame::Body;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tungstenite::Message;
use tungstenite::handshake::client::Request;

/// A client that only stays.
pub struct Idle {
    context: Rc<Context>,
    client: u32,
    welcomed: Cell<bool>,
    connected_once: Cell<bool>,
    heartbeat: Cell<Duration>,
    last_sent: Cell<Instant>,
}

impl Idle {
    fn options(&self) -> &Options {
        &self.context.shared.options
    }

    fn welcome(&self) {
        self.welcomed.set(true);
        if !self.connected_once.replace(true) {
            self.context.connected();
            Counters::add(&self.context.shared.counters.ready);
        }
    }
}

impl Session for Idle {
    fn new(context: Rc<Context>, client: u32, _place: usize) -> Self {
        let heartbeat = Cell::new(Duration::from_secs(context.shared.options.cli.heartbeat_s));
        let last_sent = Cell::new(context.shared.ramp_begun);
        let (welcomed, connected_once) = (Cell::new(false), Cell::new(false));
        Self { context, client, welcomed, connected_once, heartbeat, last_sent }
    }

    fn request(&self) -> Result<Request, String> {
        request(self.options(), self.context.shared.plan.user(self.client))
    }

    fn opened(&self, _link: &dyn Outlet) {
        self.last_sent.set(self.context.shared.clock.now());
        if !speaks_roost(self.options()) {
            self.welcome();
        }
    }

    fn message(&self, _link: &dyn Outlet, message: &Message) -> Result<Next, String> {
        if !speaks_roost(self.options()) {
            return Ok(Next::Continue);
        }
        match self.options().cli.encoding.read(message)?.and_then(|frame| frame.body) {
            Some(Body::Welcome(welcome)) => {
                if welcome.heartbeat_s > 0 {
                    self.heartbeat.set(Duration::from_secs(u64::from(welcome.heartbeat_s)));
                }
                self.welcome();
            }
            Some(Body::GoAway(go_away)) => {
                return Ok(Next::Reconnect(Duration::from_millis(u64::from(go_away.reconnect_min_ms))));
            }
            _ => (),
        }
        Ok(Next::Continue)
    }

    fn closed(&self) {
        self.welcomed.set(false);
    }

    fn due(&self, _link: Option<&dyn Outlet>, _index: u32) {}

    fn begin(&self, _link: Option<&dyn Outlet>) {}

    fn flush(&self, _link: Option<&dyn Outlet>) {}

    fn sweep(&self, link: Option<&dyn Outlet>) {
        let Some(link) = link else { return };
        let now = self.context.shared.clock.now();
        let silent = now.saturating_duration_since(self.last_sent.get());
        if !self.welcomed.get() && silent > WELCOME_TIMEOUT {
            self.context.meters.borrow_mut().error("no Welcome in time");
            link.cut();
        } else if silent > self.heartbeat.get().mul_f64(self.options().cli.heartbeat_share) {
            self.last_sent.set(now);
            // Where it is closed the reading side sees it.
            let _ = link.send(heartbeat(self.options()), None);
        }
    }
}

/// An empty frame where roost.v1 is spoken, a WebSocket ping elsewhere.
fn heartbeat(options: &Options) -> Message {
    let encoding: Encoding = options.cli.encoding;
    if speaks_roost(options) { encoding.write(&wire::heartbeat()) } else { Message::Ping(Vec::new().into()) }
}
