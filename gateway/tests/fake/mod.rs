//! Rings without a kernel: seeded, several of them with tiny tables, with short reads and writes, edge-triggered polls, exhausted
//! buffers, errors and resets at any point, cancellations that find nothing, and completions that come late and in another order.
//!
//! They check what the real rings rely on: at most one operation of a kind on a descriptor, none of them in flight when
//! the descriptor is closed, every operation under the name of the connection that holds the descriptor, and every buffer and
//! address given back once.
//!
//! `fate` decides (a seed, or a fuzzer's bytes), `peer` is the other end of a connection, `world` holds them and what is on its way,
//! `kernel` carries operations out, `rig` runs a shard over it all, `router` is the tier behind it, `scripts` what peers send, `tally`
//! counts what was met, `connection` plays a script of the fuzzer, and `stage` has sessions do one thing after the other.

pub mod connection;
mod fate;
mod kernel;
mod peer;
mod rig;
mod router;
pub mod scripts;
pub mod stage;
mod tally;
mod world;

use std::{cell::RefCell, io, net::SocketAddr, rc::Rc, time::Duration};

use roost_gateway::ring::{Buffer, Completion, Descriptor, Occupancy, Ring, Token};

pub use fate::Fate;
pub use peer::{Arrival, Manners, Peer};
use peer::{Sending, Stream};
pub use rig::{Fixture, Rig, Setup};
pub use router::{Anybody, MoodyRouter, message, welcome};
pub use tally::Tally;
pub use world::World;

/// Read buffers there are: few, so that they run out.
const READ_BUFFERS: usize = 3;
/// Buffers a ring provides.
const PROVIDED_BUFFERS: u16 = 2;
/// Accepts that may be in flight when accepting is turned off.
const ACCEPTS_LATE: u32 = 2;

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
        let mut world = self.world.borrow_mut();
        if world.accepting && !on {
            world.accepts_late = ACCEPTS_LATE;
        }
        world.accepting = on;
    }

    fn poll(&mut self, descriptor: Descriptor, token: Token) {
        let mut world = self.world.borrow_mut();
        let index = world.of(descriptor, token);
        assert!(world.peers[index].poll.is_none(), "one poll at a time");
        if world.fault(2, "poll ENOMEM") {
            world.peers[index].hurt = true;
            return world.complete(token, -libc::ENOMEM, false);
        }
        let peer = &mut world.peers[index];
        peer.poll = Some(token);
        // It looks once when it is armed; after that it fires when something comes.
        peer.fires = peer.events() != 0;
    }

    fn read(&mut self, descriptor: Descriptor, token: Token) -> bool {
        let mut world = self.world.borrow_mut();
        let index = world.of(descriptor, token);
        let peer = &world.peers[index];
        assert!(peer.receive.is_none(), "a read and a receive would take each other's bytes");
        assert!(peer.read.is_none(), "one read at a time");
        if world.reads() + self.buffers.reads() == READ_BUFFERS || world.fault(6, "read refused") {
            world.tally.note("read refused");
            return false;
        }
        world.peers[index].read = Some(token);
        true
    }

    fn receive(&mut self, descriptor: Descriptor, token: Token) -> bool {
        let mut world = self.world.borrow_mut();
        let index = world.of(descriptor, token);
        let peer = &world.peers[index];
        assert!(peer.read.is_none() && peer.poll.is_none(), "the poll and the read have ended");
        assert!(peer.receive.is_none(), "one receive at a time");
        if !World::provides(descriptor.ring()) || world.fault(6, "receive refused") {
            world.tally.note("receive refused");
            return false;
        }
        world.peers[index].receive = Some(token);
        world.tally.note("receive armed");
        true
    }

    fn send(&mut self, descriptor: Descriptor, token: Token, bytes: Vec<u8>) {
        let mut world = self.world.borrow_mut();
        let index = world.of(descriptor, token);
        let peer = &mut world.peers[index];
        assert!(peer.ours == Stream::Open && peer.shutting.is_none(), "nothing is sent after our FIN");
        assert!(!bytes.is_empty(), "a send of nothing tells nothing");
        assert!(peer.sending.is_none(), "one send at a time");
        peer.sending = Some(Sending { token, bytes, done: 0 });
    }

    fn shutdown_write(&mut self, descriptor: Descriptor, token: Token) {
        let mut world = self.world.borrow_mut();
        let index = world.of(descriptor, token);
        let peer = &mut world.peers[index];
        assert!(peer.sending.is_none(), "a FIN follows what was sent");
        assert!(peer.shutting.replace(token).is_none() && peer.ours == Stream::Open, "one shutdown");
    }

    fn close(&mut self, descriptor: Descriptor, token: Token) {
        let mut world = self.world.borrow_mut();
        let index = world.of(descriptor, token);
        let peer = &mut world.peers[index];
        assert!(peer.is_idle(), "no operation is in flight on a descriptor that is closed");
        peer.closing = Some(token);
    }

    fn cancel(&mut self, descriptor: Descriptor, target: Token) {
        let mut world = self.world.borrow_mut();
        world.of(descriptor, target);
        world.cancels.push(target);
    }

    fn ask_peer(&mut self, descriptor: Descriptor, token: Token) -> bool {
        let mut world = self.world.borrow_mut();
        let index = world.of(descriptor, token);
        if world.faulty && world.fate.happens(40) {
            return false;
        }
        world.asked.push((index, token));
        true
    }

    fn take_peer(&mut self, token: Token) -> Option<SocketAddr> {
        self.world.borrow_mut().told.remove(&token).flatten()
    }

    fn wait(&mut self, timeout: Duration, into: &mut Vec<Completion>) -> io::Result<()> {
        self.world.borrow_mut().turn(timeout, &mut self.buffers, into);
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
