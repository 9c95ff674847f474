//! What the clients of one worker share.

use super::{Phase, Shared};
use crate::clock::RunClock;
use crate::ledger::Ledger;
use crate::limits::CONNECTING_MAX;
use crate::link::LinkContext;
use crate::meters::{Counters, Interval, Meters};
use crate::odd::DRIPPED_THROUGH;
use quanta::Instant;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// What the clients of one worker share.
pub struct Context {
    /// With the other workers.
    pub shared: Arc<Shared>,
    /// This worker's histograms.
    pub meters: Rc<RefCell<Meters>>,
    /// This worker's side of the ledger.
    pub ledger: RefCell<Ledger>,
    /// Clients (by place in this worker) with something to send at the tick after that time, in its order.
    pub(super) dirty: RefCell<VecDeque<(Instant, usize)>>,
    /// Where the run stands.
    pub phase: Cell<Phase>,
    pub(super) link: LinkContext,
    pub(super) connecting: Semaphore,
    /// Clients whose task has not ended.
    pub(super) alive: Cell<usize>,
    /// The second since the ramp began whose latencies are being recorded.
    second: Cell<u64>,
}

impl Context {
    /// What the clients of a worker of the run share.
    pub fn new(shared: Arc<Shared>) -> Self {
        let meters = Rc::new(RefCell::new(Meters::new(shared.options.cli.lag_us_max)));
        let origin = Rc::new(Cell::new(shared.ramp_begun));
        let link = LinkContext { meters: meters.clone(), clock: shared.clock.clone(), origin };
        Self {
            ledger: RefCell::new(Ledger::of(&shared.plan)),
            meters,
            dirty: RefCell::default(),
            phase: Cell::new(Phase::Ramp),
            link,
            connecting: Semaphore::new(CONNECTING_MAX),
            alive: Cell::new(0),
            second: Cell::new(0),
            shared,
        }
    }

    /// Sets the zero of the measured part's time.
    pub fn set_origin(&self, start: Instant) {
        self.link.origin.set(start);
    }

    /// Microseconds of the measured part.
    pub fn now_us(&self) -> u64 {
        RunClock::new(self.shared.clock.clone(), self.link.origin.get()).now_us()
    }

    /// A message of the schedule, due at that time, has its turn now: whatever it waits for from here on is not the generator.
    pub fn handed_over(&self, at_us: u64) {
        let lag_us = self.now_us().saturating_sub(at_us);
        let mut meters = self.meters.borrow_mut();
        meters.lagged(lag_us);
        if let Some(phase) = self.shared.phases.at(at_us) {
            meters.phase(phase).lag.saturating_record(lag_us);
        }
    }

    /// A message that was due at that time took so long; counted by the phase of a siege.
    pub fn phase_latency(&self, at_us: u64, latency_us: u64) {
        if let Some(phase) = self.shared.phases.at(at_us) {
            self.meters.borrow_mut().phase(phase).latency.saturating_record(latency_us);
        }
    }

    /// Microseconds until that time of the measured part; 0 where it is over.
    pub fn until_us(&self, at_us: u64) -> u64 {
        let at = self.link.origin.get() + Duration::from_micros(at_us);
        at.saturating_duration_since(self.shared.clock.now()).as_micros() as u64
    }

    /// Lets a client's session be flushed after `--ack-delay-ms`; returns that time.
    pub fn flush_later(&self, place: usize) -> Instant {
        let at = self.shared.clock.now() + Duration::from_millis(self.shared.options.cli.ack_delay_ms);
        self.dirty.borrow_mut().push_back((at, place));
        at
    }

    /// The next client whose session is to be flushed now.
    pub fn next_flush(&self) -> Option<usize> {
        let now = self.shared.clock.now();
        self.dirty.borrow_mut().pop_front_if(|(at, _)| *at <= now).map(|(_, place)| place)
    }

    /// Whether a client is not to read now.
    pub fn is_stalled(&self, client: u32) -> bool {
        matches!(self.phase.get(), Phase::Run(_)) && self.shared.plan.is_stalled(client, self.now_us())
    }

    /// A request that was dripped was answered, or its connection ended.
    pub fn drip_ended(&self, held_us: u64, how: &str) {
        if how == DRIPPED_THROUGH {
            return Counters::add(&self.shared.counters.odd_through);
        }
        Counters::add(&self.shared.counters.odd_ended);
        self.meters.borrow_mut().ended(held_us, how);
    }

    /// Hands what was recorded to the timeline, once a second has passed; look now and then.
    pub fn hand_over_each_second(&self) {
        let since = self.shared.clock.now().saturating_duration_since(self.shared.ramp_begun);
        if since.as_secs() > self.second.get() {
            self.hand_over();
            self.second.set(since.as_secs());
        }
    }

    /// Hands what was recorded to the timeline.
    pub fn hand_over(&self) {
        let interval = self.meters.borrow_mut().hand_over();
        if interval != Interval::default() {
            let mut timeline = self.shared.timeline.lock().unwrap_or_else(PoisonError::into_inner);
            timeline.record(self.second.get(), &interval);
        }
    }

    /// A client is connected, and welcomed where the server knows it.
    pub fn connected(&self) {
        let counters = &self.shared.counters;
        Counters::add(&counters.connected);
        let us = self.shared.clock.now().saturating_duration_since(self.shared.ramp_begun).as_micros() as u64;
        counters.last_connected_us.fetch_max(us, Relaxed);
    }
}
