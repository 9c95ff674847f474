//! The coordinator's side: agents that look like threads to [`crate::run`].

use super::channel::{self, Receiver, Secret, Sender};
use super::clock::Sample;
use super::limits::{
    CALL_AGAIN, CONNECT_MAX, COUNT_MAX, FORWARD_EVERY, HAND_IN_MAX, PROBE_EVERY, PROBES, RESULTS_BYTES_MAX,
    SETUP_MAX, SILENCE_MAX,
};
use super::protocol::{FromAgent, Job, Own, Proof, Step, ToAgent, VERSION};
use super::report::AgentReport;
use super::results;
use super::serve::printable;
use crate::limits::{STOP_GRACE, THREADS_MAX};
use crate::meters::{CONNECTED, COUNTERS};
use crate::options::Options;
use crate::run::Usage;
use crate::schedule::Plan;
use crate::worker::{Phase, Results, Shared};
use anyhow::{Context as _, anyhow, bail};
use quanta::{Clock, Instant};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

/// The agents of a run.
pub struct Agents {
    remotes: Vec<Remote>,
    clock: Clock,
    /// The zero of the coordinator's moments.
    base: Instant,
    news: Arc<News>,
}

/// What the agents' threads tell the run.
#[derive(Default)]
struct News {
    /// Why the run cannot go on.
    lost: OnceLock<String>,
    /// What each agent was, once it has handed in.
    reports: Mutex<Vec<(usize, AgentReport)>>,
}

/// One agent before the run.
struct Remote {
    address: String,
    sender: Arc<Sender>,
    receiver: Option<Receiver>,
    threads: u32,
    clients: u64,
    offset: Option<Sample>,
}

impl Agents {
    /// Calls the agents of `options`; `None` where there are none.
    ///
    /// # Errors
    /// [`Usage`] for the secret's file; else which agent did not answer as it should, and why.
    pub fn call(options: &Options) -> anyhow::Result<Option<Self>> {
        let args = &options.cli.agents;
        let Some(path) = args.agent_secret_file.as_deref().filter(|_| !args.agents.is_empty()) else {
            return Ok(None);
        };
        let secret = Secret::load(path, "--agent-secret-file").map_err(Usage::new)?;
        let remotes: Result<Vec<_>, _> = args
            .agents
            .iter()
            .map(|address| Remote::call(address, &secret).with_context(|| format!("agent {address}")))
            .collect();
        let clock = Clock::new();
        Ok(Some(Self { remotes: remotes?, base: clock.now(), clock, news: Arc::default() }))
    }

    /// Tells them what is to be run, waits until all have its schedule, and compares the clocks.
    ///
    /// # Errors
    /// Which agent cannot, and why.
    pub fn brief(&mut self, options: &Options, run_id: u64, plan: &Plan) -> anyhow::Result<()> {
        let texts = options.cli.agents.arguments.iter().map(|text| text.clone().into_string());
        let arguments: Result<Vec<_>, _> = texts.collect();
        let arguments = arguments.map_err(|text| {
            Usage::new(format!("agents read a command line in UTF-8 only, and {} is not", text.display()))
        })?;
        let workers = self.remotes.iter().map(|remote| remote.threads).sum();
        let mut first = 0;
        for remote in &mut self.remotes {
            let credentials = Proof::from(&options.credentials);
            let mix = options.mix.as_ref().map(|mix| mix.text.clone());
            let job = Job { arguments: arguments.clone(), mix, credentials, run_id, first, workers };
            remote.sender.send(&ToAgent::Job(job)).with_context(|| format!("agent {}", remote.address))?;
            remote.clients = (first..first + remote.threads)
                .map(|worker| (worker..options.cli.clients).step_by(workers as usize).len() as u64)
                .sum();
            first += remote.threads;
        }
        for remote in &mut self.remotes {
            remote.ready(plan).with_context(|| format!("agent {}", remote.address))?;
        }
        // When nobody computes any more.
        for remote in &mut self.remotes {
            remote.compare(&self.clock, self.base).with_context(|| format!("agent {}", remote.address))?;
        }
        Ok(())
    }

    /// From an order until it holds, beyond what threads need: the longest round trip to an agent, twice.
    pub fn notice(&self) -> Duration {
        let errors = self.remotes.iter().filter_map(|remote| remote.offset).map(|sample| sample.error_ns);
        Duration::from_nanos(errors.max().unwrap_or_default().saturating_mul(4)).min(SILENCE_MAX)
    }

    /// Begins the ramp at them, and lets them take part from now on. Each hands one result in, an error where it is lost.
    ///
    /// # Errors
    /// Where a thread cannot be started; an agent that is lost is told by [`Self::lost`].
    pub fn start(
        &mut self,
        shared: &Arc<Shared>,
        phase: &watch::Receiver<Phase>,
        hand_in: &mpsc::Sender<io::Result<Results>>,
    ) -> io::Result<()> {
        for (index, remote) in self.remotes.iter_mut().enumerate() {
            let (Some(receiver), Some(offset)) = (remote.receiver.take(), remote.offset) else {
                return Err(io::Error::other("agents are called once a run"));
            };
            let follower = Arc::new(Follower {
                shared: shared.clone(),
                base: self.base,
                news: self.news.clone(),
                sender: remote.sender.clone(),
                offset,
                connected: AtomicU64::new(0),
                asked: Mutex::default(),
                over: AtomicBool::new(false),
                index,
                begun: AgentReport {
                    address: remote.address.clone(),
                    threads: remote.threads,
                    clients: remote.clients,
                    ..AgentReport::default()
                },
            });
            let (leader, phase, hand_in) = (follower.clone(), phase.clone(), hand_in.clone());
            let name = |what| thread::Builder::new().name(format!("agent-{what}-{index}"));
            name("lead").spawn(move || leader.lead(phase))?;
            name("follow").spawn(move || follower.follow(receiver, &hand_in))?;
        }
        Ok(())
    }

    /// How many results will come.
    pub fn len(&self) -> u32 {
        self.remotes.len() as u32
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.remotes.is_empty()
    }

    /// Why the run cannot go on, where an agent is lost.
    pub fn lost(&self) -> Option<String> {
        self.news.lost.get().cloned()
    }

    /// The longest wait for results after the end.
    pub fn longest(&self) -> Duration {
        HAND_IN_MAX + STOP_GRACE
    }

    /// What agents were, once all results are in.
    pub fn reports(&self) -> Vec<AgentReport> {
        let mut reports =
            std::mem::take(&mut *self.news.reports.lock().unwrap_or_else(PoisonError::into_inner));
        reports.sort_unstable_by_key(|(index, _)| *index);
        reports.into_iter().map(|(_, report)| report).collect()
    }
}

impl Remote {
    fn call(address: &str, secret: &Secret) -> anyhow::Result<Self> {
        let end = Instant::now() + CONNECT_MAX;
        loop {
            match channel::call(Self::reach(address)?, secret) {
                Ok(channel) => return Self::greet(address, channel),
                // An agent that many call at once gives the oldest calls up.
                Err(error) if channel::is_closed(&error) && Instant::now() < end => {
                    thread::sleep(CALL_AGAIN);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn reach(address: &str) -> anyhow::Result<TcpStream> {
        let mut refused = anyhow!("its name has no address");
        for at in address.to_socket_addrs().context("its address is not HOST:PORT, or cannot be resolved")? {
            match TcpStream::connect_timeout(&at, CONNECT_MAX) {
                Ok(stream) => return Ok(stream),
                Err(error) => refused = anyhow!("{error}; is roost-loadgen agent running there?"),
            }
        }
        Err(refused)
    }

    fn greet(address: &str, (sender, mut receiver): (Sender, Receiver)) -> anyhow::Result<Self> {
        receiver.patience(SETUP_MAX)?;
        sender.send(&ToAgent::Hello(VERSION.to_owned()))?;
        let FromAgent::Hello(version, threads) = receiver.receive()? else {
            bail!("it did not tell its version")
        };
        if version != VERSION {
            bail!(
                "it is roost-loadgen {}, and this is {VERSION}: their schedules could differ; install one version",
                printable(&version)
            );
        }
        if !(1..=THREADS_MAX).contains(&threads) {
            bail!("it tells {threads} threads, and 1 to {THREADS_MAX} can be");
        }
        let (address, sender, receiver) = (address.to_owned(), Arc::new(sender), Some(receiver));
        Ok(Self { address, sender, receiver, threads, clients: 0, offset: None })
    }

    fn receive(&mut self) -> anyhow::Result<FromAgent> {
        let receiver = self.receiver.as_mut().context("it was called twice")?;
        match receiver.receive()? {
            FromAgent::Refused(reason) => bail!("it refused the run: {}", said(&reason)),
            message => Ok(message),
        }
    }

    fn ready(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let FromAgent::Ready(digest) = self.receive()? else {
            bail!("it answered the job with something else")
        };
        if digest != plan.digest() {
            bail!(
                "it computes another schedule from the same seed: its build or its machine's arithmetic differs; use the same binary"
            );
        }
        Ok(())
    }

    fn compare(&mut self, clock: &Clock, base: Instant) -> anyhow::Result<()> {
        let here = || clock.now().saturating_duration_since(base).as_nanos() as u64;
        for probe in 0..PROBES {
            let asked = here();
            self.sender.send(&ToAgent::Probe(probe))?;
            let FromAgent::Now(_, there) = self.receive()? else { bail!("it did not tell its time") };
            let sample = Sample::of(asked, there, here());
            self.offset = Some(self.offset.map_or(sample, |known| known.better(sample)));
        }
        Ok(())
    }
}

/// One agent in the run: a thread that leads it, and one that follows what it tells.
struct Follower {
    shared: Arc<Shared>,
    base: Instant,
    news: Arc<News>,
    sender: Arc<Sender>,
    offset: Sample,
    /// Clients that it has connected.
    connected: AtomicU64,
    /// The last question for its time: number, moment.
    asked: Mutex<(u32, u64)>,
    over: AtomicBool,
    index: usize,
    begun: AgentReport,
}

impl Follower {
    fn here(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.base).as_nanos() as u64
    }

    fn lead(&self, phase: watch::Receiver<Phase>) {
        if self.pass_on(phase).is_err() {
            // The other thread hears of it by that, and tells.
            self.sender.hang_up();
        }
    }

    fn pass_on(&self, mut phase: watch::Receiver<Phase>) -> io::Result<()> {
        let moment = |moment| self.offset.there(self.here(moment));
        self.sender.send(&ToAgent::Start(moment(self.shared.ramp_begun)))?;
        let (mut elsewhere, mut probed, mut number) = (0, self.shared.clock.now(), PROBES);
        let mut cut_us = u64::MAX;
        while !self.over.load(SeqCst) {
            // Before the phase that follows an early end.
            let now_us = self.shared.cut_us.load(SeqCst);
            if now_us != std::mem::replace(&mut cut_us, now_us) {
                self.sender.send(&ToAgent::Cut(now_us))?;
            }
            if phase.has_changed().map_err(io::Error::other)? {
                let now = *phase.borrow_and_update();
                self.sender.send(&ToAgent::Phase(Step::of(now, moment)))?;
            }
            let own = self.connected.load(Relaxed);
            let others = self.shared.counters.connected.load(Relaxed).saturating_sub(own);
            if others != std::mem::replace(&mut elsewhere, others) {
                self.sender.send(&ToAgent::Elsewhere(others))?;
            }
            if probed.elapsed() >= PROBE_EVERY {
                probed = self.shared.clock.now();
                *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = (number, self.here(probed));
                self.sender.send(&ToAgent::Probe(number))?;
                number = number.wrapping_add(1);
            }
            thread::sleep(FORWARD_EVERY);
        }
        Ok(())
    }

    fn follow(&self, mut receiver: Receiver, hand_in: &mpsc::Sender<io::Result<Results>>) {
        let outcome = self.take_part(&mut receiver);
        self.over.store(true, SeqCst);
        let outcome = outcome.map_err(|reason| {
            let told = format!("agent {} is lost, and its clients with it: {reason}", self.begun.address);
            let _ = self.news.lost.set(told.clone());
            io::Error::other(told)
        });
        self.sender.hang_up();
        // Nobody waits for it any more where the run was given up.
        let _ = hand_in.send(outcome);
    }

    /// From the start to the last message.
    fn take_part(&self, receiver: &mut Receiver) -> Result<Results, String> {
        receiver.patience(SILENCE_MAX).map_err(|error| error.to_string())?;
        let (mut counts, mut parts, mut late) = ([0; COUNTERS], Vec::new(), None::<Sample>);
        loop {
            match receiver.receive().map_err(|error| error.to_string())? {
                FromAgent::Counts(now) => {
                    if now.iter().any(|count| *count > COUNT_MAX) {
                        return Err("it counts more than can have happened".into());
                    }
                    self.shared.counters.follow(&counts, &now);
                    counts = now;
                    self.connected.store(counts[CONNECTED], Relaxed);
                }
                FromAgent::Recorded(second, interval) => {
                    // Clocks differ a little, and an agent may err: nothing is recorded in a second that has not begun.
                    let now =
                        self.shared.clock.now().saturating_duration_since(self.shared.ramp_begun).as_secs();
                    let mut timeline = self.shared.timeline.lock().unwrap_or_else(PoisonError::into_inner);
                    timeline.record(second.min(now), &interval);
                }
                FromAgent::RuledOut(reason) => _ = self.shared.ruled_out.set(said(&reason)),
                FromAgent::Now(number, there) => {
                    let (asked, at) = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                    if asked == number {
                        let sample = Sample::of(at, there, self.here(self.shared.clock.now()));
                        late = Some(late.map_or(sample, |known| known.better(sample)));
                    }
                }
                FromAgent::Part(part) => {
                    if parts.len() + part.len() > RESULTS_BYTES_MAX {
                        return Err(format!("its results are more than {RESULTS_BYTES_MAX} bytes"));
                    }
                    parts.extend(part);
                }
                FromAgent::Finished(own) => {
                    let results = results::unpack(&parts, &self.shared.plan)?;
                    self.report(own, &results, late);
                    return Ok(results);
                }
                FromAgent::Refused(reason) => return Err(said(&reason)),
                FromAgent::Hello(..) | FromAgent::Ready(_) => {
                    return Err("it said what does not belong there".into());
                }
            }
        }
    }

    fn report(&self, own: Own, results: &Results, late: Option<Sample>) {
        let drift_ns = late.map_or(0, |late| self.offset.drift_ns(late));
        let report = AgentReport {
            clock_error_us: self.offset.error_ns.div_ceil(1000),
            clock_drift_us: drift_ns.div_ceil(1000),
            ..self.begun.clone()
        };
        let report = report.of(own, &results.meters, self.shared.options.cli.lag_share_max);
        self.news.reports.lock().unwrap_or_else(PoisonError::into_inner).push((self.index, report));
    }
}

/// A sentence of an agent's, fit for a terminal and a report.
fn said(text: &str) -> String {
    text.chars().take(1000).map(|char| if char.is_control() { ' ' } else { char }).collect()
}
