//! The ring: what a shard asks of the kernel and what comes back.
//!
//! It is a trait so that tests can put a fake one under the same shard. [`Uring`] is the real one.

mod buffers;
mod uring;

use std::{io, time::Duration};

pub use uring::Uring;

/// A place in the ring's table of direct descriptors. It is not a file descriptor of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor(pub u32);

/// The operation a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Multishot accept on the shard's listener.
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
    /// Bytes, a descriptor, or a negated errno.
    pub result: i32,
    /// The operation stays armed and will complete again (`IORING_CQE_F_MORE`).
    pub more: bool,
    /// The provided buffer that was filled; it is ours until [`Ring::recycle`].
    pub buffer: Option<u16>,
    /// The buffer of a finished send, given back.
    pub sent: Option<Vec<u8>>,
}

/// What a shard needs of a ring. Submissions are queued and go out with the next [`Ring::wait`]; when the queue is full
/// they go out at once, so no submission is refused.
pub trait Ring {
    /// Arms multishot accept; each connection arrives as an [`Op::Accept`] completion with its [`Descriptor`].
    fn accept(&mut self, token: Token);
    /// Arms multishot receive into provided buffers.
    fn receive(&mut self, descriptor: Descriptor, token: Token);
    /// Sends all of `bytes`; at most one send of a slot is in flight. The buffer comes back in the completion.
    fn send(&mut self, descriptor: Descriptor, token: Token, bytes: Vec<u8>);
    /// Shuts the write side of a socket down: the peer sees a FIN after what was sent, `shutdown(2)`.
    fn shutdown_write(&mut self, descriptor: Descriptor, token: Token);
    /// Closes a direct descriptor, which frees its place in the table. No other operation on it may be in flight.
    fn close(&mut self, descriptor: Descriptor, token: Token);
    /// Ends the operation `target`, which completes with `-ECANCELED` unless it was faster.
    fn cancel(&mut self, target: Token);
    /// Submits what is queued, sleeps until a completion or `timeout`, and moves all completions to `into`.
    ///
    /// # Errors
    /// Only those after which the ring cannot be used any more.
    fn wait(&mut self, timeout: Duration, into: &mut Vec<Completion>) -> io::Result<()>;
    /// The first `bytes` of a provided buffer named by a completion.
    fn buffer(&mut self, id: u16, bytes: usize) -> &mut [u8];
    /// Gives a provided buffer back to the kernel.
    fn recycle(&mut self, id: u16);
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
}
