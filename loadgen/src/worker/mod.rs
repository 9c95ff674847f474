//! A worker: one thread, one tokio-uring runtime, its share of the clients. It brings them up at the ramp's rate, hands
//! the schedule's messages to them at their times, takes clients offline and back, and reconnects those that break.
//!
//! [`context`] is what its clients share, [`slots`] leads them through the run, [`life`] is one client's connections.

mod context;
mod drip;
mod life;
mod slots;

pub use context::Context;
pub use slots::run;

use crate::ledger::Ledger;
use crate::link::Outlet;
use crate::meters::{Counters, Meters};
use crate::options::{Options, Scenario};
use crate::phantom::Tallies;
use crate::schedule::Plan;
use crate::siege::Phases;
use crate::timeline::Timeline;
use quanta::{Clock, Instant};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use tungstenite::Message;
use tungstenite::handshake::client::Request;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Clients come up.
    Ramp,
    /// The measured part, from this moment on.
    Run(Instant),
    /// All connections are lost at once.
    Fall,
    /// All clients say goodbye.
    Leave,
    /// All clients connect again at the ramp's rate, from this moment on.
    Return(Instant),
    /// Nothing new is due; what is on its way may arrive; everybody is online.
    Drain,
    /// All connections end.
    Stop,
}

/// What all workers of a run share.
pub struct Shared {
    /// The run's options.
    pub options: Options,
    /// Its schedule.
    pub plan: Plan,
    /// The phases of a siege; none in other scenarios.
    pub phases: Phases,
    /// Its live counts.
    pub counters: Counters,
    /// What the options ask for and a server's Welcome rules out, in a line for the user. Ends the ramp.
    pub ruled_out: OnceLock<String>,
    /// One clock for all threads.
    pub clock: Clock,
    /// When the ramp began.
    pub ramp_begun: Instant,
    /// The schedule ends here, in microseconds of the measured part: earlier than planned where the user ended the run.
    pub cut_us: AtomicU64,
    /// What happened second by second. Workers hand over what they recorded once a second.
    pub timeline: Mutex<Timeline>,
    /// Marks this run's messages, so that those of an earlier run on the same store are told apart.
    pub run_id: u64,
}

impl Shared {
    /// Whether a client sends its upgrade request a byte at a time, and does nothing else.
    pub fn drips(&self, client: u32) -> bool {
        self.options.cli.scenario == Scenario::HandshakeDrip && self.plan.is_odd(client)
    }

    /// Whether a client vanishes when the measured part begins.
    pub fn vanishes(&self, client: u32) -> bool {
        self.options.cli.scenario == Scenario::Halfopen && self.plan.is_odd(client)
    }

    /// Messages of the schedule, up to where it ends.
    pub fn due(&self) -> u32 {
        let cut_us = self.cut_us.load(Relaxed);
        self.plan.at_us.partition_point(|&at_us| at_us <= cut_us) as u32
    }

    /// How often these messages are to arrive, all of them together.
    pub fn deliveries(&self) -> u64 {
        (0..self.due()).map(|index| self.plan.deliveries(index)).sum()
    }
}

/// What one worker hands in at the end.
pub struct Results {
    /// Histograms and errors.
    pub meters: Meters,
    /// Its side of the ledger.
    pub ledger: Ledger,
    /// What its phantoms did.
    pub tallies: Tallies,
}

/// What a scenario makes of a client. Nothing here waits.
pub trait Session: 'static {
    /// The client numbered `client`, at `place` in this worker.
    fn new(context: Rc<Context>, client: u32, place: usize) -> Self;
    /// The upgrade request of a new connection.
    ///
    /// # Errors
    /// Why there can be none, in a sentence.
    fn request(&self) -> Result<Request, String>;
    /// A connection is open.
    fn opened(&self, link: &dyn Outlet);
    /// A message came.
    ///
    /// # Errors
    /// Why the connection has to end, in a sentence.
    fn message(&self, link: &dyn Outlet, message: &Message) -> Result<Next, String>;
    /// The connection is gone.
    fn closed(&self);
    /// A message of the schedule is due.
    fn due(&self, link: Option<&dyn Outlet>, index: u32);
    /// The measured part begins.
    fn begin(&self, link: Option<&dyn Outlet>);
    /// The time of [`Context::flush_later`] has come.
    fn flush(&self, link: Option<&dyn Outlet>);
    /// Now and then: heartbeats, deadlines.
    fn sweep(&self, link: Option<&dyn Outlet>);
}

/// What follows a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The connection goes on.
    Continue,
    /// The server asks for a new connection after this pause.
    Reconnect(Duration),
}
