//! Whole shards over a fake ring: seeded peers that send, split, stop, reset and say goodbye at any point.
//!
//! A failing seed is named; `ROOST_SEED=n cargo test -p roost-gateway --test shard_simulation` runs it alone.

#[path = "fake/busy_rule.rs"]
mod busy_rule;
mod fake;

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fake::{FakeRing, Peer, Tally, World};
use quanta::{Clock, Mock, with_clock};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use roost_gateway::{
    conn::{Authenticate, Backend, Identity, Rates, Rules},
    mailbox::{self, Sender},
    shard::{Parts, Shard, Shared, Stats, Uplink},
};
use roost_proto::{
    codec::Encoding,
    handshake::{Refusal, Upgrade},
    tier::{Action, Effect, Full, Request, SessionId},
    v1,
};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

const SEEDS: u64 = 1_000;
const TURNS_MAX: usize = 20_000;

fn seeds() -> Vec<u64> {
    match std::env::var("ROOST_SEED") {
        Ok(seed) => vec![seed.parse().expect("ROOST_SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    }
}

/// Runs `one` for each seed and names the one that fails.
fn for_each_seed(one: impl Fn(u64)) {
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(seed)));
        assert!(outcome.is_ok(), "seed {seed} failed: replay it with ROOST_SEED={seed}");
    }
}

struct Script {
    peer: Peer,
    /// What an undisturbed peer must get back, behind the 101.
    expected: Vec<Vec<u8>>,
}

fn head(query: &str) -> Vec<u8> {
    format!(
        "GET /v1/ws{query} HTTP/1.1\r\nHost: roost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// A client's frame: header by tungstenite, masked here.
fn masked(opcode: OpCode, payload: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mask: [u8; 4] = rng.random();
    let header = FrameHeader { opcode, mask: Some(mask), ..FrameHeader::default() };
    let mut bytes = Vec::new();
    header.format(payload.len() as u64, &mut bytes).expect("a vector takes all");
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A peer that sends messages to be echoed, and leaves in one way or another.
fn echo_script(rng: &mut StdRng) -> Script {
    let mut sends = head("");
    let mut expected = Vec::new();
    // A few send so much at once that a read fills its buffer.
    let most = if rng.random_bool(0.1) { 80 } else { 8 };
    for _ in 0..rng.random_range(0..most) {
        let payload: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
        sends.extend(masked(OpCode::Data(Data::Binary), &payload, rng));
        expected.push(payload);
    }
    let mut peer = Peer::default();
    match rng.random_range(0..4) {
        0 => sends.extend(masked(OpCode::Control(Control::Close), b"", rng)),
        1 => sends.extend(masked(OpCode::Control(Control::Close), b"\x03\xE8bye", rng)),
        2 => sends.extend([0xFF, 0xFF, 0, 0]),
        _ => peer.reset_at = Some(rng.random_range(1..=sends.len())),
    }
    peer.fin_after = true;
    peer.sends = sends.into();
    Script { peer, expected }
}

struct Fixture {
    shared: Arc<Shared>,
    stats: Arc<Stats>,
    mailbox: Sender<Effect>,
}

/// A shard over the rings of `world`.
fn shard(
    world: &Rc<RefCell<World>>,
    backend: Backend,
    uplink: impl FnOnce(&Sender<Effect>) -> Option<Box<dyn Uplink>>,
) -> (Shard<FakeRing>, Fixture) {
    let (sender, mailbox) = mailbox::mailbox(8).expect("an eventfd");
    let fixture = Fixture { shared: Arc::default(), stats: Arc::default(), mailbox: sender };
    let shard = Shard::new(Parts {
        number: 0,
        ring: FakeRing::new(Rc::clone(world)),
        rules: Arc::new(Rules {
            backend,
            message_bytes_max: 1_000,
            assembly_bytes_max: 100_000,
            rates: Rates::default(),
        }),
        connections_max: 1_000,
        heartbeat_s: 240,
        uplink: uplink(&fixture.mailbox),
        mailbox,
        shared: Arc::clone(&fixture.shared),
        stats: Arc::clone(&fixture.stats),
    });
    (shard, fixture)
}

fn run(
    seed: u64,
    peers: Vec<Peer>,
    backend: Backend,
    uplink: impl FnOnce(&Sender<Effect>) -> Option<Box<dyn Uplink>>,
    meanwhile: impl Fn(&Fixture, usize),
) -> Rc<RefCell<World>> {
    // Time of its own, so that ticks come after a number of turns and not when the machine is slow.
    let (clock, time) = Clock::mock();
    with_clock(&clock, || run_in(&time, seed, peers, backend, uplink, meanwhile))
}

fn run_in(
    time: &Mock,
    seed: u64,
    peers: Vec<Peer>,
    backend: Backend,
    uplink: impl FnOnce(&Sender<Effect>) -> Option<Box<dyn Uplink>>,
    meanwhile: impl Fn(&Fixture, usize),
) -> Rc<RefCell<World>> {
    let world = World::new(seed, peers);
    let (mut shard, fixture) = shard(&world, backend, uplink);
    let mut completions = Vec::new();
    let turn_ms = 1 + seed % 8;
    for turn in 0.. {
        assert!(turn < TURNS_MAX, "the connections do not end");
        time.increment(Duration::from_millis(turn_ms));
        shard.turn(&mut completions).expect("the fake ring does not fail");
        meanwhile(&fixture, turn);
        let came = world.borrow().all_came() || fixture.shared.draining.load(Ordering::Relaxed);
        let stats = &fixture.stats;
        if came
            && world.borrow().all_gone()
            && stats.connections.value() + stats.backlog_requests.value() == 0
        {
            break;
        }
    }
    let stats = &fixture.stats;
    assert_eq!(stats.accepted.value(), stats.ended.value(), "every connection ends in exactly one close");
    assert_eq!((stats.outboxes.value(), stats.assembly_bytes.value()), (0, 0), "nothing is left behind");
    assert_eq!(stats.read_waiting.value(), 0, "nobody waits for a buffer any more");
    assert_eq!(world.borrow().buffers_held(), 0, "every buffer was given back");
    world
}

#[test]
fn echoes_arrive_whole_and_in_order_and_nothing_leaks() {
    let all = Mutex::new(Tally::default());
    for_each_seed(|seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let scripts: Vec<Script> = (0..rng.random_range(1..12)).map(|_| echo_script(&mut rng)).collect();
        let (peers, expected): (Vec<_>, Vec<_>) =
            scripts.into_iter().map(|script| (script.peer, script.expected)).unzip();
        let world = run(seed, peers, Backend::Echo, |_| None, |_, _| {});
        for (peer, expected) in world.borrow().peers.iter().zip(expected) {
            check_echoes(peer, &expected);
        }
        all.lock().expect("no panic").add(world.borrow().tally);
    });
    let all = all.into_inner().expect("no panic");
    assert!(all.is_thorough() || seeds().len() == 1, "the seeds reach every case: {all:?}");
}

fn check_echoes(peer: &Peer, expected: &[Vec<u8>]) {
    let Some(end) = peer.received.windows(4).position(|four| four == b"\r\n\r\n") else {
        assert!(peer.reset_at.is_some(), "only a reset keeps the 101 away");
        return;
    };
    let mut rest = &peer.received[end + 4..];
    for (number, payload) in expected.iter().enumerate() {
        if rest.is_empty() && peer.reset_at.is_some() {
            return;
        }
        let (header, length) =
            roost_proto::frame::encode_header(roost_proto::frame::Opcode::Binary, true, payload.len() as u64);
        let frame = [&header[..length], payload].concat();
        assert!(rest.starts_with(&frame), "echo {number} is not what was sent");
        rest = &rest[frame.len()..];
    }
    assert!(peer.reset_at.is_some() || rest.first() == Some(&0x88), "a goodbye comes last");
}

struct Anybody;

impl Authenticate for Anybody {
    fn authenticate(&self, upgrade: &Upgrade<'_>) -> Result<Identity, Refusal> {
        let user = upgrade.query_parameter("user").and_then(|user| user.parse().ok());
        Ok(Identity { user: user.ok_or(Refusal::NotFound)?, device: 1 })
    }
}

/// What the router saw of each session.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    attached: u32,
    detached: u32,
    frames: Vec<u32>,
}

type Sessions = Arc<Mutex<HashMap<SessionId, Seen>>>;

/// A router that is full now and then, and answers each frame with an empty one.
struct MoodyRouter {
    rng: Mutex<StdRng>,
    sessions: Sessions,
    effects: Arc<Mutex<VecDeque<Effect>>>,
}

impl Uplink for MoodyRouter {
    fn submit(&self, request: Request) -> Result<(), Full> {
        if self.rng.lock().expect("no panic").random_bool(0.3) {
            return Err(Full(request));
        }
        let mut sessions = self.sessions.lock().expect("no panic");
        match request {
            Request::Attach { session, .. } => {
                sessions.entry(session).or_default().attached += 1;
                self.answer(
                    session,
                    v1::ServerFrame { reply_to: 0, body: Some(v1::Welcome::default().into()) },
                );
            }
            Request::Detach { session, .. } => sessions.entry(session).or_default().detached += 1,
            Request::Frame { session, id, .. } => {
                let seen = sessions.entry(session).or_default();
                assert_eq!((seen.attached, seen.detached), (1, 0), "frames come between attach and detach");
                seen.frames.push(id);
                self.answer(session, v1::ServerFrame { reply_to: id, body: None });
            }
            Request::Call { .. } => panic!("a shard makes no calls"),
        }
        Ok(())
    }
}

impl MoodyRouter {
    fn answer(&self, session: SessionId, frame: v1::ServerFrame) {
        let effect = Effect { session, action: Action::Frame(Box::new(frame)) };
        self.effects.lock().expect("no panic").push_back(effect);
    }
}

fn chat_script(user: u64, rng: &mut StdRng) -> Peer {
    let mut sends = head(&format!("?user={user}"));
    for id in 1..=rng.random_range(1..20) {
        let frame = v1::ClientFrame { id, body: Some(v1::Ack::default().into()) };
        let mut bytes = Vec::new();
        roost_proto::codec::encode_client_frame(Encoding::Json, &frame, &mut bytes);
        sends.extend(masked(OpCode::Data(Data::Text), &bytes, rng));
    }
    let reset_at = rng.random_bool(0.3).then(|| rng.random_range(1..=sends.len()));
    let mut peer = Peer::default();
    (peer.sends, peer.fin_after, peer.reset_at) = (sends.into(), rng.random_bool(0.8), reset_at);
    peer
}

#[test]
fn the_router_sees_every_session_begin_and_end_once_and_its_frames_in_order() {
    let frames_seen = AtomicUsize::new(0);
    for_each_seed(|seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let peers: Vec<Peer> = (1..rng.random_range(2..12)).map(|user| chat_script(user, &mut rng)).collect();
        let (sessions, effects) = (Sessions::default(), Arc::<Mutex<VecDeque<Effect>>>::default());
        let router = MoodyRouter {
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            sessions: Arc::clone(&sessions),
            effects: Arc::clone(&effects),
        };
        // Those who never leave by themselves are sent away.
        let drain_at = rng.random_range(300..600);
        run(
            seed,
            peers,
            Backend::Router(Box::new(Anybody)),
            |_| Some(Box::new(router)),
            |fixture, turn| {
                fixture.mailbox.send_from(&mut effects.lock().expect("no panic"));
                if turn == drain_at {
                    fixture.shared.draining.store(true, Ordering::Relaxed);
                }
            },
        );
        for seen in sessions.lock().expect("no panic").values() {
            assert_eq!((seen.attached, seen.detached), (1, 1), "one begin, one end");
            assert!(
                seen.frames.iter().copied().eq(1..=seen.frames.len() as u32),
                "in order: {:?}",
                seen.frames
            );
            frames_seen.fetch_add(seen.frames.len(), Ordering::Relaxed);
        }
    });
    assert!(frames_seen.into_inner() > 0, "sessions were welcomed and spoke");
}
