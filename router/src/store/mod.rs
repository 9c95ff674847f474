//! Where partitions keep what must survive: a small trait over ordered keys, so that fjall can be replaced, and made to
//! fail in tests.

mod fjall;
mod journal;
mod memory;

pub use self::{
    fjall::{FjallStore, examine},
    memory::MemoryStore,
};

use crate::{
    error::StoreError,
    record::{Key, Space},
};
use bytes::Bytes;
use rustc_hash::FxHashMap;

/// The number of the layout that `record.rs` and `log.proto` describe.
pub const FORMAT: u32 = 2;

/// Ordered keys and values with atomic, durable batches. Shared by all router threads; each writes only the keys of its
/// own partitions.
pub trait Store: Send + Sync + 'static {
    /// The committed value of a key.
    ///
    /// # Errors
    /// The store cannot be read.
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError>;

    /// Visits the committed pairs from `first` to `last`, both included and of one space, in order, until `visit` says false.
    ///
    /// # Errors
    /// The store cannot be read.
    fn scan(
        &self,
        first: &Key,
        last: &Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError>;

    /// The same from `last` back to `first`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn scan_back(
        &self,
        first: &Key,
        last: &Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError>;

    /// Visits the committed keys from `first` to `last` like `scan`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn keys(&self, first: &Key, last: &Key, visit: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), StoreError> {
        self.scan(first, last, &mut |key, _| visit(key))
    }

    /// The last committed key from `first` to `last`, both included and of one space.
    ///
    /// # Errors
    /// The store cannot be read.
    fn last(&self, first: &Key, last: &Key) -> Result<Option<Key>, StoreError> {
        let mut found = None;
        self.scan_back(first, last, &mut |key, _| {
            found = Some(Key::from_bytes(first.space(), key));
            false
        })?;
        Ok(found)
    }

    /// Makes all of a batch durable, or none of it. After an error it is unknown which until `recover` succeeded; until
    /// then reads show the state before the batch, or fail.
    ///
    /// # Errors
    /// The disk is full or failing.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// After a failed commit: brings the store into a state that is known and takes writes again, or says why it cannot.
    ///
    /// # Errors
    /// It still does not work.
    fn recover(&self) -> Result<(), StoreError>;
}

/// Writes to be committed together, and what reads see before that. `None` deletes.
#[derive(Debug, Default)]
pub struct Batch {
    writes: FxHashMap<Key, Option<Bytes>>,
}

impl Batch {
    /// Writes a value.
    pub fn put(&mut self, key: Key, value: Bytes) {
        self.writes.insert(key, Some(value));
    }

    /// Writes a number.
    pub fn put_number(&mut self, key: Key, value: u64) {
        self.put(key, Bytes::copy_from_slice(&value.to_be_bytes()));
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: Key) {
        self.writes.insert(key, None);
    }

    /// The value as it will be once this batch is committed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn get(&self, store: &dyn Store, key: &Key) -> Result<Option<Bytes>, StoreError> {
        match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None => store.get(key),
        }
    }

    /// Nothing is written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Forgets all writes, keeps the memory.
    pub fn clear(&mut self) {
        self.writes.clear();
    }

    /// All writes, in no order: each key once.
    pub fn writes(&self) -> impl Iterator<Item = (&Key, Option<&Bytes>)> {
        self.writes.iter().map(|(key, value)| (key, value.as_ref()))
    }
}

fn space_index(space: Space) -> usize {
    space as usize
}
