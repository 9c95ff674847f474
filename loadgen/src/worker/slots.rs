//! The clients of one worker, led through the phases of the run.

use super::drip::drip;
use super::life::live;
use super::{Context, Phase, Results, Session, Shared};
use crate::clock::{FineTimer, RunClock};
use crate::limits::{PACER_BATCH, SWEEP_TICKS, TICK};
use crate::link::{Link, Outlet};
use crate::meters::Meters;
use crate::phantom::Tallies;
use quanta::Instant;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// A client's place in its worker.
pub(super) struct Slot<S> {
    pub(super) session: S,
    pub(super) client: u32,
    pub(super) link: RefCell<Option<Rc<Link>>>,
    /// Whether the client is meant to be connected.
    pub(super) online: Cell<bool>,
    pub(super) wake: Notify,
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
    context.hand_over();
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
            let (context, slot) = (self.context.clone(), slot.clone());
            if self.context.shared.drips(slot.client) {
                tokio_uring::spawn(drip(context, slot));
            } else {
                tokio_uring::spawn(live(context, slot));
            }
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
            let at_us = plan.at_us[index];
            let wait_us = at_us.saturating_sub(self.context.now_us());
            if wait_us > 0 {
                let _ = timer.sleep_us(wait_us).await;
                handed = 0;
            } else if handed == PACER_BATCH {
                // Behind the schedule: the readers need their turn all the same.
                tokio::task::yield_now().await;
                handed = 0;
            }
            if plan.at_us[index] > self.context.shared.cut_us.load(Relaxed) {
                return;
            }
            handed += 1;
            self.context.handed_over(at_us);
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
                self.context.hand_over_each_second();
                self.flush_dirty();
                for slot in slice {
                    self.move_online(slot);
                    self.stall(slot);
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

    /// Lets a client stop reading, or read again, as the schedule says.
    fn stall(&self, slot: &Slot<S>) {
        if let Some(link) = slot.link() {
            link.stall(self.context.is_stalled(slot.client));
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
