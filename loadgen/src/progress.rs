//! How a run is doing, on stderr: the screen on a terminal, a line every 5 s elsewhere.

use crate::ending::Ending;
use crate::meters::Counters;
use crate::options::Options;
use crate::screen::{self, Screen};
use crate::timeline::Stage;
use crate::worker::Shared;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where progress goes.
pub enum Progress {
    /// A screen of its own.
    Terminal(Box<Screen>),
    /// A line now and then; when the next one is due.
    Lines(Instant),
    /// Nowhere.
    Quiet,
}

impl Progress {
    /// The fitting one for stderr.
    pub fn new(options: &Options, ending: Ending) -> Self {
        if options.cli.quiet {
            return Self::Quiet;
        }
        let lines = Self::Lines(Instant::now() + LINE_EVERY);
        if !screen::is_possible() {
            return lines;
        }
        // A terminal that cannot do it gets the lines.
        Screen::open(options, ending).map_or(lines, |screen| Self::Terminal(Box::new(screen)))
    }

    /// Shows where the run stands. `left`: until the phase's end, at most.
    pub fn show(&mut self, stage: Stage, left: Duration, shared: &Shared) {
        match self {
            Self::Terminal(screen) => screen.show(stage, left, shared),
            Self::Lines(due) if Instant::now() >= *due => {
                *due += LINE_EVERY;
                eprintln!("{}", line(stage.name(), left, &shared.counters));
            }
            Self::Lines(_) | Self::Quiet => (),
        }
    }

    /// Leaves a terminal as it was.
    pub fn finish(&mut self) {
        if let Self::Terminal(_) = self {
            *self = Self::Quiet;
        }
    }
}

fn line(phase: &str, left: Duration, counters: &Counters) -> String {
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    format!(
        "{phase} {}s left | clients {} open {} failed {} dropped {} | messages sent {} answered {} received {}",
        left.as_secs(),
        of(&counters.connected),
        of(&counters.open),
        of(&counters.failed),
        of(&counters.dropped),
        of(&counters.sent),
        of(&counters.answered),
        of(&counters.received)
    )
}
