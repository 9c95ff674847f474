//! `race fanout`: one message to many local sessions against as many messages to one session each, on a real shard with kernel
//! sockets: deliveries a second of the shard's CPU.
//!
//! What a router would do is left out: the effects are put into the shard's mailbox as it would put them there, an event's bytes
//! shared by all whom it is for. A delivery is a WebSocket message in the kernel's hands; all are counted at the other ends.

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use buffa::Message as _;
use bytes::Bytes;
use clap::Args;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use roost_gateway::{
    conn::{Authenticate, Backend, Identity, Rates, Rules},
    limits,
    mailbox::{self, Sender},
    ring::Uring,
    shard::{Parts, Shard, Shared, Stats, Uplink},
};
use roost_proto::{
    codec::{self, Encoding},
    handshake::{Refusal, Upgrade},
    tier::{Action, Effect, Full, Request, SessionId},
    v1,
};

use crate::client;

/// What is sent to whom.
#[derive(Args)]
pub struct Options {
    /// Sessions of the shard
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    sessions: u32,
    /// Bytes of each message's payload
    #[arg(long, default_value_t = 128)]
    payload_bytes: usize,
    /// Of each kind, in turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// Longer, and a delivery is lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two rounds: no tick has so many effects that the shard is crowded and lets events wait for company.
const REST: Duration = Duration::from_millis(1_200);
const STEP: Duration = Duration::from_millis(1);

/// Everybody is let in: log-in is not what is measured.
struct Anybody;

impl Authenticate for Anybody {
    fn authenticate(&self, _: &Upgrade<'_>) -> Result<Identity, Refusal> {
        Ok(Identity { user: 7, device: 1 })
    }
}

/// A router that welcomes everybody and remembers them.
struct Welcoming {
    sessions: Arc<Mutex<Vec<SessionId>>>,
    mailbox: Sender<Effect>,
}

impl Uplink for Welcoming {
    fn submit(&self, request: Request) -> Result<(), Full> {
        if let Request::Attach { session, .. } = request {
            self.sessions.lock().expect("no panic").push(session);
            let welcome = v1::ServerFrame { body: Some(v1::Welcome::default().into()), ..Default::default() };
            let action = Action::Frame(Box::new(welcome));
            self.mailbox.send_from(&mut VecDeque::from([Effect { session, action }]));
        }
        Ok(())
    }
}

struct Ground {
    address: SocketAddr,
    shared: Arc<Shared>,
    stats: Arc<Stats>,
    mailbox: Sender<Effect>,
    sessions: Arc<Mutex<Vec<SessionId>>>,
    shard: thread::JoinHandle<()>,
    /// Of the shard.
    thread: Pid,
}

/// Measures and prints the table.
///
/// # Errors
/// The shard cannot run, or a delivery did not arrive.
pub fn measure(options: &Options) -> Result<()> {
    on_cpu(0);
    let ground = Ground::start()?;
    println!(
        "{} sessions, payload of {} B, {} rounds",
        options.sessions, options.payload_bytes, options.rounds
    );
    println!("| encoding | effects | deliveries a shard-CPU-second: median (min..max) |\n|---|---|---:|");
    for encoding in [Encoding::Proto, Encoding::Json] {
        let clients = ground.connect(options.sessions, encoding)?;
        let mut figures = [Vec::new(), Vec::new()];
        let mut expected_bytes = 0;
        for round in 0..2 * options.rounds as usize {
            let kind = round % 2;
            let (mut effects, bytes) = ground.effects(encoding, options.payload_bytes, kind == 1)?;
            let cpu_s = ground.deliver(&mut effects, bytes)?;
            figures[kind].push(f64::from(options.sessions) / cpu_s);
            expected_bytes += bytes / u64::from(options.sessions);
            thread::sleep(REST);
        }
        clients.iter().try_for_each(|stream| all_came(stream, expected_bytes))?;
        drop(clients);
        for (figures, name) in figures.iter_mut().zip(["one event for all", "an event for each"]) {
            figures.sort_by(f64::total_cmp);
            let (median, last) = (figures[figures.len() / 2], figures[figures.len() - 1]);
            println!("| {encoding:?} | {name} | {median:.0} ({:.0}..{last:.0}) |", figures[0]);
        }
        ground.end_all()?;
    }
    ground.stop()
}

impl Ground {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let socket = socket2::SockRef::from(&listener);
        socket.set_tcp_nodelay(true)?;
        // The backlog that std asks for is too short for all at once.
        socket.listen(limits::LISTEN_BACKLOG)?;
        let address = listener.local_addr()?;
        let (shared, stats, sessions) = (Arc::<Shared>::default(), Arc::<Stats>::default(), Arc::default());
        let (sender, receiver) = mailbox::mailbox(limits::MAILBOX_EFFECTS_MAX)?;
        let uplink = Welcoming { sessions: Arc::clone(&sessions), mailbox: sender.clone() };
        let (of_shared, of_stats) = (Arc::clone(&shared), Arc::clone(&stats));
        let (started, is_started) = mpsc::channel();
        let shard = thread::spawn(move || {
            on_cpu(1);
            let wake = receiver.wake_descriptor().expect("a descriptor");
            let ring = Uring::open(listener, wake, limits::RING_PLACES_MAX).expect("a ring");
            let rules = Rules {
                backend: Backend::Router(Box::new(Anybody)),
                message_bytes_max: 1 << 20,
                assembly_bytes_max: limits::ASSEMBLY_BYTES_MAX,
                rates: Rates::default(),
            };
            started.send(gettid()).expect("somebody waits");
            let shard = Shard::new(Parts {
                number: 0,
                ring,
                rules: Arc::new(rules),
                connections_max: u64::MAX,
                heartbeat_s: limits::HEARTBEAT_S_MAX,
                uplink: Some(Box::new(uplink)),
                mailbox: receiver,
                shared: of_shared,
                stats: of_stats,
            });
            shard.run().expect("the ring goes on");
        });
        let thread = is_started.recv().context("the shard did not start")?;
        Ok(Self { address, shared, stats, mailbox: sender, sessions, shard, thread })
    }

    /// Sessions that are open and welcomed; what came so far is read.
    fn connect(&self, count: u32, encoding: Encoding) -> Result<Vec<TcpStream>> {
        let head = format!(
            "GET /v1/ws HTTP/1.1\r\nHost: roost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \
             dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
            encoding.sub_protocol()
        );
        self.sessions.lock().expect("no panic").clear();
        let frames = self.stats.frames_sent.value();
        let streams: Vec<TcpStream> =
            (0..count).map(|_| client::open(self.address, head.as_bytes())).collect::<Result<_, _>>()?;
        let bytes = || self.stats.bytes_sent.value();
        wait_for("welcomes", || self.stats.frames_sent.value() == frames + u64::from(count))?;
        // The last ones are still on their way to the kernel.
        let mut before = bytes();
        wait_for("rest", || {
            std::mem::replace(&mut before, bytes()) == bytes() && self.stats.outboxes.value() == 0
        })?;
        for stream in &streams {
            stream.set_nonblocking(true)?;
            drain(stream)?;
        }
        Ok(streams)
    }

    /// An effect for each session, and the bytes that all together bring.
    fn effects(
        &self,
        encoding: Encoding,
        payload_bytes: usize,
        apart: bool,
    ) -> Result<(VecDeque<Effect>, u64)> {
        let message =
            v1::Message { id: 9, from: 1, payload: vec![b'x'; payload_bytes].into(), ..Default::default() };
        let event = v1::Event { seq: 9, body: Some(message.into()) };
        let event = event.encode_to_bytes();
        let mut payload = Vec::new();
        codec::encode_event_frame(encoding, &event, &mut payload)?;
        let (_, header_bytes) =
            roost_proto::frame::encode_header(encoding.message_kind().opcode(), true, payload.len() as u64);
        let sessions = self.sessions.lock().expect("no panic");
        let one = |&session: &SessionId| {
            let event = if apart { Bytes::copy_from_slice(&event) } else { event.clone() };
            Effect { session, action: Action::Event(event) }
        };
        let bytes = (header_bytes + payload.len()) as u64 * sessions.len() as u64;
        Ok((sessions.iter().map(one).collect(), bytes))
    }

    /// CPU seconds of the shard until all is sent.
    fn deliver(&self, effects: &mut VecDeque<Effect>, bytes: u64) -> Result<f64> {
        let (goal, before) = (self.stats.bytes_sent.value() + bytes, self.cpu_ns()?);
        self.mailbox.send_from(effects);
        ensure!(effects.is_empty(), "a mailbox holds all");
        wait_for("deliveries", || self.stats.bytes_sent.value() == goal)?;
        Ok((self.cpu_ns()? - before) as f64 / 1e9)
    }

    /// Nanoseconds of CPU, user and system: the first number of `schedstat`, proc(5).
    fn cpu_ns(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.thread))?;
        let first = text.split(' ').next().context("schedstat has numbers")?;
        Ok(first.parse()?)
    }

    fn end_all(&self) -> Result<()> {
        wait_for("the clients' end", || self.stats.connections.value() == 0)
    }

    fn stop(self) -> Result<()> {
        self.shared.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        self.mailbox.wake();
        self.shard.join().map_err(|_| anyhow::anyhow!("the shard panicked"))
    }
}

fn on_cpu(number: usize) {
    let mut cpus = CpuSet::new();
    // On a machine with one CPU both share it.
    if cpus.set(number).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &cpus);
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        ensure!(Instant::now() < deadline, "waited for {what} for {PATIENCE:?}");
        thread::sleep(STEP);
    }
    Ok(())
}

/// Reads what is there; how many bytes.
fn drain(mut stream: &TcpStream) -> Result<u64> {
    let (mut buffer, mut bytes) = ([0; 16 * 1_024], 0);
    loop {
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => bytes += read as u64,
            Ok(_) => anyhow::bail!("the shard has closed a connection"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(bytes),
            Err(error) => return Err(error).context("a connection broke"),
        }
    }
}

fn all_came(stream: &TcpStream, expected_bytes: u64) -> Result<()> {
    let bytes = drain(stream)?;
    ensure!(bytes == expected_bytes, "{bytes} bytes came to a session instead of {expected_bytes}");
    // So that its port is free again at once.
    Ok(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?)
}
