//! One interval of a run, as one process saw it.

use super::Buckets;
use crate::meters::Interval;
use serde::{Deserialize, Serialize};

/// What the run was doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Clients come up.
    #[default]
    Ramp,
    /// The measured part.
    Run,
    /// What is on its way may arrive.
    Drain,
    /// All connections are lost at once (storm).
    Fall,
    /// All clients come back (storm, churn).
    Return,
    /// All clients stay, after the first round (churn).
    Hold,
    /// All clients say goodbye (churn).
    Leave,
    /// Nobody is there; the machine frees what they took (churn).
    Rest,
}

impl Stage {
    /// The name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ramp => "ramp",
            Self::Run => "run",
            Self::Drain => "drain",
            Self::Fall => "fall",
            Self::Return => "return",
            Self::Hold => "hold",
            Self::Leave => "leave",
            Self::Rest => "rest",
        }
    }
}

/// What the clients take on the machine of one process. The gateway's part stands where its process is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Growth of Slab since before the first connect, in bytes.
    pub kernel_growth_bytes: i64,
    /// Growth of the gateway's resident set since then.
    pub gateway_growth_bytes: Option<i64>,
    /// The gateway's resident set.
    pub gateway_rss_bytes: Option<u64>,
    /// CPU time the gateway spent in the interval.
    pub gateway_cpu_s: Option<f64>,
}

/// An interval. Counts are those of the interval; what is held is what was there at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The end, in seconds since the ramp began.
    pub until_s: f64,
    /// What the counts cover, in seconds; 0 where no sample was taken yet.
    pub seconds: f64,
    /// What the run was doing at the end.
    pub stage: Stage,
    /// Clients that were connected once, at the end.
    pub clients_connected: u64,
    /// Connections open at the end.
    pub clients_open: u64,
    /// Connections made, again ones included.
    pub connects: u64,
    /// Messages handed to a socket.
    pub sent: u64,
    /// Messages answered.
    pub answered: u64,
    /// Messages that arrived.
    pub received: u64,
    /// Errors of any kind.
    pub errors: u64,
    /// To the delivery, or the echo.
    pub latency: Buckets,
    /// To Sent.
    pub latency_sent: Buckets,
    /// From the SYN to Welcome (phantoms).
    pub connect: Buckets,
    /// The generator's own lateness.
    pub lag: Buckets,
    /// Memory and CPU of the server's side, at the end.
    pub held: Held,
    /// The generator's resident set at the end.
    pub generator_rss_bytes: u64,
    /// CPU time the generator spent.
    pub generator_cpu_s: f64,
}

impl Sample {
    /// Adds what a worker recorded in this interval.
    pub fn record(&mut self, interval: &Interval) {
        self.errors = self.errors.saturating_add(interval.errors);
        self.latency.add(&interval.latency);
        self.latency_sent.add(&interval.latency_sent);
        self.connect.add(&interval.connect);
        self.lag.add(&interval.lag);
    }

    /// What workers recorded in this interval.
    pub(super) fn recorded(&self) -> Interval {
        Interval {
            latency: self.latency.clone(),
            latency_sent: self.latency_sent.clone(),
            connect: self.connect.clone(),
            lag: self.lag.clone(),
            errors: self.errors,
        }
    }

    /// Takes over the next interval of the same process: both become one.
    pub fn follow(&mut self, next: &Self) {
        self.add_counts(next);
        if next.seconds > 0.0 {
            let cpu_s = |cpu_s: Option<f64>| cpu_s.unwrap_or_default();
            let gateway_cpu_s = cpu_s(self.held.gateway_cpu_s) + cpu_s(next.held.gateway_cpu_s);
            self.hold(next);
            self.held.gateway_cpu_s = next.held.gateway_cpu_s.map(|_| gateway_cpu_s);
            self.seconds += next.seconds;
        }
    }

    /// Takes over the same interval of another process that works beside this one.
    pub fn beside(&mut self, other: &Self) {
        self.add_counts(other);
        self.until_s = self.until_s.max(other.until_s);
        self.seconds = self.seconds.max(other.seconds);
        self.clients_connected = self.clients_connected.saturating_add(other.clients_connected);
        self.clients_open = self.clients_open.saturating_add(other.clients_open);
        self.generator_rss_bytes = self.generator_rss_bytes.saturating_add(other.generator_rss_bytes);
        // Several on one machine see the same kernel: the one that knows the gateway speaks for it.
        if self.held.gateway_rss_bytes.is_none() && other.held.gateway_rss_bytes.is_some() {
            self.held = other.held;
        }
    }

    /// What is still there in an interval of which this process took no sample.
    pub(super) fn lasting(&self) -> Self {
        let held = Held { gateway_cpu_s: self.held.gateway_cpu_s.map(|_| 0.0), ..self.held };
        let mut lasting = Self { held, ..Self::default() };
        lasting.hold(&Self { held, ..self.clone() });
        lasting
    }

    fn hold(&mut self, other: &Self) {
        (self.until_s, self.stage, self.held) = (other.until_s, other.stage, other.held);
        (self.clients_connected, self.clients_open) = (other.clients_connected, other.clients_open);
        self.generator_rss_bytes = other.generator_rss_bytes;
    }

    fn add_counts(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.connects, other.connects),
            (&mut self.sent, other.sent),
            (&mut self.answered, other.answered),
            (&mut self.received, other.received),
            (&mut self.errors, other.errors),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.latency.add(&other.latency);
        self.latency_sent.add(&other.latency_sent);
        self.connect.add(&other.connect);
        self.lag.add(&other.lag);
        self.generator_cpu_s += other.generator_cpu_s;
    }
}
