//! Memory that runs short ends a run early: the run looks here and ends in order, before the kernel's OOM killer chooses somebody.

use crate::ending::Ending;
use crate::limits::WATCH_EVERY;
use procfs::{Current, Meminfo};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watch {
    ending: Ending,
    short: Arc<OnceLock<String>>,
    // The thread ends when this is dropped.
    _alive: mpsc::Sender<()>,
}

impl Watch {
    /// Begins.
    ///
    /// # Errors
    /// Where a signal handler cannot be set or a thread cannot be started.
    pub fn start(floor_bytes: u64) -> io::Result<Self> {
        let ending = Ending::of_process()?;
        let (alive, ended) = mpsc::channel::<()>();
        let short = Arc::new(OnceLock::new());
        let found = short.clone();
        thread::Builder::new().name("watch".into()).spawn(move || {
            while ended.recv_timeout(WATCH_EVERY) == Err(RecvTimeoutError::Timeout) {
                if let Some(reason) = available_bytes().and_then(|bytes| shortage(bytes, floor_bytes)) {
                    let _ = found.set(reason);
                    return;
                }
            }
        })?;
        Ok(Self { ending, short, _alive: alive })
    }

    /// Whether memory ran short.
    pub fn is_short(&self) -> bool {
        self.short.get().is_some()
    }

    /// Why a run that has not begun must not, in a sentence.
    pub fn reason(&self) -> Option<String> {
        self.ending
            .asked()
            .map(|by| format!("ended by a signal ({by}) before the run was over"))
            .or_else(|| self.shortage())
    }

    /// How memory ran short, in a sentence.
    pub fn shortage(&self) -> Option<String> {
        self.short.get().cloned()
    }
}

/// What can be had at once. `MemAvailable` would count the inodes and dentries of open sockets as free, gigabytes of them
/// where there are millions.
pub fn available_bytes() -> Option<u64> {
    let memory = Meminfo::current().ok()?;
    Some((memory.mem_free + memory.buffers + memory.cached).saturating_sub(memory.shmem.unwrap_or_default()))
}

fn shortage(available_bytes: u64, floor_bytes: u64) -> Option<String> {
    (available_bytes < floor_bytes).then(|| {
        format!(
            "memory ran short: {} MiB are available, and --memory-floor-mb is {}; ask for fewer clients",
            available_bytes >> 20,
            floor_bytes >> 20
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_below_the_floor_only() {
        assert_eq!(shortage(512 << 20, 512 << 20), None);
        let reason = shortage((512 << 20) - 1, 512 << 20).expect("short");
        assert!(reason.contains("511 MiB") && reason.contains("--memory-floor-mb is 512"), "{reason}");
        assert!(available_bytes() > Some(0));
    }
}
