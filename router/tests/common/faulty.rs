//! A store in memory that a test can hold up, or make fail.

use bytes::Bytes;
use roost_router::{
    StoreError,
    record::Key,
    store::{Batch, MemoryStore, Store},
};

/// What is about to be done.
pub enum Operation<'a> {
    Read,
    Commit(&'a Batch),
    Recover,
}

/// What stands before the store.
pub trait Fault: Send + Sync + 'static {
    /// Returns when the operation may be done.
    ///
    /// # Errors
    /// It fails instead.
    fn before(&self, operation: Operation<'_>) -> Result<(), StoreError>;
}

#[derive(Default)]
pub struct Faulty<F> {
    pub memory: MemoryStore,
    pub fault: F,
}

impl<F: Fault> Store for Faulty<F> {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.fault.before(Operation::Read)?;
        self.memory.get(key)
    }

    fn scan(
        &self,
        first: &Key,
        last: &Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError> {
        self.fault.before(Operation::Read)?;
        self.memory.scan(first, last, visit)
    }

    fn scan_back(
        &self,
        first: &Key,
        last: &Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError> {
        self.fault.before(Operation::Read)?;
        self.memory.scan_back(first, last, visit)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.fault.before(Operation::Commit(batch))?;
        self.memory.commit(batch)
    }

    fn recover(&self) -> Result<(), StoreError> {
        self.fault.before(Operation::Recover)?;
        self.memory.recover()
    }
}
