//! What `storm` and `churn` do after the ramp: connections end together and come back.

use super::Run;
use crate::host::{Memory, Network, Reading};
use crate::limits::ROUND_REST;
use crate::meters::Counters;
use crate::timeline::Stage;
use crate::worker::Phase;
use serde::Serialize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How a storm went: all connections lost at once, and made again as fast as the ramp allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Storm {
    /// Connections that were lost.
    pub lost: u64,
    /// Clients that had a connection again in the end.
    pub back: u64,
    /// From the loss to the last client's Welcome, or to the end of the waiting.
    pub back_s: f64,
    /// Clients that came back, by that time.
    pub back_per_s: f64,
    /// What the kernel counted meanwhile: overflows of the accept queue stand in `listen_overflows`.
    pub network: Network,
}

/// One round of `churn`: all connect, stay for --duration-s, leave.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Round {
    /// Clients that were connected together.
    pub connected: u64,
    /// From the beginning of the round until then.
    pub up_s: f64,
    /// Clients that were still there when all had left.
    pub left_behind: u64,
    /// Memory while they stayed.
    pub held_bytes: Memory,
    /// Memory after they had left.
    pub empty_bytes: Memory,
}

impl Run {
    /// Lets all connections be lost and waits until all are back.
    pub(super) fn storm(&mut self) -> Storm {
        let before = Network::read();
        let lost = self.shared.counters.open.load(Relaxed);
        let begun = Instant::now();
        self.phase.send_replace(Phase::Fall);
        let longest = Duration::from_secs(self.shared.options.cli.ready_s);
        self.wait(Stage::Fall, longest, |counters| counters.open.load(Relaxed) == 0);
        self.come_back();
        let back = self.shared.counters.open.load(Relaxed);
        let back_s = begun.elapsed().as_secs_f64();
        let network = Network::read().since(&before);
        Storm { lost, back, back_s, back_per_s: back as f64 / back_s, network }
    }

    /// The rounds of `churn`; the first ramp is over.
    pub(super) fn churn(&mut self) -> Vec<Round> {
        let mut rounds = Vec::new();
        for number in 0..self.shared.options.cli.rounds {
            let begun = Instant::now();
            if number > 0 {
                self.come_back();
            }
            // The first time the ramp brought them up, and the measured part was their stay.
            let up_s = if number > 0 {
                begun.elapsed().as_secs_f64()
            } else {
                self.shared.counters.last_connected_us.load(Relaxed) as f64 / 1e6
            };
            let connected = self.shared.counters.open.load(Relaxed);
            let mut round = Round { connected, up_s, ..Round::default() };
            if number > 0 {
                self.wait(Stage::Hold, Duration::from_secs(self.shared.options.cli.duration_s), |_| false);
            }
            round.held_bytes = self.memory();
            self.phase.send_replace(Phase::Leave);
            self.wait(Stage::Leave, self.ramp_longest(), |counters| remaining(counters) == 0);
            round.left_behind = remaining(&self.shared.counters);
            // The kernel frees sockets and dentries behind grace periods, the gateway its memory in its own time.
            self.wait(Stage::Rest, ROUND_REST, |_| false);
            round.empty_bytes = self.memory();
            if self.ended_early.is_none() {
                rounds.push(round);
            }
            if self.stopped.is_some() || self.ended_early.is_some() {
                break;
            }
        }
        rounds
    }

    fn come_back(&mut self) {
        let clients = u64::from(self.shared.options.cli.clients);
        self.phase.send_replace(Phase::Return(self.shared.clock.now() + self.start_after()));
        self.wait(Stage::Return, self.ramp_longest(), |counters| {
            counters.open.load(Relaxed) + counters.failed.load(Relaxed) >= clients
        });
    }

    fn memory(&self) -> Memory {
        Reading::take(self.shared.options.cli.gateway_pid).memory
    }
}

/// Clients that have a connection, or are saying goodbye.
fn remaining(counters: &Counters) -> u64 {
    counters.open.load(Relaxed) + counters.leaving.load(Relaxed)
}
