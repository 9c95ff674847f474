//! What a batch did to sessions and windows, to be taken back where it fails.

use super::{
    Partition,
    sessions::{Key, Place, Session},
    window::{InFlight, Window},
};

/// How to take back one thing that a batch did to a session.
#[derive(Debug)]
pub(super) enum Undo {
    /// It was put where this one was, if any.
    Inserted(Key, Option<(Session, Option<Window>)>),
    /// It stood here: events past it were sent or passed over.
    Moved(Key, Place),
    /// This one was acknowledged.
    Acked(Key, InFlight),
}

impl Undo {
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Inserted(key, _) | Self::Moved(key, _) | Self::Acked(key, _) => *key,
        }
    }
}

impl Partition {
    /// Takes back what this batch did to sessions.
    pub(super) fn undo_sessions(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Inserted(key, Some((session, window))) => {
                    self.sessions.insert(session);
                    self.windows.remove(&key);
                    if let Some(window) = window {
                        self.windows.insert(key, window);
                    }
                }
                Undo::Inserted(key, None) => self.remove_session(key),
                Undo::Moved(key, place) => {
                    let Some(session) = self.sessions.get_mut(key) else { continue };
                    session.place = place;
                    let Some(window) = self.windows.get_mut(&key) else { continue };
                    window.take_back(place.sent());
                    self.drop_window(key);
                }
                Undo::Acked(key, event) => {
                    if self.sessions.get(key).is_some() {
                        let window = self.windows.entry(key).or_default();
                        window.put_back(event);
                    }
                }
            }
        }
    }
}
