//! Whole shards over fake rings: seeded peers that send, split, stop, reset and say goodbye at any point, a kernel that fails at any
//! point, and a router that is full, floods, and speaks to sessions that are gone.
//!
//! A failing seed is named; `ROOST_SEED=n cargo test -p roost-gateway --test shard_simulation` runs it alone, and `ROOST_SEEDS=n` runs
//! so many of them.

#[path = "fake/bounds.rs"]
mod bounds;
#[path = "fake/busy_rule.rs"]
mod busy_rule;
#[path = "fake/drain_rule.rs"]
mod drain_rule;
mod fake;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fake::{
    Anybody, Fate, Fixture, MoodyRouter, Peer, Rig, Setup, Tally, World, connection,
    scripts::{self, behind_head, encoding_of, frames_of},
};
use quanta::{Clock, with_clock};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use roost_gateway::{
    conn::Backend,
    shard::{Answer, Bounds, Inquiry},
};
use roost_proto::frame::{Opcode, encode_header};

/// Seeds of each test.
const SEEDS: u64 = 3_000;

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|seed| seed.parse().expect("a number"));
    match number("ROOST_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("ROOST_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

/// Runs `one` for each seed and names the one that fails.
fn for_each_seed(one: impl Fn(u64)) {
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(seed)));
        assert!(outcome.is_ok(), "seed {seed} failed: replay it with ROOST_SEED={seed}");
    }
}

/// Runs a shard over these peers to its end, on a clock of its own, so that ticks come after a number of turns and not when the
/// machine is slow. Every fourth seed's kernel never fails, so that all that is sent has to arrive.
fn run(seed: u64, peers: Vec<Peer>, setup: Setup, meanwhile: impl FnMut(&Fixture, usize)) -> Rig {
    let (clock, time) = Clock::mock();
    with_clock(&clock, || {
        let world = World::new(Fate::seeded(seed), peers);
        {
            let mut world = world.borrow_mut();
            world.faulty = !seed.is_multiple_of(4);
            let turn_ms = if seed.is_multiple_of(16) { 100 } else { 1 + seed % 8 };
            world.time = Some((Arc::clone(&time), Duration::from_millis(turn_ms)));
        }
        let mut rig = Rig::new(&world, setup);
        rig.run(&time, meanwhile);
        rig
    })
}

/// Most seeds have room for all, some refuse those who come while it is full.
fn connections_max(rng: &mut StdRng) -> u64 {
    if rng.random_bool(0.8) { 1_000 } else { rng.random_range(1..8) }
}

#[test]
fn echoes_arrive_whole_and_in_order_and_nothing_leaks() {
    let all = Mutex::new(Tally::default());
    for_each_seed(|seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let (peers, expected): (Vec<_>, Vec<_>) =
            (0..rng.random_range(1..12)).map(|_| scripts::echo(&mut rng)).unzip();
        let setup = Setup { connections_max: connections_max(&mut rng), heartbeat_s: 5, ..Setup::echo() };
        let rig = run(seed, peers, setup, |_, _| {});
        let stats = &rig.fixture.stats;
        let timeouts = stats.reaped.value() + stats.handshakes_timed_out.value();
        for (peer, expected) in rig.world.borrow().peers.iter().zip(expected) {
            let disturbed = peer.hurt || timeouts > 0;
            check_echoes(peer, &expected, disturbed);
        }
        all.lock().expect("no panic").add(&rig.world.borrow().tally);
    });
    let missing = all.into_inner().expect("no panic").missing();
    assert!(missing.is_empty() || seeds().len() == 1, "the seeds do not reach {missing:?}");
}

/// The echoes come in order; all of them, and a goodbye, where nothing happened to the peer.
fn check_echoes(peer: &Peer, expected: &[Vec<u8>], disturbed: bool) {
    let Some(mut rest) = behind_head(&peer.received) else {
        let refused = peer.received.starts_with(b"HTTP/1.1 503 ");
        assert!(disturbed || refused || !peer.fin_after, "nothing kept the 101 away");
        return;
    };
    for (number, payload) in expected.iter().enumerate() {
        let (header, length) = encode_header(Opcode::Binary, true, payload.len() as u64);
        let frame = [&header[..length], payload].concat();
        if disturbed && frame.starts_with(&rest[..rest.len().min(frame.len())]) {
            // As far as it came.
            rest = &rest[rest.len().min(frame.len())..];
            continue;
        }
        if disturbed && rest.first() == Some(&0x88) {
            return;
        }
        assert!(rest.starts_with(&frame), "echo {number} is not what was sent");
        rest = &rest[frame.len()..];
    }
    assert!(rest.is_empty() || rest[0] == 0x88, "nothing but a goodbye follows");
}

/// Whole connections by random scripts, and by those that the fuzzer has found worth keeping.
#[test]
fn scripts_of_the_fuzz_target_play_to_their_end() {
    for_each_seed(|seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut script: Vec<u8> = (0..rng.random_range(3..600)).map(|_| rng.random()).collect();
        script[2] = 0;
        connection::play(&script);
    });
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/fuzz/corpus/connection");
    let mut played = 0;
    for entry in std::fs::read_dir(corpus).expect("the corpus is there") {
        connection::play(&std::fs::read(entry.expect("an entry").path()).expect("a script"));
        played += 1;
    }
    assert!(played > 0, "the corpus has scripts");
}

/// An operator who asks for a user now and then, also before the last answer has come.
struct Operator {
    rng: StdRng,
    asked: u64,
    answered: Arc<Mutex<Vec<(u64, u64, Answer)>>>,
}

impl Operator {
    fn ask(&mut self, fixture: &Fixture) {
        if !self.rng.random_bool(0.1) {
            return;
        }
        self.asked += 1;
        let (number, user, answered) = (self.asked, self.rng.random_range(1..6), Arc::clone(&self.answered));
        let answer = Arc::new(move |answer| answered.lock().expect("no panic").push((number, user, answer)));
        fixture.shared.desk.ask(Inquiry { user, answer });
    }

    /// No inquiry is answered twice, the last one is, and each address is that of the connection it stands by.
    fn check(&self, world: &World, addresses: &AtomicU64) {
        let answered = self.answered.lock().expect("no panic");
        assert!(answered.is_sorted_by(|one, next| one.0 < next.0), "each inquiry is answered once at most");
        assert_eq!(answered.last().map_or(0, |last| last.0), self.asked, "the last inquiry is answered");
        for (_, user, answer) in &*answered {
            for found in &answer.found {
                let peer = world.named(found.slot, found.generation).expect("a connection that there was");
                assert_eq!(peer as u64 + 1, *user, "the user who was asked for");
                let may_be_gone = found.state == "ending";
                assert!(
                    found.address.is_some() || may_be_gone || world.faulty,
                    "its address is there to be told"
                );
                if let Some(address) = found.address {
                    assert_eq!(address, World::address(peer), "the address of that connection");
                    addresses.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// What the seeds of the router's test came to, to see that they are not idle.
#[derive(Debug, Default)]
struct Reached {
    frames: AtomicU64,
    said: AtomicU64,
    whole: AtomicU64,
    to_the_gone: AtomicU64,
    overfull: AtomicU64,
    corrupt: AtomicU64,
    addresses: AtomicU64,
    paused: AtomicU64,
    reaped: AtomicU64,
}

impl Reached {
    fn all(&self) -> [u64; 9] {
        [
            &self.frames,
            &self.said,
            &self.whole,
            &self.to_the_gone,
            &self.overfull,
            &self.corrupt,
            &self.addresses,
            &self.paused,
            &self.reaped,
        ]
        .map(|count| count.load(Ordering::Relaxed))
    }
}

#[test]
fn the_router_sees_every_session_begin_and_end_once_and_no_frame_is_lost_doubled_or_misled() {
    let reached = Reached::default();
    for_each_seed(|seed| chat_with_a_router(seed, &reached));
    assert!(seeds().len() == 1 || reached.all().iter().all(|count| *count > 0), "{reached:?}");
}

fn few_requests(backlog_requests_max: usize) -> Bounds {
    Bounds { backlog_requests_max, ..Bounds::default() }
}

fn chat_with_a_router(seed: u64, reached: &Reached) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut peers, mut sent) = (Vec::new(), Vec::new());
    for user in 1..rng.random_range(2..12) {
        let (peer, frames, whole) = scripts::chat(user, &mut rng);
        peers.push(peer);
        sent.push((frames, whole));
    }
    let router = MoodyRouter::new(Fate::seeded(seed));
    let setup = Setup {
        backend: Backend::Router(Box::new(Anybody)),
        uplink: Some(Box::new(router.clone())),
        connections_max: connections_max(&mut rng),
        heartbeat_s: if rng.random_bool(0.5) { 2 } else { 240 },
        // Every other seed holds few requests, so that nothing is looked at now and then.
        bounds: if seed.is_multiple_of(2) { Bounds::default() } else { few_requests(1 + seed as usize % 40) },
        ..Setup::echo()
    };
    // Those who never leave by themselves are sent away.
    let drain_at = rng.random_range(300..600);
    let mut operator = Operator { rng, asked: 0, answered: Arc::default() };
    let drained = Rc::new(RefCell::new(Vec::new()));
    let overfull = Cell::new(0);
    let rig = run(seed, peers, setup, |fixture, turn| {
        router.say(encoding_of);
        operator.ask(fixture);
        let mut desk = router.desk();
        fixture.mailbox.send_from(&mut desk.effects);
        overfull.set(overfull.get() + desk.effects.len() as u64);
        if turn == drain_at {
            let ended = desk.sessions.iter().filter(|seen| seen.detached > 0);
            drained.borrow_mut().extend(ended.map(|seen| seen.session));
            fixture.shared.draining.store(true, Ordering::Relaxed);
        }
    });
    let (world, stats) = (rig.world.borrow(), &rig.fixture.stats);
    operator.check(&world, &reached.addresses);
    let timeouts = stats.reaped.value() + stats.handshakes_timed_out.value();
    for seen in &router.desk().sessions {
        assert_eq!((seen.attached, seen.detached), (1, 1), "one begin, one end");
        let name = (seen.session.slot, seen.session.generation);
        let index = world.named(name.0, name.1).expect("a session is a connection");
        let peer = &world.peers[index];
        assert_eq!(seen.user, index as u64 + 1, "a session is its own connection's");
        let (frames, whole) = sent[index];
        let came = seen.frames.len() as u32;
        assert!(seen.frames.iter().copied().eq(1..=came), "in order: {:?}", seen.frames);
        // What it had sent before its FIN has all come, unless it was ended before.
        if whole && !peer.hurt && !seen.closed && timeouts == 0 && turn_of_its_own(&drained, seen.session) {
            assert_eq!(came, frames, "no frame is lost");
            reached.whole.fetch_add(1, Ordering::Relaxed);
        }
        let said = seen.check(&frames_of(encoding_of(seen.user), &peer.received));
        reached.frames.fetch_add(seen.frames.len() as u64, Ordering::Relaxed);
        reached.said.fetch_add(said, Ordering::Relaxed);
        reached.to_the_gone.fetch_add(seen.said - said, Ordering::Relaxed);
    }
    reached.overfull.fetch_add(overfull.get(), Ordering::Relaxed);
    reached.corrupt.fetch_add(stats.corrupt_events.value(), Ordering::Relaxed);
    reached.paused.fetch_add(stats.paused.value(), Ordering::Relaxed);
    reached.reaped.fetch_add(timeouts, Ordering::Relaxed);
}

/// Whether a session had ended before the drain began (or there was none).
fn turn_of_its_own(
    drained: &Rc<RefCell<Vec<roost_proto::tier::SessionId>>>,
    session: roost_proto::tier::SessionId,
) -> bool {
    drained.borrow().contains(&session)
}
