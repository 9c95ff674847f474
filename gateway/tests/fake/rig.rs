//! A shard over a world, and what must be true of it after every turn and at the end.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use quanta::Mock;
use roost_gateway::{
    conn::{Backend, Rates, Rules},
    limits,
    mailbox::{self, Sender},
    ring::Completion,
    shard::{Bounds, DrainRule, Parts, Shard, Shared, Stats, Uplink},
};
use roost_proto::tier::Effect;

use super::{FakeRing, World};

/// Turns in which a world must come to its end.
const TURNS_MAX: usize = 20_000;
/// Turns in which a shard without connections comes to rest: a look through a block of the slab takes four.
const ENDING_TURNS: usize = 8;
/// Effects the mailbox holds: few, so that it is full.
const MAILBOX_EFFECTS: usize = 8;
/// Bytes of partial input: few, so that they are used up.
const ASSEMBLY_BYTES_MAX: usize = 20_000;

/// What differs from shard to shard.
pub struct Setup {
    /// What stands behind it.
    pub backend: Backend,
    /// The way there.
    pub uplink: Option<Box<dyn Uplink>>,
    /// `--max-connections`.
    pub connections_max: u64,
    /// `--heartbeat-s`.
    pub heartbeat_s: u32,
    /// What it holds for all together.
    pub bounds: Bounds,
    /// The same of partial input.
    pub assembly_bytes_max: usize,
}

impl Setup {
    /// The echo, with room for all.
    pub fn echo() -> Self {
        Self {
            backend: Backend::Echo,
            uplink: None,
            connections_max: 1_000,
            heartbeat_s: 240,
            bounds: Bounds::default(),
            assembly_bytes_max: ASSEMBLY_BYTES_MAX,
        }
    }
}

/// What is outside the shard.
pub struct Fixture {
    /// Drain and inquiries.
    pub shared: Arc<Shared>,
    /// Counters.
    pub stats: Arc<Stats>,
    /// The way in.
    pub mailbox: Sender<Effect>,
}

/// A shard at work.
pub struct Rig {
    /// What it works on.
    pub world: Rc<RefCell<World>>,
    /// What is outside.
    pub fixture: Fixture,
    shard: Shard<FakeRing>,
    completions: Vec<Completion>,
    connections_max: u64,
    assembly_bytes_max: usize,
}

impl Rig {
    /// A shard over the rings of `world`.
    pub fn new(world: &Rc<RefCell<World>>, setup: Setup) -> Self {
        Self::draining(world, setup, DrainRule::default())
    }

    /// The same, with a pace for its drain.
    pub fn draining(world: &Rc<RefCell<World>>, setup: Setup, drain: DrainRule) -> Self {
        let (sender, mailbox) = mailbox::mailbox(MAILBOX_EFFECTS).expect("an eventfd");
        let shared = Arc::new(Shared { drain, ..Shared::default() });
        let fixture = Fixture { shared, stats: Arc::default(), mailbox: sender };
        let shard = Shard::new(Parts {
            number: 0,
            ring: FakeRing::new(Rc::clone(world)),
            rules: Arc::new(Rules {
                backend: setup.backend,
                message_bytes_max: 1_000,
                assembly_bytes_max: setup.assembly_bytes_max,
                rates: Rates::default(),
            }),
            connections_max: setup.connections_max,
            heartbeat_s: setup.heartbeat_s,
            uplink: setup.uplink,
            mailbox,
            shared: Arc::clone(&fixture.shared),
            stats: Arc::clone(&fixture.stats),
        })
        .with_bounds(setup.bounds);
        let (connections_max, assembly_bytes_max) = (setup.connections_max, setup.assembly_bytes_max);
        Self {
            world: Rc::clone(world),
            fixture,
            shard,
            completions: Vec::new(),
            connections_max,
            assembly_bytes_max,
        }
    }

    /// One turn.
    pub fn turn(&mut self) {
        self.shard.turn(&mut self.completions).expect("the fake rings do not fail");
        self.check();
    }

    /// Turns until all who came are gone. Nobody comes to a shard that drains.
    pub fn run(&mut self, time: &Mock, mut meanwhile: impl FnMut(&Fixture, usize)) {
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "the connections do not end");
            self.turn();
            meanwhile(&self.fixture, turn);
            let (world, stats) = (self.world.borrow(), &self.fixture.stats);
            let draining = self.fixture.shared.draining.load(Ordering::Relaxed);
            let late = draining && world.accepts_late > 0 && !world.all_came();
            let over = (world.all_came() || draining) && !late && world.all_gone();
            if over && stats.connections.value() + stats.backlog_requests.value() == 0 {
                break;
            }
        }
        self.fixture.shared.draining.store(true, Ordering::Relaxed);
        // Ticks more, in which it gives back what it keeps from tick to tick and looks through all slots for an inquiry.
        for _ in 0..ENDING_TURNS {
            time.increment(Duration::from_secs(limits::TICK_S));
            self.turn();
        }
        self.check_end();
    }

    fn check(&self) {
        let Fixture { shared, stats, .. } = &self.fixture;
        let mut world = self.world.borrow_mut();
        let slots = stats.connections.value();
        assert_eq!(slots, world.open, "a slot for each connection that is open, and no other");
        assert_eq!(stats.accepted.value() - stats.ended.value(), slots);
        assert!(stats.outboxes.value() <= slots, "an outbox belongs to a connection");
        assert!(shared.connections.load(Ordering::Relaxed) <= self.connections_max.min(slots));
        assert!(
            stats.assembly_bytes.value() <= 2 * self.assembly_bytes_max as u64,
            "partial input is bounded"
        );
        assert!(stats.mailbox_effects.value() <= MAILBOX_EFFECTS as u64, "the mailbox is bounded");
        let work = stats.mailbox_effects.value() + stats.read_waiting.value() > 0;
        let pressed = stats.assembly_bytes.value() > self.assembly_bytes_max as u64 / 2;
        world.sleep_max = match (work, stats.backlog_requests.value()) {
            (true, _) => Duration::ZERO,
            (false, 1..) => Duration::from_millis(limits::BACKLOG_RETRY_MS),
            (false, 0) if pressed => Duration::from_millis(limits::RELIEF_RETRY_MS),
            (false, 0) => Duration::from_secs(limits::TICK_S),
        };
    }

    fn check_end(&self) {
        let Fixture { shared, stats, .. } = &self.fixture;
        let world = self.world.borrow();
        assert_eq!(stats.accepted.value(), stats.ended.value(), "every connection ends in exactly one close");
        assert_eq!(
            stats.accepted.value(),
            world.peers.iter().filter(|peer| peer.owner.is_some()).count() as u64
        );
        assert_eq!((stats.connections.value(), shared.connections.load(Ordering::Relaxed)), (0, 0));
        assert_eq!(stats.refusing.value(), 0, "those who were refused are gone");
        assert_eq!((stats.outboxes.value(), stats.assembly_bytes.value()), (0, 0), "nothing is left behind");
        assert_eq!((stats.outbox_bytes.value(), stats.handshakes.value()), (0, 0), "nor counted for ever");
        assert_eq!((stats.read_waiting.value(), stats.busy_connections.value()), (0, 0), "nobody waits");
        assert_eq!(world.lent(), (0, 0), "every buffer and every address was given back");
        let received: usize = world.peers.iter().map(|peer| peer.received.len()).sum();
        assert_eq!(stats.bytes_sent.value(), received as u64, "what was sent is what came");
    }
}
