//! A store in memory, for tests and for benches that measure the state machine alone.

use super::{Batch, Store, space_index};
use crate::{
    error::StoreError,
    record::{Key, Space},
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

type Tree = BTreeMap<Vec<u8>, Bytes>;

/// Ordered maps behind a lock. `fail(true)` makes it a full disk: reads go on, commits are refused.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    trees: [Tree; Space::ALL.len()],
    failing: bool,
    lands: bool,
    broken: bool,
    /// A commit that failed and will be found to have happened.
    landed: Vec<(Key, Option<Bytes>)>,
}

impl MemoryStore {
    /// From now on commits fail (true) or succeed, once `recover` was called (false).
    pub fn fail(&self, failing: bool) {
        self.lock().failing = failing;
    }

    /// A commit that fails is found to have happened after `recover`, as when only the answer of the disk was lost.
    pub fn failed_commits_land(&self, lands: bool) {
        self.lock().lands = lands;
    }

    /// Number of keys of a space.
    pub fn len(&self, space: Space) -> usize {
        self.lock().trees[space_index(space)].len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write<'a>(&mut self, writes: impl Iterator<Item = (&'a Key, Option<&'a Bytes>)>) {
        for (key, value) in writes {
            let tree = &mut self.trees[space_index(key.space())];
            match value {
                Some(value) => tree.insert(key.bytes().to_vec(), value.clone()),
                None => tree.remove(key.bytes()),
            };
        }
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        Ok(self.lock().trees[space_index(key.space())].get(key.bytes()).cloned())
    }

    fn scan(
        &self,
        first: &Key,
        last: &Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError> {
        let inner = self.lock();
        let range = first.bytes().to_vec()..=last.bytes().to_vec();
        for (key, value) in inner.trees[space_index(first.space())].range(range) {
            if !visit(key, value.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn scan_back(
        &self,
        first: &Key,
        last: &Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError> {
        let inner = self.lock();
        let range = first.bytes().to_vec()..=last.bytes().to_vec();
        for (key, value) in inner.trees[space_index(first.space())].range(range).rev() {
            if !visit(key, value.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.failing || inner.broken {
            if inner.lands && !inner.broken {
                inner.landed = batch.writes().map(|(key, value)| (*key, value.cloned())).collect();
            }
            inner.broken = true;
            return Err(StoreError::new("commit", "no space left on device (simulated)"));
        }
        inner.write(batch.writes());
        Ok(())
    }

    fn recover(&self) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.failing {
            return Err(StoreError::new("recover", "no space left on device (simulated)"));
        }
        inner.broken = false;
        let landed = std::mem::take(&mut inner.landed);
        inner.write(landed.iter().map(|(key, value)| (key, value.as_ref())));
        Ok(())
    }
}
