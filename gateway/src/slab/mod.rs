//! The slab: every connection of a shard is one slot in it, found by index and generation.

use std::ops::{Index, IndexMut};

/// Slots of a block; the slab grows by blocks so that growing never moves a slot.
const BLOCK_SLOTS: usize = 1_024;
const NO_SLOT: u32 = u32::MAX;
/// The `link` of an occupied slot.
const OCCUPIED: u32 = u32::MAX - 1;

/// A slot with its housekeeping.
#[derive(Debug)]
pub struct Entry<T> {
    generation: u32,
    /// [`OCCUPIED`], or the next free slot, or [`NO_SLOT`].
    link: u32,
    value: T,
}

/// Slots of `T`, reused last-in first-out so that a busy shard's slots stay in the cache.
///
/// Invariant: the free list, followed from `free`, visits each slot that is not [`OCCUPIED`] exactly once.
pub struct Slab<T> {
    blocks: Vec<Box<[Entry<T>]>>,
    free: u32,
    live: u32,
    generations: u32,
}

impl<T: Default> Slab<T> {
    /// An empty slab whose generations are counted modulo `generations`.
    pub fn new(generations: u32) -> Self {
        Self { blocks: Vec::new(), free: NO_SLOT, live: 0, generations }
    }

    /// Occupies a slot; its index and generation name it until [`Self::remove`].
    pub fn insert(&mut self, value: T) -> (u32, u32) {
        if self.free == NO_SLOT {
            self.grow();
        }
        let slot = self.free;
        let entry = self.entry_mut(slot);
        let next = entry.link;
        entry.link = OCCUPIED;
        entry.value = value;
        let generation = entry.generation;
        self.free = next;
        self.live += 1;
        (slot, generation)
    }

    /// Frees a slot and moves its generation on, so that whatever still names it names nobody.
    pub fn remove(&mut self, slot: u32) -> T {
        let (free, generations) = (self.free, self.generations);
        let entry = self.entry_mut(slot);
        assert_eq!(entry.link, OCCUPIED, "a slot is freed once");
        entry.link = free;
        entry.generation = (entry.generation + 1) % generations;
        let value = std::mem::take(&mut entry.value);
        self.free = slot;
        self.live -= 1;
        value
    }

    fn grow(&mut self) {
        let first = self.blocks.len() * BLOCK_SLOTS;
        let last = first + BLOCK_SLOTS - 1;
        assert!(last < OCCUPIED as usize, "a slot's index has 32 bits");
        let link = |slot: usize| if slot == last { NO_SLOT } else { slot as u32 + 1 };
        self.blocks.push(
            (first..=last)
                .map(|slot| Entry { generation: 0, link: link(slot), value: T::default() })
                .collect(),
        );
        self.free = first as u32;
    }

    fn entry_mut(&mut self, slot: u32) -> &mut Entry<T> {
        &mut self.blocks[slot as usize / BLOCK_SLOTS][slot as usize % BLOCK_SLOTS]
    }
}

impl<T> Slab<T> {
    /// Whether `slot` is occupied by the holder of `generation`.
    pub fn holds(&self, slot: u32, generation: u32) -> bool {
        self.blocks
            .get(slot as usize / BLOCK_SLOTS)
            .map(|block| &block[slot as usize % BLOCK_SLOTS])
            .is_some_and(|entry| entry.link == OCCUPIED && entry.generation == generation)
    }

    /// The generation of an occupied slot; `None` for a free one.
    pub fn generation(&self, slot: u32) -> Option<u32> {
        let entry = &self.blocks.get(slot as usize / BLOCK_SLOTS)?[slot as usize % BLOCK_SLOTS];
        (entry.link == OCCUPIED).then_some(entry.generation)
    }

    /// Occupied slots.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// Slots there are, occupied or free; every index below it may be asked for.
    pub fn slots(&self) -> u32 {
        (self.blocks.len() * BLOCK_SLOTS) as u32
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, slot: u32) -> &T {
        &self.blocks[slot as usize / BLOCK_SLOTS][slot as usize % BLOCK_SLOTS].value
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.blocks[slot as usize / BLOCK_SLOTS][slot as usize % BLOCK_SLOTS].value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_name_does_not_reach_the_successor() {
        let mut slab = Slab::new(1 << 24);
        let (slot, first) = slab.insert(7);
        assert!(slab.holds(slot, first));
        assert_eq!(slab.remove(slot), 7);
        assert!(!slab.holds(slot, first));
        let (again, second) = slab.insert(8);
        assert_eq!(again, slot, "last in, first out");
        assert!(!slab.holds(slot, first) && slab.holds(slot, second));
    }

    #[test]
    fn grows_past_a_block_and_keeps_every_slot_apart() {
        let mut slab = Slab::new(4);
        let slots: Vec<u32> = (0..3 * BLOCK_SLOTS as u32).map(|value| slab.insert(value).0).collect();
        for (value, slot) in slots.iter().enumerate() {
            assert_eq!(slab[*slot], value as u32);
        }
        assert_eq!(slab.live(), slab.slots());
        for slot in &slots {
            slab.remove(*slot);
        }
        assert_eq!(slab.live(), 0);
        for _ in &slots {
            slab.insert(0);
        }
        assert_eq!(slab.slots() as usize, 3 * BLOCK_SLOTS, "freed slots are used again");
    }

    #[test]
    fn generations_wrap() {
        let mut slab = Slab::new(2);
        let (slot, first) = slab.insert(());
        slab.remove(slot);
        slab.insert(());
        slab.remove(slot);
        assert_eq!(slab.insert(()), (slot, first));
    }
}
