//! What sessions of users who only connect cost the router, without sockets: bytes of RSS a session and microseconds of
//! CPU an attach, through `Handle`, with the store on disk and the gateway's allocator.
//!
//! `cargo run --release -p roost-benches --bin sessions -- --counts 100000,1000000,3000000 --data /tmp/roost-sessions`

use anyhow::{Context, Result, ensure};
use clap::Parser;
use procfs::process::Process;
use roost_router::{Action, Config, DeviceId, Effect, Handle, Outlet, Request, SessionId, UserId, start};
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Attaches new users up to each count, lets all go, attaches them again (now known), lets them go again.
#[derive(Parser)]
struct Options {
    /// Numbers of sessions at which the memory is read, rising.
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
    counts: Vec<u64>,
    /// Folder of the store, which must not exist yet; it is removed at the end.
    #[arg(long)]
    data: PathBuf,
    /// Router threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Attaches a second at most; 0 is as fast as it goes.
    #[arg(long, default_value_t = 0)]
    rate_per_s: u64,
    /// User numbers in random order instead of rising ones.
    #[arg(long)]
    scatter: bool,
    /// Rounds of leaving and coming back.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
}

/// Requests under way at most: what a gateway's shards would have queued.
const UNDER_WAY_MAX: u64 = 8192;
/// How long one step may take before the program gives up.
const STEP_MAX: Duration = Duration::from_mins(10);
/// What the store's threads are given to come to rest before memory is read.
const REST: Duration = Duration::from_secs(3);
const SHARDS: u64 = 2;
const DEVICE: DeviceId = 1;

/// Shards that count Welcomes and drop everything.
#[derive(Default)]
struct Shards {
    welcomes: AtomicU64,
    others: AtomicU64,
}

impl Outlet for Shards {
    fn deliver(&self, _shard: u16, effects: &mut VecDeque<Effect>) {
        for effect in effects.drain(..) {
            let counter =
                if matches!(effect.action, Action::Frame(_)) { &self.welcomes } else { &self.others };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// CPU and memory of this process so far.
struct Usage {
    rss_bytes: u64,
    router_ms: u64,
    store_ms: u64,
}

impl Usage {
    /// The router's threads are named so; all but the first thread besides are the store's.
    fn now() -> Result<Self> {
        let process = Process::myself()?;
        let status = process.status()?;
        let (mut router_ms, mut store_ms) = (0, 0);
        for task in process.tasks()?.flatten() {
            let Ok(stat) = task.stat() else { continue };
            let ms = (stat.utime + stat.stime) * 1000 / procfs::ticks_per_second();
            match () {
                () if stat.comm.starts_with("router-") => router_ms += ms,
                () if task.tid == process.pid => {}
                () => store_ms += ms,
            }
        }
        Ok(Self { rss_bytes: status.vmrss.context("no VmRSS")? * 1024, router_ms, store_ms })
    }
}

struct Bench {
    handle: Handle,
    shards: Arc<Shards>,
    options: Options,
    empty_bytes: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(!options.data.exists(), "{} exists already: name a folder that does not", options.data.display());
    let shards = Arc::new(Shards::default());
    let config = Config { threads: options.threads, ..Config::at(&options.data) };
    let router = start(config, shards.clone())?;
    std::thread::sleep(REST);
    let data = options.data.clone();
    let empty_bytes = Usage::now()?.rss_bytes;
    let bench = Bench { handle: router.handle(), shards, options, empty_bytes };
    println!(
        "{:<24} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "step", "sessions", "per s", "router us", "store us", "RSS MB", "rest MB", "B/session"
    );
    println!("{:<24} {:>9} {:>49.1}", "start", 0, mb(empty_bytes));
    let result = bench.run();
    drop(bench);
    router.stop();
    std::fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
    result
}

impl Bench {
    fn run(&self) -> Result<()> {
        let counts = &self.options.counts;
        let most = counts.iter().copied().max().unwrap_or(0);
        let mut from = 0;
        for count in counts {
            self.step("attach new users", from..*count, true)?;
            from = *count;
        }
        for _ in 0..self.options.rounds {
            self.step("detach", 0..most, false)?;
            self.step("attach known users", 0..most, true)?;
        }
        self.step("detach", 0..most, false)
    }

    /// Hands in one request for each user and waits until all had their effect.
    fn step(&self, name: &str, users: std::ops::Range<u64>, attach: bool) -> Result<()> {
        let (begin, before) = (Instant::now(), Usage::now()?);
        let welcomes = self.shards.welcomes.load(Ordering::Relaxed);
        let count = users.end - users.start;
        for (done, number) in users.enumerate() {
            let done = done as u64;
            let ahead =
                || attach && done - (self.shards.welcomes.load(Ordering::Relaxed) - welcomes) > UNDER_WAY_MAX;
            let early = || {
                let rate = self.options.rate_per_s;
                rate > 0
                    && done.is_multiple_of(64)
                    && begin.elapsed().as_micros() < u128::from(done * 1_000_000 / rate)
            };
            while ahead() || early() {
                ensure!(begin.elapsed() < STEP_MAX, "{name}: too slow");
                std::thread::sleep(Duration::from_micros(500));
            }
            self.submit(self.request(number, attach))?;
        }
        let done = || {
            if attach {
                self.shards.welcomes.load(Ordering::Relaxed) - welcomes == count
            } else {
                self.handle.stats().sessions == 0
            }
        };
        while !done() {
            ensure!(begin.elapsed() < STEP_MAX, "{name}: not done in time");
            std::thread::sleep(Duration::from_millis(1));
        }
        let (took, after) = (begin.elapsed(), Usage::now()?);
        std::thread::sleep(REST);
        self.report(name, count, took, [&before, &after])
    }

    fn request(&self, number: u64, attach: bool) -> Request {
        let session = SessionId {
            gateway: 0,
            shard: (number % SHARDS) as u16,
            slot: (number / SHARDS) as u32,
            generation: 1,
        };
        // An odd factor leaves all numbers different.
        let scattered = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1;
        let user: UserId = if self.options.scatter { scattered.max(1) } else { 4_900_000_001 + number };
        if attach {
            Request::Attach { session, user, device: DEVICE }
        } else {
            Request::Detach { session, user, device: DEVICE }
        }
    }

    fn submit(&self, mut request: Request) -> Result<()> {
        let begin = Instant::now();
        while let Err(full) = self.handle.submit(request) {
            ensure!(begin.elapsed() < STEP_MAX, "the router takes no requests");
            request = full.0;
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    }

    fn report(&self, name: &str, count: u64, took: Duration, [before, after]: [&Usage; 2]) -> Result<()> {
        let rest = Usage::now()?;
        let sessions = self.handle.stats().sessions;
        let each = |ms: u64| ms as f64 * 1000.0 / count as f64;
        let grown = rest.rss_bytes.saturating_sub(self.empty_bytes) as f64;
        println!(
            "{name:<24} {sessions:>9} {:>9.0} {:>9.2} {:>9.2} {:>9.1} {:>9.1} {:>9.1}",
            count as f64 / took.as_secs_f64(),
            each(rest.router_ms - before.router_ms),
            each(rest.store_ms - before.store_ms),
            mb(after.rss_bytes),
            mb(rest.rss_bytes),
            if sessions == 0 { 0.0 } else { grown / sessions as f64 },
        );
        let others = self.shards.others.load(Ordering::Relaxed);
        ensure!(others == 0, "{others} sessions were closed");
        Ok(())
    }
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
