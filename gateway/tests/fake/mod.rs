//! Rings without a kernel: seeded, several of them with tiny tables, with short reads, edge-triggered polls, exhausted
//! buffers, resets at any point, and completions that come late and in another order.
//!
//! They check what the real rings rely on: at most one operation of a kind on a descriptor, none of them in flight when
//! the descriptor is closed, every operation on the ring that holds the descriptor, and every buffer given back once.

mod world;

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use roost_gateway::ring::{Buffer, Completion, Descriptor, Occupancy, Op, Ring, Token};
pub use world::{Arrival, Peer, Tally, World};

/// Read buffers there are: few, so that they run out.
const READ_BUFFERS: usize = 3;
/// Buffers a ring provides.
const PROVIDED_BUFFERS: u16 = 2;

/// The rings' handle on the world; the test keeps another.
pub struct FakeRing {
    world: Rc<RefCell<World>>,
    buffers: Buffers,
}

/// What the shard was lent and has not given back.
#[derive(Default)]
struct Buffers(Vec<(Buffer, Vec<u8>)>);

impl Buffers {
    fn is_held(&self, buffer: Buffer) -> bool {
        self.0.iter().any(|(held, _)| *held == buffer)
    }

    fn fill(&mut self, buffer: Buffer, bytes: Vec<u8>) {
        assert!(!self.is_held(buffer), "a buffer that the shard holds is not filled");
        self.0.push((buffer, bytes));
    }

    fn reads(&self) -> usize {
        self.0.iter().filter(|(held, _)| matches!(held, Buffer::Read(_))).count()
    }

    fn free_read(&self) -> Buffer {
        let mut all = (0..READ_BUFFERS as u16).map(Buffer::Read);
        all.find(|buffer| !self.is_held(*buffer)).expect("a read was begun only with a buffer free")
    }

    fn free_provided(&self, ring: usize) -> Option<Buffer> {
        let ring = ring as u16;
        (0..PROVIDED_BUFFERS).map(|id| Buffer::Provided { ring, id }).find(|buffer| !self.is_held(*buffer))
    }
}

impl FakeRing {
    /// The rings of a world.
    pub fn new(world: Rc<RefCell<World>>) -> Self {
        Self { world, buffers: Buffers::default() }
    }
}

impl Ring for FakeRing {
    fn accept(&mut self, on: bool) {
        self.world.borrow_mut().accepting = on;
    }

    fn poll(&mut self, descriptor: Descriptor, token: Token) {
        let mut world = self.world.borrow_mut();
        let peer = world.of(descriptor);
        assert!(peer.closing.is_none(), "nothing starts on a descriptor that is being closed");
        assert!(peer.poll.replace(token).is_none(), "one poll at a time");
        // It looks once when it is armed; after that it fires when something comes.
        peer.fires = peer.events() != 0;
    }

    fn read(&mut self, descriptor: Descriptor, token: Token) -> bool {
        let mut world = self.world.borrow_mut();
        if world.reads() + self.buffers.reads() == READ_BUFFERS {
            return false;
        }
        let peer = world.of(descriptor);
        assert!(peer.closing.is_none(), "nothing starts on a descriptor that is being closed");
        assert!(peer.receive.is_none(), "a read and a receive would take each other's bytes");
        assert!(peer.read.replace(token).is_none(), "one read at a time");
        true
    }

    fn receive(&mut self, descriptor: Descriptor, token: Token) -> bool {
        let mut world = self.world.borrow_mut();
        if !World::provides(descriptor.ring()) {
            return false;
        }
        let peer = world.of(descriptor);
        assert!(peer.closing.is_none(), "nothing starts on a descriptor that is being closed");
        assert!(peer.read.is_none() && peer.poll.is_none(), "the poll and the read have ended");
        assert!(peer.receive.replace(token).is_none(), "one receive at a time");
        world.tally.receives += 1;
        true
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
            peer.poll.is_none()
                && peer.read.is_none()
                && peer.receive.is_none()
                && peer.sending.is_none()
                && peer.shutting.is_none(),
            "no operation is in flight on a descriptor that is closed"
        );
        assert!(peer.closing.replace(token).is_none(), "a descriptor is closed once");
    }

    fn cancel(&mut self, descriptor: Descriptor, target: Token) {
        let mut world = self.world.borrow_mut();
        let peer = world.of(descriptor);
        let cancelled = match target.op() {
            Some(Op::Poll) => peer.poll.take_if(|token| *token == target).map(|_| None),
            Some(Op::Receive) => peer.receive.take_if(|token| *token == target).map(|_| None),
            Some(Op::Send) => peer.sending.take_if(|send| send.0 == target).map(|send| Some(send.1)),
            other => panic!("nobody cancels {other:?}"),
        };
        if let Some(sent) = cancelled {
            world.ready.push(Completion { sent, ..Completion::plain(target, -libc::ECANCELED, false) });
        }
        world.ready.push(Completion::plain(
            Token::new(Op::Cancel, target.generation(), target.slot()),
            0,
            false,
        ));
    }

    fn wait(&mut self, _: Duration, into: &mut Vec<Completion>) -> io::Result<()> {
        self.world.borrow_mut().step(&mut self.buffers, into);
        Ok(())
    }

    fn buffer(&mut self, buffer: Buffer, bytes: usize) -> &mut [u8] {
        let held = self.buffers.0.iter_mut().find(|(held, _)| *held == buffer);
        &mut held.expect("only a held buffer is looked at").1[..bytes]
    }

    fn recycle(&mut self, buffer: Buffer) {
        let at = self.buffers.0.iter().position(|(held, _)| *held == buffer);
        self.buffers.0.swap_remove(at.expect("a buffer is given back once"));
        self.world.borrow_mut().buffers_held -= 1;
    }

    fn rest(&mut self) {}

    fn occupancy(&self) -> Occupancy {
        Occupancy { rings: self.world.borrow().rings(), ..Occupancy::default() }
    }
}
