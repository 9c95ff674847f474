//! Calls that wait for the answer of the message tier behind the gateway.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roost_proto::tier::{Action, Effect, SessionId};
use tokio::sync::oneshot;

use super::limits::CALLS_MAX;

/// The calls of one gateway that wait for their answers, at most [`CALLS_MAX`]; a further one is refused (503).
///
/// A call's answer is addressed to a `SessionId` of a shard number that no shard has. Its slot and generation are the call's
/// number, which is never used again, so an answer that comes too late finds nobody.
#[derive(Debug)]
pub struct Waiting {
    gateway: u16,
    shard: u16,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    newest: u64,
    calls: HashMap<u64, oneshot::Sender<Action>>,
}

/// A call's place in the table, until it is dropped.
pub(super) struct Place {
    waiting: Arc<Waiting>,
    number: u64,
    answer: oneshot::Receiver<Action>,
}

impl Waiting {
    /// For answers to `shard` of `gateway`: the number after the last shard's.
    pub fn new(gateway: u16, shard: u16) -> Arc<Self> {
        Arc::new(Self { gateway, shard, table: Mutex::default() })
    }

    /// The shard number of answers that are for `take`.
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// Hands answers to whoever waits for them. Called from router threads; it blocks no longer than a look into the table.
    pub fn take(&self, effects: &mut VecDeque<Effect>) {
        let mut table = self.lock();
        for Effect { session, action } in effects.drain(..) {
            if let Some(waiting) = table.calls.remove(&number(session)) {
                // Who waited may just have gone away.
                let _: Result<(), Action> = waiting.send(action);
            }
        }
    }

    /// Calls that wait now.
    pub fn count(&self) -> usize {
        self.lock().calls.len()
    }

    /// `None`: the table is full.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut table = self.lock();
        if table.calls.len() >= CALLS_MAX {
            return None;
        }
        table.newest += 1;
        let (number, (sender, answer)) = (table.newest, oneshot::channel());
        table.calls.insert(number, sender);
        Some(Place { waiting: Arc::clone(self), number, answer })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Where the answer is to be sent.
    pub(super) fn session(&self) -> SessionId {
        SessionId {
            gateway: self.waiting.gateway,
            shard: self.waiting.shard,
            slot: self.number as u32,
            generation: (self.number >> 32) as u32,
        }
    }

    /// `None`: there will be none.
    pub(super) async fn answer(&mut self) -> Option<Action> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.lock().calls.remove(&self.number);
    }
}

fn number(session: SessionId) -> u64 {
    u64::from(session.generation) << 32 | u64::from(session.slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(session: SessionId) -> Effect {
        Effect { session, action: Action::Close { code: 1, reason: "" } }
    }

    #[test]
    fn the_table_is_bounded_and_places_come_back() {
        let waiting = Waiting::new(0, 2);
        let mut places: Vec<_> = (0..CALLS_MAX).map(|_| waiting.enter().expect("a place")).collect();
        assert!(waiting.enter().is_none(), "more than {CALLS_MAX} calls wait");
        places.pop();
        assert!(waiting.enter().is_some(), "a place that was left is free");
        drop(places);
        assert_eq!(waiting.count(), 0);
    }

    #[test]
    fn an_answer_reaches_its_call_and_no_later_one() {
        let waiting = Waiting::new(0, 2);
        let mut gone = waiting.enter().expect("a place");
        let late = gone.session();
        waiting.take(&mut VecDeque::from([close(late)]));
        assert!(gone.answer.try_recv().is_ok());
        drop(gone);
        let mut next = waiting.enter().expect("a place");
        waiting.take(&mut VecDeque::from([close(late)]));
        assert!(next.answer.try_recv().is_err(), "an answer came twice, and reached another call");
        assert_ne!(next.session(), late);
    }

    #[test]
    fn a_number_beyond_32_bits_finds_its_call() {
        let waiting = Waiting::new(0, 2);
        waiting.lock().newest = u64::from(u32::MAX);
        let mut place = waiting.enter().expect("a place");
        assert_eq!((place.session().slot, place.session().generation), (0, 1));
        waiting.take(&mut VecDeque::from([close(place.session())]));
        assert!(place.answer.try_recv().is_ok());
    }
}
