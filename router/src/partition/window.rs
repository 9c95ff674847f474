//! Windows: an event goes to each device at its own pace. At most a window of unacknowledged events is in flight to a session;
//! the rest waits on disk.

use super::{
    Partition, Tx,
    sessions::{Key, Session},
    stream::{Mark, Stored},
    undo::Undo,
};
use crate::{
    api::{Action, DeviceId, Effect, SessionId, UserId},
    config::Rules,
    error::StoreError,
    limits,
    store::Store,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{collections::VecDeque, hash::Hash};

/// Maps and queues this small keep their memory.
const SHRINK_MIN: usize = 4096;

/// Gives back the memory of many entries that are gone.
pub(super) fn shrink<K: Eq + Hash, V>(map: &mut FxHashMap<K, V>) {
    if map.capacity() > SHRINK_MIN && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}

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
    pub(super) mark: Option<Mark>,
    bytes: u32,
    pub(super) is_status: bool,
    /// Not each device of the user is given it.
    pub(super) is_sealed: bool,
    /// It is in the feed of a group.
    pub(super) is_shared: bool,
}

impl InFlight {
    /// `bytes`: of what went to the device.
    pub(super) fn new(event: &Stored, user: UserId, bytes: usize) -> Self {
        let (seq, mark, bytes) = (event.seq, event.mark(user), bytes as u32);
        let (is_status, is_sealed, is_shared) = (event.is_status, event.is_sealed(), event.group.is_some());
        Self { seq, mark, bytes, is_status, is_sealed, is_shared }
    }
}

/// Nothing that the device is to be told stands between its cursor and `up_to`: the runtime hands this back as a command, so
/// that the cursor moves in the log.
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
        self.bytes += event.bytes as usize;
        self.in_flight.push_back(event);
    }

    /// The oldest one is in flight again.
    pub(super) fn put_back(&mut self, event: InFlight) {
        self.bytes += event.bytes as usize;
        self.in_flight.push_front(event);
    }

    /// Takes the oldest event in flight, if it is acknowledged by this.
    fn pop(&mut self, up_to: u64) -> Option<InFlight> {
        let event = self.in_flight.pop_front_if(|event| event.seq <= up_to)?;
        self.bytes -= event.bytes as usize;
        Some(event)
    }

    /// Events past this one are not in flight after all.
    pub(super) fn take_back(&mut self, sent: u64) {
        while let Some(event) = self.in_flight.pop_back_if(|event| event.seq > sent) {
            self.bytes -= event.bytes as usize;
        }
    }

    fn is_needed(&self) -> bool {
        self.queued || !self.in_flight.is_empty()
    }
}

impl Partition {
    /// Hands an event to those of a user's sessions that have everything before it and an open window; the others find it on
    /// disk. False where the user has no session.
    pub(super) fn offer(&mut self, user: UserId, event: &Stored, tx: &mut Tx<'_>) -> bool {
        let mut numbers = std::mem::take(&mut self.numbers);
        self.sessions.of(user, &mut numbers);
        for number in &numbers {
            let session = self.sessions.number_mut(*number);
            let key = session.key();
            // Also of one that is behind: a refill beside the commit would not find this event, and take it for up to date.
            self.undo.push(Undo::Moved(key, session.place));
            if session.place.is_behind() {
                continue;
            }
            let Some(bytes) = event.view(user, session.device) else {
                if event.is_said_by(key) || self.windows.contains_key(&key) {
                    session.place.pass(event.seq);
                } else {
                    // No Ack will come that passes it: the refill finds it, and has the cursor moved.
                    session.place.set_behind(true);
                    self.queue_refill(key);
                }
                continue;
            };
            if self.windows.get(&key).is_some_and(|window| !window.is_open(bytes.len(), &self.rules)) {
                session.place.set_behind(true);
                continue;
            }
            session.place.go(event.seq);
            self.windows.entry(key).or_default().push(InFlight::new(event, user, bytes.len()));
            tx.out.effects.push(Effect { session: session.id, action: Action::Event(bytes) });
        }
        self.numbers = numbers;
        !self.numbers.is_empty()
    }

    /// Moves a device's cursor over what is not for it.
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
        let user = self.change(user_id, tx)?;
        if let Some(device) = user.devices.iter_mut().find(|d| d.device == device) {
            device.cursor = device.cursor.max(up_to);
        }
        self.trim(user_id, None, tx)
    }

    /// Reads waiting events for open windows, up to the limits of a refill; call between batches while `wants_refill`.
    /// After an error, call again later.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn refill(
        &mut self,
        store: &dyn Store,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<Vec<Skip>, StoreError> {
        let mut skips = Vec::new();
        let (mut bytes, mut sessions) = (0, 0);
        // Beside a commit: a session that the batch has moved may have to be moved back.
        let moved: FxHashSet<Key> = self.undo.iter().map(Undo::key).collect();
        let mut later = Vec::new();
        while bytes < limits::REFILL_BYTES_MAX
            && sessions < limits::REFILL_SESSIONS_MAX
            && let Some(key) = self.next_refill()
        {
            sessions += 1;
            if moved.contains(&key) {
                later.push(key);
                continue;
            }
            match self.refill_session(key, store, now_ms, effects) {
                Ok((read, skip)) => {
                    bytes += read;
                    skips.extend(skip);
                }
                Err(error) => {
                    later.push(key);
                    self.look_later(later);
                    return Err(error);
                }
            }
        }
        self.look_later(later);
        Ok(skips)
    }

    /// Sessions that were taken from the queue and could not be refilled.
    fn look_later(&mut self, keys: Vec<Key>) {
        for key in keys {
            if let Some(window) = self.windows.get_mut(&key) {
                window.queued = false;
            }
            self.queue_refill(key);
        }
    }

    /// Sessions wait for events from disk.
    pub fn wants_refill(&self) -> bool {
        !self.refill.is_empty() || self.looks > 0
    }

    pub(super) fn queue_refill(&mut self, key: Key) {
        if self.sessions.get(key).is_some()
            && !std::mem::replace(&mut self.windows.entry(key).or_default().queued, true)
        {
            self.refill.push_back(key);
        }
    }

    /// The next session to be refilled. Those that look because the store failed come last, from the newest entry down: an entry
    /// that moves meanwhile comes from above, where the looking was.
    fn next_refill(&mut self) -> Option<Key> {
        if let Some(key) = self.refill.pop_front() {
            return Some(key);
        }
        while self.looks > 0 {
            self.looks -= 1;
            if let Some(session) = self.sessions.at(self.looks) {
                return Some(session.key());
            }
        }
        None
    }

    /// Forgets a window that holds nothing, and the memory of many that are gone.
    pub(super) fn drop_window(&mut self, key: Key) {
        if self.windows.get(&key).is_some_and(|window| !window.is_needed()) {
            self.windows.remove(&key);
        }
        shrink(&mut self.windows);
    }

    pub(super) fn nothing_in_flight(&self, key: Key) -> bool {
        self.windows.get(&key).is_none_or(|window| window.in_flight.is_empty())
    }

    fn refill_session(
        &mut self,
        key: Key,
        store: &dyn Store,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(usize, Option<Skip>), StoreError> {
        let (user, device) = key;
        if self.refill.is_empty() && self.refill.capacity() > SHRINK_MIN {
            self.refill = VecDeque::new();
        }
        let Some(mut session) = self.sessions.get(key).copied() else { return Ok((0, None)) };
        self.load(user, store)?;
        let record = self.users.get(user).and_then(|record| record.device(device)).copied();
        let mut window = self.windows.remove(&key).unwrap_or_default();
        window.queued = false;
        let (rules, before) = (self.rules, session.place.sent());
        let (mut looked_at, mut bytes, mut is_behind, first) = (0, 0, false, effects.len());
        let (mut feed, mut feeds) = (None, Vec::new());
        let read = self.read_stream(user, (before, u64::MAX), store, &mut |event| {
            is_behind = looked_at == limits::REFILL_EVENTS_MAX || bytes > limits::REFILL_BYTES_MAX;
            if is_behind {
                return false;
            }
            looked_at += 1;
            bytes += event.bytes_read();
            if event.group.is_some() && event.group != feed {
                feed = event.group;
                feeds.extend(feed);
            }
            let is_for_it =
                !event.is_expired(&rules, now_ms) && !record.is_some_and(|device| event.is_before(&device));
            match event.view(user, device).filter(|_| is_for_it) {
                None => session.place.pass(event.seq),
                Some(view) if window.is_open(view.len(), &rules) => {
                    session.place.go(event.seq);
                    window.push(InFlight::new(&event, user, view.len()));
                    effects.push(Effect { session: session.id, action: Action::Event(view) });
                }
                Some(_) => is_behind = true,
            }
            !is_behind
        });
        if let Err(error) = read {
            // As if nothing had been read.
            effects.truncate(first);
            window.take_back(before);
            self.windows.insert(key, window);
            return Err(error);
        }
        for group in feeds {
            self.found_feed(group);
        }
        session.place.set_behind(is_behind);
        self.sessions.insert(session);
        let skip = window.in_flight.is_empty() && session.place.sent() > before;
        let skip = skip.then_some(Skip { user, device, up_to: session.place.sent() });
        if window.is_needed() {
            self.windows.insert(key, window);
        }
        self.drop_window(key);
        if is_behind && (looked_at == limits::REFILL_EVENTS_MAX || bytes > limits::REFILL_BYTES_MAX) {
            self.queue_refill(key);
        }
        Ok((bytes, skip))
    }

    /// Returns the session it replaces. `for_good`: whatever becomes of the batch.
    pub(super) fn insert_session(&mut self, session: Session, for_good: bool) -> Option<SessionId> {
        let key = session.key();
        let (old, window) = (self.sessions.insert(session), self.windows.remove(&key));
        self.presence.came(key.0);
        if !for_good {
            self.undo.push(Undo::Inserted(key, old.map(|old| (old, window))));
        }
        old.map(|old| old.id)
    }

    fn has_gone(&mut self, user: UserId) {
        if !self.sessions.has(user) {
            self.presence.went(user);
        }
    }

    /// Takes a session away, unless the batch fails; returns which.
    pub(super) fn take_session(&mut self, key: Key) -> Option<SessionId> {
        let session = self.sessions.remove(key)?;
        self.has_gone(key.0);
        let window = self.windows.remove(&key);
        self.undo.push(Undo::Inserted(key, Some((session, window))));
        Some(session.id)
    }

    pub(super) fn remove_session(&mut self, key: Key) {
        self.sessions.remove(key);
        self.has_gone(key.0);
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
        if let Some(session) = self.sessions.get_mut(key).filter(|session| session.place.sent() < up_to) {
            self.undo.push(Undo::Moved(key, session.place));
            session.place.pass(up_to);
        }
        acked
    }
}
