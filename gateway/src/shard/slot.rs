//! One connection as a shard keeps it: protocol, descriptor, and where it stands on its way out.

use super::outboxes::NO_OUTBOX;
use crate::{conn::Conn, ring::Descriptor, slab::Entry, timers::Tick};

/// How far a connection is on its way out. It only ever moves downwards in this list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// Messages flow.
    #[default]
    Live,
    /// All is said; what waits is sent, then the write side is shut down.
    Flushing,
    /// Our FIN is out; input is discarded until the peer's FIN comes or its time is up.
    Lingering,
    /// Nothing matters any more but that no operation of this connection is in flight.
    Ending,
    /// The close of its descriptor is in flight; its completion frees the slot.
    Closing,
}

/// What is in flight or asked for, as bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags(u32);

/// The multishot receive is armed.
pub const RECEIVING: u32 = 1;
/// A send is in flight.
pub const SENDING: u32 = 1 << 1;
/// Not read, because its outbox is long or the router's queue is full.
pub const PAUSED: u32 = 1 << 2;
/// Already in the list of connections to look at before the turn ends.
pub const DIRTY: u32 = 1 << 3;
/// The peer's FIN, or an error of the socket, was seen: nothing more will come.
pub const ENDED: u32 = 1 << 4;
/// A shutdown is in flight. It runs on a worker of the kernel, which looks the descriptor up when it gets to it: until
/// then the descriptor must not be closed, or the shutdown would hit its next holder.
pub const SHUTTING: u32 = 1 << 5;
/// The router knows the session.
pub const ATTACHED: u32 = 1 << 6;
/// Both Close frames are exchanged: once ours is sent there is nothing to wait for.
pub const OVER: u32 = 1 << 7;
/// In the list of connections that are looked at when the router has taken the backlog.
pub const HELD: u32 = 1 << 8;
/// Counted among the process's connections.
pub const ADMITTED: u32 = 1 << 9;
/// The multishot poll is armed.
pub const POLLING: u32 = 1 << 10;
/// A read is in flight.
pub const READING: u32 = 1 << 11;
/// The poll has fired, or a read filled its buffer: there may be something to read.
pub const READABLE: u32 = 1 << 12;
/// The poll told of the peer's end or an error: it is read until that comes.
pub const HUNG: u32 = 1 << 13;
/// In the list of those that wait for a read buffer.
pub const THIRSTY: u32 = 1 << 14;
/// Its operations were cancelled, and are not cancelled again at once.
pub const CUT: u32 = 1 << 16;
/// Input that came while it was paused is kept; see [`super::parked`].
pub const PARKED: u32 = 1 << 17;
/// A proxy's header must come first and has not come whole; see [`super::proxied`].
pub const UNPROXIED: u32 = 1 << 18;
/// A send has failed: what comes after it would leave a gap in the stream.
pub const FAILED: u32 = 1 << 19;
/// Let in, and its opening handshake is not over; see [`super::handshakes`].
pub const HANDSHAKING: u32 = 1 << 20;
/// Its last read filled its buffer; see [`super::greedy`].
pub const GREEDY: u32 = 1 << 21;
/// It has sent something since we said goodbye; see [`super::goodbye`].
pub const DISCARDING: u32 = 1 << 22;
/// Received by multishot receive instead of poll and read; see [`super::busy`].
pub const BUSY: u32 = 1 << 15;

impl Flags {
    /// Whether all of `bits` are set.
    pub fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// Whether one of `bits` is set.
    pub fn any(self, bits: u32) -> bool {
        self.0 & bits != 0
    }

    /// Sets or clears.
    pub fn set(&mut self, bits: u32, on: bool) {
        if on { self.0 |= bits } else { self.0 &= !bits }
    }
}

/// A connection's slot.
#[derive(Debug)]
pub struct Slot {
    /// Its protocol.
    pub conn: Conn,
    /// Its place in the ring's table.
    pub descriptor: Descriptor,
    /// Index of what waits to be sent, or [`NO_OUTBOX`].
    pub outbox: u32,
    /// When a byte last came; while `conn` is in its handshake, when it was accepted; from `Flushing` on, since when.
    pub heard: Tick,
    /// The age of the shard when it was accepted, seconds.
    pub since_s: u32,
    /// Its way out.
    pub life: Life,
    /// Reads or receives in the tick of `heard`.
    pub reads: u8,
    /// In flight.
    pub flags: Flags,
}

impl Slot {
    /// Whether there is nothing to do for it until its ring or the router has news: it listens, and nothing waits to be said.
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.is_attentive() && self.outbox == NO_OUTBOX
    }

    /// Whether it listens, and nothing has to be done for that.
    #[inline]
    pub fn is_attentive(&self) -> bool {
        self.life == Life::Live
            && self.flags.any(POLLING | RECEIVING)
            && !self.flags.any(PAUSED | ENDED | READABLE)
    }

    /// Whether there is something to read and nothing that reads it or forbids it.
    pub fn is_to_be_read(&self) -> bool {
        self.flags.has(READABLE)
            && !self.flags.any(READING | RECEIVING | PAUSED | ENDED)
            && self.life < Life::Ending
    }

    /// A connection that was just accepted.
    pub fn accepted(descriptor: Descriptor, full: bool, now: Tick, since_s: u32) -> Self {
        Self { conn: Conn::accepted(full), descriptor, heard: now, since_s, ..Self::default() }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            conn: Conn::default(),
            descriptor: Descriptor::new(0, 0),
            outbox: NO_OUTBOX,
            heard: Tick::default(),
            since_s: 0,
            life: Life::Live,
            reads: 0,
            flags: Flags::default(),
        }
    }
}

const _: () =
    assert!(size_of::<Entry<Slot>>() == 64, "a connection costs one cache line; docs/decisions/0006");
