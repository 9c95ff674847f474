//! The other end of one connection, and the kernel's side of its socket.

use std::collections::VecDeque;

use roost_gateway::ring::{Descriptor, Token};

/// A peer: what it will do, and what came of it.
#[derive(Default)]
pub struct Peer {
    /// What it will send.
    pub sends: VecDeque<u8>,
    /// After sending all it sends a FIN.
    pub fin_after: bool,
    /// It resets the connection when so many bytes were sent.
    pub reset_at: Option<usize>,
    /// What it does otherwise than most.
    pub manners: Manners,
    /// How what it sends arrives.
    pub arrival: Arrival,
    /// Bytes it has sent.
    pub sent: usize,
    /// What it received.
    pub received: Vec<u8>,
    /// Something that the shard may end a connection for was done to it, or by it.
    pub hurt: bool,
    /// Slot and generation by which the shard names it.
    pub owner: Option<(u32, u32)>,
    pub(super) arrived: VecDeque<u8>,
    pub(super) stream: Stream,
    /// Our end: it saw our FIN, or the end of the connection.
    pub(super) ours: Stream,
    /// The poll has news to tell.
    pub(super) fires: bool,
    pub(super) descriptor: Option<Descriptor>,
    pub(super) poll: Option<Token>,
    pub(super) read: Option<Token>,
    pub(super) receive: Option<Token>,
    pub(super) sending: Option<Sending>,
    pub(super) shutting: Option<Token>,
    pub(super) closing: Option<Token>,
}

/// A send in flight.
pub struct Sending {
    pub(super) token: Token,
    pub(super) bytes: Vec<u8>,
    /// Bytes that the peer has taken.
    pub(super) done: usize,
}

impl Sending {
    /// The result of a send that ends before all of it was taken.
    pub(super) fn cut(&self, error: i32) -> i32 {
        if self.done > 0 { self.done as i32 } else { -error }
    }
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

/// What a peer does otherwise than most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manners {
    /// Nothing.
    #[default]
    Usual,
    /// It takes nothing: its window is zero from the first byte on.
    TakesNothing,
    /// It does not answer our FIN with its own.
    Lingers,
}

/// What an end of the stream has come to.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Stream {
    /// Bytes may come.
    #[default]
    Open,
    /// The FIN was sent.
    Finished,
    /// It was reset. The error is told once, to whoever asks first (`sock_error` of the kernel).
    Reset {
        /// Somebody knows.
        told: bool,
    },
}

impl Peer {
    /// What a poll would tell now.
    pub(super) fn events(&self) -> i32 {
        let input = if self.arrived.is_empty() { 0 } else { libc::POLLIN };
        let end = match self.stream {
            Stream::Open => 0,
            Stream::Finished => libc::POLLIN | libc::POLLRDHUP,
            Stream::Reset { told } => {
                let error = if told { 0 } else { libc::POLLERR };
                libc::POLLIN | libc::POLLRDHUP | libc::POLLHUP | error
            }
        };
        i32::from(input | end)
    }

    /// What a read of at most `room` bytes takes: bytes, or its result.
    pub(super) fn take(&mut self, room: usize) -> Result<Vec<u8>, i32> {
        if !self.arrived.is_empty() {
            return Ok(self.arrived.drain(..room.min(self.arrived.len())).collect());
        }
        match self.stream {
            Stream::Open => Err(-libc::EAGAIN),
            Stream::Finished | Stream::Reset { told: true } => Err(0),
            Stream::Reset { told: false } => {
                self.stream = Stream::Reset { told: true };
                Err(-libc::ECONNRESET)
            }
        }
    }

    /// The connection is reset; with `keep`, what has arrived can still be read.
    pub(super) fn reset(&mut self, keep: bool) {
        if matches!(self.stream, Stream::Reset { .. }) {
            return;
        }
        self.stream = Stream::Reset { told: false };
        self.hurt = true;
        self.fires = true;
        if !keep {
            self.arrived.clear();
        }
    }

    /// The next `bytes` of what it sends arrive, or its FIN where all has.
    pub(super) fn arrive(&mut self, bytes: usize) {
        self.arrived.extend(self.sends.drain(..bytes));
        self.sent += bytes;
        if self.sends.is_empty() && self.fin_after && self.stream == Stream::Open {
            self.stream = Stream::Finished;
        }
        self.fires = true;
    }

    /// No operation is in flight on it.
    pub(super) fn is_idle(&self) -> bool {
        self.poll.is_none()
            && self.read.is_none()
            && self.receive.is_none()
            && self.sending.is_none()
            && self.shutting.is_none()
    }
}
