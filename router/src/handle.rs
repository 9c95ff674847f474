//! The router as the rest of the process sees it.

use crate::{
    api::{AccountOutcome, Full, Outlet, Request, UserId},
    config::Config,
    error::{StartError, StoreError},
    limits,
    partition::home,
    record,
    runtime::{Counters, Directory, Gauges, Job, Peer, Shared, Stats, Thread, ThreadStats, Throttle, route},
    store::{FjallStore, Store},
};
use crossbeam::channel::{Sender, TrySendError, bounded};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// A running router. Dropping it without `stop` stops it too.
pub struct Router {
    handle: Handle,
    threads: Vec<JoinHandle<()>>,
}

/// Takes requests for a router; cheap to clone, one for each shard.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    /// By thread.
    queues: Arc<[Sender<Job>]>,
    /// By thread, for what needs no write.
    reads: Arc<[Sender<Job>]>,
}

/// Opens the store in `config.data` and starts the router's threads.
///
/// # Errors
/// Each says which path, what is wrong and what to do: see [`StartError`].
pub fn start(config: Config, outlet: Arc<dyn Outlet>) -> Result<Router, StartError> {
    check(&config)?;
    let store = FjallStore::open(&config.data, config.partitions)?;
    let partitions = store.partitions();
    start_with_store(Config { partitions, ..config }, Arc::new(store), outlet)
}

/// The same with another store, which has `config.partitions` partitions.
///
/// # Errors
/// See [`StartError`].
pub fn start_with_store(
    config: Config,
    store: Arc<dyn Store>,
    outlet: Arc<dyn Outlet>,
) -> Result<Router, StartError> {
    check(&config)?;
    let threads = config.threads.min(usize::from(config.partitions));
    let (peers, peers_in): (Vec<_>, Vec<_>) = (0..threads).map(|_| bounded(limits::QUEUE_PEERS_MAX)).unzip();
    let (queues, jobs): (Vec<_>, Vec<_>) =
        (0..threads).map(|_| bounded(config.queue_requests_max.max(1))).unzip();
    let shared = Arc::new(Shared {
        partitions: config.partitions,
        throttle: Throttle::new(&config.user_limits),
        counters: Counters::new(threads, config.partitions),
        config,
        store,
        outlet,
        directory: Directory::default(),
        peers,
        stopping: AtomicBool::new(false),
    });
    let (reads, reads_in): (Vec<_>, Vec<_>) = (0..threads).map(|_| bounded(limits::QUEUE_READS_MAX)).unzip();
    let handle = Handle { shared: shared.clone(), queues: queues.into(), reads: reads.into() };
    let mut router = Router { handle, threads: Vec::with_capacity(threads) };
    for (index, (jobs, peers)) in jobs.into_iter().zip(reads_in).zip(peers_in).enumerate() {
        let thread = Thread::new(shared.clone(), index, jobs, peers)?;
        let builder = std::thread::Builder::new().name(format!("router-{index}"));
        router.threads.push(builder.spawn(|| thread.run()).map_err(StartError::Thread)?);
    }
    Ok(router)
}

fn check(config: &Config) -> Result<(), StartError> {
    if config.threads == 0 {
        return Err(StartError::Config("threads is 0: at least 1 is needed".into()));
    }
    if !(1..=limits::PARTITIONS_MAX).contains(&config.partitions) {
        return Err(StartError::Config(format!(
            "partitions is {}: 1 to 1024 are possible",
            config.partitions
        )));
    }
    if !(1..=limits::GROUP_MEMBERS_CONFIG_MAX).contains(&config.group_members_max) {
        return Err(StartError::Config(format!(
            "group_members_max is {}: 1 to {} are possible",
            config.group_members_max,
            limits::GROUP_MEMBERS_CONFIG_MAX
        )));
    }
    Ok(())
}

impl Router {
    /// For whoever hands in requests.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Applies and commits what is queued, lets the effects out (for at most 5 s where shards are full), and ends the
    /// threads. Requests offered from now on come back. The store is closed with the last `Handle`.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.handle.shared.stopping.store(true, Ordering::Release);
        for peer in &self.handle.shared.peers {
            // A thread whose queue is full is awake.
            let _full = peer.try_send(Peer::Wake);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a router thread panicked");
            }
        }
    }
}

impl Handle {
    /// Queues a request; its effects come through the outlet. Never blocks.
    ///
    /// # Errors
    /// The queue of its thread is full, or the router stops: the request comes back.
    pub fn submit(&self, request: Request) -> Result<(), Full> {
        let thread = self.shared.thread_of(route(&request, self.shared.partitions));
        let queue = if request.is_read() { &self.reads[thread] } else { &self.queues[thread] };
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err(Full(request));
        }
        match queue.try_send(Job::Request(request)) {
            Err(
                TrySendError::Full(Job::Request(request)) | TrySendError::Disconnected(Job::Request(request)),
            ) => Err(Full(request)),
            // Only a request was offered, so nothing else can come back.
            _ => Ok(()),
        }
    }

    /// Makes an account with this password hash. `done` is called once, on a router thread, and must not block; on the
    /// caller's thread with `Unavailable` where the queue is full.
    pub fn create_account(
        &self,
        user: UserId,
        password_hash: String,
        done: Box<dyn FnOnce(AccountOutcome) + Send>,
    ) {
        let queue = &self.queues[self.shared.thread_of(home(user, self.shared.partitions))];
        let job = Job::Account { user, password_hash, done };
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = queue.try_send(job)
            && let Job::Account { done, .. } = job
        {
            done(AccountOutcome::Unavailable);
        }
    }

    /// The password hash of an account, None where there is none. Reads the store: a page fault's time, not for shards.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn account(&self, user: UserId) -> Result<Option<String>, StoreError> {
        let value = self.shared.store.get(&record::account(home(user, self.shared.partitions), user))?;
        let text = value.map(|value| String::from_utf8(value.to_vec()));
        text.transpose().map_err(|error| StoreError::new("read an account", error))
    }

    /// The counters as they are now.
    pub fn stats(&self) -> Stats {
        let queued = self.queues.iter().chain(&*self.reads).map(Sender::len).sum();
        let (rate_limited, rate_uncounted) = self.shared.throttle.counts();
        Stats { rate_limited, rate_uncounted, ..self.shared.counters.snapshot(queued) }
    }

    /// What each thread has to do, as it is now.
    pub fn threads(&self) -> Vec<ThreadStats> {
        let thread = |(number, gauges): (usize, &Gauges)| {
            let partitions = (0..self.shared.partitions).filter(|one| self.shared.thread_of(*one) == number);
            ThreadStats {
                partitions: partitions.count() as u64,
                queue_depth: (self.queues[number].len() + self.reads[number].len()) as u64,
                effects_held: gauges.effects_held.load(Ordering::Relaxed),
            }
        };
        self.shared.counters.threads.iter().enumerate().map(thread).collect()
    }

    /// Sessions attached now, by partition.
    pub fn partition_sessions(&self) -> Vec<u64> {
        self.shared.counters.partitions.iter().map(|sessions| sessions.load(Ordering::Relaxed)).collect()
    }

    /// Requests that may wait for one thread.
    pub fn queue_max(&self) -> u64 {
        let of = |queues: &[Sender<Job>]| queues.first().and_then(Sender::capacity).unwrap_or_default();
        (of(&self.queues) + of(&self.reads)) as u64
    }
}
