//! A router thread: gather, apply, commit, let out; and what it does when the store fails.

use super::{
    Shared,
    held::Held,
    peers::{Owed, Peer},
    stats::add,
    work::{Item, Job, Work},
};
use crate::{
    api::{AccountOutcome, Action, Effect},
    error::StoreError,
    limits,
    log::{self, Forward, command::Body},
    partition::{Output, Partition, Tx, receiver, session_of},
    store::Batch,
};
use crossbeam::channel::{Receiver, Select};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// "Try again later" (IANA registry of RFC 6455 close codes).
const CLOSE_TRY_AGAIN: u16 = 1013;

pub(crate) struct Thread {
    pub(super) shared: Arc<Shared>,
    index: usize,
    /// Those with `number % threads == index`, by number.
    pub(super) partitions: Vec<Partition>,
    jobs: Receiver<Job>,
    peers: Receiver<Peer>,
    health: Health,
    held: Held,
    batch: Batch,
    out: Output,
    /// Forwards of this batch to other threads: from, to, seq, what.
    remote: Vec<(u16, u16, u64, Forward)>,
    /// The newest forward heard in this batch, by source and target.
    pub(super) heard: BTreeMap<(u16, u16), u64>,
    pub(super) owed: BTreeMap<(u16, u16), Owed>,
    /// For the next batch, from the last refill.
    skips: Vec<Item>,
}

/// What this thread knows of its store.
enum Health {
    /// It takes batches.
    Sound,
    /// A batch failed; nothing is written until the store has recovered and partitions were read anew.
    Failing { next_try: Instant },
}

impl Thread {
    pub(crate) fn new(
        shared: Arc<Shared>,
        index: usize,
        jobs: Receiver<Job>,
        peers: Receiver<Peer>,
    ) -> Result<Self, StoreError> {
        let mine = (0..shared.partitions).filter(|number| shared.thread_of(*number) == index);
        let open = |number| Partition::open(number, shared.partitions, shared.config.rules(), &*shared.store);
        let partitions = mine.map(open).collect::<Result<_, _>>()?;
        Ok(Self {
            shared,
            index,
            partitions,
            jobs,
            peers,
            health: Health::Sound,
            held: Held::default(),
            batch: Batch::default(),
            out: Output::default(),
            remote: Vec::new(),
            heard: BTreeMap::new(),
            owed: BTreeMap::new(),
            skips: Vec::new(),
        })
    }

    /// Runs until the router stops and the queues are empty.
    pub(crate) fn run(mut self) {
        let mut stop_by = None;
        loop {
            self.held.deliver(&*self.shared.outlet);
            self.pay();
            if let Err(error) = self.pump() {
                self.failed(&error);
            }
            self.publish_gauges();
            let mut items = std::mem::take(&mut self.skips);
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            if stopping {
                let by = *stop_by
                    .get_or_insert_with(|| Instant::now() + Duration::from_millis(limits::STOP_MS_MAX));
                let empty = self.jobs.is_empty() && self.held.len() == 0 && items.is_empty();
                if empty || Instant::now() > by {
                    break;
                }
            }
            if self.held.len() > self.shared.config.effects_held_max {
                // Shards are full: whoever offers requests meanwhile gets them back.
                self.skips = items;
                std::thread::sleep(Duration::from_millis(limits::RETRY_MS));
                continue;
            }
            self.gather(&mut items);
            self.process(items);
            self.refill();
        }
    }

    pub(super) fn partition(&mut self, number: u16) -> &mut Partition {
        let threads = self.shared.peers.len();
        &mut self.partitions[usize::from(number) / threads]
    }

    pub(super) fn is_failing(&self) -> bool {
        matches!(self.health, Health::Failing { .. })
    }

    fn gather(&mut self, items: &mut Vec<Item>) {
        let partitions = self.shared.partitions;
        let batch_max = self.shared.config.batch_requests_max.max(1);
        let ready = !items.is_empty() || self.partitions.iter().any(Partition::wants_refill);
        if !ready && self.jobs.is_empty() && self.peers.is_empty() {
            let waits = self.held.len() > 0 || !self.owed.is_empty() || self.has_unsent();
            let wait = if waits { limits::RETRY_MS } else { limits::IDLE_MS };
            let mut select = Select::new();
            select.recv(&self.jobs);
            select.recv(&self.peers);
            // Which of them is ready, or that none is, shows below.
            let _ready = select.ready_timeout(Duration::from_millis(wait));
        }
        // Peers first, so that what was accepted goes on before more is; but never so many that requests starve.
        for _ in 0..batch_max {
            let Ok(peer) = self.peers.try_recv() else { break };
            items.extend(self.hear(peer));
        }
        for _ in 0..batch_max {
            let Ok(job) = self.jobs.try_recv() else { break };
            items.extend(Item::of(job, partitions));
        }
    }

    fn process(&mut self, mut items: Vec<Item>) {
        if self.is_failing() && !self.try_recover() {
            return self.process_failing(items);
        }
        if items.is_empty() {
            return;
        }
        let mut outcomes = Vec::new();
        match self.apply_all(&mut items, &mut outcomes) {
            Ok(()) => {
                self.let_out();
                let mut outcomes = outcomes.into_iter();
                for done in items.into_iter().filter_map(|item| item.done) {
                    done(outcomes.next().unwrap_or(AccountOutcome::Unavailable));
                }
                self.owe();
            }
            Err(error) => {
                self.failed(&error);
                self.roll_back();
                self.process_failing(items);
            }
        }
    }

    /// One batch: everything is applied, and durable when this returns Ok.
    fn apply_all(
        &mut self,
        items: &mut [Item],
        outcomes: &mut Vec<AccountOutcome>,
    ) -> Result<(), StoreError> {
        let now_ms = now_ms();
        for item in items {
            self.apply(item, now_ms)?;
            outcomes.extend(self.out.account.take());
        }
        for partition in &mut self.partitions {
            partition.flush(&mut self.batch);
        }
        if !self.batch.is_empty() {
            let begin = Instant::now();
            self.shared.store.commit(&self.batch)?;
            let us = begin.elapsed().as_micros() as u64;
            let counters = &self.shared.counters;
            add(&counters.batches, 1);
            add(&counters.commit_us, us);
            counters.commit_us_max.fetch_max(us, Ordering::Relaxed);
            self.batch.clear();
        }
        for partition in &mut self.partitions {
            partition.committed();
        }
        Ok(())
    }

    fn apply(&mut self, item: &mut Item, now_ms: u64) -> Result<(), StoreError> {
        let command = match &mut item.work {
            Work::Apply(command) => command,
            Work::Refuse { session, id, code, text } => {
                self.out.error(*session, *id, *code, *text);
                return Ok(());
            }
        };
        if let Body::Send(send) = command {
            send.receiver_known = self.knows_receiver(send)?;
        }
        let fresh = self.out.fresh.len();
        let (threads, shared) = (self.shared.peers.len(), self.shared.clone());
        let mut tx = Tx { store: &*shared.store, batch: &mut self.batch, now_ms, out: &mut self.out };
        self.partitions[usize::from(item.partition) / threads].apply(command, &mut tx)?;
        for (from, to, forward) in std::mem::take(&mut tx.out.forwards) {
            let source = &mut self.partitions[usize::from(from) / threads];
            if shared.thread_of(to) == self.index && source.outbox_is_empty(to) {
                self.partitions[usize::from(to) / threads].take_local(&forward, &mut tx)?;
            } else {
                let seq = source.enqueue(to, &forward, &mut tx);
                self.remote.push((from, to, seq, forward));
            }
        }
        self.out.fresh[fresh..].iter().for_each(|user| shared.directory.begin(*user));
        Ok(())
    }

    fn knows_receiver(&self, send: &log::Send) -> Result<bool, StoreError> {
        let Some(to) = receiver(&send.send) else { return Ok(false) };
        let home = crate::partition::home(to, self.shared.partitions);
        let mine = self.shared.thread_of(home) == self.index;
        if mine && self.partitions[usize::from(home) / self.shared.peers.len()].has_cached(to) {
            return Ok(true);
        }
        self.shared.directory.knows(to, self.shared.partitions, &*self.shared.store)
    }

    /// The batch is durable: effects to the shards, forwards to the other threads.
    fn let_out(&mut self) {
        let counters = &self.shared.counters;
        add(&counters.messages, self.out.messages);
        add(&counters.events, self.out.events);
        self.held.push(self.out.effects.drain(..));
        self.out.fresh.drain(..).for_each(|user| self.shared.directory.end(user));
        self.out.clear();
        for (from, to, seq, forward) in std::mem::take(&mut self.remote) {
            self.hand_over(from, to, seq, forward);
        }
        self.held.deliver(&*self.shared.outlet);
    }

    fn roll_back(&mut self) {
        let fresh = std::mem::take(&mut self.out.fresh);
        for user in fresh {
            self.shared.directory.end(user);
        }
        self.out.clear();
        self.batch.clear();
        self.remote.clear();
        for partition in &mut self.partitions {
            if let Err(error) = partition.rollback(&*self.shared.store) {
                // Nothing is written before `try_recover` has read it anew.
                tracing::warn!(partition = partition.number(), %error, "state could not be read back");
            }
        }
    }

    fn failed(&mut self, error: &StoreError) {
        add(&self.shared.counters.store_errors, 1);
        if !self.is_failing() {
            tracing::error!(%error, "nothing is stored until the store works again: look at its disk's free space and health");
        }
        self.health =
            Health::Failing { next_try: Instant::now() + Duration::from_millis(limits::RECOVER_MS) };
    }

    /// True once the store works and the partitions show what it holds.
    fn try_recover(&mut self) -> bool {
        let Health::Failing { next_try } = self.health else { return true };
        if Instant::now() < next_try {
            return false;
        }
        let store = self.shared.store.clone();
        let read_anew =
            |partitions: &mut Vec<Partition>| partitions.iter_mut().try_for_each(|p| p.rollback(&*store));
        let recovered = store.recover().and_then(|()| read_anew(&mut self.partitions));
        if let Err(error) = recovered {
            self.failed(&error);
            return false;
        }
        tracing::info!("the store works again");
        self.health = Health::Sound;
        for partition in &mut self.partitions {
            // What failed may have been stored after all: sessions look for it, peers are sent it again.
            partition.refill_all();
            for to in 0..self.shared.partitions {
                partition.set_sent(to, 0);
            }
        }
        true
    }

    /// The store takes nothing: what needs no write goes on, all else is answered UNAVAILABLE.
    fn process_failing(&mut self, items: Vec<Item>) {
        let now_ms = now_ms();
        for mut item in items {
            let mut applied = self.apply(&mut item, now_ms).is_ok();
            for partition in &mut self.partitions {
                partition.flush(&mut self.batch);
            }
            applied &= self.batch.is_empty();
            if applied {
                self.partitions.iter_mut().for_each(Partition::committed);
                self.let_out();
            } else {
                self.roll_back();
                self.refuse(&item);
            }
            if let Some(done) = item.done.take() {
                done(AccountOutcome::Unavailable);
            }
        }
        self.owe();
    }

    fn refuse(&mut self, item: &Item) {
        let Some(origin) = item.origin() else { return };
        add(&self.shared.counters.refused, 1);
        let session = session_of(origin);
        self.out.unavailable(session, origin.id, limits::RECOVER_MS as u32);
        if matches!(item.work, Work::Apply(Body::Attach(_))) {
            let reason = "the store is not available, come back later";
            self.out
                .effects
                .push(Effect { session, action: Action::Close { code: CLOSE_TRY_AGAIN, reason } });
        }
        self.held.push(self.out.effects.drain(..));
    }

    fn refill(&mut self) {
        let mut effects = Vec::new();
        let mut failed = None;
        for partition in self.partitions.iter_mut().filter(|partition| partition.wants_refill()) {
            let number = partition.number();
            match partition.refill(&*self.shared.store, &mut effects) {
                Ok(skips) => self.skips.extend(skips.into_iter().map(|skip| {
                    let skip = log::Skip { user: skip.user, device: skip.device, up_to: skip.up_to };
                    Item::command(number, skip.into())
                })),
                Err(error) => failed = Some(error),
            }
        }
        self.held.push(effects);
        if let Some(error) = failed {
            self.failed(&error);
            std::thread::sleep(Duration::from_millis(limits::RETRY_MS));
        }
    }

    fn publish_gauges(&self) {
        let (sessions, held) = &self.shared.counters.threads[self.index];
        sessions.store(self.partitions.iter().map(|p| p.sessions() as u64).sum(), Ordering::Relaxed);
        held.store(self.held.len() as u64, Ordering::Relaxed);
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
