//! The thread that leads the attackers. It has a low priority: where it shares a CPU with the clients that behave, it must not be
//! what they wait for.

use super::attacker::{Common, Tally, attack};
use super::script::Script;
use super::{Attack, attackers};
use crate::host::{Cpu, Glance};
use crate::limits::{ATTACK_CONNECTS_PER_S, SIEGE_LOOK_EVERY};
use crate::net::Way;
use crate::options::{Encoding, Options};
use crate::scenario;
use crate::worker::{Phase, Shared};
use crate::ws::WsClient;
use quanta::Instant;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};
use tungstenite::protocol::frame::coding::Data;

/// What was seen of the server in one phase. `None` where its process is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Its resident memory when the phase began.
    pub rss_before: Option<u64>,
    /// The most during it.
    pub rss_max: Option<u64>,
    /// Its CPU time.
    pub cpu_s: Option<f64>,
    /// Length of the phase.
    pub seconds: f64,
}

/// All that was seen from here.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Each phase.
    pub phases: Vec<Seen>,
    /// The attackers of each attack.
    pub attackers: Vec<Tally>,
    /// Why there are none, or why something is missing.
    pub errors: Vec<String>,
}

/// The thread.
pub struct Besieger(JoinHandle<Observed>);

impl Besieger {
    /// Starts it where the run is a siege.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(shared: &Arc<Shared>, phase: &watch::Receiver<Phase>) -> io::Result<Option<Self>> {
        if shared.phases.count() == 0 {
            return Ok(None);
        }
        let (shared, phase) = (shared.clone(), phase.clone());
        thread::Builder::new().name("siege".to_owned()).spawn(move || run(&shared, phase)).map(Self).map(Some)
    }

    /// Waits for it; the run's phase is no longer the measured part.
    pub fn finish(self) -> Observed {
        let panicked =
            |_| Observed { errors: vec!["the attackers' thread panicked".to_owned()], ..Observed::default() };
        self.0.join().unwrap_or_else(panicked)
    }
}

fn run(shared: &Arc<Shared>, phase: watch::Receiver<Phase>) -> Observed {
    let mut observed = Observed::default();
    // For the calling thread: on Linux a priority is a thread's.
    if let Err(error) = rustix::process::setpriority_process(None, shared.options.cli.siege.attack_nice) {
        observed.errors.push(format!("the attackers run at the clients' own priority: {error}"));
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => LocalSet::new().block_on(&runtime, besiege(shared, phase, &mut observed)),
        Err(error) => observed.errors.push(format!("no attackers: {error}")),
    }
    observed
}

async fn besiege(shared: &Arc<Shared>, mut phase: watch::Receiver<Phase>, observed: &mut Observed) {
    let Ok(Phase::Run(origin)) = phase.wait_for(|phase| *phase != Phase::Ramp).await.map(|phase| *phase)
    else {
        return;
    };
    wait_until(shared, origin).await;
    for number in 0..shared.phases.count() {
        let end = origin + Duration::from_micros(shared.phases.end_us(number));
        let attackers = shared.phases.attack(number).map(|attack| Attackers::begin(shared, attack));
        let seen = tokio::select! {
            seen = look(shared, end) => Some(seen),
            _ = phase.wait_for(|phase| !matches!(phase, Phase::Run(_))) => None,
        };
        if let Some(attackers) = attackers {
            observed.attackers.push(attackers.end().await);
        }
        let Some(seen) = seen else { return };
        observed.phases.push(seen);
    }
}

async fn wait_until(shared: &Shared, at: Instant) {
    sleep(at.saturating_duration_since(shared.clock.now())).await;
}

/// Looks at the server until that time.
async fn look(shared: &Shared, end: Instant) -> Seen {
    let pid = shared.options.cli.gateway_pid;
    let (begun, cpu) = (shared.clock.now(), pid.and_then(Cpu::of_server));
    let rss = || Glance::take(pid).gateway_rss;
    let rss_before = rss();
    let mut seen = Seen { rss_before, rss_max: rss_before, ..Seen::default() };
    loop {
        let left = end.saturating_duration_since(shared.clock.now());
        if left.is_zero() {
            break;
        }
        sleep(left.min(SIEGE_LOOK_EVERY)).await;
        seen.rss_max = seen.rss_max.max(rss());
    }
    seen.seconds = shared.clock.now().saturating_duration_since(begun).as_secs_f64();
    let spent = cpu.zip(pid.and_then(Cpu::of_server)).map(|(before, after)| after.since(&before).total_s());
    Seen { cpu_s: spent, ..seen }
}

/// The upgrade request of a client.
fn request(shared: &Shared, client: u32) -> Option<Vec<u8>> {
    let request = scenario::request(&shared.options, shared.plan.user(client)).ok()?;
    Some(WsClient::new(request).ok()?.take_output(Vec::new()))
}

/// What the server takes of a client with this request; the other kind would end the attack.
fn data(options: &Options) -> Data {
    match options.cli.encoding {
        Encoding::Proto if scenario::speaks_roost(options) => Data::Binary,
        _ => Data::Text,
    }
}

/// The attackers of one attack.
struct Attackers {
    common: Rc<Common>,
    over: watch::Sender<bool>,
    tasks: JoinSet<()>,
    errors: u64,
}

impl Attackers {
    fn begin(shared: &Arc<Shared>, kind: Attack) -> Self {
        let options = &shared.options;
        let (over, over_receiver) = watch::channel(false);
        let common = Common { target: options.target.address, tally: <_>::default(), over: over_receiver };
        let mut of = Self { common: Rc::new(common), over, tasks: JoinSet::new(), errors: 0 };
        let mut script = None;
        for number in 0..attackers(&options.cli, kind) {
            // Behind the clients' own users and addresses.
            let client = options.cli.clients.wrapping_add(number);
            let Some(request) = request(shared, client) else {
                of.errors += 1;
                continue;
            };
            let (seed, hog_bytes) = (options.cli.seed, options.cli.siege.hog_bytes);
            let script = script
                .get_or_insert_with(|| Rc::new(Script::of(kind, seed, &request, data(options), hog_bytes)))
                .clone();
            let source = options.target.source(client, options.cli.source_addresses);
            let way = Way { source, receive_bytes: script.receive_bytes };
            let (common, mut over) = (of.common.clone(), of.common.over.clone());
            let after = Duration::from_secs_f64(f64::from(number) / ATTACK_CONNECTS_PER_S);
            of.tasks.spawn_local(async move {
                if timeout(after, over.wait_for(|over| *over)).await.is_err() {
                    attack(common, script, request, way).await;
                }
            });
        }
        of
    }

    /// Ends them, wherever they are.
    async fn end(mut self) -> Tally {
        self.over.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        let mut tally = self.common.tally.take();
        tally.unconnected += self.errors;
        tally
    }
}
