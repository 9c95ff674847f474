//! The provided-buffer ring of one io_uring (`io_uring_register_buf_ring(3)`).

use std::{
    io, mem, ptr,
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{IoUring, types::BufRingEntry};

/// Buffers of one size that the kernel fills and we give back.
///
/// Invariant: a buffer is either the kernel's (in the ring between head and tail) or ours (`held`), never both.
/// The memory is never unmapped: a receive that is still in flight when the ring is dropped must not write into
/// memory that belongs to somebody else. A shard lives as long as its process, so nothing is lost by that.
pub struct BufferRing {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    held: Vec<bool>,
    count: u16,
    buffer_bytes: u32,
    tail: u16,
}

impl BufferRing {
    /// Maps `count` buffers (a power of two) of `buffer_bytes` each and registers them as `group`.
    pub fn register(ring: &IoUring, group: u16, count: u16, buffer_bytes: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "a buffer ring has a power of two of entries");
        let entries = map(usize::from(count) * mem::size_of::<BufRingEntry>())?.cast::<BufRingEntry>();
        let memory = map(usize::from(count) * buffer_bytes as usize)?;
        // SAFETY: `entries` is a fresh page-aligned mapping of `count` entries that is never unmapped, as
        // `register_buf_ring_with_flags` asks.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, group, 0)?;
        }
        let mut buffers =
            Self { entries, memory, held: vec![true; usize::from(count)], count, buffer_bytes, tail: 0 };
        (0..count).for_each(|id| buffers.recycle(id));
        Ok(buffers)
    }

    /// Takes buffer `id` over from the kernel: a completion has just named it.
    pub fn claim(&mut self, id: u16) {
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
        let start = unsafe { self.memory.as_ptr().add(offset) };
        // SAFETY: `bytes` stays within the buffer; it is held, so the kernel does not write to it, and `&mut self`
        // keeps a second reference from existing.
        unsafe { std::slice::from_raw_parts_mut(start, bytes) }
    }

    /// Gives a held buffer back to the kernel.
    pub fn recycle(&mut self, id: u16) {
        assert!(mem::replace(&mut self.held[usize::from(id)], false), "a buffer is given back once");
        let index = usize::from(self.tail & (self.count - 1));
        let offset = usize::from(id) * self.buffer_bytes as usize;
        // SAFETY: `index` is below `count`, so the entry lies within the mapping.
        let entry = unsafe { self.entries.as_ptr().add(index) };
        // SAFETY: there is room between tail and head because this buffer was ours, so the kernel does not read the
        // entry before the tail is moved.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.memory.as_ptr() as u64 + offset as u64);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` is the base of the registered ring; its tail lies in the first entry's reserved field.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is an aligned u16 that only this thread writes and the kernel reads; release publishes
        // the entry before the tail.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.store(self.tail, Ordering::Release);
    }
}

fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: an anonymous private mapping at an address the kernel chooses touches no memory of ours.
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mmap answered the null page"))
}
