//! Looks at the machine and the shards a few times a second, and closes the gateway to new sessions while they are near their limits.

use std::{sync::Arc, time::Instant};

use roost_gateway::{
    admission::{Admission, Closed, MemoryFiles, Reading, Reason},
    config::Config,
    shard::{Cell, Shared, Stats},
};

/// The one who decides; it runs on the main thread.
pub struct Watch {
    files: MemoryFiles,
    admission: Admission,
    shards: Vec<Arc<Stats>>,
    shared: Arc<Shared>,
    start: Instant,
    /// Since when it is closed, and how many had been refused by then.
    closed: Option<(Instant, u64)>,
}

impl Watch {
    /// Over the counters of all shards.
    pub fn new(config: &Config, shards: Vec<Arc<Stats>>, shared: Arc<Shared>) -> Self {
        let files = MemoryFiles::find(&config.system_root);
        let admission = Admission::default();
        Self { files, admission, shards, shared, start: Instant::now(), closed: None }
    }

    /// One look.
    pub fn look(&mut self) {
        let mut reading = Reading {
            backlog_percent: self
                .most(|stats| stats.listen_backlog.value() * 100 / stats.listen_backlog_max.value().max(1)),
            held_requests: self.most(|stats| stats.backlog_requests.value()),
            ..Reading::default()
        };
        self.files.read(&mut reading);
        let closed = self.admission.look(reading, self.start.elapsed().as_millis() as u64);
        self.shared.gate.set(closed);
        self.tell(closed, reading);
    }

    fn tell(&mut self, closed: Closed, reading: Reading) {
        let is_closed = closed != Closed::default();
        match self.closed {
            None if is_closed => {
                self.closed = Some((Instant::now(), self.refused()));
                tracing::warn!(
                    "new upgrades are refused with 503 because of {closed}; those inside live on. Tasks waited for memory in {} % of \
                     10 s, {} % of the control group's memory is used, the accept backlog is {} % full, {} requests wait for the router",
                    reading.stall_percent,
                    reading.memory_percent,
                    reading.backlog_percent,
                    reading.held_requests
                );
            }
            Some((since, before)) if !is_closed => {
                self.closed = None;
                let (seconds, refused) = (since.elapsed().as_secs(), self.refused() - before);
                tracing::info!("new upgrades are let in again after {seconds} s; {refused} were refused");
            }
            _ => {}
        }
    }

    fn most(&self, of: impl Fn(&Stats) -> u64) -> u32 {
        self.shards.iter().map(|stats| of(stats)).max().unwrap_or_default().min(u32::MAX.into()) as u32
    }

    /// Connections refused so far for what is looked at here.
    fn refused(&self) -> u64 {
        let watched = |reason: &Reason| !matches!(reason, Reason::ConnectionsMax | Reason::Draining);
        let cells = |stats: &Stats| -> u64 {
            let reasons = Reason::ALL.into_iter().filter(watched);
            reasons.map(|reason| Cell::value(&stats.not_admitted[reason as usize])).sum()
        };
        self.shards.iter().map(|stats| cells(stats)).sum()
    }
}
