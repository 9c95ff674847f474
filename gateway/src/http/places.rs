//! Places of the HTTP service's connections: when all are taken, the one that has been without a request for longest gives way.
//!
//! Without that, as many connections that say nothing as there are places would keep a health check out for as long as a request's head may
//! take. A client that behaves sends its head with the first round trip.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::limits::CONNECTIONS_MAX;

/// Requests of a connection that are being answered.
#[derive(Clone, Default)]
pub(super) struct Serving(Arc<AtomicUsize>);

/// Counts while it lives.
pub(super) struct Served(Serving);

impl Serving {
    pub(super) fn begin(&self) -> Served {
        self.0.fetch_add(1, Ordering::Relaxed);
        Served(self.clone())
    }

    fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All places.
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// The oldest first; those that have ended are dropped when it is full.
    taken: VecDeque<(AbortHandle, Serving)>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(CONNECTIONS_MAX)), taken: VecDeque::new() }
    }

    /// A place, once there is one. True: somebody had to give way for it.
    pub(super) async fn take(&mut self) -> (Option<OwnedSemaphorePermit>, bool) {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return (Some(place), false);
        }
        let idle = self.taken.iter().position(|(task, serving)| serving.is_idle() && !task.is_finished());
        let gave_way = idle.and_then(|idle| self.taken.remove(idle));
        if let Some((task, _)) = &gave_way {
            task.abort();
        }
        // The semaphore is never closed.
        (Arc::clone(&self.free).acquire_owned().await.ok(), gave_way.is_some())
    }

    /// The connection that a place was taken for.
    pub(super) fn given(&mut self, task: AbortHandle, serving: Serving) {
        if self.taken.len() >= 2 * CONNECTIONS_MAX {
            self.taken.retain(|(task, _)| !task.is_finished());
        }
        self.taken.push_back((task, serving));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_without_a_request_gives_way_and_one_with_a_request_does_not() {
        let mut places = Places::new();
        let mut tasks = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let (place, gave_way) = places.take().await;
            assert!(place.is_some() && !gave_way);
            let serving = Serving::default();
            let task = tokio::spawn(async move {
                let _place = place;
                std::future::pending::<()>().await;
            });
            places.given(task.abort_handle(), serving.clone());
            tasks.push((task, serving));
        }
        let busy = tasks[0].1.begin();
        assert!(matches!(places.take().await, (Some(_), true)));
        assert!(tasks[1].0.is_finished() && !tasks[0].0.is_finished(), "the first was being served");
        drop(busy);
        // The place that came back was dropped, so it is free; after it the first one's turn has come.
        let (_place, gave_way) = places.take().await;
        assert!(!gave_way);
        assert!(matches!(places.take().await, (Some(_), true)));
        assert!(tasks[0].0.is_finished() && !tasks[2].0.is_finished());
    }
}
