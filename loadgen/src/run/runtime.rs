//! A thread of a run: a tokio-uring runtime with the clients of one worker.

use crate::limits::{RING_COMPLETIONS, RING_ENTRIES};
use crate::scenario::{Chat, Echo, Idle};
use crate::worker::{self, Phase, Results, Shared};
use std::io;
use std::sync::{Arc, mpsc};
use tokio::sync::watch;

/// Runs one worker to the end of the run, with a ring of its own, and hands in what it found.
pub(crate) fn work(
    shared: Arc<Shared>,
    number: u32,
    threads: u32,
    phase: watch::Receiver<Phase>,
    results: &mpsc::Sender<io::Result<Results>>,
) {
    let mut ring = tokio_uring::uring_builder();
    // Completions wait for the thread's next system call instead of interrupting it for each.
    ring.setup_cqsize(RING_COMPLETIONS).setup_coop_taskrun();
    tokio_uring::builder().entries(RING_ENTRIES).uring_builder(&ring).start(async {
        let options = &shared.options;
        let result = if options.talks() {
            worker::run::<Chat>(shared, number, threads, phase).await
        } else if options.echoes() {
            worker::run::<Echo>(shared, number, threads, phase).await
        } else {
            worker::run::<Idle>(shared, number, threads, phase).await
        };
        // Nobody waits for it any more where the run was given up.
        let _ = results.send(Ok(result));
    });
}
