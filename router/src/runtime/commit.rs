//! Commits on a thread of their own, so that a disk that stalls holds up what must be stored and nothing else.

use crate::{
    error::StoreError,
    store::{Batch, Store},
};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A batch that was handed to the store, how that ended and how long it took.
pub(super) struct Committed {
    pub(super) batch: Batch,
    pub(super) result: Result<(), StoreError>,
    pub(super) took: Duration,
}

/// Commits one batch at a time.
pub(super) struct Committer {
    /// None once it is to end.
    batches: Option<Sender<Batch>>,
    done: Receiver<Committed>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system has none.
    pub(super) fn start(store: Arc<dyn Store>, number: usize) -> std::io::Result<Self> {
        let (batches, batches_in) = bounded::<Batch>(1);
        let (done_out, done) = bounded(1);
        let thread = std::thread::Builder::new().name(format!("commit-{number}")).spawn(move || {
            for batch in batches_in {
                let begin = Instant::now();
                let result = store.commit(&batch);
                if done_out.send(Committed { batch, result, took: begin.elapsed() }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { batches: Some(batches), done, thread: Some(thread) })
    }

    /// Hands over a batch; `wait` until it is back before the next.
    pub(super) fn begin(&self, batch: Batch) {
        if let Some(batches) = &self.batches {
            // The thread lives as long as this: it ends by a panic of the store only, which `wait` tells.
            let _gone = batches.send(batch);
        }
    }

    /// None where the commit takes longer than this.
    pub(super) fn wait(&self, longest: Duration) -> Option<Committed> {
        match self.done.recv_timeout(longest) {
            Ok(done) => Some(done),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                let result = Err(StoreError::new("commit", "the thread that commits has ended"));
                Some(Committed { batch: Batch::default(), result, took: Duration::ZERO })
            }
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.batches = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread that commits panicked");
        }
    }
}
