//! Sessions of a shard on a clock of its own, which do one thing after the other.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quanta::{Clock, Mock, with_clock};
use rand::{SeedableRng, rngs::StdRng};
use roost_gateway::{
    conn::Backend,
    shard::{Bounds, Stats, Uplink},
};
use roost_proto::{
    codec::encode_client_frame,
    frame::{Opcode, encode_header},
    tier::{Action, Effect, Full, Request},
    v1,
};

use super::{
    Anybody, Arrival, Fate, Manners, Peer, Rig, Setup, World,
    scripts::{encoding_of, head, masked},
    welcome,
};

/// Turns in which what is waited for must happen.
pub const TURNS_MAX: usize = 30_000;
/// Turns after which the fake rings have carried out what was under way.
pub const SETTLED_TURNS: usize = 60;
/// Bytes of a message to be echoed: the most that the rig's rules allow.
pub const PAYLOAD_BYTES: usize = 1_000;
/// And of its frame.
pub const FRAME_BYTES: usize = PAYLOAD_BYTES + 4;
/// Bytes that all peers together may have answered in one turn: a few buffers each.
pub const TURN_BYTES: u64 = 100_000;

/// Who does what no client should, and who is beside it.
pub const HOG: usize = 0;
/// See [`HOG`].
pub const OTHER: usize = 1;
/// As many as leave a place in the fake rings' tables.
pub const HOGS: usize = 8;

/// A router that takes as many requests as it is told to, and nothing else.
#[derive(Clone, Default)]
pub struct Clerk(Arc<Mutex<Ledger>>);

#[derive(Default)]
/// What lies before it.
pub struct Ledger {
    /// So many more.
    pub room: usize,
    /// In order.
    pub taken: Vec<Request>,
}

impl Clerk {
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uplink for Clerk {
    fn submit(&self, request: Request) -> Result<(), Full> {
        let mut ledger = self.ledger();
        let Some(room) = ledger.room.checked_sub(1) else { return Err(Full(request)) };
        ledger.room = room;
        ledger.taken.push(request);
        Ok(())
    }
}

/// A shard with so many sessions, none of which has said anything yet.
pub struct Stage<'a> {
    /// The shard.
    pub rig: Rig,
    time: &'a Mock,
    /// The router, if there is one.
    pub clerk: Clerk,
}

impl Stage<'_> {
    pub fn stats(&self) -> &Stats {
        &self.rig.fixture.stats
    }

    pub fn peer<T>(&self, index: usize, on: impl FnOnce(&mut Peer) -> T) -> T {
        on(&mut self.rig.world.borrow_mut().peers[index])
    }

    pub fn turns(&mut self, turns: usize) {
        (0..turns).for_each(|_| self.rig.turn());
    }

    pub fn turn_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if done(self) {
                return;
            }
            self.rig.turn();
        }
        panic!("{what}: it does not happen");
    }

    /// A second goes by, and what is due is carried out.
    pub fn second(&mut self) {
        self.time.increment(Duration::from_secs(1));
        self.turns(SETTLED_TURNS);
    }

    /// So many messages come of a peer, one after the other.
    pub fn says(&self, index: usize, messages: usize) {
        let frame = binary(&[index as u8; PAYLOAD_BYTES]);
        self.peer(index, |peer| (0..messages).for_each(|_| peer.sends.extend(&frame)));
    }

    /// So many Sends come of a peer, numbered from `first` on.
    pub fn sends(&self, index: usize, first: u32, count: u32, payload_bytes: usize) {
        let encoding = encoding_of(index as u64 + 1);
        let rng = &mut StdRng::seed_from_u64(first.into());
        for id in first..first + count {
            let send = v1::Send { payload: vec![7; payload_bytes].into(), ..v1::Send::default() };
            let mut frame = Vec::new();
            encode_client_frame(encoding, &v1::ClientFrame { id, body: Some(send.into()) }, &mut frame);
            let frame = masked(encoding.message_kind().opcode(), true, &frame, rng);
            self.peer(index, |peer| peer.sends.extend(frame));
        }
    }

    /// Numbers of the Sends of a peer's session that the router has taken, in order.
    pub fn taken(&self, index: usize) -> Vec<u32> {
        let ledger = self.clerk.ledger();
        let numbers = ledger.taken.iter().filter_map(|request| match request {
            Request::Frame { user, id, .. } if *user == index as u64 + 1 => Some(*id),
            _ => None,
        });
        numbers.collect()
    }

    pub fn manners(&self, index: usize, manners: Manners) {
        self.peer(index, |peer| peer.manners = manners);
    }

    /// A message goes and its echo comes.
    pub fn echo(&mut self, index: usize) {
        let before = self.peer(index, |peer| peer.received.len());
        self.says(index, 1);
        self.turn_until("an echo", |stage| {
            stage.peer(index, |peer| peer.received.len()) == before + FRAME_BYTES
        });
    }

    /// Says something to the session of a peer.
    pub fn tell(&mut self, index: usize, action: Action) {
        let session = self.session(index);
        let mut effects = VecDeque::from([Effect { session, action }]);
        while !effects.is_empty() {
            self.rig.fixture.mailbox.send_from(&mut effects);
            self.rig.turn();
        }
    }

    pub fn session(&self, index: usize) -> roost_proto::tier::SessionId {
        let mut begun = self.clerk.ledger().taken.iter().find_map(|request| match request {
            Request::Attach { session, user, .. } if *user == index as u64 + 1 => Some(*session),
            _ => None,
        });
        begun.take().expect("its session has begun")
    }
}

/// A client's frame; its mask changes nothing.
pub fn binary(payload: &[u8]) -> Vec<u8> {
    let (header, length) = encode_header(Opcode::Binary, true, payload.len() as u64);
    let mut frame = [&header[..length], &[0; 4], payload].concat();
    frame[1] |= 0x80;
    frame
}

pub fn on_stage(seed: u64, peers: usize, setup: Setup, test: impl FnOnce(Stage<'_>)) {
    let (clock, time) = Clock::mock();
    with_clock(&clock, || {
        let clerk = Clerk::default();
        clerk.ledger().room = usize::MAX;
        let uplink =
            matches!(setup.backend, Backend::Router(_)).then(|| Box::new(clerk.clone()) as Box<dyn Uplink>);
        let peer = |index: usize| {
            let user = index as u64 + 1;
            let sub_protocol = uplink.is_some().then(|| encoding_of(user).sub_protocol());
            let sends = head(&format!("?user={user}"), sub_protocol).into();
            let mut peer = Peer::default();
            (peer.sends, peer.arrival) = (sends, Arrival::Whole);
            peer
        };
        let world = World::new(Fate::seeded(seed), (0..peers).map(peer).collect());
        let rig = Rig::new(&world, Setup { uplink, ..setup });
        let mut stage = Stage { rig, time: &time, clerk };
        stage.turn_until("sessions", |stage| stage.stats().upgraded.value() == peers as u64);
        stage.turns(SETTLED_TURNS);
        test(stage);
    });
}

pub fn echoing(seed: u64, peers: usize, bounds: Bounds, test: impl FnOnce(Stage<'_>)) {
    on_stage(seed, peers, Setup { bounds, ..Setup::echo() }, test);
}

pub fn routed(seed: u64, peers: usize, setup: Setup, test: impl FnOnce(Stage<'_>)) {
    let backend = Backend::Router(Box::new(Anybody));
    on_stage(seed, peers, Setup { backend, ..setup }, |mut stage| {
        (0..peers).for_each(|index| stage.tell(index, Action::Frame(Box::new(welcome()))));
        stage.turns(SETTLED_TURNS);
        test(stage);
    });
}
