//! Places of the HTTP service's connections: when all are taken, the one that has been without a request for longest gives way.
//!
//! Without that, as many connections that say nothing as there are places would keep a health check out for as long as a request's head may
//! take. Where each has an answer under way, the one goes whose client has taken nothing of it for longest: answers that nobody reads
//! must not keep others out either. A request that is being answered is never cut off; where all are, the newcomer waits for the first
//! of them, which takes no longer than [`super::limits::REQUEST_MS_MAX`].

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::limits::CONNECTIONS_MAX;

/// What all connections of a service have in common.
#[derive(Default)]
struct Company {
    /// Moments so far; what happens later has a higher number.
    moments: AtomicU64,
    /// A request was answered: its connection may give way.
    answered: Notify,
}

/// Where one connection stands between requests and answers.
#[derive(Clone)]
pub(super) struct Serving(Arc<State>);

struct State {
    company: Arc<Company>,
    /// Requests that are being answered.
    requests: AtomicUsize,
    /// An answer is there and is not all on its way.
    unsent: AtomicBool,
    /// The moment in which it was accepted, or its client took something, whichever was last.
    since: AtomicU64,
}

/// Counts while it lives: a request that is being answered.
pub(super) struct Served(Serving);

/// A connection's stream, which tells what becomes of its answers.
pub(super) struct Watched<S> {
    stream: S,
    serving: Serving,
}

impl Serving {
    fn begins(company: &Arc<Company>) -> Self {
        let serving = Self(Arc::new(State {
            company: Arc::clone(company),
            requests: AtomicUsize::new(0),
            unsent: AtomicBool::new(false),
            since: AtomicU64::new(0),
        }));
        serving.goes_on();
        serving
    }

    pub(super) fn request(&self) -> Served {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        Served(self.clone())
    }

    pub(super) fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched { stream, serving: self.clone() }
    }

    fn goes_on(&self) {
        let moment = self.0.company.moments.fetch_add(1, Ordering::Relaxed);
        self.0.since.store(moment, Ordering::Relaxed);
    }

    fn is_sent(&self) {
        if self.0.unsent.swap(false, Ordering::Relaxed) {
            self.goes_on();
        }
    }

    #[cfg(test)]
    pub(super) fn has_unsent(&self) -> bool {
        self.0.unsent.load(Ordering::Relaxed)
    }

    /// Who gives way first: whoever has the least. None: it does not.
    fn rank(&self) -> Option<(bool, u64)> {
        let answering = self.0.requests.load(Ordering::Relaxed) > 0;
        let rank = (self.0.unsent.load(Ordering::Relaxed), self.0.since.load(Ordering::Relaxed));
        (!answering).then_some(rank)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let Serving(state) = &self.0;
        state.unsent.store(true, Ordering::Relaxed);
        state.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.goes_on();
        state.company.answered.notify_one();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.serving.goes_on();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, bytes));
        self.serving.goes_on();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes the stream once its own buffer is empty: then all of an answer is with the kernel.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        self.serving.is_sent();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// All places.
pub(super) struct Places {
    free: Arc<Semaphore>,
    company: Arc<Company>,
    /// Those that have ended are dropped when it is full.
    taken: VecDeque<(AbortHandle, Serving)>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            free: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            company: Arc::default(),
            taken: VecDeque::new(),
        }
    }

    /// A connection was accepted.
    pub(super) fn serving(&self) -> Serving {
        Serving::begins(&self.company)
    }

    /// A place, once there is one. True: somebody had to give way for it.
    pub(super) async fn take(&mut self) -> (Option<OwnedSemaphorePermit>, bool) {
        loop {
            if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
                return (Some(place), false);
            }
            // The semaphore is never closed.
            let next = Arc::clone(&self.free).acquire_owned();
            if self.one_gives_way() {
                return (next.await.ok(), true);
            }
            tokio::select! {
                place = next => return (place.ok(), false),
                () = self.company.answered.notified() => {}
            }
        }
    }

    fn one_gives_way(&mut self) -> bool {
        let open = self.taken.iter().enumerate().filter(|(_, (task, _))| !task.is_finished());
        let ranks = open.filter_map(|(place, (_, serving))| Some((serving.rank()?, place)));
        let gone = ranks.min().and_then(|(_, place)| self.taken.remove(place));
        if let Some((task, _)) = &gone {
            task.abort();
        }
        gone.is_some()
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
#[path = "places_test.rs"]
mod tests;
