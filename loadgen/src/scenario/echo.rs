//! `echo`: what is sent comes back, byte by byte and in order, from any WebSocket echo server.

use super::request;
use crate::link::Outlet;
use crate::meters::Counters;
use crate::payload;
use crate::worker::{Context, Next, Phase, Session};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use tungstenite::Message;
use tungstenite::handshake::client::Request;

/// A message on its way to the server and back.
struct Flight {
    /// When it was due; closed loop: when it was sent.
    from_us: u64,
    payload: Vec<u8>,
}

/// A client that checks its echoes.
pub struct Echo {
    context: Rc<Context>,
    client: u32,
    connected_once: Cell<bool>,
    flights: RefCell<VecDeque<Flight>>,
    /// Due, and waiting for a place in flight or a connection.
    waiting: RefCell<VecDeque<u32>>,
    /// Messages of a closed loop.
    number: Cell<u32>,
    /// The last echo, to tell a doubled one from a strange one.
    last: RefCell<Vec<u8>>,
}

impl Echo {
    fn in_flight_max(&self) -> usize {
        self.context.shared.options.cli.in_flight as usize
    }

    fn is_closed_loop(&self) -> bool {
        self.context.shared.options.is_closed_loop()
    }

    /// Sends what is due, or in a closed loop what there is room for.
    fn pump(&self, link: &dyn Outlet) {
        while self.flights.borrow().len() < self.in_flight_max() && link.has_room() {
            let (payload, from_us, mark) = if self.is_closed_loop() {
                if !matches!(self.context.phase.get(), Phase::Run(_)) {
                    return;
                }
                let (number, now_us) = (self.number.get(), self.context.now_us());
                self.number.set(number.wrapping_add(1));
                let options = &self.context.shared.options.cli;
                let sender = u64::from(self.client);
                let payload = payload::build(options.seed, sender, number, now_us, options.payload_bytes);
                (payload, now_us, None)
            } else {
                let Some(index) = self.waiting.borrow_mut().pop_front() else { return };
                let plan = &self.context.shared.plan;
                let at_us = plan.at_us[index as usize];
                (plan.payload(index), at_us, Some(at_us))
            };
            let message = Message::binary(payload.clone());
            self.flights.borrow_mut().push_back(Flight { from_us, payload });
            self.context.ledger.borrow_mut().counted().sent += 1;
            Counters::add(&self.context.shared.counters.sent);
            if link.send(message, mark).is_err() {
                return;
            }
        }
    }

    fn check(&self, echo: &[u8]) {
        let mut flights = self.flights.borrow_mut();
        let mut ledger = self.context.ledger.borrow_mut();
        let Some(place) = flights.iter().position(|flight| flight.payload == echo) else {
            let again = *self.last.borrow() == echo;
            let fault =
                if again { &mut ledger.counted().duplicated } else { &mut ledger.counted().violations };
            *fault += 1;
            return;
        };
        if place > 0 {
            ledger.counted().out_of_order += 1;
        }
        let Some(flight) = flights.remove(place) else { return };
        ledger.counted().received += 1;
        ledger.counted().answered += 1;
        let counters = &self.context.shared.counters;
        Counters::add(&counters.received);
        Counters::add(&counters.answered);
        let latency_us = self.context.now_us().saturating_sub(flight.from_us);
        self.context.meters.borrow_mut().latency.saturating_record(latency_us);
        self.context.phase_latency(flight.from_us, latency_us);
        *self.last.borrow_mut() = flight.payload;
    }
}

impl Session for Echo {
    fn new(context: Rc<Context>, client: u32, _place: usize) -> Self {
        Self {
            context,
            client,
            connected_once: Cell::new(false),
            flights: RefCell::default(),
            waiting: RefCell::default(),
            number: Cell::new(0),
            last: RefCell::default(),
        }
    }

    fn request(&self) -> Result<Request, String> {
        request(&self.context.shared.options, self.context.shared.plan.user(self.client))
    }

    fn opened(&self, link: &dyn Outlet) {
        if !self.connected_once.replace(true) {
            self.context.connected();
            Counters::add(&self.context.shared.counters.ready);
        }
        self.pump(link);
    }

    fn message(&self, link: &dyn Outlet, message: &Message) -> Result<Next, String> {
        match message {
            // A text message before anything was sent is a greeting of some servers.
            Message::Text(_) if self.flights.borrow().is_empty() => (),
            Message::Binary(_) | Message::Text(_) => {
                self.check(&message.clone().into_data());
                self.pump(link);
            }
            _ => (),
        }
        Ok(Next::Continue)
    }

    fn closed(&self) {
        let lost = self.flights.borrow_mut().drain(..).count() as u64;
        // Cut by the end of the run or by the server: an echo that did not come will not come any more.
        self.context.ledger.borrow_mut().counted().lost += lost;
    }

    fn due(&self, link: Option<&dyn Outlet>, index: u32) {
        self.waiting.borrow_mut().push_back(index);
        if let Some(link) = link {
            self.pump(link);
        }
    }

    fn begin(&self, link: Option<&dyn Outlet>) {
        if let Some(link) = link.filter(|_| self.is_closed_loop()) {
            self.pump(link);
        }
    }

    fn flush(&self, _link: Option<&dyn Outlet>) {}

    fn sweep(&self, _link: Option<&dyn Outlet>) {}
}
