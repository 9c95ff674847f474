//! Takes a sample each second in the run's own thread: reads the counters, /proc, and what changed since the last one.

use super::{Held, Sample, Stage, Timeline};
use crate::host::{Cpu, Glance};
use crate::meters::Counters;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

/// What the next sample is compared with.
#[derive(Debug)]
pub struct Sampler {
    /// Before the first connect.
    before: Glance,
    gateway_pid: Option<i32>,
    last: Sums,
    last_s: f64,
    stage: Stage,
}

/// Sums since the beginning.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    connects: u64,
    sent: u64,
    answered: u64,
    received: u64,
    gateway_cpu: Option<Cpu>,
    generator_cpu_s: f64,
}

impl Sampler {
    /// Begins now, before the first connect.
    pub fn new(gateway_pid: Option<i32>) -> Self {
        let counters = Counters::default();
        let last = Sums::read(&counters, gateway_pid);
        let before = Glance::take(gateway_pid);
        Self { before, gateway_pid, last, last_s: 0.0, stage: Stage::Ramp }
    }

    /// Takes a sample, where a second has passed since the ramp's beginning or the last one.
    pub fn look(&mut self, now_s: f64, stage: Stage, counters: &Counters, timeline: &Mutex<Timeline>) {
        self.stage = stage;
        if now_s.floor() > self.last_s.floor() {
            self.take(now_s, counters, timeline);
        }
    }

    /// Takes the last sample, of the part of a second that is left.
    pub fn finish(&mut self, now_s: f64, counters: &Counters, timeline: &Mutex<Timeline>) {
        // Else its rates would be those of a few microseconds.
        if now_s > self.last_s + 0.1 || self.last_s <= 0.0 {
            self.take(now_s, counters, timeline);
        }
    }

    fn take(&mut self, now_s: f64, counters: &Counters, timeline: &Mutex<Timeline>) {
        let (sums, glance) = (Sums::read(counters, self.gateway_pid), Glance::take(self.gateway_pid));
        let gateway_cpu = sums.gateway_cpu.zip(self.last.gateway_cpu);
        let growth = |now: u64, before: u64| now as i64 - before as i64;
        let held = Held {
            kernel_growth_bytes: growth(glance.slab, self.before.slab),
            gateway_growth_bytes: glance
                .gateway_rss
                .zip(self.before.gateway_rss)
                .map(|(now, before)| growth(now, before)),
            gateway_rss_bytes: glance.gateway_rss,
            gateway_cpu_s: gateway_cpu.map(|(now, last)| now.since(&last).total_s()),
        };
        let sample = Sample {
            until_s: now_s,
            seconds: (now_s - self.last_s).max(1e-6),
            stage: self.stage,
            clients_connected: counters.connected.load(Relaxed),
            clients_open: counters.open.load(Relaxed),
            connects: sums.connects - self.last.connects,
            sent: sums.sent - self.last.sent,
            answered: sums.answered - self.last.answered,
            received: sums.received - self.last.received,
            held,
            generator_rss_bytes: glance.generator_rss,
            generator_cpu_s: sums.generator_cpu_s - self.last.generator_cpu_s,
            ..Sample::default()
        };
        // The second that has just passed; of the last sample, the one that has begun.
        let second = if now_s.floor() > self.last_s.floor() { now_s.floor() - 1.0 } else { now_s.floor() };
        timeline.lock().unwrap_or_else(PoisonError::into_inner).sample(second as u64, &sample);
        (self.last, self.last_s) = (sums, now_s);
    }
}

impl Sums {
    fn read(counters: &Counters, gateway_pid: Option<i32>) -> Self {
        Self {
            connects: counters.connected.load(Relaxed) + counters.reconnects.load(Relaxed),
            sent: counters.sent.load(Relaxed),
            answered: counters.answered.load(Relaxed),
            received: counters.received.load(Relaxed),
            gateway_cpu: gateway_pid.and_then(Cpu::of_server),
            generator_cpu_s: crate::host::own_cpu_s(),
        }
    }
}
