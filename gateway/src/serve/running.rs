//! A gateway that serves: waits for a signal or a successor, drains, ends.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use roost_gateway::{http::HttpService, limits, mailbox::Sender, shard::Shared};
use roost_proto::tier::Effect;
use roost_router::Router;

use super::{
    manager::{Manager, Pulse},
    metrics::Density,
    signals::Watched,
    takeover::{Door, Sockets, Successor},
    watch::Watch,
};

/// A gateway that serves.
pub struct Running {
    pub(super) ws: SocketAddr,
    pub(super) shards: Vec<JoinHandle<()>>,
    pub(super) density: Density,
    /// `None` with `--always-admit`.
    pub(super) watch: Option<Watch>,
    pub(super) shared: Arc<Shared>,
    pub(super) mailboxes: Vec<Sender<Effect>>,
    pub(super) http: HttpService,
    pub(super) router: Option<Router>,
    pub(super) news: mpsc::Receiver<News>,
    pub(super) manager: Manager,
    pub(super) signals: Watched,
    pub(super) door: Option<Door>,
}

/// What the main thread waits for.
pub enum News {
    /// SIGTERM or SIGINT.
    Signal,
    /// Another process has our listeners too and waits for the store.
    TakenOver(Successor),
    /// A shard's thread ended.
    ShardEnded(u16, std::io::Result<()>),
}

impl Running {
    /// The line scripts wait for.
    pub fn ready_line(&self) -> String {
        let (ws, http, shards) = (self.ws, self.http.address(), self.shards.len());
        format!("ready ws={ws} http={http} shards={shards} {}", self.density)
    }

    /// Address of the web page.
    pub fn http_address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Serves until a signal or a successor comes, then drains. The sockets come back where the successor ended before it
    /// served: they are to be served again.
    ///
    /// # Errors
    /// A shard failed.
    pub fn wait(mut self) -> Result<Option<Sockets>> {
        self.manager.ready(&format!("serves ws={} http={}", self.ws, self.http.address()));
        let (failed, successor) = match self.next_news() {
            News::ShardEnded(number, result) => (Some(shard_failure(number, result)), None),
            News::TakenOver(successor) => (None, Some(successor)),
            News::Signal => (None, None),
        };
        let ended = usize::from(failed.is_some());
        let (left, sockets) = self.drain(successor, ended);
        if left > 0 && failed.is_none() {
            tracing::warn!("{left} connections were still open when the time for draining was up");
        }
        failed.map_or(Ok(sockets), Err)
    }

    /// Waits for news; meanwhile looks at the machine, and feeds the watchdog while the shards are alive.
    fn next_news(&mut self) -> News {
        let sample = Duration::from_millis(limits::ADMISSION_SAMPLE_MS);
        let period = self.manager.period().unwrap_or(Duration::MAX);
        let mut pulse = Pulse::new(&self.density.shards);
        let mut fed = Instant::now();
        self.mailboxes.iter().for_each(Sender::wake);
        loop {
            match self.news.recv_timeout(sample.min(period)) {
                Ok(news) => return news,
                Err(mpsc::RecvTimeoutError::Disconnected) => return News::Signal,
                Err(mpsc::RecvTimeoutError::Timeout) => self.look(),
            }
            if fed.elapsed() >= period {
                if pulse.beats() {
                    self.manager.alive();
                } else {
                    tracing::error!("a shard does not turn any more; the watchdog is not fed");
                }
                fed = Instant::now();
                self.mailboxes.iter().for_each(Sender::wake);
            }
        }
    }

    fn look(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.look(Instant::now());
        }
    }

    /// Sends everybody away and stops; returns how many connections had to be cut, and the sockets where the successor did not
    /// get to serve them. `ended` shards have told of their end.
    fn drain(self, mut successor: Option<Successor>, ended: usize) -> (u64, Option<Sockets>) {
        tracing::info!("draining: no new connections; {} are sent away", self.connections());
        // With a successor it may have to serve again, which a service manager would not wait for.
        if successor.is_none() {
            self.manager.stopping();
        }
        self.door.as_ref().inspect(|door| door.close());
        self.http.drain();
        self.shared.draining.store(true, Ordering::Relaxed);
        self.mailboxes.iter().for_each(Sender::wake);
        self.wait_for_shards(&mut successor, ended);
        let left = self.connections();
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.mailboxes.iter().for_each(Sender::wake);
        for shard in self.shards {
            if shard.join().is_err() {
                tracing::error!("a shard panicked; this is a defect");
            }
        }
        self.manager.busy("drained; closing the store");
        // Calls in flight still need the router.
        self.http.stop();
        if let Some(router) = self.router {
            router.stop();
        }
        let sockets = successor.and_then(|successor| successor.release(&self.manager, &self.signals));
        (left, sockets)
    }

    /// Waits until all shards have ended, or the time for draining is up.
    fn wait_for_shards(&self, successor: &mut Option<Successor>, ended: usize) {
        let deadline = Instant::now() + Duration::from_secs(self.shared.drain.s_max);
        let told_every = Duration::from_millis(limits::MANAGER_TOLD_MS);
        let mut running = self.shards.len() - ended;
        while running > 0 {
            self.manager.busy(&format!("draining: {} connections are left", self.connections()));
            self.manager.alive();
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.news.recv_timeout(rest.min(told_every)) {
                Ok(News::ShardEnded(..)) => running -= 1,
                Ok(News::TakenOver(late)) => *successor = Some(late),
                Err(mpsc::RecvTimeoutError::Timeout) if rest > told_every => {}
                Ok(News::Signal) => {}
                Err(_) => break,
            }
        }
    }

    fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

fn shard_failure(number: u16, result: std::io::Result<()>) -> anyhow::Error {
    match result {
        Ok(()) => anyhow!("shard {number} ended by itself; this is a defect"),
        Err(error) => anyhow::Error::new(error).context(format!("shard {number} failed")),
    }
}
