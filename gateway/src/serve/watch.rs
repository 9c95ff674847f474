//! Looks at the machine and the shards a few times a second, and closes the gateway to new sessions while they are near their limits.

use std::{path::Path, sync::Arc, time::Instant};

use roost_gateway::{
    admission::{Admission, Closed, MemoryFiles, Reading, Reason},
    limits,
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
    /// Over the counters of all shards; `root` is the folder in which `proc` and `sys` lie.
    pub fn new(root: &Path, shards: Vec<Arc<Stats>>, shared: Arc<Shared>) -> Self {
        let files = MemoryFiles::find(root);
        let admission = Admission::default();
        Self { files, admission, shards, shared, start: Instant::now(), closed: None }
    }

    /// One look; `now` never goes back.
    pub fn look(&mut self, now: Instant) {
        let mut reading = Reading {
            backlog_percent: self.most(backlog_percent),
            held_requests: self.most(|stats| stats.backlog_requests.value()),
            ..Reading::default()
        };
        self.files.read(&mut reading);
        let closed = self.admission.look(reading, now.duration_since(self.start).as_millis() as u64);
        self.shared.gate.set(closed);
        self.tell(closed, reading, now);
    }

    fn tell(&mut self, closed: Closed, reading: Reading, now: Instant) {
        let is_closed = closed != Closed::default();
        match self.closed {
            None if is_closed => {
                self.closed = Some((now, self.refused()));
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
                let (seconds, refused) = (now.duration_since(since).as_secs(), self.refused() - before);
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

/// How full a shard's backlog is. One that grows because so many are on their way to their 503 says nothing of the machine:
/// were it to close the gate, those who say nothing would keep it closed.
fn backlog_percent(stats: &Stats) -> u64 {
    if stats.refusing.value() >= (limits::REFUSING_MAX / 2).into() {
        return 0;
    }
    stats.listen_backlog.value() * 100 / stats.listen_backlog_max.value().max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The shard that is worst counts, and each level is taken from its own counters.
    #[test]
    fn full_queues_of_one_shard_close_the_gate_and_open_it_again() {
        let (full_ms, calm_ms) = (limits::ADMISSION_FULL_MS, limits::ADMISSION_CALM_MS);
        let shards: Vec<Arc<Stats>> = (0..3).map(|_| Arc::default()).collect();
        let shared = Arc::<Shared>::default();
        let mut watch = Watch::new(Path::new("/nonexistent"), shards.clone(), Arc::clone(&shared));
        let start = watch.start;
        let mut look = |ms| {
            watch.look(start + Duration::from_millis(ms));
            shared.gate.closed().to_string()
        };
        assert_eq!(look(0), "", "nothing is known of the backlogs yet");
        shards[0].listen_backlog_max.set(10_000);
        shards[1].listen_backlog_max.set(4);
        shards[1].listen_backlog.set(3);
        assert_eq!((look(0), look(full_ms - 1).as_str()), (String::new(), ""));
        assert_eq!(look(full_ms), "accept_backlog");
        // Who is refused and says nothing keeps others from being accepted; that must not keep the gate closed.
        shards[1].refusing.set(limits::REFUSING_MAX.into());
        assert_eq!((look(full_ms), look(full_ms + calm_ms).as_str()), ("accept_backlog".to_owned(), ""));
        shards[1].refusing.set(0);
        let full_ms = 2 * full_ms + calm_ms;
        assert_eq!(
            (look(full_ms - limits::ADMISSION_FULL_MS), look(full_ms).as_str()),
            (String::new(), "accept_backlog")
        );
        shards[1].listen_backlog.set(0);
        shards[2].backlog_requests.set(1);
        let then = full_ms + 1;
        assert_eq!(look(then), "accept_backlog");
        assert_eq!(look(then + calm_ms), "", "the queue is not full for long yet");
        assert_eq!(look(then + full_ms), "router_queue");
        shards[2].backlog_requests.set(0);
        assert_eq!(look(then + 2 * full_ms), "router_queue");
        assert_eq!(look(then + 2 * full_ms + calm_ms), "");
    }
}
