//! SIGTERM and SIGINT: the first is told to the gateway that serves, the second ends the process.

use std::{
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

use anyhow::Result;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use super::running::News;

/// Watches them for as long as the process lives, which may serve more than once.
#[derive(Clone, Default)]
pub struct Watched(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Whoever serves. Before anybody does, the signals end the process as they do by default.
    told: Option<mpsc::Sender<News>>,
    came: bool,
}

impl Watched {
    /// From now on `news` tells of the first signal; also of one that came when nobody served who had before.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn tell(&self, news: mpsc::Sender<News>) -> Result<()> {
        let mut state = self.state();
        if state.came {
            // Whoever does not listen any more ends anyway; here and below.
            let _ = news.send(News::Signal);
        }
        if state.told.replace(news).is_none() {
            let (mut signals, watched) = (Signals::new([SIGTERM, SIGINT])?, self.clone());
            let watch = move || signals.forever().for_each(|_| watched.came_one());
            thread::Builder::new().name("roost-signals".to_owned()).spawn(watch)?;
        }
        Ok(())
    }

    /// Whether the process has been told to end.
    pub fn came(&self) -> bool {
        self.state().came
    }

    fn came_one(&self) {
        let mut state = self.state();
        if std::mem::replace(&mut state.came, true) {
            eprintln!("roost-gateway: a second signal came while draining; exiting at once");
            process::exit(1);
        }
        if let Some(news) = &state.told {
            let _ = news.send(News::Signal);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_came_while_nobody_served_is_told_to_who_serves_next() {
        let watched = Watched::default();
        let (first, _) = mpsc::channel();
        watched.state().told = Some(first);
        assert!(!watched.came());
        watched.came_one();
        let (second, news) = mpsc::channel();
        watched.tell(second).expect("told");
        assert!(watched.came() && matches!(news.try_recv(), Ok(News::Signal)));
    }
}
