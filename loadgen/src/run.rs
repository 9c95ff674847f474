//! A run from its beginning to its report: workers, phases, measurements.

use crate::agent::remote::Agents;
use crate::ending::Ending;
use crate::exporter::Exporter;
use crate::host::threads::{Busiest, Workers};
use crate::host::{self, Cpu, Reading};
use crate::ledger::Ledger;
use crate::limits::{DRAIN_QUIET, STOP_GRACE, WORKER_NAME};
use crate::meters::{Counters, Meters};
use crate::net;
use crate::options::{Kind, Options, Scenario};
use crate::phantom::ground::{self, Ground};
use crate::phantom::limits::STOP_MAX;
use crate::phantom::{self, Tallies};
use crate::preflight::{self, attribution};
use crate::progress::Progress;
use crate::report::Report;
use crate::schedule::Plan;
use crate::siege::{Besieger, Phases};
use crate::timeline::{Sampler, Stage};
use crate::worker::{Phase, Results, Shared};
use anyhow::{Context as _, bail};
use quanta::Clock;
use rand::RngExt;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

mod cut;
mod found;
mod rounds;
mod runtime;

pub use cut::EndedEarly;
pub use rounds::{Round, Storm};
pub(crate) use runtime::work;

/// How often the phases' conditions are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// From the order to start until the start, so that all threads have heard of it.
const START_AFTER: Duration = Duration::from_millis(50);

/// What had to be refused before anything began.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

impl Usage {
    /// One line for the user.
    pub fn new(reason: String) -> Self {
        Self(reason)
    }
}

/// Runs the scenario and returns its report, not yet judged.
///
/// # Errors
/// [`Usage`] where the options ask for what cannot be; anything else where the run could not be made.
pub fn run(mut options: Options) -> anyhow::Result<Report> {
    let ending = Ending::of_process().context("cannot listen to signals")?;
    // Bound here, where a scraper of this machine reaches it: phantoms have a network namespace of their own.
    let exporter = options.cli.outputs.metrics.map(Exporter::bind).transpose()?;
    if let Some(pid) = options.cli.gateway_pid.filter(|&pid| !host::is_alive(pid)) {
        bail!(Usage(format!("--gateway-pid {pid}: there is no such process")));
    }
    let preflight = preflight::require(&options)?;
    let ground = match options.cli.kind {
        Kind::Phantom => Some(ground::prepare(&mut options)?),
        Kind::Kernel => {
            net::raise_file_limit().context("cannot raise the limit of open files")?;
            None
        }
    };
    let plan = Plan::build(options.plan_params()).map_err(Usage)?;
    let mut agents = Agents::call(&options)?;
    let before = Reading::at_rest(options.cli.gateway_pid);
    let run_id = rand::rng().random();
    let mut start_after = Duration::ZERO;
    if let Some(agents) = &mut agents {
        agents.brief(&options, run_id, &plan)?;
        start_after = START_AFTER + agents.notice();
    }
    let sampler = Sampler::new(options.cli.gateway_pid);
    let clock = Clock::new();
    let started = OffsetDateTime::now_utc().truncate_to_second();
    let shared = Arc::new(Shared {
        ramp_begun: clock.now() + start_after,
        phases: Phases::of(&options.cli),
        counters: Counters::default(),
        ruled_out: OnceLock::new(),
        cut_us: AtomicU64::new(u64::MAX),
        timeline: Mutex::default(),
        run_id,
        clock,
        plan,
        options,
    });
    let exporter = exporter.map(|exporter| exporter.serve(shared.clone())).transpose()?;
    let report = Run::start(shared, before, (sampler, ending), ground, agents)?.finish()?;
    drop(exporter);
    let started_at = started.format(&Rfc3339).unwrap_or_default();
    Ok(Report { started_at, preflight, ..report })
}

struct Run {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    results: mpsc::Receiver<io::Result<Results>>,
    progress: Progress,
    before: Reading,
    sampler: Sampler,
    ending: Ending,
    /// When the measured part begins.
    origin: Option<quanta::Instant>,
    ended_early: Option<EndedEarly>,
    /// What phantoms stand on.
    ground: Option<Ground>,
    /// What the clients are on, where that is other machines.
    agents: Option<Agents>,
    /// Who attacks the server (siege).
    besieger: Option<Besieger>,
    /// Why the run cannot go on.
    stopped: Option<String>,
    /// What the server's process ran out of in the ramp.
    server_short: Option<String>,
}

/// What was read at the ends of the measured part.
struct Measured {
    duration_s: f64,
    sent: u64,
    gateway_cpu: Option<Cpu>,
    generator_cpu_s: f64,
    busiest: Option<Busiest>,
    held: Reading,
}

impl Run {
    fn start(
        shared: Arc<Shared>,
        before: Reading,
        (sampler, ending): (Sampler, Ending),
        mut ground: Option<Ground>,
        mut agents: Option<Agents>,
    ) -> anyhow::Result<Self> {
        let (phase, receiver) = watch::channel(Phase::Ramp);
        let (sender, results) = mpsc::channel();
        let threads = if agents.is_some() { 0 } else { shared.options.cli.threads };
        if let Some(agents) = &mut agents {
            agents.start(&shared, &receiver, &sender).context("cannot start a thread")?;
        }
        let mut queues = ground.as_mut().map(|ground| std::mem::take(&mut ground.queues).into_iter());
        for number in 0..threads {
            let (shared, receiver, sender) = (shared.clone(), receiver.clone(), sender.clone());
            let queue = queues.as_mut().and_then(Iterator::next);
            thread::Builder::new()
                .name(format!("{WORKER_NAME}{number}"))
                .spawn(move || match queue {
                    // Nobody waits for it any more where the run was given up.
                    Some(queue) => _ = sender.send(phantom::work(shared, queue, number, threads, receiver)),
                    None => work(shared, number, threads, receiver, &sender),
                })
                .context("cannot start a thread")?;
        }
        let besieger = Besieger::start(&shared, &receiver).context("cannot start a thread")?;
        let progress = Progress::new(&shared.options, ending.clone());
        let (origin, ended_early, stopped) = (None, None, None);
        Ok(Self {
            shared,
            phase,
            results,
            progress,
            before,
            sampler,
            ending,
            origin,
            ended_early,
            ground,
            agents,
            besieger,
            stopped,
            server_short: None,
        })
    }

    fn finish(mut self) -> anyhow::Result<Report> {
        self.ramp()?;
        let ramp_ended = self.ended_early.is_some();
        let measured = if ramp_ended { self.nothing_measured() } else { self.measure() };
        let (storm, rounds) = match self.shared.options.cli.scenario {
            _ if ramp_ended => (None, Vec::new()),
            Scenario::Storm | Scenario::Churn if self.ended_early.is_some() => (None, Vec::new()),
            Scenario::Storm => (Some(self.storm()), Vec::new()),
            Scenario::Churn => (None, self.churn()),
            _ => {
                self.drain();
                (None, Vec::new())
            }
        };
        self.progress.finish();
        let now_s = self.now_s();
        self.sampler.finish(now_s, &self.shared.counters, &self.shared.timeline);
        self.phase.send_replace(Phase::Stop);
        let observed = self.besieger.take().map(Besieger::finish);
        let (meters, ledger, tallies) = self.collect()?;
        let mut report = self.report(&measured, &meters, ledger, tallies);
        report.besieged(&self.shared, &meters, observed);
        (report.storm, report.rounds) = (storm, rounds);
        report.ended_early = self.ended_early;
        if let Some(Err(error)) = self.ground.take().map(Ground::finish) {
            // What the run found is told all the same.
            report.errors.push((format!("{error:#}"), 1));
            report.gateway_failed = true;
        }
        match self.stopped {
            Some(reason) => bail!("the run ended before its time: {reason}"),
            None => Ok(report),
        }
    }

    /// Waits until each client is ready or has failed, or the server rules the options out.
    fn ramp(&mut self) -> anyhow::Result<()> {
        let clients = u64::from(self.shared.options.cli.clients);
        let shared = self.shared.clone();
        self.wait(Stage::Ramp, self.ramp_longest(), |counters| {
            counters.ready.load(Relaxed) + counters.failed.load(Relaxed) >= clients
                || shared.ruled_out.get().is_some()
        });
        if let Some(reason) = shared.ruled_out.get() {
            self.progress.finish();
            self.phase.send_replace(Phase::Stop);
            self.collect()?;
            bail!(Usage(reason.clone()));
        }
        let connected = self.shared.counters.connected.load(Relaxed);
        if connected < clients {
            self.server_short = self.shared.options.cli.gateway_pid.and_then(attribution::of_server);
        }
        if connected > 0 {
            return Ok(());
        }
        self.progress.finish();
        self.phase.send_replace(Phase::Stop);
        let (meters, ..) = self.collect()?;
        if let Some(reason) = self.stopped.take() {
            bail!("the run ended before its time: {reason}");
        }
        if let Some(ended) = &self.ended_early {
            bail!(
                "the run ended before its time: ended by a signal or a key ({}) before anybody was connected",
                ended.by
            );
        }
        let reason = meters.errors().first().map_or("no answer in time", |(text, _)| text);
        let reason = self.server_short.as_deref().unwrap_or(reason);
        bail!("no client could connect to {}: {reason}", self.shared.options.target.address)
    }

    /// The longest wait for all clients to be connected.
    fn ramp_longest(&self) -> Duration {
        let options = &self.shared.options.cli;
        Duration::from_secs_f64(f64::from(options.clients) / options.ramp_per_s)
            + Duration::from_secs(options.ready_s)
    }

    fn measure(&mut self) -> Measured {
        let options = &self.shared.options.cli;
        let (pid, duration) = (options.gateway_pid, Duration::from_secs(options.duration_s));
        let ready = Reading::take(pid);
        let cpu = (pid.and_then(Cpu::of_server), host::own_cpu_s());
        let workers = Workers::read();
        let start_after = self.start_after();
        let begun = Instant::now() + start_after;
        let origin = self.shared.clock.now() + start_after;
        self.origin = Some(origin);
        self.phase.send_replace(Phase::Run(origin));
        // Where the run is about those that misbehave, it is over once the server has dealt with the last of them.
        let odd = if self.shared.options.stays() { u64::from(self.shared.plan.odd_clients()) } else { 0 };
        self.wait(Stage::Run, duration + start_after, |counters| {
            odd > 0 && counters.odd_ended.load(Relaxed) + counters.odd_through.load(Relaxed) >= odd
        });
        let duration_s = begun.elapsed().as_secs_f64();
        let busiest = workers.busiest(&Workers::read(), duration_s);
        let held = Reading::take(pid);
        Measured {
            duration_s,
            busiest,
            sent: self.shared.counters.sent.load(Relaxed),
            // A gateway that was started anew meanwhile has another number: not measured.
            gateway_cpu: cpu.0.zip(pid.and_then(Cpu::of_server)).map(|(before, after)| after.since(&before)),
            generator_cpu_s: host::own_cpu_s() - cpu.1,
            held: if self.shared.options.stays() { held } else { ready },
        }
    }

    /// From the order to start until the start, so that all workers have heard of it.
    fn start_after(&self) -> Duration {
        START_AFTER + self.agents.as_ref().map_or(Duration::ZERO, Agents::notice)
    }

    /// Waits until nothing is on its way any more, then a little longer for what should not come.
    fn drain(&mut self) {
        self.phase.send_replace(Phase::Drain);
        let closed = self.shared.options.is_closed_loop();
        let (talks, planned) = (self.shared.options.talks(), u64::from(self.shared.due()));
        // Without groups each message that was answered arrives once, and so does its receipt.
        let chat = self.shared.plan.groups.is_empty();
        let deliveries = if talks && !chat { self.shared.deliveries() } else { 0 };
        let longest = Duration::from_secs(self.shared.options.cli.drain_s);
        self.wait(Stage::Drain, longest, |counters| {
            let due = if closed { counters.sent.load(Relaxed) } else { planned };
            let answered = counters.answered.load(Relaxed);
            let received = counters.received.load(Relaxed);
            let all_answered = answered + counters.refused.load(Relaxed) >= due;
            let all_received = received >= answered.max(deliveries);
            // Of groups, the first receipt of each message counts.
            let receipts_due = if chat { received } else { answered };
            all_answered && all_received && (!talks || counters.receipts.load(Relaxed) >= receipts_due)
        });
        if talks {
            self.wait(Stage::Drain, DRAIN_QUIET, |_| false);
        }
    }

    /// Waits for a condition, at most for `longest`.
    fn wait(&mut self, stage: Stage, longest: Duration, done: impl Fn(&Counters) -> bool) {
        let end = Instant::now() + longest;
        while !done(&self.shared.counters) && self.stopped.is_none() {
            self.stopped = self.ground.as_mut().and_then(Ground::stopped);
            if let Some(lost) = self.agents.as_ref().and_then(Agents::lost) {
                self.stopped = Some(lost);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_cut_short(stage) {
                return;
            }
            let now_s = self.now_s();
            self.sampler.look(now_s, stage, &self.shared.counters, &self.shared.timeline);
            self.progress.show(stage, left, &self.shared);
            thread::sleep(LOOK_EVERY.min(left));
        }
    }

    /// Seconds since the ramp began.
    fn now_s(&self) -> f64 {
        let shared = &self.shared;
        shared.clock.now().saturating_duration_since(shared.ramp_begun).as_secs_f64()
    }

    fn collect(&self) -> anyhow::Result<(Meters, Ledger, Tallies)> {
        let phantoms = self.ground.as_ref().map_or(Duration::ZERO, |_| STOP_MAX);
        let agents = self.agents.as_ref().map_or(Duration::ZERO, Agents::longest);
        let end = Instant::now() + STOP_GRACE + phantoms + agents;
        let workers = self.agents.as_ref().map_or(self.shared.options.cli.threads, Agents::len);
        let (mut meters, mut ledger) = (Meters::new(0), Ledger::of(&self.shared.plan));
        let mut tallies = Tallies::default();
        let mut broken = None;
        for _ in 0..workers {
            let results = self.results.recv_timeout(end.saturating_duration_since(Instant::now())).context(
                "a worker did not hand in its results; its thread is stuck or could not make a ring",
            )?;
            // The others hand in all the same: they end in order.
            let results = match results {
                Ok(results) => results,
                Err(error) => {
                    broken.get_or_insert(error);
                    continue;
                }
            };
            meters.merge(&results.meters);
            ledger.merge(results.ledger);
            tallies += results.tallies;
        }
        if let Some(error) = broken {
            return Err(anyhow::Error::from(error).context(if self.agents.is_some() {
                "the run ended before its time"
            } else {
                "a worker's TUN device is of no use any more"
            }));
        }
        Ok((meters, ledger, tallies))
    }
}
