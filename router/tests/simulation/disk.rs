//! The disk under the router: it fails for a while, loses the answer of a commit, and tears the last write of a crash.

use crate::random::Rng;
use bytes::Bytes;
use roost_router::{
    StoreError,
    record::{Key, Space, bounds},
    store::{Batch, FjallStore, MemoryStore, Store},
};
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Mutex, RwLock},
};
use tempfile::TempDir;

/// All that is committed.
pub type Contents = BTreeMap<(Space, Vec<u8>), Bytes>;

const PAGE: u64 = 4096;

type Writes = Vec<(Key, Option<Bytes>)>;

pub struct Disk {
    partitions: u16,
    medium: RwLock<Medium>,
    faults: Mutex<Faults>,
}

enum Medium {
    Memory(Box<MemoryStore>),
    /// None while it is down.
    Files(TempDir, Option<FjallStore>),
}

#[derive(Default)]
struct Faults {
    commits_fail: bool,
    /// A commit that fails is found to have happened.
    lands: bool,
    /// A commit failed, and nobody has called `recover` since.
    broken: bool,
    landed: Option<Writes>,
    /// This many of 16 reads fail.
    reads_fail: u64,
    random: u64,
    /// What the files must hold, where the medium is files.
    committed: Option<Contents>,
}

fn failed(operation: &'static str) -> StoreError {
    StoreError::new(operation, "input/output error (simulated)")
}

impl Disk {
    pub fn memory(partitions: u16) -> Self {
        let medium = RwLock::new(Medium::Memory(Box::default()));
        Self { partitions, medium, faults: Mutex::default() }
    }

    /// The real store, in a folder of its own.
    pub fn files(partitions: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = FjallStore::open(folder.path(), partitions).unwrap();
        let disk = Self {
            partitions,
            medium: RwLock::new(Medium::Files(folder, Some(store))),
            faults: Mutex::default(),
        };
        disk.faults.lock().unwrap().committed = Some(disk.contents());
        disk
    }

    pub fn is_files(&self) -> bool {
        matches!(&*self.medium.read().unwrap(), Medium::Files(..))
    }

    /// From now on commits fail, or some reads, or both.
    pub fn fail(&self, rng: &mut Rng) -> String {
        let mut faults = self.faults.lock().unwrap();
        faults.commits_fail = !rng.one_in(4);
        faults.lands = rng.one_in(2);
        faults.reads_fail =
            if faults.commits_fail && rng.one_in(2) { 0 } else { rng.pick(&[1, 4, 16]).unwrap() };
        faults.random = rng.next();
        format!(
            "the disk fails: commits {}, reads {}/16",
            match (faults.commits_fail, faults.lands) {
                (false, _) => "go on",
                (true, false) => "fail",
                (true, true) => "fail, the first one lands",
            },
            faults.reads_fail
        )
    }

    /// It works again, once `recover` is called.
    pub fn mend(&self) {
        let mut faults = self.faults.lock().unwrap();
        (faults.commits_fail, faults.reads_fail) = (false, 0);
    }

    /// The process is gone: a commit that lost only its answer is there when the next process looks.
    pub fn reboot(&self) {
        let landed = {
            let mut faults = self.faults.lock().unwrap();
            (faults.commits_fail, faults.reads_fail, faults.broken) = (false, 0, false);
            faults.landed.take()
        };
        if let Some(writes) = landed {
            self.write(&batch_of(&writes)).unwrap();
        }
        self.reopen();
    }

    /// The process dies while this is being committed; true if the next one finds all of it, false if nothing.
    pub fn tear(&self, batch: &Batch, rng: &mut Rng) -> bool {
        if !self.is_files() || self.faults.lock().unwrap().broken || batch.is_empty() {
            let lands = rng.one_in(2) && !self.faults.lock().unwrap().broken;
            if lands {
                self.write(batch).unwrap();
            }
            return lands;
        }
        let mut medium = self.medium.write().unwrap();
        let Medium::Files(folder, store) = &mut *medium else { unreachable!("it was just looked at") };
        let journal = newest_journal(folder);
        let from = used_bytes(&journal, 0);
        store.as_ref().unwrap().commit(batch).unwrap();
        *store = None;
        let to = used_bytes(&journal, from);
        assert!(to > from && newest_journal(folder) == journal, "a batch stands at the journal's end");
        // Up to all but the last byte; or all of it.
        let kept = from + rng.below(to - from + 1);
        cut(&journal, from, kept, rng);
        *store = Some(FjallStore::open(folder.path(), self.partitions).unwrap());
        drop(medium);
        if kept == to {
            self.note(batch);
        }
        self.check();
        kept == to
    }

    /// Closes the store as a process that ends does, and opens it.
    fn reopen(&self) {
        let mut medium = self.medium.write().unwrap();
        if let Medium::Files(folder, store) = &mut *medium {
            *store = None;
            *store = Some(FjallStore::open(folder.path(), self.partitions).unwrap());
        }
        drop(medium);
        self.check();
    }

    /// What is there is all that was committed, and nothing else.
    fn check(&self) {
        if let Some(committed) = &self.faults.lock().unwrap().committed {
            assert!(
                *committed == self.contents(),
                "the store opened with other contents than were committed"
            );
        }
    }

    pub fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        for space in Space::ALL {
            for partition in (0..self.partitions).chain([u16::MAX]) {
                let (first, last) = bounds(space, partition);
                self.with(|store| {
                    store.scan(&first, &last, &mut |key, value| {
                        contents.insert((space, key.to_vec()), value);
                        true
                    })
                })
                .unwrap();
            }
        }
        contents
    }

    /// Number of keys of a space.
    pub fn len(&self, space: Space) -> usize {
        match &*self.medium.read().unwrap() {
            Medium::Memory(store) => store.len(space),
            Medium::Files(..) => self.contents().keys().filter(|(of, _)| *of == space).count(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&dyn Store) -> T) -> T {
        match &*self.medium.read().unwrap() {
            Medium::Memory(store) => act(&**store),
            Medium::Files(_, store) => act(store.as_ref().expect("it is open")),
        }
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.with(|store| store.commit(batch))?;
        self.note(batch);
        Ok(())
    }

    fn note(&self, batch: &Batch) {
        if let Some(committed) = &mut self.faults.lock().unwrap().committed {
            for (key, value) in batch.writes() {
                let place = (key.space(), key.bytes().to_vec());
                match value {
                    Some(value) => committed.insert(place, value.clone()),
                    None => committed.remove(&place),
                };
            }
        }
    }

    /// Err where this read is to fail; for a scan, after how many pairs.
    fn read_fails(&self) -> Option<u64> {
        let mut faults = self.faults.lock().unwrap();
        if faults.reads_fail == 0 {
            return None;
        }
        let mut rng = Rng(faults.random);
        let fails = rng.below(16) < faults.reads_fail;
        let after = rng.below(4);
        faults.random = rng.0;
        fails.then_some(after)
    }
}

fn batch_of(writes: &Writes) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in writes {
        match value {
            Some(value) => batch.put(*key, value.clone()),
            None => batch.delete(*key),
        }
    }
    batch
}

impl Store for Disk {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        match self.read_fails() {
            Some(_) => Err(failed("read")),
            None => self.with(|store| store.get(key)),
        }
    }

    fn scan(
        &self,
        first: &Key,
        last: &Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError> {
        let Some(mut left) = self.read_fails() else {
            return self.with(|store| store.scan(first, last, visit));
        };
        self.with(|store| {
            store.scan(first, last, &mut |key, value| {
                left -= u64::from(left > 0);
                left > 0 && visit(key, value)
            })
        })?;
        Err(failed("read"))
    }

    fn scan_back(
        &self,
        first: &Key,
        last: &Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError> {
        match self.read_fails() {
            Some(_) => Err(failed("read")),
            None => self.with(|store| store.scan_back(first, last, visit)),
        }
    }

    fn last(&self, first: &Key, last: &Key) -> Result<Option<Key>, StoreError> {
        match self.read_fails() {
            Some(_) => Err(failed("read")),
            None => self.with(|store| store.last(first, last)),
        }
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        {
            let mut faults = self.faults.lock().unwrap();
            if faults.commits_fail || faults.broken {
                if faults.lands && !faults.broken {
                    faults.landed = Some(batch.writes().map(|(key, value)| (*key, value.cloned())).collect());
                }
                faults.broken = true;
                return Err(failed("commit"));
            }
        }
        self.write(batch)
    }

    fn recover(&self) -> Result<(), StoreError> {
        let landed = {
            let mut faults = self.faults.lock().unwrap();
            if faults.commits_fail {
                return Err(failed("recover"));
            }
            faults.broken = false;
            faults.landed.take()
        };
        landed.map_or(Ok(()), |writes| self.write(&batch_of(&writes)))
    }
}

/// The journal that is written to.
fn newest_journal(folder: &TempDir) -> PathBuf {
    let number =
        |path: &PathBuf| -> Option<u64> { path.file_name()?.to_str()?.strip_suffix(".jnl")?.parse().ok() };
    let paths = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| number(path).is_some())
        .max_by_key(|path| number(path))
        .expect("a store has a journal")
}

/// The offset behind the last byte that is not zero; `from`: at least there.
fn used_bytes(journal: &PathBuf, from: u64) -> u64 {
    const STEP: usize = 64 * 1024;
    let file = OpenOptions::new().read(true).open(journal).unwrap();
    let (mut at, mut end, mut buffer) = (from, from, vec![0; STEP]);
    // Zeroes come after all batches: two steps of nothing but zeroes are the end.
    let mut empty = 0;
    while empty < 2 {
        let count = file.read_at(&mut buffer, at).unwrap();
        match buffer[..count].iter().rposition(|byte| *byte != 0) {
            Some(last) => (end, empty) = (at + last as u64 + 1, 0),
            None => empty += 1,
        }
        if count == 0 {
            break;
        }
        at += count as u64;
    }
    end
}

/// What a crash leaves of the bytes between `from` and the end: those up to `kept`, and perhaps without the first of them.
fn cut(journal: &PathBuf, from: u64, kept: u64, rng: &mut Rng) {
    let file = OpenOptions::new().write(true).open(journal).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(kept).unwrap();
    if rng.one_in(2) {
        // A journal is as long as it was made, whatever of it was written.
        file.set_len(len).unwrap();
    }
    let is_long = kept > from + PAGE;
    if is_long && rng.one_in(2) {
        file.write_all_at(&vec![0; (PAGE - from % PAGE) as usize], from).unwrap();
    }
    file.sync_all().unwrap();
}
