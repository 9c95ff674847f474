//! A user's stream: events in the order of their seq, each stored once and told to each device in its own form.

use super::{Partition, Tx};
use crate::{
    api::{DeviceId, UserId},
    config::Rules,
    error::StoreError,
    limits,
    log::{StoredEvent, stored_event::Body},
    record::{self, Device},
    store::Store,
};
use buffa::Message as _;
use bytes::Bytes;
use roost_proto::v1::{self, Event, Kind, Sealed, event};

/// A message whose sender is told when it was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) message: u64,
    pub(super) from: UserId,
}

/// An event as a stream holds it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) seq: u64,
    /// `StoredEvent`, which is the wire's `Event` where nothing is sealed.
    bytes: Bytes,
    pub(super) is_status: bool,
    /// The group whose feed it is in; None for one of a user's own events.
    pub(super) group: Option<u64>,
    pub(super) said_by: Option<(UserId, DeviceId)>,
    message: u64,
    sealed: Vec<Sealed>,
}

impl Stored {
    /// Encodes an event of a user, or of a group.
    pub(super) fn new(seq: u64, group: Option<u64>, body: Body, mut sealed: Vec<Sealed>) -> Self {
        sealed.sort_unstable_by_key(|sealed| (sealed.user, sealed.device));
        let event = StoredEvent { seq, sealed, body: Some(body) };
        let bytes = event.encode_to_bytes();
        Self::of(event, group, bytes)
    }

    /// Reads what a key of a stream holds.
    ///
    /// # Errors
    /// It is no event.
    pub(super) fn read(bytes: Bytes, group: Option<u64>) -> Result<Self, StoreError> {
        Ok(Self::of(record::decode(bytes.clone())?, group, bytes))
    }

    fn of(event: StoredEvent, group: Option<u64>, bytes: Bytes) -> Self {
        let (mut is_status, mut said_by, mut message) = (false, None, 0);
        if let Some(Body::Message(of)) = &event.body {
            is_status = of.kind == Kind::STATUS;
            (said_by, message) = (Some((of.from, of.from_device)), of.id);
        }
        Self { seq: event.seq, bytes, is_status, group, said_by, message, sealed: event.sealed }
    }

    /// What is stored.
    pub(super) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Who is told that this user has it.
    pub(super) fn mark(&self, user: UserId) -> Option<Mark> {
        self.said_by.filter(|(from, _)| *from != user).map(|(from, _)| Mark { message: self.message, from })
    }

    /// What reading it cost, whatever of it is for a device.
    pub(super) fn bytes_read(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_sealed(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// It is what this device said.
    pub(super) fn is_said_by(&self, device: (UserId, DeviceId)) -> bool {
        self.said_by == Some(device)
    }

    /// The wire's `Event` for a device: None for what it said itself, and for what was sealed for others.
    pub(super) fn view(&self, user: UserId, device: DeviceId) -> Option<Bytes> {
        if self.said_by == Some((user, device)) {
            return None;
        }
        if self.sealed.is_empty() {
            return Some(self.bytes.clone());
        }
        let found = self.sealed.binary_search_by_key(&(user, device), |sealed| (sealed.user, sealed.device));
        let own = &self.sealed[found.ok()?];
        let Some(event::Body::Message(mut message)) = Event::decode_from_slice(&self.bytes).ok()?.body else {
            return None;
        };
        (message.payload, message.sealed) = (own.ciphertext.clone(), true);
        Some(Event { seq: self.seq, body: Some(event::Body::Message(message)) }.encode_to_bytes())
    }

    /// It is too old to be told to anybody.
    pub(super) fn is_expired(&self, rules: &Rules, now_ms: u64) -> bool {
        let age = now_ms.saturating_sub(time_of(self.seq));
        age >= rules.retention_ms || self.is_status && age >= limits::STATUS_MS
    }

    /// A device that came later is not given it.
    pub(super) fn is_before(&self, device: &Device) -> bool {
        self.seq <= device.start && !self.is_status
    }
}

/// Unix milliseconds of a seq.
pub(super) fn time_of(seq: u64) -> u64 {
    seq >> limits::COUNTER_BITS
}

/// The first seq of a millisecond.
pub(super) fn seq_at(ms: u64) -> u64 {
    ms << limits::COUNTER_BITS
}

impl Partition {
    /// Rises strictly, whatever the clock does: the milliseconds of a clock that stood still or went back are counted on.
    pub(super) fn next_seq(&mut self, now_ms: u64) -> u64 {
        self.clock = (self.clock + 1).max(seq_at(now_ms));
        self.clock
    }

    /// Puts an event at the end of a user's stream, and offers it to the sessions. A user who has none has a record from then on:
    /// the first device finds by it that something waits.
    pub(super) fn append(
        &mut self,
        user: UserId,
        body: Body,
        sealed: Vec<Sealed>,
        tx: &mut Tx<'_>,
    ) -> Result<u64, StoreError> {
        let seq = self.next_seq(tx.now_ms);
        let event = Stored::new(seq, None, body, sealed);
        tx.batch.put(record::event(self.number, user, seq), event.bytes());
        if event.is_status {
            tx.batch.put(record::status(self.number, seq, user), Bytes::new());
        }
        tx.out.events += 1;
        self.appended.insert(user, seq);
        if !self.offer(user, &event, tx) && !self.load(user, tx.store)? {
            self.change(user, tx)?;
        }
        Ok(seq)
    }

    /// The newest of a user's own events, of which those up to `tail` are deleted. Not stored yet, if it is of this batch.
    pub(super) fn newest_own(&self, user: UserId, tail: u64, store: &dyn Store) -> Result<u64, StoreError> {
        match self.appended.get(&user) {
            Some(seq) => Ok(*seq),
            None => self.newest_stored(user, tail, store),
        }
    }

    fn newest_stored(&self, user: UserId, tail: u64, store: &dyn Store) -> Result<u64, StoreError> {
        let range = (record::event(self.number, user, tail + 1), record::event(self.number, user, u64::MAX));
        let last = store.last(&range.0, &range.1)?;
        Ok(last.map_or(tail, |key| record::last_u64(key.bytes())))
    }

    /// Where a device that is new to this user begins: with the oldest status that lives, if there is one before `head`. What this
    /// batch appended cannot be read yet, and there may be one among it.
    pub(super) fn before_living_statuses(
        &self,
        user: UserId,
        (tail, head): (u64, u64),
        tx: &Tx<'_>,
    ) -> Result<u64, StoreError> {
        let after = seq_at(tx.now_ms.saturating_sub(limits::STATUS_MS));
        let is_appended = self.appended.contains_key(&user);
        let mut found = if is_appended { self.newest_stored(user, tail, tx.store)? } else { head };
        if let Some((_, fresh)) = self.rosters.fresh.first() {
            found = found.min(*fresh - 1);
        }
        self.read_stream(user, (after, head), tx.store, &mut |event| {
            if event.is_status {
                found = event.seq - 1;
            }
            !event.is_status
        })?;
        Ok(found)
    }
}

/// A day of Unix time.
pub(super) fn day_of(now_ms: u64) -> u32 {
    (now_ms / limits::DAY_MS) as u32
}

/// What a message is stored as.
pub(super) fn message(message: v1::Message) -> Body {
    Body::Message(message.into())
}
