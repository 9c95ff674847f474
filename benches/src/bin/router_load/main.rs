//! One router thread under load, without sockets: messages a second that are applied, committed with `SyncData` and turned into
//! effects, what a commit takes, what a message costs, and what is left on the disk once everything is acknowledged.
//!
//! `cargo run --release -p roost-benches --bin router_load -- --data /tmp/roost-router-load`
//!
//! In rounds: random pairs of users send, then all that was delivered is acknowledged (and read, with `--read`), then the receipts are.
//! Only the sends are timed for `send`; `all` counts each message with its acknowledgements and receipts. With `--append-log` the
//! same number of bytes a commit is appended to one file with fdatasync(2) afterwards: what the disk allows.

mod disk;
mod outlet;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::Parser;
use disk::{Timed, append_log, left_on_disk};
use outlet::Shards;
use procfs::process::Process;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use roost_proto::v1::{self, client_frame};
use roost_router::{Config, Handle, Request, SessionId, start_with_store, store::FjallStore};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures one router thread.
#[derive(Parser)]
struct Options {
    /// Folder of the store, which must not exist yet; it is removed at the end
    #[arg(long)]
    data: PathBuf,
    /// Users, each with one device that is connected throughout
    #[arg(long, default_value_t = 1_000_000)]
    users: u64,
    /// Messages
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Messages sent before they are acknowledged
    #[arg(long, default_value_t = 100_000)]
    round: u64,
    /// Requests of one commit at most
    #[arg(long, default_value_t = 2048)]
    batch: usize,
    /// Bytes of a payload
    #[arg(long, default_value_t = 300)]
    payload_bytes: usize,
    /// Receivers mark every message as read, too
    #[arg(long)]
    read: bool,
    /// Appends as many bytes a commit to a file afterwards
    #[arg(long)]
    append_log: bool,
}

/// How long one step may take before the program gives up.
const STEP_MAX: Duration = Duration::from_mins(10);
const WAIT: Duration = Duration::from_micros(200);

/// CPU of the router's two threads and of the store's, seconds.
fn cpu_s() -> Result<(f64, f64)> {
    let process = Process::myself()?;
    let (mut router, mut store) = (0, 0);
    for task in process.tasks()?.flatten() {
        let Ok(stat) = task.stat() else { continue };
        match () {
            // The thread that commits for the router works while the other waits.
            () if ["router-", "commit-"].iter().any(|name| stat.comm.starts_with(name)) => {
                router += stat.utime + stat.stime;
            }
            () if task.tid == process.pid => {}
            () => store += stat.utime + stat.stime,
        }
    }
    let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
    Ok((seconds(router), seconds(store)))
}

struct Bench {
    handle: Handle,
    shards: Arc<Shards>,
    timed: Arc<Timed>,
    options: Options,
    payload: Bytes,
}

/// What the timed parts of all rounds add up to.
#[derive(Default)]
struct Total {
    send: Duration,
    send_router_s: f64,
    send_store_s: f64,
    send_commits: Vec<u64>,
    send_bytes: u64,
    all: Duration,
    all_router_s: f64,
    all_store_s: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(!options.data.exists(), "{} exists already: name a folder that does not", options.data.display());
    ensure!(options.users >= 2 && options.round > 0, "--users must be 2 or more, --round 1 or more");
    let data = options.data.clone();
    let result = run(options);
    std::fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
    result
}

fn run(options: Options) -> Result<()> {
    let data = options.data.clone();
    let config = Config {
        threads: 1,
        batch_requests_max: options.batch,
        window_events_max: 4096,
        ..Config::at(&data)
    };
    let store = FjallStore::open(&data, config.partitions)?;
    let timed = Arc::new(Timed { store, commits: Mutex::default() });
    let shards = Arc::new(Shards::default());
    let router = start_with_store(config, timed.clone(), shards.clone())?;
    let payload = vec![7; options.payload_bytes].into();
    let bench = Bench { handle: router.handle(), shards, timed, options, payload };
    let total = bench.rounds()?;
    bench.report(total)?;
    let append = bench.options.append_log.then(|| bench.append_bytes());
    let written = bench.timed.commits.lock().unwrap_or_else(PoisonError::into_inner).bytes;
    drop(bench);
    router.stop();
    left_on_disk(&data, written)?;
    append.map_or(Ok(()), |(bytes, commits)| append_log(&data, bytes, commits))
}

impl Bench {
    fn rounds(&self) -> Result<Total> {
        let Options { users, messages, round, read, .. } = self.options;
        for number in 0..users {
            let (session, user) = (session(number as u32), number + 1);
            self.submit(Request::Attach { session, user, device: 1 })?;
        }
        self.wait("welcome", || self.shards.told().welcomes == users)?;
        self.wait("registration", || self.handle.stats().registrations == 0)?;
        let (mut rng, mut total) = (StdRng::seed_from_u64(1), Total::default());
        let mut sent = 0;
        while sent < messages {
            let count = round.min(messages - sent);
            let pairs = pairs(&mut rng, users, count);
            let (begin, cpu, commits) = (Instant::now(), cpu_s()?, self.commits_so_far());
            self.send(&pairs, sent)?;
            total.send += begin.elapsed();
            let now = cpu_s()?;
            total.send_router_s += now.0 - cpu.0;
            total.send_store_s += now.1 - cpu.1;
            {
                let seen = self.timed.commits.lock().unwrap_or_else(PoisonError::into_inner);
                total.send_commits.extend(&seen.us[commits.0..]);
                total.send_bytes += seen.bytes - commits.1;
            }
            let messages = std::mem::take(&mut self.shards.told().sent);
            self.acknowledge(count)?;
            self.acknowledge(count)?;
            if read {
                self.read(&pairs, &messages)?;
                self.acknowledge(count)?;
            }
            total.all += begin.elapsed();
            let now = cpu_s()?;
            total.all_router_s += now.0 - cpu.0;
            total.all_store_s += now.1 - cpu.1;
            sent += count;
        }
        Ok(total)
    }

    fn commits_so_far(&self) -> (usize, u64) {
        let commits = self.timed.commits.lock().unwrap_or_else(PoisonError::into_inner);
        (commits.us.len(), commits.bytes)
    }

    fn send(&self, pairs: &[(u32, u32)], first: u64) -> Result<()> {
        for (index, (from, to)) in pairs.iter().enumerate() {
            let send = v1::Send {
                to: v1::Address { to: Some(v1::address::To::User(u64::from(*to) + 1)) }.into(),
                client_id: (first + index as u64).to_be_bytes().to_vec().into(),
                payload: self.payload.clone(),
                ..v1::Send::default()
            };
            self.frame(*from, index as u32 + 1, send.into())?;
        }
        let count = pairs.len();
        self.wait("delivery", || {
            let told = self.shards.told();
            told.sent.len() == count && told.events.len() == count
        })
    }

    /// Everybody who was handed events acknowledges them all.
    fn acknowledge(&self, events: u64) -> Result<()> {
        self.wait("events", || self.shards.told().events.len() as u64 >= events)?;
        let mut slots = std::mem::take(&mut self.shards.told().events);
        slots.sort_unstable();
        slots.dedup();
        self.shards.told().done = 0;
        for slot in &slots {
            self.frame(*slot, 1, v1::Ack { up_to: u64::MAX }.into())?;
        }
        self.wait("acknowledgements", || self.shards.told().done == slots.len() as u64)
    }

    fn read(&self, pairs: &[(u32, u32)], messages: &[(u32, u64)]) -> Result<()> {
        self.shards.told().done = 0;
        for (index, message) in messages {
            let read = v1::Read { message: vec![*message] };
            self.frame(pairs[*index as usize - 1].1, 1, read.into())?;
        }
        self.wait("read marks", || self.shards.told().done == messages.len() as u64)
    }

    fn frame(&self, slot: u32, id: u32, body: client_frame::Body) -> Result<()> {
        let user = u64::from(slot) + 1;
        self.submit(Request::Frame { session: session(slot), user, device: 1, id, body })
    }

    fn submit(&self, mut request: Request) -> Result<()> {
        let begin = Instant::now();
        while let Err(full) = self.handle.submit(request) {
            ensure!(begin.elapsed() < STEP_MAX, "the router takes no requests");
            request = full.0;
            std::thread::sleep(WAIT);
        }
        Ok(())
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool) -> Result<()> {
        let begin = Instant::now();
        while !done() {
            let errors = std::mem::take(&mut self.shards.told().errors);
            if let Some(error) = errors.first() {
                bail!("{what}: {} errors, the first {error}", errors.len());
            }
            ensure!(begin.elapsed() < STEP_MAX, "{what}: not in time");
            std::thread::sleep(WAIT);
        }
        Ok(())
    }

    fn report(&self, mut total: Total) -> Result<()> {
        let messages = self.options.messages as f64;
        let each = |seconds: f64| seconds * 1e6 / messages;
        total.send_commits.sort_unstable();
        let commit_ms = |share: f64| {
            let at = ((total.send_commits.len() as f64 * share) as usize).min(total.send_commits.len() - 1);
            total.send_commits[at] as f64 / 1000.0
        };
        ensure!(!total.send_commits.is_empty(), "nothing was committed");
        println!(
            "send  {:>8.0} messages/s; CPU us a message: router {:.2}, store {:.2}; commits {}, of {:.0} messages, {:.0} bytes a message; \
             ms p50 {:.1}, p99 {:.1}, max {:.1}",
            messages / total.send.as_secs_f64(),
            each(total.send_router_s),
            each(total.send_store_s),
            total.send_commits.len(),
            messages / total.send_commits.len() as f64,
            total.send_bytes as f64 / messages,
            commit_ms(0.5),
            commit_ms(0.99),
            commit_ms(1.0),
        );
        let commits = self.timed.commits.lock().unwrap_or_else(PoisonError::into_inner);
        println!(
            "all   {:>8.0} messages/s; CPU us a message: router {:.2}, store {:.2}; {:.1} writes and {:.0} bytes a message, the users' \
             records included",
            messages / total.all.as_secs_f64(),
            each(total.all_router_s),
            each(total.all_store_s),
            commits.writes as f64 / messages,
            commits.bytes as f64 / messages,
        );
        Ok(())
    }

    /// Bytes of a commit, and how many there were.
    fn append_bytes(&self) -> (u64, usize) {
        let commits = self.timed.commits.lock().unwrap_or_else(PoisonError::into_inner);
        (commits.bytes / commits.us.len().max(1) as u64, commits.us.len())
    }
}

fn session(slot: u32) -> SessionId {
    SessionId { gateway: 0, shard: 0, slot, generation: 1 }
}

fn pairs(rng: &mut StdRng, users: u64, count: u64) -> Vec<(u32, u32)> {
    let users = users as u32;
    let pair = |_| {
        let from = rng.random_range(0..users);
        let to = rng.random_range(0..users - 1);
        (from, if to >= from { to + 1 } else { to })
    };
    (0..count).map(pair).collect()
}
