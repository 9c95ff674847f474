//! What ends a run early: a signal to this process, or memory that runs short. The run looks here and ends in order,
//! before the kernel's OOM killer chooses somebody.

use crate::limits::WATCH_EVERY;
use procfs::{Current, Meminfo};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;

/// The exit status of a process whose user gave it a second signal.
const INTERRUPTED: i32 = 130;

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watch {
    signalled: Arc<AtomicBool>,
    short: Arc<OnceLock<String>>,
    // The thread ends when this is dropped.
    _alive: mpsc::Sender<()>,
}

impl Watch {
    /// Begins. The first SIGINT or SIGTERM from now on ends the run in order, the second ends the process.
    ///
    /// # Errors
    /// Where a signal handler cannot be set or a thread cannot be started.
    pub fn start(floor_bytes: u64) -> io::Result<Self> {
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag down.
            flag::register_conditional_shutdown(signal, INTERRUPTED, signalled.clone())?;
            flag::register(signal, signalled.clone())?;
        }
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
        Ok(Self { signalled, short, _alive: alive })
    }

    /// Whether memory ran short.
    pub fn is_short(&self) -> bool {
        self.short.get().is_some()
    }

    /// Why the run has to end, in a sentence; `None` while it may go on.
    pub fn reason(&self) -> Option<String> {
        if self.signalled.load(Relaxed) {
            return Some("ended by a signal before the run was over".into());
        }
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
