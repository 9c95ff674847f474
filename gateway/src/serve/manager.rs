//! What the service manager is told, `sd_notify(3)`. Without `NOTIFY_SOCKET` nobody is.

use std::{cell::Cell, sync::Arc, time::Duration};

use roost_gateway::{limits, shard::Stats};
use sd_notify::NotifyState;

/// The service manager, if one wants to hear of us.
pub struct Manager {
    /// `WATCHDOG_USEC`: it hears of us at least so often, or restarts us.
    watchdog: Option<Duration>,
    /// It could not be told; said once.
    deaf: Cell<bool>,
}

impl Manager {
    /// As the environment names it.
    pub fn from_environment() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), deaf: Cell::new(false) }
    }

    /// Clients are served.
    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// We are on our way out.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// We start or stop, and it takes a while: its time-out counts from now on again.
    pub fn busy(&self, status: &str) {
        let extension = Duration::from_secs(limits::MANAGER_EXTENSION_S);
        let extend = NotifyState::ExtendTimeoutUsec(extension.as_micros() as u32);
        self.tell(&[NotifyState::Status(status), extend]);
    }

    /// The watchdog is fed.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// How often it is to be fed: twice in its time, `sd_watchdog_enabled(3)`.
    pub fn period(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2)
    }

    fn tell(&self, news: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(news)
            && !self.deaf.replace(true)
        {
            tracing::warn!("the service manager cannot be told how we are ({error}): look at NOTIFY_SOCKET");
        }
    }
}

/// Whether the shards are alive: each has turned since it was looked at and woken.
pub struct Pulse {
    shards: Vec<Arc<Stats>>,
    turns: Vec<u64>,
}

impl Pulse {
    /// Of these shards, which have to be woken now.
    pub fn new(shards: &[Arc<Stats>]) -> Self {
        Self { shards: shards.to_vec(), turns: shards.iter().map(|stats| stats.turns.value()).collect() }
    }

    /// Whether all have turned since the last look.
    pub fn beats(&mut self) -> bool {
        let now: Vec<u64> = self.shards.iter().map(|stats| stats.turns.value()).collect();
        let beats = now.iter().zip(&self.turns).all(|(now, before)| now != before);
        self.turns = now;
        beats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pulse_stops_when_one_shard_does() {
        let shards = [Arc::<Stats>::default(), Arc::default()];
        let turn = || shards.iter().map(|stats| stats.turns.add(1)).count();
        let mut pulse = Pulse::new(&shards);
        assert_eq!(turn(), 2);
        assert!(pulse.beats());
        shards[0].turns.add(1);
        assert!(!pulse.beats(), "the other did not turn");
        turn();
        assert!(pulse.beats(), "it turns again");
    }
}
