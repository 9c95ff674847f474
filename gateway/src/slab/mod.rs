//! The slab: every connection of a shard is one slot in it, found by index and generation.

mod block;

use std::{
    collections::BTreeSet,
    io,
    ops::{Index, IndexMut},
};

pub use block::Entry;
use block::{BLOCK_SLOTS, Block};

/// No slot ever has this index.
pub const NO_SLOT: u32 = u32::MAX;

/// Empty blocks kept mapped, so that a connection that comes and goes does not map and unmap one each time.
const BLOCKS_SPARE: usize = 1;

/// A block's place in the slab: mapped, or given back.
struct Place<T> {
    block: Option<Block<T>>,
    /// The generation of a slot that is first used after the block was mapped. It is past every generation that the
    /// slots had before the block was given back, so that a late name of one of them names nobody.
    fresh: u32,
    /// How far the slot with most successors has gone beyond `fresh`.
    ahead: u32,
}

/// Slots of `T` in blocks. A new one comes from the lowest block that has room, so that the high ones empty and are
/// given back when connections leave; within a block the last that was freed, which is still in the cache.
///
/// Invariant: `room` has the numbers of the mapped blocks that are not full, and `empty` of them have no occupied slot.
pub struct Slab<T> {
    places: Vec<Place<T>>,
    room: BTreeSet<u32>,
    empty: usize,
    mapped: usize,
    /// One more than the number of the highest mapped block.
    top: usize,
    live: u32,
    generations: u32,
}

impl<T: Default> Slab<T> {
    /// An empty slab whose generations are counted modulo `generations`.
    pub fn new(generations: u32) -> Self {
        Self { places: Vec::new(), room: BTreeSet::new(), empty: 0, mapped: 0, top: 0, live: 0, generations }
    }

    /// Occupies a slot; its index and generation name it until [`Self::remove`].
    ///
    /// # Errors
    /// A block is needed and the kernel does not map one, `mmap(2)`; the slab is as it was, and `value` is dropped.
    pub fn insert(&mut self, value: T) -> io::Result<(u32, u32)> {
        let number = match self.room.first() {
            Some(number) => *number,
            None => self.grow()?,
        };
        let place = &mut self.places[number as usize];
        let block = place.block.as_mut().expect("a block with room is mapped");
        let (slot, generation) = block.insert(value, place.fresh);
        if block.live() == 1 {
            self.empty -= 1;
        }
        if block.live() == BLOCK_SLOTS {
            self.room.remove(&number);
        }
        self.live += 1;
        Ok((number * BLOCK_SLOTS + slot, generation))
    }

    /// Frees a slot and moves its generation on, so that whatever still names it names nobody.
    pub fn remove(&mut self, slot: u32) -> T {
        let number = slot / BLOCK_SLOTS;
        let place = &mut self.places[number as usize];
        let block = place.block.as_mut().expect("an occupied slot is in a mapped block");
        if block.live() == BLOCK_SLOTS {
            self.room.insert(number);
        }
        let (value, generation) = block.remove(slot % BLOCK_SLOTS, self.generations);
        let gone = (generation + self.generations - place.fresh) % self.generations;
        place.ahead = place.ahead.max(gone);
        self.live -= 1;
        if block.live() == 0 {
            self.empty += 1;
            self.give_back();
        }
        value
    }

    fn grow(&mut self) -> io::Result<u32> {
        let block = Block::map()?;
        let number = self.places.iter().position(|place| place.block.is_none()).unwrap_or_else(|| {
            self.places.push(Place { block: None, fresh: 0, ahead: 0 });
            self.places.len() - 1
        });
        assert!(u32::try_from((number + 1) * BLOCK_SLOTS as usize).is_ok(), "a slot's index has 32 bits");
        self.places[number].block = Some(block);
        self.mapped += 1;
        self.top = self.top.max(number + 1);
        self.empty += 1;
        self.room.insert(number as u32);
        Ok(number as u32)
    }

    /// Unmaps the highest empty block when there is more than the spare one.
    fn give_back(&mut self) {
        if self.empty <= BLOCKS_SPARE {
            return;
        }
        let is_empty = |number: &&u32| {
            self.places[**number as usize].block.as_ref().is_some_and(|block| block.live() == 0)
        };
        let Some(number) = self.room.iter().rev().find(is_empty).copied() else { return };
        let place = &mut self.places[number as usize];
        place.block = None;
        place.fresh = (place.fresh + place.ahead) % self.generations;
        place.ahead = 0;
        self.room.remove(&number);
        self.mapped -= 1;
        self.empty -= 1;
        while self.top > 0 && self.places[self.top - 1].block.is_none() {
            self.top -= 1;
        }
    }
}

impl<T> Slab<T> {
    /// Whether `slot` is occupied by the holder of `generation`.
    pub fn holds(&self, slot: u32, generation: u32) -> bool {
        self.generation(slot) == Some(generation)
    }

    /// The generation of an occupied slot; `None` for a free one.
    pub fn generation(&self, slot: u32) -> Option<u32> {
        self.block(slot)?.generation(slot % BLOCK_SLOTS)
    }

    /// What an occupied slot holds, with its generation; `None` for a free one. One look where [`Self::generation`] and an index
    /// would take two.
    #[inline]
    pub fn occupied_mut(&mut self, slot: u32) -> Option<(u32, &mut T)> {
        let place = self.places.get_mut((slot / BLOCK_SLOTS) as usize)?;
        place.block.as_mut()?.occupied_mut(slot % BLOCK_SLOTS)
    }

    /// Occupied slots.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// One more than the highest index that a slot can have now; every index below it may be asked for.
    pub fn slots(&self) -> u32 {
        self.top as u32 * BLOCK_SLOTS
    }

    /// Slots of the blocks that are mapped now.
    pub fn slots_mapped(&self) -> u32 {
        self.mapped as u32 * BLOCK_SLOTS
    }

    /// Blocks that are mapped now.
    pub fn blocks(&self) -> usize {
        self.mapped
    }

    fn block(&self, slot: u32) -> Option<&Block<T>> {
        self.places.get((slot / BLOCK_SLOTS) as usize)?.block.as_ref()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, slot: u32) -> &T {
        self.block(slot).and_then(|block| block.value(slot % BLOCK_SLOTS)).expect("a slot that was used")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        let place = self.places.get_mut((slot / BLOCK_SLOTS) as usize);
        let block = place.and_then(|place| place.block.as_mut());
        block.and_then(|block| block.value_mut(slot % BLOCK_SLOTS)).expect("a slot that was used")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert<T: Default>(slab: &mut Slab<T>, value: T) -> (u32, u32) {
        slab.insert(value).expect("memory for a block")
    }

    /// A block of these is larger than any address space, so none is ever mapped.
    struct Vast {
        _bytes: [u8; 1 << 34],
    }

    impl Default for Vast {
        fn default() -> Self {
            unreachable!("no slot is ever there for one")
        }
    }

    #[test]
    fn a_block_that_cannot_be_mapped_leaves_the_slab_as_it_was() {
        let mut slab = Slab::<Vast>::new(4);
        for _ in 0..2 {
            let error = slab.grow().expect_err("no address space is that large");
            assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
            assert_eq!((slab.live(), slab.blocks(), slab.slots(), slab.room.len()), (0, 0, 0, 0));
            assert!(!slab.holds(NO_SLOT, 0) && !slab.holds(0, 0));
        }
    }

    #[test]
    fn a_late_name_does_not_reach_the_successor() {
        let mut slab = Slab::new(1 << 24);
        let (slot, first) = insert(&mut slab, 7);
        assert!(slab.holds(slot, first));
        assert_eq!(slab.remove(slot), 7);
        assert!(!slab.holds(slot, first));
        let (again, second) = insert(&mut slab, 8);
        assert_eq!(again, slot, "last in, first out");
        assert!(!slab.holds(slot, first) && slab.holds(slot, second));
    }

    #[test]
    fn grows_past_a_block_and_keeps_every_slot_apart() {
        let mut slab = Slab::new(4);
        let slots: Vec<u32> = (0..3 * BLOCK_SLOTS).map(|value| insert(&mut slab, value).0).collect();
        for (value, slot) in slots.iter().enumerate() {
            assert_eq!(slab[*slot], value as u32);
        }
        assert_eq!((slab.live(), slab.blocks()), (slab.slots(), 3));
        for slot in &slots {
            slab.remove(*slot);
        }
        assert_eq!(
            (slab.live(), slab.blocks()),
            (0, BLOCKS_SPARE),
            "blocks are given back, but for the spare one"
        );
        for _ in &slots {
            insert(&mut slab, 0);
        }
        assert_eq!(slab.slots(), 3 * BLOCK_SLOTS, "places are used again");
    }

    #[test]
    fn a_name_from_before_a_block_was_given_back_names_nobody() {
        let mut slab = Slab::new(1 << 24);
        let low: Vec<u32> = (0..BLOCK_SLOTS).map(|_| insert(&mut slab, ()).0).collect();
        let mut late = Vec::new();
        for round in 0..5 {
            // Slots of the second block age differently before it is given back.
            for _ in 0..=round {
                let name = insert(&mut slab, ());
                late.push(name);
                slab.remove(name.0);
            }
            let (one, two) = (insert(&mut slab, ()), insert(&mut slab, ()));
            late.extend([one, two]);
            slab.remove(one.0);
            slab.remove(two.0);
            // The first block empties too, so that two are empty and the second is given back.
            for slot in &low {
                slab.remove(*slot);
            }
            assert_eq!(slab.blocks(), 1);
            assert!(low.iter().all(|slot| insert(&mut slab, ()).0 / BLOCK_SLOTS == slot / BLOCK_SLOTS));
        }
        let second: Vec<(u32, u32)> = (0..BLOCK_SLOTS).map(|_| insert(&mut slab, ())).collect();
        assert!(second.iter().all(|(slot, _)| *slot >= BLOCK_SLOTS));
        assert!(late.iter().all(|(slot, generation)| !slab.holds(*slot, *generation)));
        assert!(second.iter().all(|(slot, generation)| slab.holds(*slot, *generation)));
    }

    #[test]
    fn values_are_dropped_once() {
        let value = std::rc::Rc::new(());
        let mut slab = Slab::new(4);
        let slots: Vec<u32> = (0..10).map(|_| insert(&mut slab, Some(value.clone())).0).collect();
        slots[..5].iter().for_each(|slot| drop(slab.remove(*slot)));
        assert_eq!(std::rc::Rc::strong_count(&value), 6);
        drop(slab);
        assert_eq!(std::rc::Rc::strong_count(&value), 1);
    }

    #[test]
    fn generations_wrap() {
        let mut slab = Slab::new(2);
        let (slot, first) = insert(&mut slab, ());
        slab.remove(slot);
        insert(&mut slab, ());
        slab.remove(slot);
        assert_eq!(insert(&mut slab, ()), (slot, first));
    }
}
