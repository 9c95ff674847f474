//! Guards fjall's journals: fjall cuts a journal at the first batch that does not read, whatever stands behind. Only the torn
//! end of a journal may be cut, and what is cut is kept aside; damage is refused before fjall opens anything.

mod scan;

use super::fjall::start_error;
use crate::{error::StartError, limits};
use scan::{Tail, scan};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

/// fjall's lock, held by whoever has the store open.
pub const LOCK: &str = "lock";
const LOCK_TRIES_MAX: usize = 3;
const LOCK_WAIT: Duration = Duration::from_millis(100);
/// `torn-<number>-<journal>-<offset>`: the bytes that stood at this offset of this journal.
const ASIDE: &str = "torn-";

/// Reads all journals of the store in this folder, which nobody may have open. Moves torn ends aside; changes nothing if
/// one is damaged.
///
/// # Errors
/// `Corrupt` (which journal, where, how many bytes), `Locked`, or `Unusable`; see [`StartError`].
pub fn guard(store: &Path) -> Result<(), StartError> {
    let failed = |error: io::Error| start_error(store, &error.into());
    // Without a lock it is no store yet, or none that fjall opens.
    let Some(_lock) = lock(store).map_err(|error| match error {
        TryLockError::WouldBlock => StartError::Locked { path: store.to_path_buf() },
        TryLockError::Error(error) => failed(error),
    })?
    else {
        return Ok(());
    };
    let mut torn = Vec::new();
    let mut seqno_next = 0;
    for (number, path) in journals(store).map_err(failed)? {
        let file = File::open(&path).map_err(failed)?;
        let found = scan(&file, seqno_next).map_err(failed)?;
        seqno_next = found.seqno_next;
        match found.tail {
            Tail::Clean => {}
            Tail::Torn => torn.push(Torn { number, path, from: found.whole_end, to: found.used_end }),
            Tail::Damaged => {
                let reason = format!(
                    "its journal {number}.jnl cannot be read from byte {0} on, and {1} bytes of it stand there; nothing was \
                     changed; after a power cut they may be what nobody was told of, and can be given up with `truncate -s \
                     {0} {number}.jnl`",
                    found.whole_end,
                    found.used_end - found.whole_end
                );
                return Err(StartError::Corrupt { path: store.to_path_buf(), reason });
            }
        }
    }
    torn.iter().try_for_each(|torn| torn.set_aside(store)).map_err(failed)
}

/// The unfinished batch at the end of a journal.
struct Torn {
    number: u64,
    path: PathBuf,
    /// Offsets of its first byte and behind its last.
    from: u64,
    to: u64,
}

impl Torn {
    /// Copies it to a file of its own, then cuts it off. Killed in between, the next start does it again.
    fn set_aside(&self, store: &Path) -> io::Result<()> {
        let kept = kept(store)?;
        let number = kept.last().map_or(1, |(number, _)| number.saturating_add(1));
        let aside = store.join(format!("{ASIDE}{number}-{}-{}", self.number, self.from));
        let mut journal = OpenOptions::new().read(true).write(true).open(&self.path)?;
        self.copy(&mut journal, &aside).inspect_err(|_| {
            // Half a copy would only push a whole one out; the journal still has it all.
            let _ = fs::remove_file(&aside);
        })?;
        File::open(store)?.sync_all()?;
        journal.set_len(self.from)?;
        journal.sync_all()?;
        tracing::warn!(
            journal = %self.path.display(), offset = self.from, bytes = self.to - self.from, kept = %aside.display(),
            "cut off a batch that was never finished (killed, or out of disk, while it was written); nobody was told that it is stored"
        );
        let surplus = (kept.len() + 1).saturating_sub(limits::STORE_TORN_FILES_MAX);
        kept.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }

    fn copy(&self, journal: &mut File, aside: &Path) -> io::Result<()> {
        journal.seek(SeekFrom::Start(self.from))?;
        let mut copy = File::create(aside)?;
        io::copy(&mut journal.take(self.to - self.from), &mut copy)?;
        copy.sync_all()
    }
}

fn lock(store: &Path) -> Result<Option<File>, TryLockError> {
    let file = match OpenOptions::new().read(true).write(true).open(store.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(TryLockError::Error)?,
    };
    // A process that was just killed may hold it for a moment more.
    for _ in 1..LOCK_TRIES_MAX {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
            done => return done.map(|()| Some(file)),
        }
    }
    file.try_lock().map(|()| Some(file))
}

/// The journals, oldest first.
fn journals(store: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    numbered(store, |name| name.strip_suffix(".jnl")?.parse().ok())
}

/// The torn ends kept aside, oldest first.
fn kept(store: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    numbered(store, |name| name.strip_prefix(ASIDE)?.split('-').next()?.parse().ok())
}

fn numbered(store: &Path, number: impl Fn(&str) -> Option<u64>) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(&number) {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}
