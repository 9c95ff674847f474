//! The store on the local disk: one fjall database, one keyspace a space, each batch made durable with fdatasync.

use super::{Batch, FORMAT, Store, journal, space_index};
use crate::{
    error::{StartError, StoreError},
    limits,
    record::{self, Key, Space},
};
use bytes::Bytes;
use fjall::{
    CompressionType, Database, Error, Keyspace, KeyspaceCreateOptions, PersistMode, config::PinningPolicy,
};
use std::{
    fs::{self, File},
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

/// What must fit on the disk before a failed store is opened again, or one of another process is taken over.
const PROBE_BYTES: usize = 1024 * 1024;
/// The format's number once more, for [`examine`]: the record in the store can be read only by who has it open.
const FORMAT_COPY: &str = "format";

/// A fjall database in a folder.
pub struct FjallStore {
    path: PathBuf,
    partitions: u16,
    /// None: it was closed after a failure and could not be opened yet.
    open: RwLock<Option<Open>>,
}

struct Open {
    database: Database,
    spaces: Vec<Keyspace>,
    /// A commit failed. fjall refuses further ones, because it cannot know what reached the disk; opening it anew finds out.
    failed: std::sync::atomic::AtomicBool,
}

impl FjallStore {
    /// Opens the store in this folder, or makes it, with this number of partitions.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn open(path: &Path, partitions: u16) -> Result<Self, StartError> {
        fs::create_dir_all(path).map_err(|error| unusable(path, &error))?;
        let open = Open::at(path)?;
        let partitions = open.format(path, partitions)?;
        copy_format(path);
        Ok(Self { path: path.to_path_buf(), partitions, open: RwLock::new(Some(open)) })
    }

    /// The number of partitions the store was made with.
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    fn with<T>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&Open) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some(open) => act(open).map_err(|error| StoreError::new(operation, error)),
            None => Err(StoreError::new(operation, "it is closed after an earlier failure")),
        }
    }
}

impl Open {
    /// A damaged store can make the library panic: that is an error here, like any other way of being damaged.
    fn at(path: &Path) -> Result<Self, StartError> {
        journal::guard(path)?;
        catch_unwind(AssertUnwindSafe(|| Self::at_inner(path)))
            .unwrap_or(Err(Error::Unrecoverable))
            .map_err(|error| start_error(path, &error))
    }

    fn at_inner(path: &Path) -> Result<Self, Error> {
        let database = Database::builder(path)
            .cache_size(limits::STORE_CACHE_BYTES)
            .max_journaling_size(limits::STORE_JOURNAL_BYTES_MAX)
            .manual_journal_persist(true)
            // What `journal` reads to tell a torn end from damage.
            .journal_compression(CompressionType::None)
            .worker_threads(limits::STORE_WORKERS)
            .open()?;
        // Each new device asks for a user that is not there: the filters that say so stay in memory, some 10 bits a key.
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(limits::STORE_MEMTABLE_BYTES_MAX)
                .filter_block_pinning_policy(PinningPolicy::all(true))
                .index_block_pinning_policy(PinningPolicy::all(true))
        };
        let keyspace = |space: &Space| database.keyspace(space.name(), options);
        let spaces = Space::ALL.iter().map(keyspace).collect::<Result<_, _>>()?;
        Ok(Self { database, spaces, failed: false.into() })
    }

    /// Checks the format's number, or writes it into a new store; returns the number of partitions.
    fn format(&self, path: &Path, partitions: u16) -> Result<u16, StartError> {
        let key = record::format();
        let failed = |error: Error| start_error(path, &error);
        let corrupt = |reason: &str| StartError::Corrupt { path: path.to_path_buf(), reason: reason.into() };
        let Some(value) = self.space(&key).get(key.bytes()).map_err(failed)? else {
            for space in &self.spaces {
                if !space.is_empty().map_err(failed)? {
                    return Err(corrupt("it has records, but no format number"));
                }
            }
            let value = [&FORMAT.to_be_bytes()[..], &partitions.to_be_bytes()].concat();
            let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
            batch.insert(self.space(&key), key.bytes(), value);
            batch.commit().map_err(failed)?;
            return Ok(partitions);
        };
        let Some((found, rest)) = value.split_first_chunk::<4>() else {
            return Err(corrupt("its format number is cut off"));
        };
        let found = u32::from_be_bytes(*found);
        if found != FORMAT {
            return Err(StartError::UnknownFormat { path: path.to_path_buf(), found, known: FORMAT });
        }
        match rest.try_into().map(u16::from_be_bytes) {
            Ok(partitions) if (1..=limits::PARTITIONS_MAX).contains(&partitions) => Ok(partitions),
            _ => Err(corrupt("its number of partitions is out of range")),
        }
    }

    fn space(&self, key: &Key) -> &Keyspace {
        &self.spaces[space_index(key.space())]
    }

    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        let mut writes = self.database.batch().durability(Some(PersistMode::SyncData));
        // In the order of the trees: a search then finds most of its way in the processor's cache, where the one before it was.
        let mut sorted: Vec<_> = batch.writes().collect();
        sorted.sort_unstable_by_key(|(key, _)| (key.space(), key.bytes()));
        for (key, value) in sorted {
            match value {
                Some(value) => writes.insert(self.space(key), key.bytes(), &value[..]),
                None => writes.remove(self.space(key), key.bytes()),
            }
        }
        writes.commit()
    }
}

impl Store for FjallStore {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.with("read", |open| {
            Ok(open.space(key).get(key.bytes())?.map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    fn scan(
        &self,
        first: &Key,
        last: &Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError> {
        self.with("read", |open| {
            for pair in open.space(first).range(first.bytes()..=last.bytes()) {
                let (key, value) = pair.into_inner()?;
                if !visit(&key, Bytes::copy_from_slice(&value)) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn keys(&self, first: &Key, last: &Key, visit: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), StoreError> {
        self.with("read", |open| {
            for pair in open.space(first).range(first.bytes()..=last.bytes()) {
                if !visit(&pair.key()?) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn scan_back(
        &self,
        first: &Key,
        last: &Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError> {
        self.with("read", |open| {
            for pair in open.space(first).range(first.bytes()..=last.bytes()).rev() {
                let (key, value) = pair.into_inner()?;
                if !visit(&key, Bytes::copy_from_slice(&value)) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.with("commit", |open| {
            open.commit(batch).inspect_err(|_| open.failed.store(true, std::sync::atomic::Ordering::Release))
        })
    }

    /// Opens the database anew, once there is room on the disk; until then the old one goes on answering reads.
    fn recover(&self) -> Result<(), StoreError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_some_and(|open| !open.failed.load(std::sync::atomic::Ordering::Acquire)) {
            return Ok(());
        }
        probe(&self.path, "probe").map_err(|error| StoreError::new("find room on its disk", error))?;
        // The old database holds the lock until it is dropped.
        *open = None;
        *open = Some(Open::at(&self.path).map_err(|error| StoreError::new("open anew", error))?);
        Ok(())
    }
}

fn probe(folder: &Path, name: &str) -> std::io::Result<()> {
    let path = folder.join(name);
    let result = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0x5A; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    result.and(removed)
}

/// Looks at a store that another process has open, before it is asked to close it: whether the store is of our format, and whether
/// this user can write in its folder, of which there has to be room for a mebibyte. What is damaged shows only when it is opened.
///
/// # Errors
/// `UnknownFormat` or `Unusable`; see [`StartError`].
pub fn examine(path: &Path) -> Result<(), StartError> {
    let failed = |error: std::io::Error| unusable(path, &error);
    fs::create_dir_all(path).map_err(failed)?;
    // A store of before there was a copy has none.
    let copy = fs::read_to_string(path.join(FORMAT_COPY)).unwrap_or_default();
    if let Some(found) = copy.trim_end().parse().ok().filter(|found| *found != FORMAT) {
        return Err(StartError::UnknownFormat { path: path.to_path_buf(), found, known: FORMAT });
    }
    match File::options().read(true).write(true).open(path.join(journal::LOCK)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // A name of its own: the process that has the store open may be looking for room as well.
    probe(path, "probe-of-successor").map_err(failed)
}

/// Where it cannot be written, nobody who looks is told the format before they open the store.
fn copy_format(path: &Path) {
    let (path, text) = (path.join(FORMAT_COPY), format!("{FORMAT}\n"));
    if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
        let _ = fs::write(path, text);
    }
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> StartError {
    StartError::Unusable { path: path.to_path_buf(), reason: error.to_string() }
}

/// What the library's error means to who starts the store.
pub(super) fn start_error(path: &Path, error: &Error) -> StartError {
    use std::io::ErrorKind::{
        NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    match error {
        Error::Locked => StartError::Locked { path: path.to_path_buf() },
        Error::Io(error)
            if matches!(
                error.kind(),
                NotADirectory | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull
            ) =>
        {
            unusable(path, error)
        }
        other => StartError::Corrupt { path: path.to_path_buf(), reason: other.to_string() },
    }
}
