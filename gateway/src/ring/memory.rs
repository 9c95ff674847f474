//! Anonymous memory from the kernel, for buffers that the kernel fills.

use std::{io, ptr, ptr::NonNull};

/// A private anonymous mapping.
///
/// It is not unmapped when it is dropped: an operation in flight may still write to it. Whoever knows that none is
/// calls [`Self::unmap`].
pub struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

impl Memory {
    /// Maps `bytes`, rounded up to whole pages; they are zero.
    pub fn map(bytes: usize) -> io::Result<Self> {
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
        let start =
            NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mmap answered the null page"))?;
        Ok(Self { start, bytes })
    }

    /// The first byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Gives the pages from `offset` on back to the kernel; they are zero when they are touched again. Nobody may
    /// write to them meanwhile, and `offset` is a multiple of the page size.
    pub fn discard_from(&mut self, offset: usize) {
        assert!(offset <= self.bytes, "within the mapping");
        // SAFETY: `offset` is within the mapping (asserted).
        let start = unsafe { self.start.as_ptr().add(offset) };
        // SAFETY: the range is the rest of this private mapping, which `&mut self` makes ours. The advice may fail:
        // then the pages stay, and nothing else changes.
        unsafe { libc::madvise(start.cast(), self.bytes - offset, libc::MADV_DONTNEED) };
    }

    /// Unmaps it all. No operation that is in flight may name it.
    pub fn unmap(self) {
        // SAFETY: the whole of a mapping that `map` made and that is used up here.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
