//! The pace of a drain, close by close on a clock of its own, and that sessions are served until it is their turn.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use quanta::{Clock, Mock, with_clock};
use roost_gateway::shard::DrainRule;

use super::fake::{Arrival, Fate, Peer, Rig, Setup, World, scripts::head};

/// As many as the fake rings' tables hold.
const SESSIONS: usize = 9;
const TURN_MS: u64 = 5;
const TURNS_MAX: u64 = 10_000;
/// Turns after which the fake rings have delivered what was sent.
const ECHO_TURNS: u64 = 60;

/// What a drain did, by the time since it began.
struct Drained {
    /// When each session was told to go, ms.
    told_ms: Vec<u64>,
    /// When the last connection was closed, ms.
    gone_ms: u64,
    /// Echoes that came while it lasted.
    echoes: usize,
}

/// Lets sessions begin, drains, and makes every session that is still open say something all the time.
fn drain(seed: u64, rule: DrainRule) -> Drained {
    let (clock, time) = Clock::mock();
    with_clock(&clock, || drain_in(&time, seed, rule))
}

fn is_told(peer: &Peer) -> bool {
    // A Close frame with 1001 starts so; nothing of the 101 or of an echo is 0x88.
    peer.received.windows(4).any(|four| four[0] == 0x88 && four[2..] == [0x03, 0xE9])
}

fn drain_in(time: &Mock, seed: u64, rule: DrainRule) -> Drained {
    let peer = || {
        let mut peer = Peer::default();
        (peer.sends, peer.arrival) = (head("", None).into(), Arrival::Whole);
        peer
    };
    let world = World::new(Fate::seeded(seed), (0..SESSIONS).map(|_| peer()).collect());
    let mut rig = Rig::draining(&world, Setup::echo(), rule);
    let (shared, stats) = (Arc::clone(&rig.fixture.shared), Arc::clone(&rig.fixture.stats));
    let mut turn = || {
        time.increment(Duration::from_millis(TURN_MS));
        rig.turn();
    };
    for turns in 0.. {
        turn();
        if stats.upgraded.value() == SESSIONS as u64 {
            break;
        }
        assert!(turns < TURNS_MAX, "sessions do not begin");
    }
    shared.draining.store(true, Ordering::Relaxed);
    let mut drained = Drained { told_ms: Vec::new(), gone_ms: 0, echoes: 0 };
    for turns in 0..TURNS_MAX {
        let said_before: Vec<bool> = world.borrow().peers.iter().map(is_told).collect();
        if turns % ECHO_TURNS == 0 {
            let mut world = world.borrow_mut();
            for (peer, told) in world.peers.iter_mut().zip(said_before) {
                let text = (turns / ECHO_TURNS) as u8;
                peer.sends.extend(if told { vec![] } else { vec![0x82, 0x81, 0, 0, 0, 0, text] });
            }
        }
        turn();
        let told = stats.closed(1001).value() as usize;
        drained.told_ms.resize(told, turns * TURN_MS);
        if stats.ended.value() == SESSIONS as u64 {
            drained.gone_ms = turns * TURN_MS;
            break;
        }
    }
    let world = world.borrow();
    let untold = world.peers.iter().filter(|peer| !is_told(peer)).count();
    assert_eq!(
        (untold, stats.ended.value()),
        (0, SESSIONS as u64),
        "seed {seed}: everybody was told and left"
    );
    let echoes = |peer: &Peer| peer.received.windows(2).filter(|two| *two == [0x82, 1]).count();
    drained.echoes = world.peers.iter().map(echoes).sum();
    assert_eq!(stats.accepted.value(), stats.ended.value(), "each ended in one close");
    drained
}

/// The most that were told within any `window_ms`.
fn most_within(told_ms: &[u64], window_ms: u64) -> usize {
    let within = |from: &u64| told_ms.iter().filter(|at| (*from..from + window_ms).contains(at)).count();
    told_ms.iter().map(within).max().unwrap_or_default()
}

#[test]
fn a_drain_keeps_to_its_rate_and_who_waits_is_served() {
    for seed in 0..20 {
        // This shard's half of the rate: one in 200 ms.
        let drained = drain(seed, DrainRule { closes_per_s: 10, s_max: 30, shards: 2 });
        assert_eq!(drained.told_ms.len(), SESSIONS);
        assert_eq!(most_within(&drained.told_ms, 200 - TURN_MS), 1, "seed {seed}: {:?}", drained.told_ms);
        let last = drained.told_ms[SESSIONS - 1];
        assert!(
            (1_600..=1_900).contains(&last),
            "seed {seed}: nine at five a second, but the last at {last} ms"
        );
        assert!(drained.echoes > 2 * SESSIONS, "seed {seed}: {} echoes while it lasted", drained.echoes);
    }
}

#[test]
fn a_rate_too_low_for_the_time_is_raised_just_enough() {
    for seed in 0..20 {
        // One in two seconds would take 18 s; there are two until the time for leaving begins.
        let drained = drain(seed, DrainRule { closes_per_s: 1, s_max: 4, shards: 2 });
        assert_eq!(drained.told_ms.len(), SESSIONS);
        assert!(drained.told_ms[SESSIONS - 1] <= 2_000, "seed {seed}: {:?}", drained.told_ms);
        assert!(most_within(&drained.told_ms, 200 - TURN_MS) <= 2, "seed {seed}: {:?}", drained.told_ms);
        assert!(drained.told_ms[SESSIONS / 2] >= 900, "seed {seed}: not all at once: {:?}", drained.told_ms);
        assert!(drained.gone_ms < 4_000, "seed {seed}: gone at {} ms", drained.gone_ms);
    }
}
