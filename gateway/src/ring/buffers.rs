//! The provided-buffer ring of one io_uring (`io_uring_register_buf_ring(3)`).

use std::{
    io, mem,
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{IoUring, types::BufRingEntry};

use super::memory::Memory;

/// Buffers of one size that the kernel fills and we give back.
///
/// Invariant: a buffer is either the kernel's (in the ring between head and tail) or ours (`held`), never both.
/// The memory is unmapped by [`Self::unregister`] only: a receive that is still in flight when the ring is dropped must
/// not write into memory that belongs to somebody else.
pub struct BufferRing {
    entries: Memory,
    memory: Memory,
    held: Vec<bool>,
    held_count: u16,
    group: u16,
    count: u16,
    buffer_bytes: u32,
    tail: u16,
}

impl BufferRing {
    /// Maps `count` buffers (a power of two) of `buffer_bytes` each and registers them as `group`.
    pub fn register(ring: &IoUring, group: u16, count: u16, buffer_bytes: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "a buffer ring has a power of two of entries");
        let entries = Memory::map(usize::from(count) * mem::size_of::<BufRingEntry>())?;
        let memory = match Memory::map(usize::from(count) * buffer_bytes as usize) {
            Ok(memory) => memory,
            Err(error) => {
                entries.unmap();
                return Err(error);
            }
        };
        // SAFETY: `entries` is a fresh page-aligned mapping of `count` entries that stays mapped while it is
        // registered, as `register_buf_ring_with_flags` asks.
        let registered = unsafe {
            let address = entries.start().as_ptr() as u64;
            ring.submitter().register_buf_ring_with_flags(address, count, group, 0)
        };
        if let Err(error) = registered {
            entries.unmap();
            memory.unmap();
            return Err(error);
        }
        let held = vec![true; usize::from(count)];
        let mut buffers =
            Self { entries, memory, held, held_count: count, group, count, buffer_bytes, tail: 0 };
        (0..count).for_each(|id| buffers.recycle(id));
        Ok(buffers)
    }

    /// Ends it. No receive that names the group may be in flight, and no buffer held.
    pub fn unregister(self, ring: &IoUring) {
        assert!(self.is_whole(), "every buffer was given back");
        // Were it refused, the kernel could go on to write to the memory, which then stays mapped.
        if ring.submitter().unregister_buf_ring(self.group).is_ok() {
            self.entries.unmap();
            self.memory.unmap();
        }
    }

    /// No buffer is held.
    pub fn is_whole(&self) -> bool {
        self.held_count == 0
    }

    fn entry(&self, index: u16) -> NonNull<BufRingEntry> {
        assert!(index < self.count, "one of the ring's entries");
        let first = self.entries.start().cast::<BufRingEntry>();
        // SAFETY: `index` is below `count` (asserted), so the entry lies within the mapping.
        unsafe { first.add(usize::from(index)) }
    }

    /// Takes buffer `id` over from the kernel: a completion has just named it.
    pub fn claim(&mut self, id: u16) {
        self.held_count += 1;
        assert!(
            !mem::replace(&mut self.held[usize::from(id)], true),
            "the kernel named a buffer it did not have"
        );
    }

    /// The first `bytes` of a held buffer.
    pub fn bytes(&mut self, id: u16, bytes: usize) -> &mut [u8] {
        assert!(self.held[usize::from(id)], "only a held buffer may be read");
        assert!(bytes <= self.buffer_bytes as usize, "no more than the buffer was filled");
        let offset = usize::from(id) * self.buffer_bytes as usize;
        // SAFETY: `id` is below `count` (indexed above), so the buffer lies within `memory`.
        let start = unsafe { self.memory.start().as_ptr().add(offset) };
        // SAFETY: `bytes` stays within the buffer; it is held, so the kernel does not write to it, and `&mut self`
        // keeps a second reference from existing.
        unsafe { std::slice::from_raw_parts_mut(start, bytes) }
    }

    /// Gives a held buffer back to the kernel.
    pub fn recycle(&mut self, id: u16) {
        assert!(mem::replace(&mut self.held[usize::from(id)], false), "a buffer is given back once");
        self.held_count -= 1;
        let offset = usize::from(id) * self.buffer_bytes as usize;
        let mut entry = self.entry(self.tail & (self.count - 1));
        // SAFETY: there is room between tail and head because this buffer was ours, so the kernel does not read the
        // entry before the tail is moved.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(self.memory.start().as_ptr() as u64 + offset as u64);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` is the base of the registered ring; its tail lies in the first entry's reserved field.
        let tail = unsafe { BufRingEntry::tail(self.entry(0).as_ptr()) };
        // SAFETY: the tail is an aligned u16 that only this thread writes and the kernel reads; release publishes
        // the entry before the tail.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.store(self.tail, Ordering::Release);
    }
}
