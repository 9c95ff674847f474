//! A block of the slab: memory mapped from the kernel in one piece, and given back in one piece.

use std::{io, ptr, ptr::NonNull};

/// Slots of a block. With slots of 64 bytes a block is 256 pages: a large mapping, of which only what was used is touched.
pub const BLOCK_SLOTS: u32 = 16_384;
/// Ends the list of free slots.
const NO_SLOT: u32 = u32::MAX;
/// The `link` of an occupied slot.
const OCCUPIED: u32 = u32::MAX - 1;

/// A slot with its housekeeping.
#[derive(Debug)]
pub struct Entry<T> {
    generation: u32,
    /// [`OCCUPIED`], or the next free slot of the block, or [`NO_SLOT`].
    link: u32,
    value: T,
}

/// The mapped slots of a block, numbered from 0.
///
/// Invariant: the first `begun` entries are initialised, the others have never been touched. The free list, followed
/// from `free`, visits each of the first `begun` that is not [`OCCUPIED`] exactly once.
pub struct Block<T> {
    entries: NonNull<Entry<T>>,
    begun: u32,
    free: u32,
    live: u32,
}

impl<T: Default> Block<T> {
    /// Maps a block; it takes memory page by page, as its slots are first used.
    pub fn map() -> io::Result<Self> {
        // SAFETY: an anonymous private mapping at an address the kernel chooses touches no memory of ours.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Self::BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let entries =
            NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mmap answered the null page"))?;
        Ok(Self { entries, begun: 0, free: NO_SLOT, live: 0 })
    }

    /// Occupies a slot, which a block that is not full has, and tells its number and generation. A slot that was never
    /// used has generation `fresh`.
    pub fn insert(&mut self, value: T, fresh: u32) -> (u32, u32) {
        self.live += 1;
        if self.free == NO_SLOT {
            let slot = self.begun;
            assert!(slot < BLOCK_SLOTS, "a full block is not inserted into");
            // SAFETY: `slot` is below BLOCK_SLOTS (asserted), so the entry lies within the mapping.
            let entry = unsafe { self.entries.add(slot as usize) };
            // SAFETY: the entry lies within the mapping, is aligned (a page and multiples of the entry's size) and
            // uninitialised, so nothing has to be dropped.
            unsafe { entry.write(Entry { generation: fresh, link: OCCUPIED, value }) };
            self.begun += 1;
            return (slot, fresh);
        }
        let slot = self.free;
        let entry = self.entry_mut(slot).expect("a free slot is initialised");
        let next = std::mem::replace(&mut entry.link, OCCUPIED);
        entry.value = value;
        let generation = entry.generation;
        self.free = next;
        (slot, generation)
    }

    /// Frees an occupied slot and gives it its next generation.
    pub fn remove(&mut self, slot: u32, generations: u32) -> (T, u32) {
        let free = self.free;
        let entry = self.entry_mut(slot).expect("only a slot that was occupied is freed");
        assert_eq!(entry.link, OCCUPIED, "a slot is freed once");
        entry.link = free;
        entry.generation = (entry.generation + 1) % generations;
        let freed = (std::mem::take(&mut entry.value), entry.generation);
        self.free = slot;
        self.live -= 1;
        freed
    }
}

impl<T> Block<T> {
    const BYTES: usize = BLOCK_SLOTS as usize * size_of::<Entry<T>>();

    /// Occupied slots.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// The generation of an occupied slot.
    pub fn generation(&self, slot: u32) -> Option<u32> {
        self.entry(slot).filter(|entry| entry.link == OCCUPIED).map(|entry| entry.generation)
    }

    /// What a slot that was used holds, its default when it is free.
    pub fn value(&self, slot: u32) -> Option<&T> {
        self.entry(slot).map(|entry| &entry.value)
    }

    /// As [`Self::value`], to change it.
    pub fn value_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.entry_mut(slot).map(|entry| &mut entry.value)
    }

    /// What an occupied slot holds, with its generation.
    #[inline]
    pub fn occupied_mut(&mut self, slot: u32) -> Option<(u32, &mut T)> {
        let entry = self.entry_mut(slot).filter(|entry| entry.link == OCCUPIED)?;
        Some((entry.generation, &mut entry.value))
    }

    fn entry(&self, slot: u32) -> Option<&Entry<T>> {
        if slot >= self.begun {
            return None;
        }
        // SAFETY: `slot` is below `begun`, so the entry lies within the mapping.
        let entry = unsafe { self.entries.add(slot as usize) };
        // SAFETY: the first `begun` entries are initialised, and `&self` keeps a mutable reference from existing.
        Some(unsafe { entry.as_ref() })
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry<T>> {
        if slot >= self.begun {
            return None;
        }
        // SAFETY: `slot` is below `begun`, so the entry lies within the mapping.
        let mut entry = unsafe { self.entries.add(slot as usize) };
        // SAFETY: the first `begun` entries are initialised, and `&mut self` keeps a second reference from existing.
        Some(unsafe { entry.as_mut() })
    }
}

impl<T> Drop for Block<T> {
    fn drop(&mut self) {
        let begun = ptr::slice_from_raw_parts_mut(self.entries.as_ptr(), self.begun as usize);
        // SAFETY: the first `begun` entries are initialised and are not used again.
        unsafe { begun.drop_in_place() };
        // SAFETY: the whole of a mapping that `map` made; nothing refers to it any more.
        unsafe { libc::munmap(self.entries.as_ptr().cast(), Self::BYTES) };
    }
}
