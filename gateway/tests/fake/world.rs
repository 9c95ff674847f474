//! What is on the other side of the fake rings: peers, tables, and what the kernel would do.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use quanta::Mock;
use roost_gateway::ring::{Buffer, Completion, Descriptor, Op, Token};

use super::{Buffers, Fate, Peer, Tally, peer::Sending};

/// Places in the table of one ring: few, so that several rings are needed.
pub const PLACES: u32 = 3;
/// Rings there may be. All full: clients wait.
pub const RINGS_MAX: usize = 3;
/// Rings that can provide buffers for receives; connections of the others are told that theirs cannot.
const RINGS_PROVIDING: usize = 2;
/// Port of the first peer's address; the others follow.
pub const PORT_FIRST: u16 = 1_000;
/// Turns in a row in which nothing happens, after which the shard sleeps as long as it asked to.
const IDLE_TURNS: u32 = 24;

/// A completion, and the step before which it is not handed out.
struct Late {
    due: u64,
    completion: Completion,
}

/// All peers, and the rings' own state.
pub struct World {
    pub(super) fate: Fate,
    /// The peers, in the order in which they connect.
    pub peers: Vec<Peer>,
    /// What happened.
    pub tally: Tally,
    /// Faults happen. Without them only times, pieces and the order are uncertain.
    pub faulty: bool,
    /// Moved by what the turns take, where there is one.
    pub time: Option<(Arc<Mock>, Duration)>,
    /// Connections that the shard was told of, and was not told that they are closed.
    pub open: u64,
    /// How long the shard may sleep now at most, by what it was given to do.
    pub sleep_max: Duration,
    pub(super) accepting: bool,
    /// Accepts that were in flight when accepting was turned off.
    pub(super) accepts_late: u32,
    pub(super) cancels: Vec<Token>,
    pub(super) asked: Vec<(usize, Token)>,
    pub(super) told: HashMap<Token, Option<SocketAddr>>,
    /// Buffers that were filled and not given back.
    pub(super) buffers_held: usize,
    ready: Vec<Late>,
    names: HashMap<(u32, u32), usize>,
    pub(super) next: usize,
    step: u64,
    idle: u32,
}

impl World {
    /// A world of these peers without faults.
    pub fn new(fate: Fate, peers: Vec<Peer>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            fate,
            peers,
            tally: Tally::default(),
            faulty: false,
            time: None,
            open: 0,
            sleep_max: Duration::MAX,
            accepting: false,
            accepts_late: 0,
            cancels: Vec::new(),
            asked: Vec::new(),
            told: HashMap::new(),
            buffers_held: 0,
            ready: Vec::new(),
            names: HashMap::new(),
            next: 0,
            step: 0,
            idle: 0,
        }))
    }

    /// Every peer has connected.
    pub fn all_came(&self) -> bool {
        self.next == self.peers.len()
    }

    /// No connection is open, and nothing waits to be told.
    pub fn all_gone(&self) -> bool {
        self.peers.iter().all(|peer| peer.descriptor.is_none()) && self.ready.is_empty()
    }

    /// The close of a peer's descriptor is in flight.
    pub fn is_closing(&self, index: usize) -> bool {
        self.peers[index].closing.is_some()
    }

    /// What the rings lent to the shard and did not get back: buffers, addresses.
    pub fn lent(&self) -> (usize, usize) {
        (self.buffers_held, self.told.len() + self.asked.len())
    }

    /// The peer that the shard names so.
    pub fn named(&self, slot: u32, generation: u32) -> Option<usize> {
        self.names.get(&(slot, generation)).copied()
    }

    /// The address of a peer.
    pub fn address(index: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_FIRST + index as u16))
    }

    /// The peer an operation is for. Each descriptor has one name from its first operation to its close, and no name is
    /// given twice.
    pub(super) fn of(&mut self, descriptor: Descriptor, token: Token) -> usize {
        let index = self.peers.iter().position(|peer| peer.descriptor == Some(descriptor));
        let index = index.expect("an operation on a descriptor that is open");
        let name = (token.slot(), token.generation());
        let peer = &mut self.peers[index];
        assert!(peer.closing.is_none(), "nothing starts on a descriptor that is being closed");
        assert_eq!(*peer.owner.get_or_insert(name), name, "an operation on somebody else's descriptor");
        assert_eq!(*self.names.entry(name).or_insert(index), index, "a name is given once");
        index
    }

    pub(super) fn reads(&self) -> usize {
        self.peers.iter().filter(|peer| peer.read.is_some()).count()
    }

    pub(super) fn provides(ring: usize) -> bool {
        ring < RINGS_PROVIDING
    }

    /// Whether a fault happens now.
    pub(super) fn fault(&mut self, of_256: u8, case: &'static str) -> bool {
        let happens = self.faulty && self.fate.happens(of_256);
        if happens {
            self.tally.note(case);
        }
        happens
    }

    /// The lowest free place, as the kernel does within a table: descriptors are reused at once.
    pub(super) fn place(&self) -> Option<Descriptor> {
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

    pub(super) fn complete(&mut self, token: Token, result: i32, more: bool) {
        self.deliver(Completion::plain(token, result, more));
    }

    /// A completion on its way, now and then a slow one.
    pub(super) fn deliver(&mut self, completion: Completion) {
        let delay = match self.fate.pick(16) {
            0 => self.fate.pick(32),
            1..4 => self.fate.pick(4),
            _ => 0,
        };
        self.ready.push(Late { due: self.step + delay as u64, completion });
    }

    pub(super) fn fill(
        &mut self,
        token: Token,
        bytes: Vec<u8>,
        more: bool,
        buffer: Buffer,
        buffers: &mut Buffers,
    ) {
        let result = bytes.len() as i32;
        buffers.fill(buffer, bytes);
        self.buffers_held += 1;
        self.deliver(Completion { buffer: Some(buffer), ..Completion::plain(token, result, more) });
    }

    /// A send ends with this result.
    pub(super) fn finish_send(&mut self, sending: Sending, result: i32) {
        self.deliver(Completion {
            sent: Some(sending.bytes),
            ..Completion::plain(sending.token, result, false)
        });
    }

    /// The kernel's part of a turn, in which the shard would sleep for `timeout`.
    pub(super) fn turn(&mut self, timeout: Duration, buffers: &mut Buffers, into: &mut Vec<Completion>) {
        assert!(timeout <= self.sleep_max, "it would sleep {timeout:?} over work that is there");
        self.step += 1;
        self.carry_out(buffers);
        self.tally.rings = self.tally.rings.max(self.rings());
        self.hand_out(into);
        self.idle = if into.is_empty() { self.idle + 1 } else { 0 };
        if let Some((time, turn)) = &self.time {
            time.increment(*turn + if self.idle > IDLE_TURNS { timeout } else { Duration::ZERO });
        }
    }

    /// Completions of different operations come in any order and late, and no more than there is room for in a turn;
    /// those of one operation keep their order.
    fn hand_out(&mut self, into: &mut Vec<Completion>) {
        let room = if self.fate.happens(24) { self.fate.pick(3) } else { usize::MAX };
        let mut kept: Vec<Late> = Vec::new();
        let mut given: Vec<Completion> = Vec::new();
        for late in std::mem::take(&mut self.ready) {
            let behind = kept.iter().any(|kept| kept.completion.token == late.completion.token);
            if late.due > self.step || behind || given.len() >= room {
                kept.push(late);
            } else {
                given.push(late.completion);
            }
        }
        if !kept.is_empty() {
            self.tally.note("completions held back");
        }
        self.ready = kept;
        for at in 1..given.len() {
            if given[at - 1].token != given[at].token && self.fate.happens(50) {
                given.swap(at - 1, at);
            }
        }
        for completion in given {
            self.is_told(&completion);
            into.push(completion);
        }
    }

    fn is_told(&mut self, completion: &Completion) {
        let token = completion.token;
        match token.op() {
            Some(Op::Accept) if completion.descriptor.is_some() => self.open += 1,
            Some(Op::Close) => self.open -= 1,
            Some(Op::Peer) => {
                let index = self.named(token.slot(), token.generation());
                let address = index.filter(|_| completion.result >= 0).map(Self::address);
                self.told.insert(token, address);
            }
            _ => {}
        }
    }
}
