//! Streams and windows: an event is stored once for its user and goes to each device at its own pace. At most a window of
//! unacknowledged events is in flight to a session; the rest waits on disk.

use super::{Partition, Tx};
use crate::{
    api::{Action, DeviceId, Effect, SessionId, UserId},
    error::StoreError,
    limits,
    record::{self, User},
    store::{Batch, Store},
};
use buffa::Message as _;
use bytes::Bytes;
use roost_proto::v1::{Event, event};
use std::collections::VecDeque;

/// A device that is connected.
///
/// Each event up to `sent` is acknowledged, in flight, or a copy of what the device itself said; those past it are on disk.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// seq of the newest event handed to it, or passed over.
    pub(super) sent: u64,
    /// Bytes of the events in flight.
    bytes: usize,
    /// It stands in `Partition::refill`.
    pub(super) queued: bool,
    /// By rising seq, all past the cursor. Without memory of its own while empty.
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
    /// It was put where this one was.
    Inserted((UserId, DeviceId), Option<Session>),
    /// It went.
    Removed((UserId, DeviceId), Session),
    /// Events past this one were sent or passed over.
    Sent((UserId, DeviceId), u64),
    /// This one was acknowledged.
    Acked((UserId, DeviceId), InFlight),
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

impl Session {
    pub(super) fn new(id: SessionId, cursor: u64) -> Self {
        Self { id, sent: cursor, bytes: 0, queued: false, in_flight: VecDeque::new() }
    }

    fn is_open(&self, bytes: usize, rules: &crate::config::Rules) -> bool {
        self.in_flight.is_empty()
            || (self.in_flight.len() < rules.window_events_max
                && self.bytes + bytes <= rules.window_bytes_max)
    }

    fn push(&mut self, event: InFlight) {
        self.sent = event.seq;
        self.bytes += event.bytes;
        self.in_flight.push_back(event);
    }

    pub(super) fn nothing_in_flight(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Takes the oldest event in flight, if it is acknowledged by this.
    pub(super) fn pop(&mut self, up_to: u64) -> Option<InFlight> {
        let event = self.in_flight.pop_front_if(|event| event.seq <= up_to)?;
        self.bytes -= event.bytes;
        if self.in_flight.is_empty() {
            self.in_flight = VecDeque::new();
        }
        Some(event)
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
        let Some(user) = self.users.get_mut(&user_id) else { return Ok(()) };
        for device in &mut user.devices {
            let key = (user_id, device.device);
            let is_own = own == Some(device.device);
            if is_own && device.cursor == seq - 1 {
                device.cursor = seq;
            }
            let Some(session) = self.sessions.get_mut(&key) else { continue };
            if session.sent != seq - 1 || !(is_own || session.is_open(bytes.len(), &self.rules)) {
                continue;
            }
            self.undo.push(Undo::Sent(key, session.sent));
            session.sent = seq;
            if !is_own {
                session.push(InFlight { seq, bytes: bytes.len(), mark });
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
        if !self.load(user_id, tx)? {
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

    /// Reads waiting events for open windows, up to `limits::REFILL_BYTES_MAX`; call between batches while `wants_refill`.
    /// After an error, call again later.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn refill(&mut self, store: &dyn Store, effects: &mut Vec<Effect>) -> Result<Vec<Skip>, StoreError> {
        let mut skips = Vec::new();
        let mut bytes = 0;
        while bytes < limits::REFILL_BYTES_MAX
            && let Some(key) = self.refill.pop_front()
        {
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
        !self.refill.is_empty()
    }

    pub(super) fn queue_refill(&mut self, key: (UserId, DeviceId)) {
        if let Some(session) = self.sessions.get_mut(&key)
            && !std::mem::replace(&mut session.queued, true)
        {
            self.refill.push_back(key);
        }
    }

    fn refill_session(
        &mut self,
        (user, device): (UserId, DeviceId),
        store: &dyn Store,
        effects: &mut Vec<Effect>,
    ) -> Result<(usize, Option<Skip>), StoreError> {
        let Some(session) = self.sessions.get_mut(&(user, device)) else { return Ok((0, None)) };
        session.queued = false;
        let rules = self.rules;
        let (mut looked_at, mut bytes, mut failed, before) = (0, 0, None, session.sent);
        let first = record::event(self.number, user, session.sent + 1);
        let last = record::event(self.number, user, u64::MAX);
        store.scan(&first, &last, &mut |key, value| {
            let seq = record::last_u64(key);
            looked_at += 1;
            match Origin::of(user, value.clone()) {
                Ok(Origin::Own(by)) if by == device => session.sent = seq,
                Ok(origin) if session.is_open(value.len(), &rules) => {
                    session.push(InFlight { seq, bytes: value.len(), mark: origin.mark() });
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
        let skip = session.in_flight.is_empty() && session.sent > before;
        let skip = skip.then_some(Skip { user, device, up_to: session.sent });
        if looked_at >= limits::REFILL_EVENTS_MAX {
            self.queue_refill((user, device));
        }
        Ok((bytes, skip))
    }

    pub(super) fn insert_session(&mut self, key: (UserId, DeviceId), session: Session) -> Option<SessionId> {
        let old = self.sessions.insert(key, session);
        let id = old.as_ref().map(|old| old.id);
        self.undo.push(Undo::Inserted(key, old));
        id
    }

    pub(super) fn remove_session(&mut self, key: (UserId, DeviceId)) {
        if let Some(session) = self.sessions.remove(&key) {
            self.undo.push(Undo::Removed(key, session));
        }
    }

    /// The events that this Ack takes out of flight, oldest first.
    pub(super) fn take_acked(&mut self, key: (UserId, DeviceId), up_to: u64) -> Vec<InFlight> {
        let Some(session) = self.sessions.get_mut(&key) else { return Vec::new() };
        let mut acked = Vec::new();
        while let Some(event) = session.pop(up_to) {
            self.undo.push(Undo::Acked(key, event));
            acked.push(event);
        }
        if session.sent < up_to {
            self.undo.push(Undo::Sent(key, session.sent));
            session.sent = up_to;
        }
        acked
    }

    pub(super) fn undo_sessions(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Inserted(key, Some(session)) | Undo::Removed(key, session) => {
                    self.sessions.insert(key, session);
                }
                Undo::Inserted(key, None) => {
                    self.sessions.remove(&key);
                }
                Undo::Sent(key, sent) => {
                    let Some(session) = self.sessions.get_mut(&key) else { continue };
                    session.sent = sent;
                    while let Some(event) = session.in_flight.pop_back_if(|event| event.seq > sent) {
                        session.bytes -= event.bytes;
                    }
                }
                Undo::Acked(key, event) => {
                    let Some(session) = self.sessions.get_mut(&key) else { continue };
                    session.bytes += event.bytes;
                    session.in_flight.push_front(event);
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
