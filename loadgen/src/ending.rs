//! How a user ends a run before its time: `q` on the screen, Ctrl-C, SIGTERM. The first time asks for an end in order, with a
//! report; the second time ends the process.

use crate::screen;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;

/// The exit status of a process whose user asked twice.
const INTERRUPTED: i32 = 130;

/// Whether the user has asked. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Ending(Arc<OnceLock<&'static str>>);

impl Ending {
    /// The process's own: signals ask here from the first call on.
    ///
    /// # Errors
    /// Where a signal handler cannot be set or a thread cannot be started.
    pub fn of_process() -> io::Result<Self> {
        static ENDING: OnceLock<Ending> = OnceLock::new();
        if let Some(ending) = ENDING.get() {
            return Ok(ending.clone());
        }
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let ending = ENDING.get_or_init(Self::default).clone();
        let asked = ending.clone();
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                asked.ask(if signal == SIGINT { "SIGINT" } else { "SIGTERM" });
            }
        })?;
        Ok(ending)
    }

    /// The user asks, in this way. Who asks twice does not want to wait: the process ends, the terminal as it was.
    pub fn ask(&self, by: &'static str) {
        if self.0.set(by).is_err() {
            screen::restore();
            std::process::exit(INTERRUPTED);
        }
    }

    /// How the user asked; `None` while the run may go on.
    pub fn asked(&self) -> Option<&'static str> {
        self.0.get().copied()
    }
}
