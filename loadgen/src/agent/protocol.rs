//! What coordinator and agents say to each other, in postcard's encoding. The first message each way is Hello, whose form stays: it tells the
//! version, and two versions do not talk any further, because their schedules could differ.
//!
//! Moments are nanoseconds of the agent's own clock, since it took the call.

use super::limits::FUTURE_MAX;
use crate::auth::Credentials;
use crate::host::Network;
use crate::meters::{COUNTERS, Interval};
use crate::report::Host;
use crate::worker::Phase;
use quanta::Instant;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The version that both ends must have.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a coordinator says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToAgent {
    /// The first: its version.
    Hello(String),
    /// What is to be run.
    Job(Job),
    /// What is the time? The number comes back.
    Probe(u32),
    /// The ramp begins at this moment.
    Start(u64),
    /// The run has come to this.
    Phase(Step),
    /// Clients that are connected at other agents.
    Elsewhere(u64),
    /// The schedule ends here: [`crate::worker::Shared::cut_us`].
    Cut(u64),
}

/// What an agent says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromAgent {
    /// The first: its version, and its threads, each a worker.
    Hello(String, u32),
    /// It will not, or cannot; a sentence. The last message.
    Refused(String),
    /// The job is understood, and this is its schedule's digest.
    Ready([u8; 32]),
    /// The answer to a probe: its number, the time.
    Now(u32, u64),
    /// The live counts now, in the order of [`crate::meters::Counters::read`].
    Counts([u64; COUNTERS]),
    /// [`crate::worker::Shared::ruled_out`].
    RuledOut(String),
    /// What its workers recorded in the second of this number since the ramp began, one histogram at a time.
    Recorded(u64, Interval),
    /// The next part of what its workers hand in, merged ([`super::results`]).
    Part(Vec<u8>),
    /// The parts are complete, and these are the agent's own numbers. The last message.
    Finished(Own),
}

/// What an agent needs for its part of a run.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The coordinator's command line without the program's name: one text, one meaning.
    pub arguments: Vec<String>,
    /// What --mix says: the coordinator has the file, agents need not.
    pub mix: Option<String>,
    /// How its clients prove who they are.
    pub credentials: Proof,
    /// [`crate::worker::Shared::run_id`].
    pub run_id: u64,
    /// The number of the agent's first worker.
    pub first: u32,
    /// Workers of all agents together.
    pub workers: u32,
}

/// [`Credentials`] on their way.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum Proof {
    /// [`Credentials::Anonymous`].
    Anonymous,
    /// [`Credentials::Query`].
    Query,
    /// [`Credentials::Token`]: the key's bytes.
    Token(Vec<u8>),
}

/// A [`Phase`] on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// [`Phase::Ramp`].
    Ramp,
    /// [`Phase::Run`].
    Run(u64),
    /// [`Phase::Fall`].
    Fall,
    /// [`Phase::Leave`].
    Leave,
    /// [`Phase::Return`].
    Return(u64),
    /// [`Phase::Drain`].
    Drain,
    /// [`Phase::Stop`].
    Stop,
}

/// What concerns the agent's own process and machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Own {
    /// The machine.
    pub host: Host,
    /// CPU of its process in the measured part, in seconds.
    pub cpu_s: f64,
    /// How busy its busiest worker was: [`crate::host::threads::Busiest`].
    pub busiest: Option<(f64, f64)>,
    /// Resident set of its process at the end of the measured part.
    pub rss_bytes: u64,
    /// TCP in its network namespace during the run.
    pub network: Network,
}

impl Step {
    /// A phase for an agent; `moment` translates to its clock.
    pub fn of(phase: Phase, moment: impl Fn(Instant) -> u64) -> Self {
        match phase {
            Phase::Ramp => Self::Ramp,
            Phase::Run(start) => Self::Run(moment(start)),
            Phase::Fall => Self::Fall,
            Phase::Leave => Self::Leave,
            Phase::Return(start) => Self::Return(moment(start)),
            Phase::Drain => Self::Drain,
            Phase::Stop => Self::Stop,
        }
    }

    /// The phase at the agent, whose clock's zero was at `epoch`.
    pub fn phase(self, epoch: Instant, now: Instant) -> Phase {
        match self {
            Self::Ramp => Phase::Ramp,
            Self::Run(start) => Phase::Run(moment(epoch, start, now)),
            Self::Fall => Phase::Fall,
            Self::Leave => Phase::Leave,
            Self::Return(start) => Phase::Return(moment(epoch, start, now)),
            Self::Drain => Phase::Drain,
            Self::Stop => Phase::Stop,
        }
    }
}

/// The moment `ns` nanoseconds after `epoch`, at most [`FUTURE_MAX`] from `now`: sums with it stay what a clock can tell.
pub fn moment(epoch: Instant, ns: u64, now: Instant) -> Instant {
    let latest = now + FUTURE_MAX;
    epoch.checked_add(Duration::from_nanos(ns)).map_or(latest, |moment| moment.min(latest))
}

impl From<&Credentials> for Proof {
    fn from(credentials: &Credentials) -> Self {
        match credentials {
            Credentials::Anonymous => Self::Anonymous,
            Credentials::Query => Self::Query,
            Credentials::Token(key) => Self::Token(key.as_bytes().to_vec()),
        }
    }
}

impl From<Proof> for Credentials {
    fn from(proof: Proof) -> Self {
        match proof {
            Proof::Anonymous => Self::Anonymous,
            Proof::Query => Self::Query,
            Proof::Token(bytes) => Self::with_key(&bytes),
        }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job of workers from {} of {}", self.first, self.workers)
    }
}
