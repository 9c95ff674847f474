//! What is on the other side of the fake rings: peers, tables, and what the kernel would do.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use roost_gateway::{
    limits,
    ring::{Buffer, Completion, Descriptor, Op, Token},
};

use super::Buffers;

/// Places in the table of one ring: few, so that several rings are needed.
pub const PLACES: u32 = 3;
/// Rings there may be. All full: clients wait.
const RINGS_MAX: usize = 3;
/// Rings that can provide buffers for receives; connections of the others are told that theirs cannot.
const RINGS_PROVIDING: usize = 2;

/// The other end of one connection.
#[derive(Default)]
pub struct Peer {
    /// What it will send.
    pub sends: VecDeque<u8>,
    /// After sending all it sends a FIN.
    pub fin_after: bool,
    /// Reset the connection when so many bytes were sent.
    pub reset_at: Option<usize>,
    /// How what it sends arrives.
    pub arrival: Arrival,
    /// Bytes it has sent.
    pub sent: usize,
    /// What it received.
    pub received: Vec<u8>,
    /// It saw our FIN or the end of the connection.
    pub ended: bool,
    /// Sent and not read yet.
    arrived: VecDeque<u8>,
    stream: Stream,
    /// The poll has news to tell.
    pub(super) fires: bool,
    pub(super) descriptor: Option<Descriptor>,
    pub(super) poll: Option<Token>,
    pub(super) read: Option<Token>,
    pub(super) receive: Option<Token>,
    pub(super) sending: Option<(Token, Vec<u8>)>,
    pub(super) shutting: Option<Token>,
    pub(super) closing: Option<Token>,
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrival {
    /// In random pieces.
    #[default]
    Pieces,
    /// All that was sent arrives, and is received, at once.
    Whole,
}

/// What the peer's end of the stream has come to.
#[derive(Clone, Copy, Default, PartialEq)]
enum Stream {
    #[default]
    Open,
    /// Its FIN is here.
    Finished,
    /// It was reset.
    Reset,
}

impl Peer {
    /// What a poll would tell now.
    pub(super) fn events(&self) -> i32 {
        let input = if self.arrived.is_empty() { 0 } else { libc::POLLIN };
        let end = match self.stream {
            Stream::Open => 0,
            Stream::Finished => libc::POLLIN | libc::POLLRDHUP,
            Stream::Reset => libc::POLLIN | libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR,
        };
        i32::from(input | end)
    }

    /// What a read of at most `room` bytes takes: bytes, or its result.
    fn take(&mut self, room: usize) -> Result<Vec<u8>, i32> {
        match self.stream {
            Stream::Reset => Err(-libc::ECONNRESET),
            _ if !self.arrived.is_empty() => Ok(self.arrived.drain(..room.min(self.arrived.len())).collect()),
            Stream::Finished => Err(0),
            Stream::Open => Err(-libc::EAGAIN),
        }
    }

    fn arrive(&mut self, bytes: usize) {
        self.arrived.extend(self.sends.drain(..bytes));
        self.sent += bytes;
        if self.reset_at.is_some_and(|at| self.sent >= at) {
            self.stream = Stream::Reset;
        } else if self.sends.is_empty() && self.fin_after && self.stream == Stream::Open {
            self.stream = Stream::Finished;
        }
        self.fires = true;
    }
}

/// What happened in a world, to see that the seeds reach it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Most rings that held connections at a time.
    pub rings: usize,
    /// Multishot receives armed.
    pub receives: usize,
    /// Receives that found no buffer.
    pub exhausted: usize,
    /// Reads that filled their buffer.
    pub full_reads: usize,
}

impl Tally {
    /// Adds what happened in another world.
    pub fn add(&mut self, other: Self) {
        self.rings = self.rings.max(other.rings);
        self.receives += other.receives;
        self.exhausted += other.exhausted;
        self.full_reads += other.full_reads;
    }

    /// Every case was reached.
    pub fn is_thorough(self) -> bool {
        self.rings == RINGS_MAX && self.receives > 0 && self.exhausted > 0 && self.full_reads > 0
    }
}

/// All peers, and the rings' own state.
pub struct World {
    rng: StdRng,
    /// The peers, in the order in which they connect.
    pub peers: Vec<Peer>,
    /// What happened.
    pub tally: Tally,
    pub(super) accepting: bool,
    pub(super) ready: Vec<Completion>,
    /// Buffers that were filled and not given back.
    pub(super) buffers_held: usize,
    next: usize,
}

impl World {
    /// A world of these peers.
    pub fn new(seed: u64, peers: Vec<Peer>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            rng: StdRng::seed_from_u64(seed),
            peers,
            tally: Tally::default(),
            accepting: false,
            ready: Vec::new(),
            buffers_held: 0,
            next: 0,
        }))
    }

    /// Every peer has connected.
    pub fn all_came(&self) -> bool {
        self.next == self.peers.len()
    }

    /// No connection is open.
    pub fn all_gone(&self) -> bool {
        self.peers.iter().all(|peer| peer.descriptor.is_none())
    }

    /// Buffers that were not given back.
    pub fn buffers_held(&self) -> usize {
        self.buffers_held
    }

    pub(super) fn of(&mut self, descriptor: Descriptor) -> &mut Peer {
        let index = self.peers.iter().position(|peer| peer.descriptor == Some(descriptor));
        &mut self.peers[index.expect("an operation on a descriptor that is open")]
    }

    pub(super) fn reads(&self) -> usize {
        self.peers.iter().filter(|peer| peer.read.is_some()).count()
    }

    pub(super) fn provides(ring: usize) -> bool {
        ring < RINGS_PROVIDING
    }

    /// The lowest free place, as the kernel does within a table: descriptors are reused at once.
    fn place(&self) -> Option<Descriptor> {
        let all = (0..RINGS_MAX).flat_map(|ring| (0..PLACES).map(move |place| Descriptor::new(ring, place)));
        let taken: Vec<Descriptor> = self.peers.iter().filter_map(|peer| peer.descriptor).collect();
        all.into_iter().find(|descriptor| !taken.contains(descriptor))
    }

    pub(super) fn rings(&self) -> usize {
        let holds = |ring| {
            self.peers.iter().any(|peer| peer.descriptor.is_some_and(|descriptor| descriptor.ring() == ring))
        };
        (0..RINGS_MAX).filter(|ring| holds(*ring)).count()
    }

    fn complete(&mut self, token: Token, result: i32, more: bool) {
        self.ready.push(Completion::plain(token, result, more));
    }

    fn fill(&mut self, token: Token, bytes: Vec<u8>, more: bool, buffer: Buffer, buffers: &mut Buffers) {
        let result = bytes.len() as i32;
        buffers.fill(buffer, bytes);
        self.buffers_held += 1;
        self.ready.push(Completion { buffer: Some(buffer), ..Completion::plain(token, result, more) });
    }

    /// The kernel's part of a turn.
    pub(super) fn step(&mut self, buffers: &mut Buffers, into: &mut Vec<Completion>) {
        // Reads are carried out when they are submitted; nothing comes in between.
        for index in 0..self.peers.len() {
            self.step_read(index, buffers);
        }
        self.step_accept();
        for index in 0..self.peers.len() {
            self.step_arrive(index);
            self.step_receive(index, buffers);
            self.step_poll(index);
            self.step_send(index);
            self.step_out(index);
        }
        self.tally.rings = self.tally.rings.max(self.rings());
        self.hand_out(into);
    }

    /// Completions of different operations come in any order and late; those of one operation keep theirs.
    fn hand_out(&mut self, into: &mut Vec<Completion>) {
        for at in 1..self.ready.len() {
            let differ = self.ready[at - 1].token != self.ready[at].token;
            if differ && self.rng.random_bool(0.2) {
                self.ready.swap(at - 1, at);
            }
        }
        let late = if self.rng.random_bool(0.3) { self.rng.random_range(0..3) } else { 0 };
        let count = self.ready.len().saturating_sub(late);
        into.extend(self.ready.drain(..count));
    }

    fn step_accept(&mut self) {
        if !self.accepting || self.all_came() || self.rng.random_bool(0.5) {
            return;
        }
        let token = Token::new(Op::Accept, 0, 0);
        if self.rng.random_bool(0.05) {
            return self.complete(token, -libc::ECONNABORTED, false);
        }
        let Some(descriptor) = self.place() else { return };
        self.peers[self.next].descriptor = Some(descriptor);
        self.next += 1;
        let completion = Completion::plain(token, descriptor.place() as i32, false);
        self.ready.push(Completion { descriptor: Some(descriptor), ..completion });
    }

    fn step_arrive(&mut self, index: usize) {
        if self.peers[index].descriptor.is_none() || self.rng.random_bool(0.5) {
            return;
        }
        let peer = &mut self.peers[index];
        if !peer.sends.is_empty() {
            let most = if self.rng.random_bool(0.1) { peer.sends.len() } else { 64.min(peer.sends.len()) };
            let bytes = if peer.arrival == Arrival::Whole {
                peer.sends.len()
            } else {
                self.rng.random_range(1..=most)
            };
            peer.arrive(bytes);
        } else if peer.fin_after && peer.stream == Stream::Open {
            peer.arrive(0);
        }
    }

    fn step_read(&mut self, index: usize, buffers: &mut Buffers) {
        let Some(token) = self.peers[index].read else { return };
        let taken = self.peers[index].take(limits::RECEIVE_BUFFER_BYTES as usize);
        match taken {
            Ok(bytes) => {
                self.tally.full_reads += usize::from(bytes.len() == limits::RECEIVE_BUFFER_BYTES as usize);
                let buffer = buffers.free_read();
                self.fill(token, bytes, false, buffer, buffers);
            }
            Err(result) => self.complete(token, result, false),
        }
        self.peers[index].read = None;
    }

    fn step_poll(&mut self, index: usize) {
        let peer = &self.peers[index];
        let (Some(token), events) = (peer.poll, peer.events()) else { return };
        if !peer.fires || self.rng.random_bool(0.3) {
            return;
        }
        let more = self.rng.random_bool(0.95);
        let peer = &mut self.peers[index];
        peer.fires = false;
        if events != 0 {
            peer.poll = peer.poll.filter(|_| more);
            self.complete(token, events, more);
        }
    }

    fn step_receive(&mut self, index: usize, buffers: &mut Buffers) {
        let Some(token) = self.peers[index].receive else { return };
        let peer = &mut self.peers[index];
        if peer.events() == 0 || self.rng.random_bool(0.4) {
            return;
        }
        let ring = peer.descriptor.map_or(0, Descriptor::ring);
        let buffer = buffers.free_provided(ring);
        if buffer.is_none() && !peer.arrived.is_empty() {
            peer.receive = None;
            self.tally.exhausted += 1;
            return self.complete(token, -libc::ENOBUFS, false);
        }
        let ends = self.rng.random_bool(0.1);
        let room = if peer.arrival == Arrival::Whole { usize::MAX } else { self.rng.random_range(1..=64) };
        match (peer.take(room), buffer) {
            (Ok(bytes), Some(buffer)) => {
                peer.receive = peer.receive.filter(|_| !ends);
                self.fill(token, bytes, !ends, buffer, buffers);
            }
            (Err(result), _) => {
                peer.receive = None;
                self.complete(token, result, false);
            }
            (Ok(_), None) => unreachable!("bytes need a buffer, which was looked for"),
        }
    }

    fn step_send(&mut self, index: usize) {
        if self.rng.random_bool(0.4) {
            return;
        }
        let peer = &mut self.peers[index];
        let Some((token, bytes)) = peer.sending.take() else { return };
        let reset = peer.stream == Stream::Reset;
        let result = if reset { -libc::ECONNRESET } else { bytes.len() as i32 };
        if !reset {
            peer.received.extend_from_slice(&bytes);
        }
        self.ready.push(Completion { sent: Some(bytes), ..Completion::plain(token, result, false) });
    }

    fn step_out(&mut self, index: usize) {
        if self.rng.random_bool(0.5) {
            return;
        }
        let peer = &mut self.peers[index];
        if let Some(token) = peer.shutting.take() {
            peer.ended = true;
            // A peer that sees our FIN closes too.
            peer.fin_after = true;
            return self.complete(token, 0, false);
        }
        if let Some(token) = peer.closing.take() {
            peer.ended = true;
            peer.descriptor = None;
            self.complete(token, 0, false);
        }
    }
}
