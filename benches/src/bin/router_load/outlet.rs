//! The shards: what they are told is noted.

use roost_proto::v1::server_frame;
use roost_router::{Action, Effect, Outlet};
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// What the shards were told since it was last asked.
#[derive(Default)]
pub(super) struct Told {
    /// Request numbers and messages.
    pub(super) sent: Vec<(u32, u64)>,
    /// Slots that were handed an event, one for each event.
    pub(super) events: Vec<u32>,
    pub(super) welcomes: u64,
    pub(super) done: u64,
    pub(super) errors: Vec<String>,
}

#[derive(Default)]
pub(super) struct Shards(Mutex<Told>);

impl Shards {
    pub(super) fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet for Shards {
    fn deliver(&self, _shard: u16, effects: &mut VecDeque<Effect>) {
        let told = &mut *self.told();
        for Effect { session, action } in effects.drain(..) {
            match action {
                Action::Event(_) => told.events.push(session.slot),
                Action::Frame(frame) => match frame.body {
                    Some(server_frame::Body::Sent(sent)) => told.sent.push((frame.reply_to, sent.id)),
                    Some(server_frame::Body::Welcome(_)) => told.welcomes += 1,
                    None => told.done += 1,
                    other => told.errors.push(format!("{other:?}")),
                },
                other => told.errors.push(format!("{other:?}")),
            }
        }
    }
}
