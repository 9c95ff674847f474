//! A run that its user ends before its time is judged on what it did: the schedule is cut where it was ended, what had been sent by
//! then may arrive, and the report says so.

use super::{Measured, Run};
use crate::host::Reading;
use crate::timeline::Stage;
use serde::Serialize;
use std::sync::atomic::Ordering::Relaxed;

/// How the user ended a run before its time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EndedEarly {
    /// How it was asked for: `q`, `SIGINT`, `SIGTERM`.
    pub by: &'static str,
    /// What the run was doing.
    pub phase: Stage,
    /// When, in seconds since the ramp began.
    pub at_s: f64,
}

impl Run {
    /// Whether the user wants a phase to end now. A drain is waited for: without it nobody knows what was lost.
    pub(super) fn is_cut_short(&mut self, stage: Stage) -> bool {
        if self.ended_early.is_none()
            && let Some(by) = self.ending.asked()
            && stage != Stage::Drain
        {
            self.ended_early = Some(EndedEarly { by, phase: stage, at_s: self.now_s() });
            self.cut();
        }
        self.ended_early.is_some() && stage != Stage::Drain
    }

    /// Ends the schedule a moment from now, so that no worker is past that time when it hears of it.
    fn cut(&self) {
        let shared = &self.shared;
        let now = shared.clock.now() + self.start_after();
        let cut_us = self.origin.map_or(0, |origin| now.saturating_duration_since(origin).as_micros() as u64);
        shared.cut_us.store(cut_us, Relaxed);
        std::thread::sleep(self.start_after());
    }

    /// What a run that ended in its ramp has measured.
    pub(super) fn nothing_measured(&self) -> Measured {
        Measured {
            duration_s: 0.0,
            sent: 0,
            gateway_cpu: None,
            generator_cpu_s: 0.0,
            busiest: None,
            held: Reading::take(self.shared.options.cli.gateway_pid),
        }
    }

    /// Clients that never were, or gave up. Those that a ramp cut short had not come to yet did nothing wrong.
    pub(super) fn clients_failed(&self, wanted: u32, connected: u64) -> u64 {
        let failed = self.shared.counters.failed.load(Relaxed);
        match &self.ended_early {
            Some(ended) if ended.phase == Stage::Ramp => failed,
            _ => failed.max(u64::from(wanted).saturating_sub(connected)),
        }
    }
}
