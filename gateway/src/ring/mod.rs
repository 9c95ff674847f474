//! The rings: what a shard asks of the kernel and what comes back.
//!
//! It is a trait so that tests can put a fake one under the same shard. [`Uring`] is the real one: as many `io_urings` as
//! the connections need, behind one face.

mod backlog;
mod buffers;
mod member;
mod memory;
mod peer;
mod pool;
mod set;

use std::{io, net::SocketAddr, time::Duration};

pub use set::Uring;

/// A place in the table of direct descriptors of one of the shard's rings: ring number (12 bits), place (20). It is not
/// a file descriptor of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor(u32);

const PLACE_BITS: u32 = 20;

impl Descriptor {
    /// Of a place in a ring's table.
    pub fn new(ring: usize, place: u32) -> Self {
        debug_assert!(ring < 1 << (u32::BITS - PLACE_BITS) && place < 1 << PLACE_BITS, "12 and 20 bits");
        Self((ring as u32) << PLACE_BITS | place)
    }

    /// The number of the ring.
    pub fn ring(self) -> usize {
        (self.0 >> PLACE_BITS) as usize
    }

    /// The place in the ring's table.
    pub fn place(self) -> u32 {
        self.0 & ((1 << PLACE_BITS) - 1)
    }
}

/// A buffer that was filled, until it is given back with [`Ring::recycle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// Of the shard's pool, filled by a read.
    Read(u16),
    /// Provided by a ring for its multishot receives.
    Provided {
        /// Number of the ring.
        ring: u16,
        /// The buffer's number.
        id: u16,
    },
}

/// What the rings hold now, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Rings open.
    pub rings: usize,
    /// Places taken in the tables of the open rings.
    pub descriptors: u64,
    /// Places there are in them.
    pub descriptors_max: u64,
    /// Times that a further ring could not be opened.
    pub ring_failures: u64,
    /// Read buffers in use.
    pub read_buffers: usize,
    /// Buffers provided for multishot receives.
    pub provided_buffers: usize,
    /// Clients that waited to be accepted at the last [`Ring::rest`].
    pub listen_backlog: u32,
    /// Clients that may wait there.
    pub listen_backlog_max: u32,
    /// Accepts in flight.
    pub accepts: u32,
}

/// The operation a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Accept on the shard's listener.
    Accept = 1,
    /// Another thread put something into the shard's mailbox.
    Wake = 2,
    /// Multishot receive into provided buffers.
    Receive = 3,
    /// Send of one owned buffer.
    Send = 4,
    /// Shutdown of the write side.
    Shutdown = 5,
    /// Close of a direct descriptor.
    Close = 6,
    /// Cancellation of another operation; its own completion carries no news.
    Cancel = 7,
    /// Multishot poll of an idle connection.
    Poll = 8,
    /// Read of what a poll has told of; it completes at once.
    Read = 9,
    /// An operator asks who is at the other end.
    Peer = 11,
    /// Multishot poll of the listener: clients wait to be accepted.
    Incoming = 10,
}

/// What `user_data` carries: operation (8 bits), generation of the slot (24), slot (32). A completion whose generation
/// is no longer the slot's belongs to a predecessor and is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

/// Generations are counted modulo this.
pub const GENERATIONS: u32 = 1 << 24;

impl Token {
    /// Of an operation on the connection in `slot`.
    pub fn new(op: Op, generation: u32, slot: u32) -> Self {
        debug_assert!(generation < GENERATIONS, "a generation has 24 bits");
        Self(u64::from(op as u8) << 56 | u64::from(generation) << 32 | u64::from(slot))
    }

    /// The operation; `None` for bits this program never wrote.
    pub fn op(self) -> Option<Op> {
        Some(match self.0 >> 56 {
            1 => Op::Accept,
            2 => Op::Wake,
            3 => Op::Receive,
            4 => Op::Send,
            5 => Op::Shutdown,
            6 => Op::Close,
            7 => Op::Cancel,
            8 => Op::Poll,
            9 => Op::Read,
            10 => Op::Incoming,
            11 => Op::Peer,
            _ => return None,
        })
    }

    /// The slot's generation when the operation was submitted.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & (GENERATIONS - 1)
    }

    /// The slot.
    pub fn slot(self) -> u32 {
        self.0 as u32
    }
}

/// One completion, `io_uring_enter(2)`.
#[derive(Debug)]
pub struct Completion {
    /// Of the operation.
    pub token: Token,
    /// Bytes, poll events, or a negated errno.
    pub result: i32,
    /// The operation stays armed and will complete again (`IORING_CQE_F_MORE`).
    pub more: bool,
    /// Where a connection was accepted to.
    pub descriptor: Option<Descriptor>,
    /// The buffer that was filled with `result` bytes; it is ours until [`Ring::recycle`].
    pub buffer: Option<Buffer>,
    /// The buffer of a finished send, given back.
    pub sent: Option<Vec<u8>>,
}

impl Completion {
    /// One that carries nothing but its result.
    pub fn plain(token: Token, result: i32, more: bool) -> Self {
        Self { token, result, more, descriptor: None, buffer: None, sent: None }
    }
}

/// What a shard needs of its rings. Submissions are queued and go out with the next [`Ring::wait`]; when a queue is full
/// they go out at once, so no submission is refused. All operations on a connection go to the ring that holds it.
pub trait Ring {
    /// Accepts from now on, or no longer. Each connection arrives as an [`Op::Accept`] completion with its
    /// [`Descriptor`], as long as there are places; clients beyond them wait in the listen backlog. So do clients when
    /// a further ring cannot be opened, which completes with the negated errno: accepting again opens it again.
    fn accept(&mut self, on: bool);
    /// Arms a multishot poll for input, the peer's end and errors. It fires at once when there is something already.
    fn poll(&mut self, descriptor: Descriptor, token: Token);
    /// Reads what there is, or completes with `-EAGAIN`; at most one read of a slot is in flight. False: no buffer is
    /// free, and nothing was submitted.
    #[must_use]
    fn read(&mut self, descriptor: Descriptor, token: Token) -> bool;
    /// Arms multishot receive into provided buffers. False: the ring has none and cannot have any, and nothing was
    /// submitted.
    #[must_use]
    fn receive(&mut self, descriptor: Descriptor, token: Token) -> bool;
    /// Sends all of `bytes`; at most one send of a slot is in flight. The buffer comes back in the completion.
    fn send(&mut self, descriptor: Descriptor, token: Token, bytes: Vec<u8>);
    /// Shuts the write side of a socket down: the peer sees a FIN after what was sent, `shutdown(2)`.
    fn shutdown_write(&mut self, descriptor: Descriptor, token: Token);
    /// Closes a direct descriptor, which frees its place in the table. No other operation on it may be in flight.
    fn close(&mut self, descriptor: Descriptor, token: Token);
    /// Ends the operation `target` on `descriptor`, which completes with `-ECANCELED` unless it was faster.
    fn cancel(&mut self, descriptor: Descriptor, target: Token);
    /// Asks for the address of the peer, which [`Ring::take_peer`] tells once `token` has completed. False: it cannot be asked
    /// for, and nothing was submitted.
    #[must_use]
    fn ask_peer(&mut self, _descriptor: Descriptor, _token: Token) -> bool {
        false
    }
    /// What a completed [`Ring::ask_peer`] has brought; `None` where the kernel does not tell.
    fn take_peer(&mut self, _token: Token) -> Option<SocketAddr> {
        None
    }
    /// Submits what is queued, sleeps until a completion or `timeout`, and moves completions to `into`, at most
    /// [`crate::limits::COMPLETIONS_PER_TURN_MAX`]: while more are left, the next call does not sleep.
    ///
    /// # Errors
    /// Only those after which the rings cannot be used any more.
    fn wait(&mut self, timeout: Duration, into: &mut Vec<Completion>) -> io::Result<()>;
    /// The first `bytes` of a buffer named by a completion.
    fn buffer(&mut self, buffer: Buffer, bytes: usize) -> &mut [u8];
    /// Gives a buffer back.
    fn recycle(&mut self, buffer: Buffer);
    /// Called once a tick: gives back what is not needed any more, empty rings and buffers.
    fn rest(&mut self);
    /// What the rings hold now.
    fn occupancy(&self) -> Occupancy;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_keeps_operation_generation_and_slot_apart() {
        let token = Token::new(Op::Close, GENERATIONS - 1, u32::MAX);
        assert_eq!(
            (token.op(), token.generation(), token.slot()),
            (Some(Op::Close), GENERATIONS - 1, u32::MAX)
        );
        assert_eq!(Token(0).op(), None);
    }

    #[test]
    fn descriptor_keeps_ring_and_place_apart() {
        let descriptor = Descriptor::new((1 << 12) - 1, (1 << 20) - 2);
        assert_eq!((descriptor.ring(), descriptor.place()), ((1 << 12) - 1, (1 << 20) - 2));
    }
}
