//! The threads that run partitions: they take requests in batches, commit each batch, and let its effects out.

mod aside;
mod commit;
mod directory;
mod failing;
mod held;
mod peers;
mod stats;
mod thread;
mod throttle;
mod work;

pub(crate) use directory::Directory;
pub(crate) use peers::Peer;
pub use stats::{COMMIT_US, Stats, ThreadStats};
pub(crate) use stats::{Counters, Gauges};
pub(crate) use thread::Thread;
pub use throttle::LIMITED;
pub(crate) use throttle::Throttle;
pub(crate) use work::{Job, route};

use crate::{api::Outlet, config::Config, store::Store};
use crossbeam::channel::Sender;
use std::sync::{Arc, atomic::AtomicBool};

/// What all threads and handles of a router share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Partitions of the store.
    pub(crate) partitions: u16,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) outlet: Arc<dyn Outlet>,
    pub(crate) directory: Directory,
    pub(crate) counters: Counters,
    pub(crate) throttle: Throttle,
    /// By thread.
    pub(crate) peers: Vec<Sender<Peer>>,
    pub(crate) stopping: AtomicBool,
}

impl Shared {
    /// The thread that runs a partition.
    pub(crate) fn thread_of(&self, partition: u16) -> usize {
        usize::from(partition) % self.peers.len()
    }
}
