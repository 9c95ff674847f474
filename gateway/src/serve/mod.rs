//! Puts the parts together: router, shards, HTTP service; runs them, drains them.

mod embedded;
mod inquiries;
mod listen;
mod manager;
mod memory;
mod metrics;
mod running;
mod signals;
mod takeover;
mod watch;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    panic,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use roost_gateway::{
    auth::{Keys, OperatorToken},
    capacity::Machine,
    config::{AuthKind, BackendKind, Config},
    conn::{Backend, Rate, Rates, Rules},
    http::{self, Accounts, Calls, HttpConfig, Operators, Services, Waiting, WebSocketAddress},
    limits,
    mailbox::{self, Receiver, Sender},
    rates::{Limits, Setting},
    ring::Uring,
    shard::{DrainRule, Handshakes, Parts, Shard, Shared, Stats, Uplink},
};
use roost_proto::tier::{Effect, Outlet};
use roost_router::{Limit, Router, StartError, UserLimits};

use embedded::{Doorkeeper, Mailboxes, RouterAccounts, RouterUplink, TokensRefused};
use inquiries::Inquiries;
use manager::Manager;
use memory::Memory;
use metrics::{Density, Sources};
use running::News;
pub use running::Running;
pub use signals::Watched;
use takeover::{Door, Sockets};
use watch::Watch;

/// Starts everything; when it returns, clients are served. `kept` are the sockets of an earlier start in this process, which
/// another process was to take over and did not.
///
/// # Errors
/// Something an operator has to put right: an address, a folder, a key, the kernel's io_uring.
pub fn start(config: &Config, signals: &Watched, kept: Option<Sockets>) -> Result<Running> {
    let public = config.public_url.as_deref().map(WebSocketAddress::public).transpose();
    let public = public.map_err(|why| anyhow!("public_url: {why}"))?;
    fs::create_dir_all(&config.data)
        .with_context(|| format!("{}: the data folder cannot be made (--data)", config.data.display()))?;
    let keys = Keys::load(&config.data, config.jwt_key_file.as_deref())?;
    let operator = OperatorToken::load(&config.data, config.operator_token_file.as_deref())?;
    let manager = Manager::from_environment();
    let again = kept.is_some();
    let (sockets, mut predecessor) = kept.map_or_else(|| listen::open(config), |kept| Ok((kept, None)))?;
    let ws = sockets.ws[0].local_addr()?;
    let websocket = public.unwrap_or(WebSocketAddress::Bound(ws));
    let listeners = listen::for_shards(&sockets.ws, config.shards)?;
    let http_listener = sockets.http.try_clone()?;

    let (mailboxes, receivers) = mailboxes(config.shards).context("a mailbox cannot be made")?;
    if let Some(predecessor) = &mut predecessor {
        try_out(config, &listeners[0], &receivers[0])?;
        predecessor.take(config.backend == BackendKind::Router, &manager)?;
    }
    let after = again || predecessor.is_some();
    let config = &if after { recounted(config) } else { config.clone() };
    tracing::info!("{}", config.capacity);
    // Answers to calls over HTTP go by the number after the last shard's.
    let waiting = Waiting::new(0, config.shards);
    let outlet = Mailboxes { shards: mailboxes.clone(), calls: Arc::clone(&waiting) };
    let behind = config.backend == BackendKind::Router;
    let router = behind.then(|| start_router(config, &Arc::new(outlet), after, &manager)).transpose()?;
    warn_of_claims(config, ws);
    let (sender, news) = mpsc::channel();
    let tokens = Arc::<TokensRefused>::default();
    let fleet = Fleet {
        config,
        rules: Arc::new(rules(config, &keys, &tokens)),
        shared: Arc::new(shared(config)),
        router: router.as_ref(),
        news: sender.clone(),
    };
    let (shards, stats) = fleet.start(listeners, receivers)?;
    let density = Density { shards: stats, connections_max: config.max_connections, before: Memory::now() };
    let services = Services {
        keys,
        accounts: router.as_ref().map(accounts),
        calls: router.as_ref().map(|router| Calls::new(Arc::new(RouterUplink(router.handle())), waiting)),
        operators: Some(Operators {
            token: operator,
            connections: Arc::new(Inquiries { shared: Arc::clone(&fleet.shared), shards: mailboxes.clone() }),
        }),
        metrics: Arc::new(metrics::registry(Sources {
            density: density.clone(),
            shared: Arc::clone(&fleet.shared),
            tokens,
            router: router.as_ref().map(Router::handle),
            data: &config.data,
        })),
    };
    let http = http::start(http_config(config, websocket), http_listener, services)
        .context("the HTTP service cannot be started")?;
    let door = open_door(config, sockets, sender.clone());
    signals.tell(sender)?;
    if let Some(predecessor) = predecessor {
        predecessor.release();
    }
    let watch = (!config.always_admit)
        .then(|| Watch::new(&config.system_root, density.shards.clone(), Arc::clone(&fleet.shared)));
    Ok(Running {
        ws,
        shards,
        density,
        watch,
        shared: fleet.shared,
        mailboxes,
        http,
        router,
        news,
        manager,
        signals: signals.clone(),
        door,
    })
}

fn shared(config: &Config) -> Shared {
    Shared { proxy_protocol: config.proxy_protocol, drain: drain_rule(config), ..Shared::default() }
}

/// Both ends of the shards' mailboxes, in the order of the shards.
type Ends = (Vec<Sender<Effect>>, Vec<Receiver<Effect>>);

/// A mailbox for each of `count` shards.
fn mailboxes(count: u16) -> std::io::Result<Ends> {
    let all: Vec<_> =
        (0..count).map(|_| mailbox::mailbox(limits::MAILBOX_EFFECTS_MAX)).collect::<std::io::Result<_>>()?;
    Ok(all.into_iter().unzip())
}

/// All that can be tried while the running gateway still serves: a ring, and what can be told of the store without opening it.
fn try_out(config: &Config, listener: &TcpListener, mailbox: &Receiver<Effect>) -> Result<()> {
    Uring::open(listener.try_clone()?, mailbox.wake_descriptor()?, config.ring_places).context(NO_RING)?;
    if config.backend == BackendKind::Router {
        roost_router::store::examine(&router_config(config).data)?;
    }
    Ok(())
}

/// The configuration as it is now that another process, or an earlier start in this one, holds nothing any more.
fn recounted(config: &Config) -> Config {
    let files_max = rlimit::Resource::NOFILE.get().map_or(1_024, |(soft, _)| soft);
    config.recounted(&Machine::read(files_max))
}

fn accounts(router: &Router) -> Arc<dyn Accounts> {
    Arc::new(RouterAccounts(router.handle()))
}

fn http_config(config: &Config, websocket: WebSocketAddress) -> HttpConfig {
    HttpConfig {
        websocket,
        token_ttl_s: http::limits::TOKEN_TTL_S,
        message_bytes_max: config.max_message_bytes,
        proxy_protocol: config.http_proxy_protocol,
        call_rate: config.limits.http_calls.0.map(|limit| (limit.period, limit.burst)),
    }
}

/// What a kernel that gives no ring needs.
const NO_RING: &str = "io_uring cannot be set up; it needs Linux 6.1 or newer, kernel.io_uring_disabled = 0 and enough locked memory";

/// Lets a later process take over; a gateway that nobody can take over serves all the same.
fn open_door(config: &Config, sockets: Sockets, news: mpsc::Sender<News>) -> Option<Door> {
    Door::open(config, sockets, news)
        .inspect_err(|error| {
            tracing::warn!(
                "no other process can take over from this one: takeover.sock in the data folder: {error}"
            );
        })
        .ok()
}

const _: () =
    assert!(limits::GROUP_MEMBERS_CEILING as usize == roost_router::limits::GROUP_MEMBERS_CONFIG_MAX);

/// `after` another process that has just closed the store: the kernel may take a moment to unlock it. A large store takes a while
/// to open, and the service manager is told so meanwhile.
fn start_router(config: &Config, outlet: &Arc<Mailboxes>, after: bool, manager: &Manager) -> Result<Router> {
    let told_every = Duration::from_millis(limits::MANAGER_TOLD_MS);
    let begun = Instant::now();
    let (sender, started) = mpsc::channel();
    thread::scope(|scope| {
        let opener = scope.spawn(move || sender.send(open_router(config, outlet, after)));
        loop {
            if begun.elapsed() < Duration::from_secs(limits::STORE_OPENING_S_MAX) {
                manager.busy("opening the store");
            }
            match started.recv_timeout(told_every) {
                Ok(started) => return Ok(started?),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    // Who joins it takes its panic; the scope would pass it on.
                    let _ = opener.join();
                    bail!("the thread that opens the store panicked; this is a defect")
                }
            }
        }
    })
}

fn open_router(config: &Config, outlet: &Arc<Mailboxes>, after: bool) -> Result<Router, StartError> {
    let deadline = Instant::now() + Duration::from_secs(limits::ADDRESS_S_MAX);
    loop {
        match roost_router::start(router_config(config), Arc::clone(outlet) as Arc<dyn Outlet>) {
            Err(StartError::Locked { .. }) if after && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(limits::ADDRESS_RETRY_MS));
            }
            started => return started,
        }
    }
}

fn router_config(config: &Config) -> roost_router::Config {
    let defaults = roost_router::Config::at(config.data.join("store"));
    roost_router::Config {
        threads: usize::from(config.router_threads),
        retention_days: config.retention_days,
        history_days: config.history_days.0,
        group_members_max: config.group_members_max as usize,
        heartbeat_s: config.heartbeat_s,
        payload_bytes_max: defaults
            .payload_bytes_max
            .min(limits::payload_bytes_max(config.max_message_bytes)),
        user_limits: user_limits(&config.limits),
        ..defaults
    }
}

fn user_limits(limits: &Limits) -> UserLimits {
    let limit = |setting: Setting| setting.0.map(|l| Limit { period: l.period, burst: l.burst });
    UserLimits {
        sends: limit(limits.sends),
        group_operations: limit(limits.group_operations),
        key_fetches: limit(limits.key_fetches),
        history_fetches: limit(limits.history_fetches),
        signals: limit(limits.signals),
        reads: limit(limits.reads),
    }
}

fn rates(limits: &Limits) -> Rates {
    let rate = |setting: Setting| setting.0.map(|limit| Rate::new(limit.period, limit.burst));
    Rates { frames: rate(limits.connection_frames), bytes: rate(limits.connection_bytes) }
}

fn rules(config: &Config, keys: &Keys, tokens: &Arc<TokensRefused>) -> Rules {
    let backend = match config.backend {
        BackendKind::Echo => Backend::Echo,
        BackendKind::Router => {
            let (keys, refused) = (keys.clone(), Arc::clone(tokens));
            Backend::Router(Box::new(Doorkeeper { keys, auth: config.auth, refused }))
        }
    };
    Rules {
        backend,
        message_bytes_max: config.max_message_bytes,
        assembly_bytes_max: limits::ASSEMBLY_BYTES_MAX,
        rates: if config.backend == BackendKind::Echo { Rates::default() } else { rates(&config.limits) },
    }
}

fn drain_rule(config: &Config) -> DrainRule {
    DrainRule { closes_per_s: config.drain_closes_per_s, s_max: config.drain_s, shards: config.shards }
}

fn warn_of_claims(config: &Config, ws: SocketAddr) {
    if config.backend == BackendKind::Router && config.auth == AuthKind::None {
        tracing::warn!(
            "--auth none: NOBODY IS ASKED WHO THEY ARE. Whoever reaches {} can read and write as any user.",
            ws
        );
    }
}

/// The shards of a process, about to be started.
struct Fleet<'a> {
    config: &'a Config,
    rules: Arc<Rules>,
    shared: Arc<Shared>,
    router: Option<&'a Router>,
    news: mpsc::Sender<News>,
}

type Started = (Vec<JoinHandle<()>>, Vec<Arc<Stats>>);

impl Fleet<'_> {
    fn start(&self, listeners: Vec<TcpListener>, receivers: Vec<Receiver<Effect>>) -> Result<Started> {
        let (opened, openings) = mpsc::channel();
        let (mut shards, mut stats) = (Vec::new(), Vec::new());
        for (number, (listener, mailbox)) in (0..).zip(listeners.into_iter().zip(receivers)) {
            stats.push(Arc::<Stats>::default());
            let shard = self.start_one(
                number,
                listener,
                mailbox,
                Arc::clone(&stats[usize::from(number)]),
                opened.clone(),
            );
            shards.push(shard?);
        }
        for _ in &shards {
            openings.recv().context("a shard ended while it was started")?.context(NO_RING)?;
        }
        Ok((shards, stats))
    }

    fn start_one(
        &self,
        number: u16,
        listener: TcpListener,
        mailbox: Receiver<Effect>,
        stats: Arc<Stats>,
        opened: mpsc::Sender<std::io::Result<()>>,
    ) -> Result<JoinHandle<()>> {
        let (ring_places, busy_poll) =
            (self.config.ring_places, Duration::from_micros(self.config.busy_poll_us.into()));
        let wake = mailbox.wake_descriptor()?;
        let uplink = self.router.map(|router| Box::new(RouterUplink(router.handle())) as Box<dyn Uplink>);
        let (rules, shared, news) = (Arc::clone(&self.rules), Arc::clone(&self.shared), self.news.clone());
        let handshakes = Handshakes {
            seconds_max: self.config.handshake_s,
            count_max: self.config.handshakes_max.div_ceil(self.config.shards.into()),
        };
        let (connections_max, heartbeat_s) = (self.config.max_connections, self.config.heartbeat_s);
        let run = move || {
            // The ring belongs to the thread that opens it.
            let mut ring = match Uring::open(listener, wake, ring_places) {
                Ok(ring) => ring,
                Err(error) => return drop(opened.send(Err(error))),
            };
            ring.set_busy_poll(busy_poll);
            let shard = Shard::new(Parts {
                number,
                ring,
                rules,
                connections_max,
                heartbeat_s,
                uplink,
                mailbox,
                shared,
                stats,
            })
            .with_handshakes(handshakes);
            // The receivers live as long as the process wants to hear of it.
            let _ = opened.send(Ok(()));
            let ended = panic::catch_unwind(panic::AssertUnwindSafe(|| shard.run()));
            let ended = ended.unwrap_or_else(|_| Err(std::io::Error::other("it panicked; this is a defect")));
            let _ = news.send(News::ShardEnded(number, ended));
        };
        thread::Builder::new()
            .name(format!("roost-shard-{number}"))
            .spawn(run)
            .context("a shard cannot be started")
    }
}
