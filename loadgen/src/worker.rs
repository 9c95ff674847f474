//! A worker: one thread, one tokio-uring runtime, its share of the clients. It brings them up at the ramp's rate, hands
//! the schedule's messages to them at their times, takes clients offline and back, and reconnects those that break.

use crate::clock::{FineTimer, RunClock};
use crate::ledger::Ledger;
use crate::limits::{
    BACKOFF_MAX, BACKOFF_MIN, CONNECT_ATTEMPTS_MAX, CONNECTING_MAX, PACER_BATCH, SERVER_PAUSE_MAX,
    SWEEP_TICKS, TICK,
};
use crate::link::{Link, LinkContext, LinkError, Outlet};
use crate::meters::{Counters, Meters};
use crate::options::Options;
use crate::phantom::Tallies;
use crate::schedule::Plan;
use quanta::{Clock, Instant};
use rand::RngExt;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tungstenite::Message;
use tungstenite::handshake::client::Request;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Clients come up.
    Ramp,
    /// The measured part, from this moment on.
    Run(Instant),
    /// All connections are lost at once.
    Fall,
    /// All clients say goodbye.
    Leave,
    /// All clients connect again at the ramp's rate, from this moment on.
    Return(Instant),
    /// Nothing new is due; what is on its way may arrive; everybody is online.
    Drain,
    /// All connections end.
    Stop,
}

/// What all workers of a run share.
pub struct Shared {
    /// The run's options.
    pub options: Options,
    /// Its schedule.
    pub plan: Plan,
    /// Its live counts.
    pub counters: Counters,
    /// What the options ask for and a server's Welcome rules out, in a line for the user. Ends the ramp.
    pub ruled_out: OnceLock<String>,
    /// One clock for all threads.
    pub clock: Clock,
    /// When the ramp began.
    pub ramp_begun: Instant,
    /// Marks this run's messages, so that those of an earlier run on the same store are told apart.
    pub run_id: u64,
}

impl Shared {
    /// How often the schedule's messages are to arrive, all of them together.
    pub fn deliveries(&self) -> u64 {
        (0..self.plan.len() as u32).map(|index| self.plan.deliveries(index)).sum()
    }
}

/// What one worker hands in at the end.
pub struct Results {
    /// Histograms and errors.
    pub meters: Meters,
    /// Its side of the ledger.
    pub ledger: Ledger,
    /// What its phantoms did.
    pub tallies: Tallies,
}

/// What the clients of one worker share.
pub struct Context {
    /// With the other workers.
    pub shared: Arc<Shared>,
    /// This worker's histograms.
    pub meters: Rc<RefCell<Meters>>,
    /// This worker's side of the ledger.
    pub ledger: RefCell<Ledger>,
    /// Clients (by place in this worker) with something to send at the tick after that time, in its order.
    dirty: RefCell<VecDeque<(Instant, usize)>>,
    /// Where the run stands.
    pub phase: Cell<Phase>,
    link: LinkContext,
    connecting: Semaphore,
    /// Clients whose task has not ended.
    alive: Cell<usize>,
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

    /// A client is connected, and welcomed where the server knows it.
    pub fn connected(&self) {
        let counters = &self.shared.counters;
        Counters::add(&counters.connected);
        let us = self.shared.clock.now().saturating_duration_since(self.shared.ramp_begun).as_micros() as u64;
        counters.last_connected_us.fetch_max(us, Relaxed);
    }
}

/// What a scenario makes of a client. Nothing here waits.
pub trait Session: 'static {
    /// The client numbered `client`, at `place` in this worker.
    fn new(context: Rc<Context>, client: u32, place: usize) -> Self;
    /// The upgrade request of a new connection.
    ///
    /// # Errors
    /// Why there can be none, in a sentence.
    fn request(&self) -> Result<Request, String>;
    /// A connection is open.
    fn opened(&self, link: &dyn Outlet);
    /// A message came.
    ///
    /// # Errors
    /// Why the connection has to end, in a sentence.
    fn message(&self, link: &dyn Outlet, message: &Message) -> Result<Next, String>;
    /// The connection is gone.
    fn closed(&self);
    /// A message of the schedule is due.
    fn due(&self, link: Option<&dyn Outlet>, index: u32);
    /// The measured part begins.
    fn begin(&self, link: Option<&dyn Outlet>);
    /// The time of [`Context::flush_later`] has come.
    fn flush(&self, link: Option<&dyn Outlet>);
    /// Now and then: heartbeats, deadlines.
    fn sweep(&self, link: Option<&dyn Outlet>);
}

/// What follows a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The connection goes on.
    Continue,
    /// The server asks for a new connection after this pause.
    Reconnect(Duration),
}

struct Slot<S> {
    session: S,
    client: u32,
    link: RefCell<Option<Rc<Link>>>,
    /// Whether the client is meant to be connected.
    online: Cell<bool>,
    wake: Notify,
}

impl<S> Slot<S> {
    fn link(&self) -> Option<Rc<Link>> {
        self.link.borrow().clone()
    }

    /// The session with its connection, where it has one.
    fn with<T>(&self, act: impl FnOnce(&S, Option<&dyn Outlet>) -> T) -> T {
        let link = self.link();
        let result = act(&self.session, link.as_ref().map(|link| link as &dyn Outlet));
        if let Some(link) = link {
            link.kick();
        }
        result
    }
}

struct Worker<S> {
    context: Rc<Context>,
    slots: Vec<Rc<Slot<S>>>,
    threads: u32,
}

/// Runs the clients whose number modulo `threads` is `number`, until the phase is [`Phase::Stop`].
pub async fn run<S: Session>(
    shared: Arc<Shared>,
    number: u32,
    threads: u32,
    mut phase: watch::Receiver<Phase>,
) -> Results {
    let clients = (number..shared.plan.params.clients).step_by(threads as usize);
    let context = Rc::new(Context::new(shared));
    let slots = clients.enumerate().map(|(place, client)| {
        let session = S::new(context.clone(), client, place);
        let (link, online, wake) = (RefCell::default(), Cell::new(true), Notify::new());
        Rc::new(Slot { session, client, link, online, wake })
    });
    let slots = slots.collect();
    let worker = Rc::new(Worker { context: context.clone(), slots, threads });
    let ramp = tokio_uring::spawn(worker.clone().ramp());
    let tick = tokio_uring::spawn(worker.clone().tick());
    let mut pacer = None;
    let mut ramps = vec![ramp];
    // A few changes a round, and the sender's end counts as the last.
    loop {
        let now = *phase.borrow_and_update();
        context.phase.set(now);
        match now {
            Phase::Ramp => (),
            Phase::Run(start) => {
                context.set_origin(start);
                pacer.get_or_insert_with(|| tokio_uring::spawn(worker.clone().pace()));
            }
            Phase::Fall => worker.all_offline(Outlet::cut),
            Phase::Leave => worker.all_offline(Link::close),
            Phase::Return(start) => ramps.push(tokio_uring::spawn(worker.clone().bring_back(start))),
            Phase::Drain => worker.all_online(),
            Phase::Stop => break,
        }
        if phase.changed().await.is_err() {
            break;
        }
    }
    ramps.iter().for_each(tokio::task::JoinHandle::abort);
    tick.abort();
    if let Some(pacer) = pacer {
        pacer.abort();
    }
    worker.stop().await;
    Results {
        meters: context.meters.replace(Meters::new(0)),
        ledger: context.ledger.take(),
        tallies: Tallies::default(),
    }
}

impl<S: Session> Worker<S> {
    async fn ramp(self: Rc<Self>) {
        let Ok(timer) = FineTimer::new() else { return self.context.meters.borrow_mut().error("no timerfd") };
        let clock = RunClock::new(self.context.shared.clock.clone(), self.context.shared.ramp_begun);
        let gap_us = 1e6 / self.context.shared.options.cli.ramp_per_s;
        for slot in &self.slots {
            let due_us = (f64::from(slot.client) * gap_us) as u64;
            let _ = timer.sleep_us(due_us.saturating_sub(clock.now_us())).await;
            self.context.alive.set(self.context.alive.get() + 1);
            tokio_uring::spawn(live(self.context.clone(), slot.clone()));
        }
    }

    /// Hands each message to its sender when it is due.
    async fn pace(self: Rc<Self>) {
        let Ok(timer) = FineTimer::new() else { return self.context.meters.borrow_mut().error("no timerfd") };
        let plan = &self.context.shared.plan;
        self.wait_for_start(&timer).await;
        for slot in &self.slots {
            slot.with(S::begin);
        }
        let own = (0..plan.len()).filter(|&index| plan.sender[index] % self.threads == self.first_client());
        let mut handed = 0_u32;
        for index in own {
            let wait_us = plan.at_us[index].saturating_sub(self.context.now_us());
            if wait_us > 0 {
                let _ = timer.sleep_us(wait_us).await;
                handed = 0;
            } else if handed == PACER_BATCH {
                // Behind the schedule: the readers need their turn all the same.
                tokio::task::yield_now().await;
                handed = 0;
            }
            handed += 1;
            let slot = &self.slots[(plan.sender[index] / self.threads) as usize];
            slot.with(|session, link| session.due(link, index as u32));
        }
    }

    async fn wait_for_start(&self, timer: &FineTimer) {
        let start = self.context.link.origin.get();
        let wait = start.saturating_duration_since(self.context.shared.clock.now());
        let _ = timer.sleep_us(wait.as_micros() as u64).await;
    }

    fn first_client(&self) -> u32 {
        self.slots.first().map_or(0, |slot| slot.client)
    }

    async fn tick(self: Rc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let share = self.slots.len().div_ceil(SWEEP_TICKS).max(1);
        // Cancelled when the run stops.
        loop {
            for slice in self.slots.chunks(share) {
                interval.tick().await;
                self.flush_dirty();
                for slot in slice {
                    self.move_online(slot);
                    slot.with(S::sweep);
                }
            }
            if self.slots.is_empty() {
                interval.tick().await;
            }
        }
    }

    fn flush_dirty(&self) {
        while let Some(place) = self.context.next_flush() {
            self.slots[place].with(S::flush);
        }
    }

    /// Takes a client offline, or back, as the schedule says.
    fn move_online(&self, slot: &Slot<S>) {
        if !matches!(self.context.phase.get(), Phase::Run(_)) {
            return;
        }
        let online = !self.context.shared.plan.is_offline(slot.client, self.context.now_us());
        if online == slot.online.replace(online) {
            return;
        }
        match slot.link() {
            // Half of them say goodbye, half just go.
            Some(link) if !online && slot.client.is_multiple_of(2) => link.close(),
            // On the way back: a goodbye that was never answered.
            Some(link) => link.cut(),
            None => slot.wake.notify_one(),
        }
    }

    fn all_online(&self) {
        for slot in &self.slots {
            if !slot.online.replace(true) {
                slot.wake.notify_one();
            }
        }
    }

    fn all_offline(&self, end: fn(&Rc<Link>)) {
        for slot in &self.slots {
            slot.online.set(false);
            if let Some(link) = slot.link() {
                end(&link);
            }
        }
    }

    /// Lets the clients connect again at the ramp's rate.
    async fn bring_back(self: Rc<Self>, start: Instant) {
        let Ok(timer) = FineTimer::new() else { return self.context.meters.borrow_mut().error("no timerfd") };
        let clock = RunClock::new(self.context.shared.clock.clone(), start);
        let gap_us = 1e6 / self.context.shared.options.cli.ramp_per_s;
        for slot in &self.slots {
            let due_us = (f64::from(slot.client) * gap_us) as u64;
            let _ = timer.sleep_us(due_us.saturating_sub(clock.now_us())).await;
            slot.online.set(true);
            slot.wake.notify_one();
        }
    }

    /// Ends all connections, so that no operation is left in the ring, and waits a moment for it.
    async fn stop(&self) {
        for slot in &self.slots {
            slot.online.set(false);
            slot.wake.notify_one();
            if let Some(link) = slot.link() {
                link.cut();
            }
        }
        for _ in 0..200 {
            if self.context.alive.get() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A client's life: connected while it is meant to be, until the run stops or it gives up.
async fn live<S: Session>(context: Rc<Context>, slot: Rc<Slot<S>>) {
    let mut failures = 0;
    let mut connected_once = false;
    // Each round is a connection, an attempt at one, or a pause; attempts in a row are bounded.
    while context.phase.get() != Phase::Stop {
        if !slot.online.get() {
            slot.wake.notified().await;
            continue;
        }
        let pause = match connect(&context, &slot).await {
            Ok(link) => {
                if std::mem::replace(&mut connected_once, true) {
                    Counters::add(&context.shared.counters.reconnects);
                }
                failures = 0;
                hold(&context, &slot, link).await
            }
            Err(error) => {
                context.meters.borrow_mut().error(&error.to_string());
                failures += 1;
                if error.is_final() || failures >= CONNECT_ATTEMPTS_MAX {
                    Counters::add(&context.shared.counters.failed);
                    break;
                }
                backoff(failures)
            }
        };
        // Ends early where the run stops.
        let _ = tokio::time::timeout(pause, slot.wake.notified()).await;
    }
    context.alive.set(context.alive.get() - 1);
}

async fn connect<S: Session>(context: &Context, slot: &Slot<S>) -> Result<Rc<Link>, LinkError> {
    let Ok(_turn) = context.connecting.acquire().await else { return Err(LinkError::Ended) };
    let options = &context.shared.options;
    let request = slot.session.request().map_err(|error| LinkError::Io(std::io::Error::other(error)))?;
    let source = options.target.source(slot.client, options.cli.source_addresses);
    Link::open(options.target.address, source, request, &context.link).await
}

/// Holds a connection until it ends; the pause before the next one comes back.
async fn hold<S: Session>(context: &Context, slot: &Slot<S>, link: Rc<Link>) -> Duration {
    let counters = &context.shared.counters;
    *slot.link.borrow_mut() = Some(link.clone());
    counters.open.fetch_add(1, Relaxed);
    slot.session.opened(&link);
    // The schedule or the end of the run may have wanted the client away while it connected.
    if !slot.online.get() {
        link.cut();
    }
    let mut pause = Duration::ZERO;
    let end = loop {
        let message = match link.next().await {
            Ok(message) => message,
            Err(error) => break error.to_string(),
        };
        match slot.session.message(&link, &message) {
            Ok(Next::Continue) => (),
            Ok(Next::Reconnect(after)) => {
                pause = after.min(SERVER_PAUSE_MAX);
                link.cut();
            }
            Err(error) => {
                context.ledger.borrow_mut().violation();
                break error;
            }
        }
    };
    counters.open.fetch_sub(1, Relaxed);
    *slot.link.borrow_mut() = None;
    slot.session.closed();
    if !link.is_closing() {
        link.cut();
        Counters::add(&counters.dropped);
        context.meters.borrow_mut().error(&end);
        pause = pause.max(backoff(1));
    }
    pause
}

/// The pause before attempt `failures + 1`: doubled each time, half of it at random (RFC 6455 section 7.2.3).
fn backoff(failures: u32) -> Duration {
    let full = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
    full.mul_f64(rand::rng().random_range(0.5..1.0))
}
