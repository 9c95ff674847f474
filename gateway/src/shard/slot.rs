//! One connection as a shard keeps it: protocol, descriptor, and where it stands on its way out.

use crate::{conn::Conn, limits, ring::Descriptor, slab::Entry, timers::Tick};

/// No outbox.
pub const NO_OUTBOX: u32 = u32::MAX;

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
pub struct Flags(u16);

/// The multishot receive is armed.
pub const RECEIVING: u16 = 1;
/// A send is in flight.
pub const SENDING: u16 = 1 << 1;
/// Not read, because its outbox is long or the router's queue is full.
pub const PAUSED: u16 = 1 << 2;
/// Already in the list of connections to look at before the turn ends.
pub const DIRTY: u16 = 1 << 3;
/// The peer's FIN, or an error of the socket, was seen: nothing more will come.
pub const ENDED: u16 = 1 << 4;
/// A shutdown is in flight. It runs on a worker of the kernel, which looks the descriptor up when it gets to it: until
/// then the descriptor must not be closed, or the shutdown would hit its next holder.
pub const SHUTTING: u16 = 1 << 5;
/// The router knows the session.
pub const ATTACHED: u16 = 1 << 6;
/// Both Close frames are exchanged: once ours is sent there is nothing to wait for.
pub const OVER: u16 = 1 << 7;
/// In the list of connections that are looked at when the router has taken the backlog.
pub const HELD: u16 = 1 << 8;
/// Counted among the process's connections.
pub const ADMITTED: u16 = 1 << 9;

impl Flags {
    /// Whether all of `bits` are set.
    pub fn has(self, bits: u16) -> bool {
        self.0 & bits == bits
    }

    /// Whether one of `bits` is set.
    pub fn any(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    /// Sets or clears.
    pub fn set(&mut self, bits: u16, on: bool) {
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
    /// Its way out.
    pub life: Life,
    /// In flight.
    pub flags: Flags,
}

impl Slot {
    /// A connection that was just accepted.
    pub fn accepted(descriptor: Descriptor, full: bool, now: Tick) -> Self {
        Self { conn: Conn::accepted(full), descriptor, heard: now, ..Self::default() }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            conn: Conn::default(),
            descriptor: Descriptor(0),
            outbox: NO_OUTBOX,
            heard: Tick::default(),
            life: Life::Live,
            flags: Flags::default(),
        }
    }
}

const _: () = assert!(size_of::<Entry<Slot>>() <= 64, "a connection costs one cache line");

/// Output that waits, for the few connections that have any.
#[derive(Default)]
pub struct Outboxes {
    boxes: Vec<Vec<u8>>,
    free: Vec<u32>,
    spare: Vec<Vec<u8>>,
}

impl Outboxes {
    /// The outbox of a slot, made when it has none.
    pub fn open(&mut self, index: &mut u32) -> &mut Vec<u8> {
        if *index == NO_OUTBOX {
            *index = self.free.pop().unwrap_or_else(|| {
                self.boxes.push(Vec::new());
                self.boxes.len() as u32 - 1
            });
            self.boxes[*index as usize] = self.spare.pop().unwrap_or_default();
        }
        &mut self.boxes[*index as usize]
    }

    /// Bytes that wait.
    pub fn len(&self, index: u32) -> usize {
        if index == NO_OUTBOX { 0 } else { self.boxes[index as usize].len() }
    }

    /// Takes what waits and gives the place back.
    pub fn take(&mut self, index: &mut u32) -> Vec<u8> {
        if *index == NO_OUTBOX {
            return Vec::new();
        }
        self.free.push(*index);
        std::mem::take(&mut self.boxes[std::mem::replace(index, NO_OUTBOX) as usize])
    }

    /// Keeps a buffer for the next outbox, unless it is large or there are enough.
    pub fn keep(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < limits::KEPT_BUFFERS_MAX && bytes.capacity() <= limits::KEPT_BUFFER_BYTES_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Outboxes in use.
    pub fn in_use(&self) -> usize {
        self.boxes.len() - self.free.len()
    }
}
