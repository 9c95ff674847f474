//! Streams and windows: an event is stored once for its user and goes to each device at its own pace. At most a window of
//! unacknowledged events is in flight to a session; the rest waits on disk.

use super::{
    Partition, Tx,
    sessions::{Key, Session},
};
use crate::{
    api::{Action, DeviceId, Effect, SessionId, UserId},
    config::Rules,
    error::StoreError,
    limits,
    record::{self, User},
    store::{Batch, Store},
};
use buffa::Message as _;
use bytes::Bytes;
use roost_proto::v1::{Event, event};
use std::collections::VecDeque;

/// Maps and queues this small keep their memory.
const SHRINK_MIN: usize = 4096;

/// What a session needs only while events are in flight to it, or while it is queued to be refilled.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Bytes of the events in flight.
    bytes: usize,
    /// It stands in `Partition::refill`.
    queued: bool,
    /// By rising seq, all past the cursor.
    in_flight: VecDeque<InFlight>,
}

/// An event that was handed to a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) seq: u64,
    bytes: usize,
    pub(super) mark: Option<Mark>,
}

/// A message whose sender is told when it was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) message: u64,
    pub(super) from: UserId,
}

/// How to take back one thing that a batch did to a session.
#[derive(Debug)]
pub(super) enum Undo {
    /// It was put where this one was, if any.
    Inserted(Key, Option<(Session, Option<Window>)>),
    /// Events past this one were sent or passed over.
    Sent(Key, u64),
    /// This one was acknowledged.
    Acked(Key, InFlight),
}

/// Nothing but copies of the device's own messages stands between its cursor and `up_to`: the runtime hands this back as a
/// command, so that the cursor moves in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// Its new cursor.
    pub up_to: u64,
}

impl Window {
    fn is_open(&self, bytes: usize, rules: &Rules) -> bool {
        self.in_flight.is_empty()
            || (self.in_flight.len() < rules.window_events_max
                && self.bytes + bytes <= rules.window_bytes_max)
    }

    fn push(&mut self, event: InFlight) {
        self.bytes += event.bytes;
        self.in_flight.push_back(event);
    }

    /// Takes the oldest event in flight, if it is acknowledged by this.
    fn pop(&mut self, up_to: u64) -> Option<InFlight> {
        let event = self.in_flight.pop_front_if(|event| event.seq <= up_to)?;
        self.bytes -= event.bytes;
        Some(event)
    }

    fn is_needed(&self) -> bool {
        self.queued || !self.in_flight.is_empty()
    }
}

impl Partition {
    /// Puts an event at the end of a user's stream, and hands it to the sessions that have everything before it and an open
    /// window. `own`: the device that said it, which is not told; its cursor steps over it.
    pub(super) fn append(
        &mut self,
        user_id: UserId,
        body: event::Body,
        own: Option<DeviceId>,
        mark: Option<Mark>,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let user = self.change(user_id, tx)?;
        user.head += 1;
        let seq = user.head;
        let bytes = Event { seq, body: Some(body) }.encode_to_bytes();
        tx.batch.put(record::event(self.number, user_id, seq), bytes.clone());
        tx.out.events += 1;
        let Some(user) = self.users.get_mut(user_id) else { return Ok(()) };
        for device in &mut user.devices {
            let key = (user_id, device.device);
            let is_own = own == Some(device.device);
            if is_own && device.cursor == seq - 1 {
                device.cursor = seq;
            }
            let Some(session) = self.sessions.get_mut(key) else { continue };
            let is_open = |window: &Window| window.is_open(bytes.len(), &self.rules);
            if session.sent != seq - 1 || !(is_own || self.windows.get(&key).is_none_or(is_open)) {
                continue;
            }
            self.undo.push(Undo::Sent(key, session.sent));
            session.sent = seq;
            if !is_own {
                let window = self.windows.entry(key).or_default();
                window.push(InFlight { seq, bytes: bytes.len(), mark });
                tx.out.effects.push(Effect { session: session.id, action: Action::Event(bytes.clone()) });
            }
        }
        if own.is_some() {
            trim(self.number, user_id, user, tx.batch);
        }
        Ok(())
    }

    pub(super) fn skip(
        &mut self,
        user_id: UserId,
        device: DeviceId,
        up_to: u64,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        if !self.load(user_id, tx.store)? {
            return Ok(());
        }
        let number = self.number;
        let user = self.change(user_id, tx)?;
        let head = user.head;
        if let Some(device) = user.devices.iter_mut().find(|d| d.device == device) {
            device.cursor = device.cursor.max(up_to.min(head));
        }
        trim(number, user_id, user, tx.batch);
        Ok(())
    }

    /// Reads waiting events for open windows, up to the limits of a refill; call between batches while `wants_refill`.
    /// After an error, call again later.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn refill(&mut self, store: &dyn Store, effects: &mut Vec<Effect>) -> Result<Vec<Skip>, StoreError> {
        let mut skips = Vec::new();
        let (mut bytes, mut sessions) = (0, 0);
        while bytes < limits::REFILL_BYTES_MAX
            && sessions < limits::REFILL_SESSIONS_MAX
            && let Some(key) = self.next_refill()
        {
            sessions += 1;
            match self.refill_session(key, store, effects) {
                Ok((read, skip)) => {
                    bytes += read;
                    skips.extend(skip);
                }
                Err(error) => {
                    self.queue_refill(key);
                    return Err(error);
                }
            }
        }
        Ok(skips)
    }

    /// Sessions wait for events from disk.
    pub fn wants_refill(&self) -> bool {
        !self.refill.is_empty() || self.sweep > 0
    }

    pub(super) fn queue_refill(&mut self, key: Key) {
        if self.sessions.get(key).is_some()
            && !std::mem::replace(&mut self.windows.entry(key).or_default().queued, true)
        {
            self.refill.push_back(key);
        }
    }

    /// The next session to be refilled. Those of a sweep come last, from the newest entry down: an entry that moves meanwhile
    /// comes from above, where the sweep was.
    fn next_refill(&mut self) -> Option<Key> {
        if let Some(key) = self.refill.pop_front() {
            return Some(key);
        }
        while self.sweep > 0 {
            self.sweep -= 1;
            if let Some(session) = self.sessions.at(self.sweep) {
                return Some(session.key());
            }
        }
        None
    }

    /// Forgets a window that holds nothing, and the memory of many that are gone.
    fn drop_window(&mut self, key: Key) {
        if self.windows.get(&key).is_some_and(|window| !window.is_needed()) {
            self.windows.remove(&key);
        }
        if self.windows.capacity() > SHRINK_MIN && self.windows.len() < self.windows.capacity() / 8 {
            self.windows.shrink_to(self.windows.len() * 2);
        }
    }

    pub(super) fn nothing_in_flight(&self, key: Key) -> bool {
        self.windows.get(&key).is_none_or(|window| window.in_flight.is_empty())
    }

    fn refill_session(
        &mut self,
        (user, device): (UserId, DeviceId),
        store: &dyn Store,
        effects: &mut Vec<Effect>,
    ) -> Result<(usize, Option<Skip>), StoreError> {
        let key = (user, device);
        if self.refill.is_empty() && self.refill.capacity() > SHRINK_MIN {
            self.refill = VecDeque::new();
        }
        let Some(session) = self.sessions.get_mut(key) else { return Ok((0, None)) };
        let window = self.windows.entry(key).or_default();
        window.queued = false;
        let rules = self.rules;
        let (mut looked_at, mut bytes, mut failed, before) = (0, 0, None, session.sent);
        let first = record::event(self.number, user, session.sent + 1);
        let last = record::event(self.number, user, u64::MAX);
        store.scan(&first, &last, &mut |key, value| {
            let seq = record::last_u64(key);
            looked_at += 1;
            match Origin::of(user, value.clone()) {
                Ok(Origin::Own(by)) if by == device => session.sent = seq,
                Ok(origin) if window.is_open(value.len(), &rules) => {
                    session.sent = seq;
                    window.push(InFlight { seq, bytes: value.len(), mark: origin.mark() });
                    bytes += value.len();
                    effects.push(Effect { session: session.id, action: Action::Event(value) });
                }
                Ok(_) => return false,
                Err(error) => {
                    failed = Some(error);
                    return false;
                }
            }
            looked_at < limits::REFILL_EVENTS_MAX
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let skip = window.in_flight.is_empty() && session.sent > before;
        let skip = skip.then_some(Skip { user, device, up_to: session.sent });
        self.drop_window(key);
        if looked_at >= limits::REFILL_EVENTS_MAX {
            self.queue_refill(key);
        }
        Ok((bytes, skip))
    }

    /// Returns the session it replaces. `for_good`: whatever becomes of the batch.
    pub(super) fn insert_session(&mut self, session: Session, for_good: bool) -> Option<SessionId> {
        let key = session.key();
        let (old, window) = (self.sessions.insert(session), self.windows.remove(&key));
        if !for_good {
            self.undo.push(Undo::Inserted(key, old.map(|old| (old, window))));
        }
        old.map(|old| old.id)
    }

    pub(super) fn remove_session(&mut self, key: Key) {
        self.sessions.remove(key);
        if self.windows.remove(&key).is_some() {
            self.drop_window(key);
        }
    }

    /// The events that this Ack takes out of flight, oldest first.
    pub(super) fn take_acked(&mut self, key: Key, up_to: u64) -> Vec<InFlight> {
        let mut acked = Vec::new();
        if let Some(window) = self.windows.get_mut(&key) {
            while let Some(event) = window.pop(up_to) {
                self.undo.push(Undo::Acked(key, event));
                acked.push(event);
            }
            self.drop_window(key);
        }
        if let Some(session) = self.sessions.get_mut(key).filter(|session| session.sent < up_to) {
            self.undo.push(Undo::Sent(key, session.sent));
            session.sent = up_to;
        }
        acked
    }

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
                Undo::Sent(key, sent) => {
                    let Some(session) = self.sessions.get_mut(key) else { continue };
                    session.sent = sent;
                    let Some(window) = self.windows.get_mut(&key) else { continue };
                    while let Some(event) = window.in_flight.pop_back_if(|event| event.seq > sent) {
                        window.bytes -= event.bytes;
                    }
                    self.drop_window(key);
                }
                Undo::Acked(key, event) => {
                    if self.sessions.get(key).is_some() {
                        let window = self.windows.entry(key).or_default();
                        window.bytes += event.bytes;
                        window.in_flight.push_front(event);
                    }
                }
            }
        }
    }
}

/// Where an event of a user comes from.
pub(super) enum Origin {
    /// This device of the user.
    Own(DeviceId),
    /// Another user's message.
    Message(Mark),
    /// Neither: a receipt.
    Other,
}

impl Origin {
    pub(super) fn of(user: UserId, event: Bytes) -> Result<Self, StoreError> {
        Ok(match record::decode::<Event>(event)?.body {
            Some(event::Body::Message(message)) if message.from == user => Self::Own(message.from_device),
            Some(event::Body::Message(message)) => {
                Self::Message(Mark { message: message.id, from: message.from })
            }
            _ => Self::Other,
        })
    }

    pub(super) fn mark(&self) -> Option<Mark> {
        match self {
            Self::Message(mark) => Some(*mark),
            Self::Own(_) | Self::Other => None,
        }
    }
}

/// Deletes the events that every device has.
pub(super) fn trim(partition: u16, user_id: UserId, user: &mut User, batch: &mut Batch) {
    let Some(cursor) = user.devices.iter().map(|device| device.cursor).min() else { return };
    for seq in user.tail + 1..=cursor {
        batch.delete(record::event(partition, user_id, seq));
    }
    user.tail = user.tail.max(cursor);
}
