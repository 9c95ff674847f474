//! A router thread: gather, apply, commit, let out. What it does when the store fails stands in `failing.rs`.

use super::{
    Shared,
    commit::Committer,
    held::Held,
    peers::{Owed, Peer},
    stats::add,
    work::{Item, Job, Work},
};
use crate::{
    api::{AccountOutcome, Effect, UserId},
    error::{StartError, StoreError},
    limits,
    log::{self, Forward, command::Body},
    partition::{Output, Partition, Tx, joining, receiver},
    store::Batch,
};
use crossbeam::channel::{Receiver, Select};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub(crate) struct Thread {
    pub(super) shared: Arc<Shared>,
    index: usize,
    stopping: bool,
    /// Those with `number % threads == index`, by number.
    pub(super) partitions: Vec<Partition>,
    jobs: Receiver<Job>,
    /// What needs no write, as a rule: it is served though a commit takes long.
    pub(super) reads: Receiver<Job>,
    peers: Receiver<Peer>,
    pub(super) health: Health,
    pub(super) held: Held,
    pub(super) batch: Batch,
    pub(super) out: Output,
    /// Users in the directory as fresh until their registrations are committed.
    registered: Vec<UserId>,
    /// Since when registrations wait for a commit.
    registering_since: Option<Instant>,
    /// Forwards of this batch to other threads: from, to, seq, what.
    pub(super) remote: Vec<(u16, u16, u64, Forward)>,
    /// For partitions of other threads.
    pub(super) whispers: Vec<(u16, log::Whisper)>,
    /// The newest forward heard in this batch, by source and target.
    pub(super) heard: BTreeMap<(u16, u16), u64>,
    pub(super) owed: BTreeMap<(u16, u16), Owed>,
    /// For the next batch, from the last refill.
    skips: Vec<Item>,
    /// For the next batch: reads that could not be served beside the last one.
    pub(super) deferred: Vec<Item>,
    committer: Committer,
    /// When partitions were last told that time passes.
    ticked: Instant,
}

/// What this thread knows of its store.
pub(super) enum Health {
    /// It takes batches.
    Sound,
    /// A batch failed; nothing is written until the store has recovered and partitions were read anew.
    Failing { next_try: Instant },
}

impl Thread {
    pub(crate) fn new(
        shared: Arc<Shared>,
        index: usize,
        (jobs, reads): (Receiver<Job>, Receiver<Job>),
        peers: Receiver<Peer>,
    ) -> Result<Self, StartError> {
        let mine = (0..shared.partitions).filter(|number| shared.thread_of(*number) == index);
        let open = |number| Partition::open(number, shared.partitions, shared.config.rules(), &*shared.store);
        let partitions = mine.map(open).collect::<Result<_, StoreError>>().map_err(|error| {
            StartError::Corrupt { path: shared.config.data.clone(), reason: error.to_string() }
        })?;
        let committer = Committer::start(shared.store.clone(), index).map_err(StartError::Thread)?;
        Ok(Self {
            shared,
            index,
            stopping: false,
            partitions,
            jobs,
            reads,
            peers,
            health: Health::Sound,
            held: Held::default(),
            batch: Batch::default(),
            out: Output::default(),
            registered: Vec::new(),
            registering_since: None,
            remote: Vec::new(),
            whispers: Vec::new(),
            heard: BTreeMap::new(),
            owed: BTreeMap::new(),
            skips: Vec::new(),
            deferred: Vec::new(),
            committer,
            ticked: Instant::now(),
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
            items.append(&mut self.deferred);
            self.stopping = self.shared.stopping.load(Ordering::Acquire);
            if self.stopping {
                let by = *stop_by
                    .get_or_insert_with(|| Instant::now() + Duration::from_millis(limits::STOP_MS_MAX));
                let registers = self.registering_since.is_some() && !self.is_failing();
                let queued = self.jobs.len() + self.reads.len();
                let empty = queued == 0 && self.held.len() == 0 && items.is_empty() && !registers;
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
        if !ready && self.jobs.is_empty() && self.reads.is_empty() && self.peers.is_empty() {
            let waits = self.held.len() > 0 || !self.owed.is_empty() || self.has_unsent();
            let idle = Duration::from_millis(if waits { limits::RETRY_MS } else { limits::IDLE_MS });
            let wait = self.registrations_wait().map_or(idle, |wait| wait.min(idle));
            let mut select = Select::new();
            select.recv(&self.jobs);
            select.recv(&self.reads);
            select.recv(&self.peers);
            // Which of them is ready, or that none is, shows below.
            let _ready = select.ready_timeout(wait);
        }
        // Peers first, so that what was accepted goes on before more is; but never so many that requests starve.
        for _ in 0..batch_max {
            let Ok(peer) = self.peers.try_recv() else { break };
            items.extend(self.hear(peer));
        }
        self.shared.throttle.look_at_clock();
        // Taken first and done last: what a session asks was offered after its Attach, which is among the reads then.
        let jobs: Vec<Job> = self.jobs.try_iter().take(batch_max).collect();
        let reads = self.reads.try_iter().take(limits::QUEUE_READS_MAX);
        items.extend(reads.chain(jobs).map(|job| Item::of(job, partitions, &self.shared.throttle)));
        if self.ticked.elapsed() >= Duration::from_millis(limits::TICK_MS) {
            self.ticked = Instant::now();
            items.extend(
                self.partitions.iter().map(|p| Item::command(p.number(), log::Tick::default().into())),
            );
        }
    }

    fn process(&mut self, mut items: Vec<Item>) {
        if self.is_failing() && !self.try_recover() {
            return self.process_failing(items);
        }
        if items.is_empty() && !self.registrations_are_due() {
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
                items.retain(|item| !item.settled);
                self.process_failing(items);
            }
        }
    }

    /// One batch: everything is applied, and durable when this returns Ok, but for registrations that wait for a later batch.
    fn apply_all(
        &mut self,
        items: &mut [Item],
        outcomes: &mut Vec<AccountOutcome>,
    ) -> Result<(), StoreError> {
        let now_ms = now_ms();
        let applied = items.iter_mut().try_for_each(|item| {
            self.apply(item, now_ms)?;
            outcomes.extend(self.out.account.take());
            Ok(())
        });
        self.let_out_at_once();
        applied?;
        if !self.has_changes() && !self.registrations_are_due() {
            self.partitions.iter_mut().for_each(Partition::settled);
            return Ok(());
        }
        for partition in &mut self.partitions {
            partition.flush(&mut self.batch);
        }
        if !self.batch.is_empty() {
            self.commit()?;
        }
        for partition in &mut self.partitions {
            partition.committed();
        }
        self.registering_since = None;
        self.registered.drain(..).for_each(|user| self.shared.directory.end(user));
        Ok(())
    }

    /// Serves reads meanwhile, where it takes long.
    fn commit(&mut self) -> Result<(), StoreError> {
        self.committer.begin(std::mem::take(&mut self.batch));
        let done = loop {
            match self.committer.wait(Duration::from_millis(limits::STALL_MS)) {
                Some(done) => break done,
                None => self.serve_aside(),
            }
        };
        self.batch = done.batch;
        self.batch.clear();
        done.result?;
        self.shared.counters.committed(done.took.as_micros() as u64);
        Ok(())
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.batch.is_empty() || self.partitions.iter().any(Partition::has_changes)
    }

    /// How long registrations may still wait, where there are any.
    fn registrations_wait(&self) -> Option<Duration> {
        let wait = Duration::from_millis(limits::REGISTRATIONS_WAIT_MS);
        // A failing store is asked again in its own time.
        let since = self.registering_since.filter(|_| !self.is_failing())?;
        Some(if self.stopping { Duration::ZERO } else { wait.saturating_sub(since.elapsed()) })
    }

    /// They are to be committed now, whether anything else is or not.
    fn registrations_are_due(&self) -> bool {
        let many = || {
            let count: usize = self.partitions.iter().map(Partition::registrations).sum();
            count >= limits::REGISTRATIONS_COMMIT
        };
        self.registrations_wait().is_some_and(|wait| wait.is_zero() || many())
    }

    pub(super) fn apply(&mut self, item: &mut Item, now_ms: u64) -> Result<(), StoreError> {
        let command = match &mut item.work {
            Work::Apply(command) => command,
            Work::Refuse { session, id, error } => {
                self.out.refuse(*session, *id, error.clone());
                return Ok(());
            }
        };
        match command {
            Body::Send(send) => {
                send.receiver_known = receiver(&send.send).map_or(Ok(false), |user| self.knows(user))?;
            }
            Body::Group(group) => group.unknown = self.first_unknown(joining(&group.command))?,
            _ => {}
        }
        let (fresh, at_once) = (self.out.fresh.len(), self.out.at_once.len());
        let (threads, shared) = (self.shared.peers.len(), self.shared.clone());
        let mut tx = Tx { store: &*shared.store, batch: &mut self.batch, now_ms, out: &mut self.out };
        self.partitions[usize::from(item.partition) / threads].apply(command, &mut tx)?;
        // What comes of a forward comes after those before it. It ends: members' homes only ever ask a group's home to let somebody go.
        while !tx.out.forwards.is_empty() {
            for (from, to, forward) in std::mem::take(&mut tx.out.forwards) {
                let source = &mut self.partitions[usize::from(from) / threads];
                if shared.thread_of(to) == self.index && source.outbox_is_empty(to) {
                    self.partitions[usize::from(to) / threads].take_local(&forward, &mut tx)?;
                } else {
                    let seq = source.enqueue(to, &forward, &mut tx);
                    self.remote.push((from, to, seq, forward));
                }
            }
        }
        while let Some((to, whisper)) = tx.out.whispers.pop_front() {
            if shared.thread_of(to) == self.index {
                self.partitions[usize::from(to) / threads].hear_whisper(&whisper, &mut tx)?;
            } else {
                self.whispers.push((to, whisper));
            }
        }
        self.out.fresh[fresh..].iter().for_each(|user| shared.directory.begin(*user));
        item.settled = self.out.at_once.len() > at_once;
        self.out.registered.iter().for_each(|user| shared.directory.begin(*user));
        self.registered.append(&mut self.out.registered);
        Ok(())
    }

    /// What waits for no commit: Welcomes, for the most part.
    pub(super) fn let_out_at_once(&mut self) {
        self.held.push(self.out.at_once.drain(..));
        self.held.deliver(&*self.shared.outlet);
        self.whisper_all();
        if self.registering_since.is_none() && self.partitions.iter().any(|p| p.registrations() > 0) {
            self.registering_since = Some(Instant::now());
        }
    }

    /// 0 where all are users.
    fn first_unknown(&self, users: &[UserId]) -> Result<UserId, StoreError> {
        // More than a group takes are refused whoever they are.
        for user in users.iter().take(self.shared.config.group_members_max) {
            if !self.knows(*user)? {
                return Ok(*user);
            }
        }
        Ok(0)
    }

    fn knows(&self, user: UserId) -> Result<bool, StoreError> {
        let home = crate::partition::home(user, self.shared.partitions);
        let mine = self.shared.thread_of(home) == self.index;
        if mine && self.partitions[usize::from(home) / self.shared.peers.len()].has_at_hand(user) {
            return Ok(true);
        }
        self.shared.directory.knows(user, self.shared.partitions, &*self.shared.store)
    }

    /// The batch is durable, or needs not to be: effects to the shards, forwards to the other threads.
    pub(super) fn let_out(&mut self) {
        let counters = &self.shared.counters;
        add(&counters.messages, self.out.messages);
        add(&counters.events, self.out.events);
        add(&counters.presence_notices, self.out.presence_notices);
        add(&counters.presence_refused, self.out.presence_refused);
        self.held.push(self.out.effects.drain(..));
        self.out.fresh.drain(..).for_each(|user| self.shared.directory.end(user));
        self.out.clear();
        for (from, to, seq, forward) in std::mem::take(&mut self.remote) {
            self.hand_over(from, to, seq, forward);
        }
        self.held.deliver(&*self.shared.outlet);
    }

    fn refill(&mut self) {
        let (mut effects, mut failed, now_ms) = (Vec::new(), None, now_ms());
        for index in 0..self.partitions.len() {
            failed = self.refill_partition(index, now_ms, &mut effects).err().or(failed);
        }
        self.held.push(effects);
        if let Some(error) = failed {
            self.failed(&error);
            std::thread::sleep(Duration::from_millis(limits::RETRY_MS));
        }
    }

    /// Reads events that wait for sessions of one partition.
    pub(super) fn refill_partition(
        &mut self,
        index: usize,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        let partition = &mut self.partitions[index];
        if partition.wants_refill() {
            let number = partition.number();
            let skips = partition.refill(&*self.shared.store, now_ms, effects)?;
            self.skips.extend(skips.into_iter().map(|skip| {
                let skip = log::Skip { user: skip.user, device: skip.device, up_to: skip.up_to };
                Item::command(number, skip.into())
            }));
        }
        Ok(())
    }

    fn publish_gauges(&self) {
        let gauges = &self.shared.counters.threads[self.index];
        let publish = |gauge: &AtomicU64, of: fn(&Partition) -> usize| {
            gauge.store(self.partitions.iter().map(|p| of(p) as u64).sum(), Ordering::Relaxed);
        };
        publish(&gauges.sessions, Partition::sessions);
        publish(&gauges.sessions_bytes, Partition::sessions_bytes);
        publish(&gauges.users_cached, Partition::users_cached);
        publish(&gauges.registrations, Partition::registrations);
        publish(&gauges.followers, Partition::followers);
        gauges.effects_held.store(self.held.len() as u64, Ordering::Relaxed);
        for partition in &self.partitions {
            let sessions = &self.shared.counters.partitions[usize::from(partition.number())];
            sessions.store(partition.sessions() as u64, Ordering::Relaxed);
        }
    }
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
