//! The live view of a run on a terminal: an alternate screen on stderr, drawn by [`view`], with `q` to end the run.

mod panels;
#[cfg(test)]
mod tests;
mod view;

pub use view::{View, draw};

use crate::ending::Ending;
use crate::limits::SCREEN_POINTS_MAX;
use crate::options::Options;
use crate::timeline::{Point, Stage};
use crate::worker::Shared;
use nix::unistd::{getpgrp, tcgetpgrp};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Size;
use std::io::{self, BufWriter, IsTerminal, Stderr, stderr};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Once, PoisonError};
use std::time::{Duration, Instant};

const DRAW_EVERY: Duration = Duration::from_millis(200);
/// Keys taken between two looks at the run.
const KEYS_MAX: u32 = 64;
/// From the end of a second until its point is shown: its latencies come from the workers' next ticks.
const HAND_OVER: Duration = Duration::from_millis(100);

/// Whether the terminal is ours to give back.
static OPEN: AtomicBool = AtomicBool::new(false);
static PANIC_HOOK: Once = Once::new();

/// Whether stderr is a terminal that takes a screen, and we are its foreground process: another may not touch it.
pub fn is_possible() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    stderr().is_terminal() && !is_dumb && tcgetpgrp(stderr()).is_ok_and(|group| group == getpgrp())
}

/// Leaves the terminal as it was found; does nothing the second time. Called on every way out: the run's end, a panic of any
/// thread, a second signal.
pub fn restore() {
    if OPEN.swap(false, SeqCst) {
        // Nothing can be told where the terminal is gone.
        let _ = disable_raw_mode();
        let _ = execute!(stderr(), LeaveAlternateScreen, Show);
    }
}

/// The screen while it is open.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stderr>>>,
    ending: Ending,
    view: View,
    size: Size,
    drawn: Option<Instant>,
    /// The next second to be shown.
    second: u64,
}

impl Screen {
    /// Opens it.
    ///
    /// # Errors
    /// What the terminal answers.
    pub fn open(options: &Options, ending: Ending) -> io::Result<Self> {
        PANIC_HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                before(info);
            }));
        });
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(stderr())))?;
        let size = terminal.size()?;
        OPEN.store(true, SeqCst);
        if let Err(error) = enable_raw_mode().and_then(|()| execute!(stderr(), EnterAlternateScreen, Hide)) {
            restore();
            return Err(error);
        }
        Ok(Self { terminal, ending, view: View::new(options), size, drawn: None, second: 0 })
    }

    /// Takes keys, and draws where it is time.
    pub fn show(&mut self, stage: Stage, left: Duration, shared: &Shared) {
        for _ in 0..KEYS_MAX {
            if !event::poll(Duration::ZERO).unwrap_or(false) {
                break;
            }
            match event::read() {
                Ok(Event::Key(key)) if asks_for_the_end(key) => self.ending.ask("q"),
                Ok(Event::Resize(..)) => self.drawn = None,
                _ => (),
            }
        }
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < DRAW_EVERY) {
            return;
        }
        self.take_points(shared);
        self.view.update(stage, left, &shared.counters, self.ending.asked());
        // A terminal that is gone ends nothing: the run goes on, and its report is what counts.
        let _ = self.draw();
        self.drawn = Some(Instant::now());
    }

    fn draw(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        if size != self.size {
            // ratatui's own way to clear asks the terminal where its cursor is, and waits for an answer that some never give.
            execute!(stderr(), Clear(ClearType::All))?;
            (self.size, self.terminal) =
                (size, Terminal::new(CrosstermBackend::new(BufWriter::new(stderr())))?);
        }
        let view = &self.view;
        self.terminal.draw(|frame| draw(frame, view)).map(|_| ())
    }

    fn take_points(&mut self, shared: &Shared) {
        let since = shared.clock.now().saturating_duration_since(shared.ramp_begun);
        let complete = since.saturating_sub(HAND_OVER).as_secs();
        // After a pause only the last ones are of interest.
        self.second = self.second.max(complete.saturating_sub(SCREEN_POINTS_MAX as u64));
        while self.second < complete {
            let sample = {
                let timeline = shared.timeline.lock().unwrap_or_else(PoisonError::into_inner);
                timeline.get(self.second).filter(|sample| sample.seconds > 0.0).cloned()
            };
            self.view.add(sample.as_ref().map(Point::from));
            self.second += 1;
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// `q`, and Ctrl-C, which is a key where the terminal is raw.
fn asks_for_the_end(key: KeyEvent) -> bool {
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (interrupt || matches!(key.code, KeyCode::Char('q' | 'Q')))
}
