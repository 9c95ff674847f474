//! A ring without a kernel: seeded, with short reads, exhausted buffers, resets at any point and late completions.
//!
//! It checks what the real ring relies on: at most one operation of a kind on a descriptor, none of them in flight when
//! the descriptor is closed, and every buffer given back once.

use std::{cell::RefCell, collections::VecDeque, io, rc::Rc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use roost_gateway::ring::{Completion, Descriptor, Op, Ring, Token};

/// Receive buffers the fake has: few, so that they run out.
const BUFFERS: usize = 3;
const BUFFER_BYTES: usize = 64;

/// The other end of one connection.
#[derive(Default)]
pub struct Peer {
    /// What it will send.
    pub sends: VecDeque<u8>,
    /// After sending all it sends a FIN.
    pub fin_after: bool,
    /// Reset the connection when so many bytes were sent.
    pub reset_at: Option<usize>,
    /// Bytes it has sent.
    pub sent: usize,
    /// What it received.
    pub received: Vec<u8>,
    /// It saw our FIN or the end of the connection.
    pub ended: bool,
    descriptor: Option<u32>,
    receive: Option<Token>,
    sending: Option<(Token, Vec<u8>)>,
    shutting: Option<Token>,
    closing: Option<Token>,
    stream: Stream,
}

/// What the peer's end of the stream has come to.
#[derive(Clone, Copy, Default, PartialEq)]
enum Stream {
    #[default]
    Open,
    /// It was reset.
    Reset,
    /// Its FIN was told.
    Ended,
}

/// All peers, and the ring's own state.
pub struct World {
    rng: StdRng,
    /// The peers, in the order in which they connect.
    pub peers: Vec<Peer>,
    accept: Option<Token>,
    next: usize,
    /// Buffers that were not given back.
    pub buffers_held: usize,
    ready: Vec<Completion>,
}

/// The ring's handle on the world; the test keeps another.
pub struct FakeRing {
    world: Rc<RefCell<World>>,
    /// Bytes, and whether the shard has them.
    buffers: Vec<(Vec<u8>, bool)>,
}

impl FakeRing {
    /// The ring of a world.
    pub fn new(world: Rc<RefCell<World>>) -> Self {
        Self { world, buffers: vec![(vec![0; BUFFER_BYTES], false); BUFFERS] }
    }
}

impl World {
    /// A world of these peers.
    pub fn new(seed: u64, peers: Vec<Peer>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            rng: StdRng::seed_from_u64(seed),
            peers,
            accept: None,
            next: 0,
            buffers_held: 0,
            ready: Vec::new(),
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

    fn of(&mut self, descriptor: Descriptor) -> &mut Peer {
        let index = self.peers.iter().position(|peer| peer.descriptor == Some(descriptor.0));
        &mut self.peers[index.expect("an operation on a descriptor that is open")]
    }

    fn complete(&mut self, token: Token, result: i32, more: bool) {
        self.ready.push(Completion { token, result, more, buffer: None, sent: None });
    }

    fn step_accept(&mut self) {
        let Some(token) = self.accept else { return };
        if self.next < self.peers.len() && self.rng.random_bool(0.5) {
            let taken: Vec<u32> = self.peers.iter().filter_map(|peer| peer.descriptor).collect();
            // The lowest free one, as the kernel does: descriptors are reused at once.
            let descriptor =
                (0..=taken.len() as u32).find(|number| !taken.contains(number)).expect("one is free");
            self.peers[self.next].descriptor = Some(descriptor);
            self.next += 1;
            self.complete(token, descriptor as i32, true);
        }
    }

    fn step_receive(&mut self, index: usize, buffers: &mut [(Vec<u8>, bool)]) {
        let Some(token) = self.peers[index].receive else { return };
        if self.rng.random_bool(0.4) {
            return;
        }
        let peer = &mut self.peers[index];
        let reset = peer.stream == Stream::Reset;
        if reset || (peer.sends.is_empty() && peer.fin_after) {
            if peer.stream != Stream::Ended {
                peer.stream = if reset { Stream::Reset } else { Stream::Ended };
                peer.receive = None;
                self.complete(token, if reset { -libc::ECONNRESET } else { 0 }, false);
            }
            return;
        }
        if peer.sends.is_empty() {
            return;
        }
        let Some(id) = buffers.iter().position(|(_, held)| !held) else {
            self.peers[index].receive = None;
            return self.complete(token, -libc::ENOBUFS, false);
        };
        let bytes = self.rng.random_range(1..=BUFFER_BYTES).min(self.peers[index].sends.len());
        let ends = self.rng.random_bool(0.2);
        let peer = &mut self.peers[index];
        for (at, byte) in peer.sends.drain(..bytes).enumerate() {
            buffers[id].0[at] = byte;
        }
        buffers[id].1 = true;
        self.buffers_held += 1;
        peer.sent += bytes;
        if peer.reset_at.is_some_and(|at| peer.sent >= at) {
            peer.stream = Stream::Reset;
        }
        if ends {
            peer.receive = None;
        }
        self.ready.push(Completion {
            token,
            result: bytes as i32,
            more: !ends,
            buffer: Some(id as u16),
            sent: None,
        });
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
        self.ready.push(Completion { token, result, more: false, buffer: None, sent: Some(bytes) });
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

impl Ring for FakeRing {
    fn accept(&mut self, token: Token) {
        assert!(self.world.borrow_mut().accept.replace(token).is_none(), "one accept at a time");
    }

    fn receive(&mut self, descriptor: Descriptor, token: Token) {
        let mut world = self.world.borrow_mut();
        let peer = world.of(descriptor);
        assert!(peer.closing.is_none(), "nothing starts on a descriptor that is being closed");
        assert!(peer.receive.replace(token).is_none(), "one receive at a time");
    }

    fn send(&mut self, descriptor: Descriptor, token: Token, bytes: Vec<u8>) {
        let mut world = self.world.borrow_mut();
        let peer = world.of(descriptor);
        assert!(peer.closing.is_none() && !peer.ended, "nothing is sent after our FIN");
        assert!(peer.sending.replace((token, bytes)).is_none(), "one send at a time");
    }

    fn shutdown_write(&mut self, descriptor: Descriptor, token: Token) {
        let mut world = self.world.borrow_mut();
        let peer = world.of(descriptor);
        assert!(peer.sending.is_none(), "a FIN follows what was sent");
        assert!(peer.shutting.replace(token).is_none(), "one shutdown at a time");
    }

    fn close(&mut self, descriptor: Descriptor, token: Token) {
        let mut world = self.world.borrow_mut();
        let peer = world.of(descriptor);
        assert!(
            peer.receive.is_none() && peer.sending.is_none() && peer.shutting.is_none(),
            "no operation is in flight on a descriptor that is closed"
        );
        assert!(peer.closing.replace(token).is_none(), "a descriptor is closed once");
    }

    fn cancel(&mut self, target: Token) {
        let mut world = self.world.borrow_mut();
        match target.op() {
            Some(Op::Accept) => {
                if world.accept.take().is_some() {
                    world.complete(target, -libc::ECANCELED, false);
                }
            }
            Some(Op::Receive) => {
                let found = world.peers.iter_mut().find(|peer| peer.receive == Some(target));
                if let Some(peer) = found {
                    peer.receive = None;
                    world.complete(target, -libc::ECANCELED, false);
                }
            }
            Some(Op::Send) => {
                let found =
                    world.peers.iter_mut().find_map(|peer| peer.sending.take_if(|send| send.0 == target));
                if let Some((token, bytes)) = found {
                    let completion = Completion {
                        token,
                        result: -libc::ECANCELED,
                        more: false,
                        buffer: None,
                        sent: Some(bytes),
                    };
                    world.ready.push(completion);
                }
            }
            other => panic!("nobody cancels {other:?}"),
        }
    }

    fn wait(&mut self, _: Duration, into: &mut Vec<Completion>) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.step_accept();
        for index in 0..world.peers.len() {
            world.step_receive(index, &mut self.buffers);
            world.step_send(index);
            world.step_out(index);
        }
        // Completions of different operations come in any order; those of one operation keep theirs.
        let count = if world.ready.is_empty() {
            0
        } else {
            world.ready.len() - usize::from(world.rng.random_bool(0.3))
        };
        into.extend(world.ready.drain(..count));
        Ok(())
    }

    fn buffer(&mut self, id: u16, bytes: usize) -> &mut [u8] {
        assert!(self.buffers[usize::from(id)].1, "only a held buffer is read");
        &mut self.buffers[usize::from(id)].0[..bytes]
    }

    fn recycle(&mut self, id: u16) {
        let held = std::mem::replace(&mut self.buffers[usize::from(id)].1, false);
        assert!(held, "a buffer is given back once");
        self.world.borrow_mut().buffers_held -= 1;
    }
}
