//! The buffers a shard reads into when a poll has fired: one pool for all its rings.

use std::{collections::HashMap, io};

use rustc_hash::FxBuildHasher;

use super::{Token, memory::Memory};
use crate::limits;

const WORDS: usize = limits::READ_BUFFERS as usize / u64::BITS as usize;
const BUFFER_BYTES: usize = limits::RECEIVE_BUFFER_BYTES as usize;

/// Buffers of one size, the lowest free one first, so that a quiet shard touches few pages.
///
/// Invariant: a buffer is free (its bit in `free` is set), or lent to the read named in `reading`, or held by the shard
/// until it gives it back. The memory is never unmapped, so that a read in flight when the process ends writes to it.
pub struct ReadPool {
    memory: Memory,
    free: [u64; WORDS],
    reading: HashMap<Token, u16, FxBuildHasher>,
    /// One more than the highest buffer lent since the last [`Self::rest`].
    touched: u16,
    in_use: u16,
}

impl ReadPool {
    /// Maps [`limits::READ_BUFFERS`] buffers; they take memory when they are first written to.
    pub fn map() -> io::Result<Self> {
        let memory = Memory::map(usize::from(limits::READ_BUFFERS) * BUFFER_BYTES)?;
        Ok(Self { memory, free: [u64::MAX; WORDS], reading: HashMap::default(), touched: 0, in_use: 0 })
    }

    /// Lends a buffer to the read `token`: its first byte, or `None` when all are in use.
    pub fn lend(&mut self, token: Token) -> Option<*mut u8> {
        let word = self.free.iter().position(|word| *word != 0)?;
        let id = (word as u32 * u64::BITS + self.free[word].trailing_zeros()) as u16;
        self.free[word] &= self.free[word] - 1;
        self.in_use += 1;
        self.touched = self.touched.max(id + 1);
        let earlier = self.reading.insert(token, id);
        assert!(earlier.is_none(), "at most one read of a slot is in flight");
        Some(self.address(id))
    }

    /// The read `token` has completed: its buffer is ours again.
    pub fn returned(&mut self, token: Token) -> u16 {
        self.reading.remove(&token).expect("a read was lent a buffer")
    }

    /// The first `bytes` of a buffer that its read has returned.
    pub fn bytes(&mut self, id: u16, bytes: usize) -> &mut [u8] {
        assert!(self.lent(id) && bytes <= BUFFER_BYTES, "only what a read has filled");
        let start = self.address(id);
        // SAFETY: the bytes lie within the buffer (asserted), whose read has completed, so the kernel does not write
        // to it; `&mut self` keeps a second reference from existing.
        unsafe { std::slice::from_raw_parts_mut(start, bytes) }
    }

    /// Gives a buffer back.
    pub fn recycle(&mut self, id: u16) {
        assert!(self.lent(id), "a buffer is given back once");
        self.free[usize::from(id / 64)] |= 1 << (id % 64);
        self.in_use -= 1;
    }

    /// Buffers lent or held.
    pub fn in_use(&self) -> u16 {
        self.in_use
    }

    /// Gives the memory that the last tick's traffic made it touch back, unless a buffer is in use.
    pub fn rest(&mut self) {
        if self.in_use == 0 && self.touched > limits::READ_BUFFERS_KEPT {
            self.memory.discard_from(usize::from(limits::READ_BUFFERS_KEPT) * BUFFER_BYTES);
            self.touched = 0;
        }
    }

    fn lent(&self, id: u16) -> bool {
        self.free[usize::from(id / 64)] & 1 << (id % 64) == 0
    }

    fn address(&self, id: u16) -> *mut u8 {
        assert!(id < limits::READ_BUFFERS, "one of the pool's");
        // SAFETY: `id` is below the number of buffers that `memory` was mapped for.
        unsafe { self.memory.start().as_ptr().add(usize::from(id) * BUFFER_BYTES) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Op;

    #[test]
    fn lends_each_buffer_once_the_lowest_first_and_none_beyond_its_number() {
        let mut pool = ReadPool::map().expect("memory");
        let token = |slot| Token::new(Op::Read, 0, slot);
        let all = u32::from(limits::READ_BUFFERS);
        (0..all).for_each(|slot| assert!(pool.lend(token(slot)).is_some()));
        assert!(pool.lend(token(all)).is_none(), "the pool is bounded");
        let ids: Vec<u16> = (0..all).map(|slot| pool.returned(token(slot))).collect();
        assert!(ids.iter().copied().eq(0..limits::READ_BUFFERS), "the lowest free one first");
        pool.bytes(7, 3).copy_from_slice(b"abc");
        assert_eq!(pool.bytes(7, 3), b"abc");
        for id in ids {
            pool.recycle(id);
        }
        assert_eq!(pool.in_use(), 0);
        pool.rest();
        assert!(pool.lend(token(0)).is_some());
        assert_eq!(pool.returned(token(0)), 0);
    }
}
