//! How a run is doing: a line that is drawn again on a terminal, a line every 5 s elsewhere, on stderr.

use crate::meters::Counters;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const LINE_EVERY: Duration = Duration::from_secs(5);
const DRAWS_PER_S: u8 = 5;

/// Where progress goes.
pub enum Progress {
    /// Drawn again in place.
    Terminal(ProgressBar),
    /// A line now and then; when the next one is due.
    Lines(Instant),
    /// Nowhere.
    Quiet,
}

impl Progress {
    /// The fitting one for stderr.
    pub fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Instant::now() + LINE_EVERY);
        }
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_S);
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self::Terminal(bar)
    }

    /// Shows where the run stands. `left`: until the phase's end, at most.
    pub fn show(&mut self, phase: &str, left: Duration, counters: &Counters) {
        match self {
            Self::Terminal(bar) => {
                bar.set_message(line(phase, left, counters));
                bar.tick();
            }
            Self::Lines(due) if Instant::now() >= *due => {
                *due += LINE_EVERY;
                eprintln!("{}", line(phase, left, counters));
            }
            Self::Lines(_) | Self::Quiet => (),
        }
    }

    /// Clears what stands on a terminal.
    pub fn finish(&self) {
        if let Self::Terminal(bar) = self {
            bar.finish_and_clear();
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
