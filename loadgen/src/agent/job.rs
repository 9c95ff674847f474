//! An agent's part of one run: the same schedule, some of its workers, and what a coordinator wants to know of them.

use super::channel::{Receiver, Sender};
use super::limits::{FORWARD_EVERY, PART_BYTES, PROBE_EVERY, SETUP_MAX, SILENCE_MAX};
use super::protocol::{FromAgent, Job, Own, Step, ToAgent, moment};
use super::results;
use super::serve::say;
use crate::host::threads::Workers;
use crate::host::{self, Network};
use crate::ledger::Ledger;
use crate::limits::{STOP_GRACE, WORKER_NAME};
use crate::meters::{COUNTERS, Counters, Meters};
use crate::options::{Kind, Options};
use crate::phantom::Tallies;
use crate::preflight;
use crate::run;
use crate::schedule::Plan;
use crate::siege::Phases;
use crate::tools::Program;
use crate::worker::{Phase, Results, Shared};
use clap::Parser as _;
use quanta::{Clock, Instant};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use tokio::sync::watch;

/// What an agent brings to every run.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Its workers.
    pub threads: u32,
    /// Source addresses on loopback, where it has its own number.
    pub source_addresses: Option<u32>,
}

/// Does a coordinator's job to its end.
///
/// # Errors
/// In a sentence, why it was not done; the coordinator was told where it could be. All clients are closed.
pub fn serve(
    sender: &Arc<Sender>,
    receiver: &mut Receiver,
    machine: &Machine,
    peer: SocketAddr,
) -> Result<(), String> {
    let clock = Clock::new();
    let epoch = clock.now();
    let text = |error: io::Error| error.to_string();
    receiver.patience(SETUP_MAX).map_err(text)?;
    let ToAgent::Job(job) = receiver.receive().map_err(text)? else { return Err("it gave no job".into()) };
    let (first, workers, run_id) = (job.first, job.workers, job.run_id);
    let (options, plan) = match understand(job, machine) {
        Ok(understood) => understood,
        Err(reason) => {
            sender.send(&FromAgent::Refused(reason.clone())).map_err(text)?;
            return Err(reason);
        }
    };
    say(&format!(
        "{} for {peer}: workers {first} to {} of {workers}",
        options.cli.scenario.name(),
        first + machine.threads - 1
    ));
    sender.send(&FromAgent::Ready(plan.digest())).map_err(text)?;
    let ramp_begun = loop {
        match receiver.receive().map_err(text)? {
            ToAgent::Probe(number) => tell_time(sender, number, &clock, epoch).map_err(text)?,
            ToAgent::Start(start) => break moment(epoch, start, clock.now()),
            _ => return Err("it did not begin".into()),
        }
    };
    receiver.patience(SILENCE_MAX).map_err(text)?;
    let (counters, ruled_out) = (Counters::default(), OnceLock::new());
    let (cut_us, timeline) = (AtomicU64::new(u64::MAX), Mutex::default());
    let phases = Phases::default();
    let shared =
        Shared { options, plan, phases, counters, ruled_out, clock, ramp_begun, cut_us, timeline, run_id };
    let mut play = Play::start(Arc::new(shared), epoch, sender.clone(), first, workers).map_err(text)?;
    let stopped = play.lead(receiver);
    play.end(&stopped)
}

/// The options and the schedule of a job on this machine.
fn understand(job: Job, machine: &Machine) -> Result<(Options, Plan), String> {
    let name = "roost-loadgen".to_owned();
    let arguments = std::iter::once(name).chain(job.arguments);
    let program = Program::try_parse_from(arguments).map_err(|error| format!("the command line: {error}"))?;
    let mut cli =
        program.run.0.filter(|_| program.tool.is_none()).ok_or("the command line has no scenario")?;
    if cli.kind != Kind::Kernel
        || job.workers == 0
        || job.first.checked_add(machine.threads).is_none_or(|end| end > job.workers)
    {
        return Err("such a run is none for an agent".into());
    }
    // Of what is left only the clients' doings are read here: files, screens and conditions are the coordinator's.
    // No file and no process of this machine in their place.
    cli.gateway_pid = None;
    cli.mix_text = cli.mix.take().map(|_| job.mix.unwrap_or_default());
    let mut options = Options::with_credentials(cli, job.credentials.into())?;
    options.cli.threads = machine.threads;
    if let Some(addresses) = machine.source_addresses {
        options.cli.source_addresses = addresses;
    }
    let own = (job.first..job.first + machine.threads)
        .map(|worker| (worker..options.cli.clients).step_by(job.workers as usize).len())
        .sum::<usize>();
    for warning in preflight::require_of_agent(&options, own as u32)? {
        say(&warning);
    }
    let plan = Plan::build(options.plan_params())?;
    Ok((options, plan))
}

fn tell_time(sender: &Sender, number: u32, clock: &Clock, epoch: Instant) -> io::Result<()> {
    let now = clock.now().saturating_duration_since(epoch).as_nanos() as u64;
    sender.send(&FromAgent::Now(number, now))
}

/// What workers handed over since the last time, for the coordinator's timeline.
fn tell_recorded(sender: &Sender, shared: &Shared) -> io::Result<()> {
    let parts = shared.timeline.lock().unwrap_or_else(PoisonError::into_inner).drain();
    for (second, interval) in parts {
        for part in interval.split() {
            sender.send(&FromAgent::Recorded(second, part))?;
        }
    }
    Ok(())
}

/// What is read when the measured part begins.
struct Measuring {
    since: Instant,
    cpu_s: f64,
    workers: Workers,
}

/// The run, while it goes on.
struct Play {
    shared: Arc<Shared>,
    epoch: Instant,
    sender: Arc<Sender>,
    phase: watch::Sender<Phase>,
    results: mpsc::Receiver<io::Result<Results>>,
    threads: u32,
    network: Network,
    own: Own,
    /// What was read when the measured part began, while it lasts.
    measuring: Option<Measuring>,
    teller: JoinHandle<()>,
    over: Arc<AtomicBool>,
}

impl Play {
    fn start(
        shared: Arc<Shared>,
        epoch: Instant,
        sender: Arc<Sender>,
        first: u32,
        workers: u32,
    ) -> io::Result<Self> {
        let (phase, receiver) = watch::channel(Phase::Ramp);
        let (hand_in, results) = mpsc::channel();
        let threads = shared.options.cli.threads;
        for number in first..first + threads {
            let (shared, phase, hand_in) = (shared.clone(), receiver.clone(), hand_in.clone());
            let thread = thread::Builder::new().name(format!("{WORKER_NAME}{number}"));
            thread.spawn(move || run::work(shared, number, workers, phase, &hand_in))?;
        }
        let over = Arc::new(AtomicBool::new(false));
        let teller = Teller { shared: shared.clone(), sender: sender.clone(), over: over.clone() };
        let teller = thread::Builder::new().name("agent-tell".into()).spawn(move || teller.tell())?;
        let (network, own) = (Network::read(), Own { host: host::host(), ..Own::default() });
        Ok(Self {
            shared,
            epoch,
            sender,
            phase,
            results,
            threads,
            network,
            own,
            measuring: None,
            teller,
            over,
        })
    }

    /// Does what the coordinator says until it says Stop, or is gone.
    fn lead(&mut self, receiver: &mut Receiver) -> Result<(), String> {
        loop {
            match receiver.receive().map_err(|error| format!("the coordinator is gone ({error})"))? {
                ToAgent::Probe(number) => {
                    tell_time(&self.sender, number, &self.shared.clock, self.epoch)
                        .map_err(|error| format!("the coordinator is gone ({error})"))?;
                }
                ToAgent::Elsewhere(connected) => {
                    self.shared.counters.connected_elsewhere.store(connected, SeqCst);
                }
                ToAgent::Cut(cut_us) => self.shared.cut_us.store(cut_us, SeqCst),
                ToAgent::Phase(step) => {
                    self.measure(step);
                    self.phase.send_replace(step.phase(self.epoch, self.shared.clock.now()));
                    if step == Step::Stop {
                        return Ok(());
                    }
                }
                _ => return Err("the coordinator said what does not belong there".into()),
            }
        }
    }

    /// The measured part lasts from Run until the next step.
    fn measure(&mut self, step: Step) {
        match (step, self.measuring.take()) {
            (Step::Run(_), None) => {
                let (since, workers) = (self.shared.clock.now(), Workers::read());
                self.measuring = Some(Measuring { since, cpu_s: host::own_cpu_s(), workers });
            }
            (_, Some(before)) => {
                let busiest = before.workers.busiest(&Workers::read(), before.since.elapsed().as_secs_f64());
                self.own.busiest = busiest.map(|busiest| (busiest.cpu_share, busiest.cpu_wait_share));
                self.own.cpu_s = host::own_cpu_s() - before.cpu_s;
                self.own.rss_bytes = host::own_rss_bytes();
            }
            _ => (),
        }
    }

    /// Ends all clients, and hands in what was found where somebody is there to take it.
    fn end(mut self, stopped: &Result<(), String>) -> Result<(), String> {
        self.phase.send_replace(Phase::Stop);
        let merged = self.collect();
        self.own.network = Network::read().since(&self.network);
        let parts = match (stopped, merged) {
            (Ok(()), Ok(results)) => results::pack(&results),
            (Ok(()), Err(reason)) => Err(reason),
            (Err(gone), _) => Err(gone.clone()),
        };
        self.over.store(true, SeqCst);
        let Ok(()) = self.teller.join() else { return Err("a thread of ours ended before its time".into()) };
        let parts = match parts {
            Ok(parts) => parts,
            Err(reason) => {
                // Where the coordinator is gone it does not hear it.
                let _ = self.sender.send(&FromAgent::Refused(reason.clone()));
                return Err(reason);
            }
        };
        let told = |error: io::Error| format!("the coordinator is gone ({error})");
        self.sender.send(&FromAgent::Counts(self.shared.counters.read())).map_err(told)?;
        tell_recorded(&self.sender, &self.shared).map_err(told)?;
        for part in parts.chunks(PART_BYTES) {
            self.sender.send(&FromAgent::Part(part.to_vec())).map_err(told)?;
        }
        self.sender.send(&FromAgent::Finished(self.own)).map_err(told)
    }

    fn collect(&self) -> Result<Results, String> {
        let (meters, ledger) = (Meters::new(0), Ledger::of(&self.shared.plan));
        let mut all = Results { meters, ledger, tallies: Tallies::default() };
        for _ in 0..self.threads {
            let results = self.results.recv_timeout(STOP_GRACE);
            let results = results.map_err(|_| "a worker of it did not hand in its results: its thread is stuck or could not make a ring")?;
            let results = results.map_err(|error| error.to_string())?;
            all.meters.merge(&results.meters);
            all.ledger.merge(results.ledger);
        }
        Ok(all)
    }
}

/// Tells the coordinator what the counters say, in a thread of its own.
struct Teller {
    shared: Arc<Shared>,
    sender: Arc<Sender>,
    over: Arc<AtomicBool>,
}

impl Teller {
    fn tell(&self) {
        let (mut last, mut told) = ([0; COUNTERS], self.shared.clock.now());
        let mut ruled_out = false;
        // Ends with the run, or where nobody listens any more.
        while !self.over.load(SeqCst) {
            let (counts, now) = (self.shared.counters.read(), self.shared.clock.now());
            if counts != last || now.saturating_duration_since(told) >= PROBE_EVERY {
                (last, told) = (counts, now);
                if self.sender.send(&FromAgent::Counts(counts)).is_err() {
                    return;
                }
            }
            if tell_recorded(&self.sender, &self.shared).is_err() {
                return;
            }
            if let Some(reason) = self.shared.ruled_out.get().filter(|_| !ruled_out) {
                ruled_out = true;
                let _ = self.sender.send(&FromAgent::RuledOut(reason.clone()));
            }
            thread::sleep(FORWARD_EVERY);
        }
    }
}
