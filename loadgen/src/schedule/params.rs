//! What a schedule is computed from.

use crate::mix::Mix;
use std::sync::Arc;

/// How the gaps between arrivals are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// Exponential gaps: independent arrivals, with bursts.
    Poisson,
    /// Equal gaps.
    Uniform,
}

/// What a plan is computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanParams {
    /// Number of clients.
    pub clients: u32,
    /// Messages a second, of all clients together; a mix has its own.
    pub rate_per_s: f64,
    /// Length of the measured part in seconds.
    pub duration_s: u64,
    /// Bytes of each payload; a mix has its own.
    pub payload_bytes: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Distribution of the gaps.
    pub arrivals: Arrivals,
    /// Share of the clients that go offline once during the run, 0 to 0.9; a mix has its own.
    pub offline_share: f64,
    /// The first user number; [`super::Plan::user`] adds the seed's offset and the client's index.
    pub user_base: u64,
    /// Whom messages are for.
    pub to: To,
    /// Who misbehaves, and when.
    pub odd: Odd,
}

/// Whom the messages of a plan are for.
#[derive(Clone, Debug, PartialEq)]
pub enum To {
    /// Nobody but the server.
    Nobody,
    /// One other client each.
    OneOther,
    /// All others of the sender's group: clients are spread over as many groups as it takes for none to have more than `size`.
    Group {
        /// Clients of a group at most, 3 or more, so that none is alone.
        size: u32,
    },
    /// As a mix says.
    Mix(Arc<Mix>),
}

/// The clients that do not behave as the others do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Odd {
    /// Their share, 0 to 1, drawn from the seed.
    pub share: f64,
    /// When they stop reading, and when they read again, as shares of the measured part; `None` where they do something else.
    pub stall: Option<(f64, f64)>,
}
