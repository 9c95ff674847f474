//! The store, measured; what it leaves on the disk, and what the disk itself allows.

use anyhow::Result;
use bytes::Bytes;
use procfs::process::Process;
use roost_router::{
    StoreError,
    record::{Key, Space},
    store::{Batch, FjallStore, Store},
};
use std::{
    fmt::Write as _,
    fs::File,
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// The store, with a note of what each commit took and wrote.
pub(super) struct Timed {
    pub(super) store: FjallStore,
    pub(super) commits: Mutex<Commits>,
}

#[derive(Default)]
pub(super) struct Commits {
    pub(super) us: Vec<u64>,
    pub(super) bytes: u64,
    pub(super) writes: u64,
}

impl Store for Timed {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.store.get(key)
    }

    fn scan(
        &self,
        first: &Key,
        last: &Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError> {
        self.store.scan(first, last, visit)
    }

    fn scan_back(
        &self,
        first: &Key,
        last: &Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError> {
        self.store.scan_back(first, last, visit)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let begin = Instant::now();
        self.store.commit(batch)?;
        let us = begin.elapsed().as_micros() as u64;
        let commits = &mut *self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        commits.us.push(us);
        for (key, value) in batch.writes() {
            commits.writes += 1;
            commits.bytes += (key.bytes().len() + value.map_or(0, Bytes::len)) as u64;
        }
        Ok(())
    }

    fn recover(&self) -> Result<(), StoreError> {
        self.store.recover()
    }
}

/// Compacts what the router left and tells how much of what was written is still there.
pub(super) fn left_on_disk(data: &Path, written: u64) -> Result<()> {
    let database = fjall::Database::builder(data).open()?;
    let mut sum = 0;
    let mut told = String::new();
    for space in Space::ALL {
        let keyspace = database.keyspace(space.name(), fjall::KeyspaceCreateOptions::default)?;
        keyspace.rotate_memtable_and_wait()?;
        keyspace.major_compact()?;
        sum += keyspace.disk_space();
        write!(told, " {} {:.1}", space.name(), keyspace.disk_space() as f64 / 1e6)?;
    }
    let on_disk = Process::myself()?.io()?.write_bytes;
    println!(
        "disk  {:.1} MB of trees once compacted: {:.1} % of the {:.1} MB in batches, {:.1} % of the {:.1} MB that went to the disk; \
         MB by space:{told}",
        sum as f64 / 1e6,
        100.0 * sum as f64 / written as f64,
        written as f64 / 1e6,
        100.0 * sum as f64 / on_disk as f64,
        on_disk as f64 / 1e6,
    );
    Ok(())
}

/// Appends `commits` times `bytes` bytes, each made durable.
pub(super) fn append_log(data: &Path, bytes: u64, commits: usize) -> Result<()> {
    let (mut file, block) = (File::create(data.join("append.log"))?, vec![7; bytes as usize]);
    let mut us = Vec::with_capacity(commits);
    let begin = Instant::now();
    for _ in 0..commits {
        let begin = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        us.push(begin.elapsed().as_micros() as u64);
    }
    let took = begin.elapsed();
    us.sort_unstable();
    println!(
        "log   {commits} appends of {bytes} bytes with fdatasync in {:.2} s, {:.0} MB/s; ms p50 {:.1}, p99 {:.1}",
        took.as_secs_f64(),
        (bytes * commits as u64) as f64 / 1e6 / took.as_secs_f64(),
        us[us.len() / 2] as f64 / 1000.0,
        us[us.len() * 99 / 100] as f64 / 1000.0,
    );
    Ok(())
}
