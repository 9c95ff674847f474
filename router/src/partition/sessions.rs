//! The sessions of a partition, by user and device: entries without gaps in blocks of a fixed size, and an index of their
//! places. Millions of idle sessions are what it is made for: an entry holds nothing that only a busy session needs.

use crate::{
    api::{DeviceId, SessionId, UserId},
    limits::SESSIONS_BLOCK,
};
use hashbrown::{HashTable, hash_table::Entry};
use rustc_hash::FxBuildHasher;
use std::hash::BuildHasher;

/// What a session is found by: a device has one.
pub(super) type Key = (UserId, DeviceId);

/// A device that is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) user: UserId,
    pub(super) place: Place,
    pub(super) id: SessionId,
    pub(super) device: DeviceId,
}

/// How far in its user's stream a session is: the seq of the newest event handed to it, or passed over, and flags in the bits
/// that no seq reaches. Each event up to there is acknowledged, in flight, or none of the device's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place(u64);

/// Events past its place wait on disk.
const BEHIND: u64 = 1 << 63;
/// Its user has no other device.
const ALONE: u64 = 1 << 62;
/// An event was passed over since it came: between its cursor and its place are events that never were in its window.
const PASSED: u64 = 1 << 61;
/// The day on which its device was last noted as here, its lowest bits.
const DAY_SHIFT: u32 = 56;
const DAY: u64 = 0b1_1111 << DAY_SHIFT;
const FLAGS: u64 = BEHIND | ALONE | PASSED | DAY;
// The clock's milliseconds have 44 bits below the flags: enough for 500 years.
const _: () = assert!(FLAGS.trailing_zeros() - crate::limits::COUNTER_BITS >= 44);

impl Place {
    pub(super) fn new(sent: u64, is_behind: bool, is_alone: bool) -> Self {
        let mut place = Self(sent & !FLAGS);
        place.set(BEHIND, is_behind);
        place.set(ALONE, is_alone);
        place
    }

    pub(super) fn sent(self) -> u64 {
        self.0 & !FLAGS
    }

    pub(super) fn is_behind(self) -> bool {
        self.0 & BEHIND != 0
    }

    pub(super) fn is_alone(self) -> bool {
        self.0 & ALONE != 0
    }

    pub(super) fn has_passed(self) -> bool {
        self.0 & PASSED != 0
    }

    pub(super) fn go(&mut self, sent: u64) {
        self.0 = self.0 & FLAGS | sent & !FLAGS;
    }

    pub(super) fn pass(&mut self, seq: u64) {
        self.go(seq);
        self.set(PASSED, true);
    }

    pub(super) fn set_behind(&mut self, is_behind: bool) {
        self.set(BEHIND, is_behind);
    }

    pub(super) fn set_alone(&mut self, is_alone: bool) {
        self.set(ALONE, is_alone);
    }

    /// Its device was noted as here on this day.
    pub(super) fn note_day(&mut self, day: u32) {
        self.0 = self.0 & !DAY | u64::from(day) << DAY_SHIFT & DAY;
    }

    pub(super) fn is_noted(self, day: u32) -> bool {
        self.0 & DAY == u64::from(day) << DAY_SHIFT & DAY
    }

    fn set(&mut self, flag: u64, is_set: bool) {
        self.0 = if is_set { self.0 | flag } else { self.0 & !flag };
    }
}

/// Places and control bytes of the index for one session at its emptiest, which is just before it shrinks: a quarter of the
/// seven eighths of its buckets that it fills at most.
const INDEX_BYTES_MAX: usize = ((size_of::<u32>() + 1) * 4 * 8).div_ceil(7);
// What a session costs in memory, whatever their number. The blocks at the end come on top: two a partition.
const _: () = assert!(size_of::<Session>() == 32 && size_of::<Session>() + INDEX_BYTES_MAX <= 64);

impl Session {
    pub(super) fn key(&self) -> Key {
        (self.user, self.device)
    }
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    entries: Entries,
    /// Places of entries.
    index: HashTable<u32>,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.entries.len
    }

    /// Memory of entries and index, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.entries.blocks.len() * SESSIONS_BLOCK * size_of::<Session>() + self.index.allocation_size()
    }

    pub(super) fn get(&self, key: Key) -> Option<&Session> {
        self.place(key).map(|place| self.entries.at(place))
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Session> {
        self.place(key).map(|place| self.entries.at_mut(place))
    }

    /// The numbers of a user's sessions, for `number` and `number_mut`: good until one comes or goes.
    pub(super) fn of(&self, user: UserId, numbers: &mut Vec<u32>) {
        numbers.clear();
        let is_of = |&&number: &&u32| self.entries.at(number).user == user;
        numbers.extend(self.index.iter_hash(hash(user)).filter(is_of).copied());
    }

    /// A user has a session.
    pub(super) fn has(&self, user: UserId) -> bool {
        self.index.iter_hash(hash(user)).any(|&number| self.entries.at(number).user == user)
    }

    /// A session by its number.
    pub(super) fn number_mut(&mut self, number: u32) -> &mut Session {
        self.entries.at_mut(number)
    }

    /// Everybody has events on disk, for all that is known.
    pub(super) fn all_are_behind(&mut self) {
        self.entries.blocks.iter_mut().flatten().for_each(|session| session.place.set_behind(true));
    }

    /// None is noted as here on this day.
    pub(super) fn forget_day(&mut self, day: u32) {
        let another = day.wrapping_sub(1);
        self.entries.blocks.iter_mut().flatten().for_each(|session| session.place.note_day(another));
    }

    fn place(&self, key: Key) -> Option<u32> {
        self.index.find(hash(key.0), |&place| self.entries.at(place).key() == key).copied()
    }

    /// Puts it where the session of the same device was, which is returned.
    pub(super) fn insert(&mut self, session: Session) -> Option<Session> {
        let key = session.key();
        let entries = &self.entries;
        let is_same = |&place: &u32| entries.at(place).key() == key;
        match self.index.entry(hash(key.0), is_same, |&place| hash(entries.at(place).user)) {
            Entry::Occupied(found) => Some(std::mem::replace(self.entries.at_mut(*found.get()), session)),
            Entry::Vacant(bucket) => {
                bucket.insert(self.entries.push(session));
                None
            }
        }
    }

    /// Takes it out; the newest entry takes its place.
    pub(super) fn remove(&mut self, key: Key) -> Option<Session> {
        let entries = &self.entries;
        let found = self.index.find_entry(hash(key.0), |&place| entries.at(place).key() == key).ok()?;
        let (place, _) = found.remove();
        let removed = self.entries.swap_remove(place);
        let last = self.entries.len as u32;
        if place != last {
            let moved = hash(self.entries.at(place).user);
            *self.index.find_mut(moved, |&old| old == last).expect("each entry is in the index") = place;
        }
        if self.index.capacity() > SESSIONS_BLOCK && self.len() < self.index.capacity() / 4 {
            let entries = &self.entries;
            self.index.shrink_to(entries.len * 2, |&place| hash(entries.at(place).user));
        }
        Some(removed)
    }

    /// The entry at a place, of which there are `len`: in no order that means anything.
    pub(super) fn at(&self, place: usize) -> Option<&Session> {
        self.entries.blocks.get(place / SESSIONS_BLOCK)?.get(place % SESSIONS_BLOCK)
    }
}

/// By user, so that all sessions of one are found in one walk: at most `DEVICES_MAX`.
fn hash(user: UserId) -> u64 {
    FxBuildHasher.hash_one(user)
}

/// A long array that never moves and gives its end back: blocks of `SESSIONS_BLOCK` entries, all full but the last ones.
#[derive(Debug, Default)]
struct Entries {
    blocks: Vec<Vec<Session>>,
    len: usize,
}

impl Entries {
    fn at(&self, place: u32) -> &Session {
        &self.blocks[place as usize / SESSIONS_BLOCK][place as usize % SESSIONS_BLOCK]
    }

    fn at_mut(&mut self, place: u32) -> &mut Session {
        &mut self.blocks[place as usize / SESSIONS_BLOCK][place as usize % SESSIONS_BLOCK]
    }

    fn push(&mut self, session: Session) -> u32 {
        let (block, place) = (self.len / SESSIONS_BLOCK, self.len as u32);
        if block == self.blocks.len() {
            self.blocks.push(Vec::with_capacity(SESSIONS_BLOCK));
        }
        self.blocks[block].push(session);
        self.len += 1;
        place
    }

    fn swap_remove(&mut self, place: u32) -> Session {
        self.len -= 1;
        let last = self.blocks[self.len / SESSIONS_BLOCK].pop().expect("the last block in use has an entry");
        // One empty block stays, so that a session that comes and goes at a block's edge does not cost a block each time.
        if self.blocks.len() > self.len.div_ceil(SESSIONS_BLOCK) + 1 {
            self.blocks.pop();
        }
        if place as usize == self.len { last } else { std::mem::replace(self.at_mut(place), last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn session(user: UserId, generation: u32) -> Session {
        let id = SessionId { gateway: 0, shard: 1, slot: 2, generation };
        Session { user, place: Place::new(user * 3, false, false), id, device: user as u32 % 3 }
    }

    #[test]
    fn it_is_a_map_whatever_comes_and_goes() {
        let (mut sessions, mut model, mut random) = (Sessions::default(), BTreeMap::new(), 1_u64);
        // Grows to thousands, shrinks to few, and again.
        for step in 0..60_000_u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let session = session((random >> 33) % 5000, step);
            let grows = step / 10_000 % 2 == 0;
            if (random >> 20) % 4 < if grows { 3 } else { 1 } {
                assert_eq!(sessions.insert(session), model.insert(session.key(), session));
            } else {
                assert_eq!(sessions.remove(session.key()), model.remove(&session.key()));
            }
            assert_eq!(sessions.len(), model.len());
            assert_eq!(sessions.get(session.key()), model.get(&session.key()));
        }
        for (key, session) in &model {
            sessions.get_mut(*key).unwrap().place.go(session.place.sent() + 1);
            assert_eq!(sessions.get(*key).map(|s| s.place.sent()), Some(session.place.sent() + 1));
            let mut numbers = Vec::new();
            sessions.of(key.0, &mut numbers);
            let of: Vec<_> = numbers.iter().map(|number| sessions.number_mut(*number).key()).collect();
            assert!(of.contains(key) && of.iter().all(|found| found.0 == key.0), "{of:?}");
        }
        let all: BTreeMap<_, _> =
            (0..sessions.len()).filter_map(|place| sessions.at(place)).map(|s| (s.key(), s.id)).collect();
        assert_eq!(all, model.iter().map(|(key, session)| (*key, session.id)).collect());
    }

    #[test]
    fn a_place_keeps_its_seq_and_its_flags_apart() {
        let mut place = Place::new(7, true, false);
        place.pass(u64::MAX);
        place.set_alone(true);
        place.set_behind(false);
        assert_eq!(place.sent(), (1 << 56) - 1);
        place.note_day(20_778);
        assert!(place.is_noted(20_778) && !place.is_noted(20_779) && place.sent() == (1 << 56) - 1);
        assert!(!place.is_behind() && place.is_alone() && place.has_passed());
        place.go(9);
        assert_eq!((place.sent(), place.has_passed()), (9, true));
    }

    #[test]
    fn a_session_costs_64_bytes_at_most_at_any_number_and_all_comes_back() {
        // Two blocks that need not be full, and an index too small to shrink.
        let ends = 2 * SESSIONS_BLOCK * size_of::<Session>() + 2 * SESSIONS_BLOCK * 5 + 64;
        let mut sessions = Sessions::default();
        let check = |sessions: &Sessions| {
            let bytes = sessions.bytes().saturating_sub(ends);
            assert!(bytes <= sessions.len() * 64, "{bytes} bytes for {} sessions", sessions.len());
        };
        for user in 0..200_000 {
            sessions.insert(session(user, 1));
            check(&sessions);
        }
        for user in 0..200_000 {
            sessions.remove(session(user, 1).key());
            check(&sessions);
        }
        assert_eq!(sessions.len(), 0);
    }
}
