//! Sessions come and go.

use super::{
    Partition, Tx, error, frame, session_of,
    sessions::{Place, Session},
    stream::day_of,
};
use crate::{
    api::{Action, DeviceId, Effect, UserId},
    error::StoreError,
    limits,
    log::Origin,
    record::{Device, State, User},
};
use roost_proto::v1::{Code, Welcome};

/// A newer connection of the same device took over. From the private range of RFC 6455 section 7.4.2, so that a client
/// can tell it from every other close and does not come back to throw out its successor.
pub const CLOSE_REPLACED: u16 = 4001;
/// "Policy violation" (RFC 6455 section 7.4.1).
pub const CLOSE_POLICY: u16 = 1008;

pub(super) const TOO_MANY_DEVICES: &str = "this user has too many devices";

/// What an Attach finds.
struct Found {
    /// Of the device, or where it begins.
    cursor: u64,
    /// The device is not given events up to here.
    start: u64,
    head: u64,
    /// One-time keys of the device that are left.
    one_time_keys: u32,
    kind: Kind,
    /// Its user has no other device.
    is_alone: bool,
    /// Nothing of what is told waits for a commit.
    at_once: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of a user that is not known.
    First,
    /// Not registered.
    New,
    /// Registered, and last seen on another day.
    Seen,
    /// Registered.
    Known,
}

impl Partition {
    /// Welcome, then what the device has not acknowledged. Writes nothing for a device that was here before on the same day. The
    /// Welcome leaves at once, unless it tells what a command before it in the batch has changed: nobody waits for the
    /// registration of a new device (docs/decisions/0008-attach-without-waiting.md).
    pub(super) fn attach(&mut self, origin: &Origin, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let session = session_of(origin);
        let stored = match self.users.get(origin.user) {
            Some(_) => None,
            None => self.stored(origin.user, tx.store)?,
        };
        let record = stored.as_ref().or_else(|| self.users.get(origin.user));
        let today = day_of(tx.now_ms);
        let Some(found) = self.find(record, origin, tx)? else {
            let unchanged = record.is_none_or(|record| record.state != State::Changed);
            let close = Action::Close { code: CLOSE_POLICY, reason: TOO_MANY_DEVICES };
            let effects =
                [error(session, 0, Code::FORBIDDEN, TOO_MANY_DEVICES), Effect { session, action: close }];
            if unchanged { &mut tx.out.at_once } else { &mut tx.out.effects }.extend(effects);
            return Ok(());
        };
        if record.is_some_and(|record| self.trims_to(origin.user, record, tx.now_ms).is_some()) {
            self.untrimmed.push(origin.user);
        }
        let (start, cursor) = (found.start, found.cursor);
        let registering = found.at_once.then_some(cursor);
        let device = Device { registering, start, cursor, seen_day: today, ..Device::new(origin.device) };
        match found.kind {
            Kind::First | Kind::New if found.at_once => {
                self.register(origin.user, stored, device);
                if found.kind == Kind::First {
                    tx.out.registered.push(origin.user);
                }
            }
            Kind::First | Kind::New => {
                self.change(origin.user, tx)?;
                self.add_device(origin.user, device, tx);
            }
            Kind::Seen => self.seen(origin.user, stored, origin.device, today),
            Kind::Known => {}
        }
        if !found.is_alone {
            self.have_company(origin.user);
        }
        self.end_watch((origin.user, origin.device), Some(session), tx)?;
        self.welcome(origin, &found, tx);
        Ok(())
    }

    /// None: it is new and there is no room for it.
    fn find(&self, record: Option<&User>, origin: &Origin, tx: &Tx<'_>) -> Result<Option<Found>, StoreError> {
        let has_room = self.registrations() < limits::REGISTRATIONS_MAX;
        let Some(record) = record else {
            let (kind, is_alone) = (Kind::First, true);
            return Ok(Some(Found {
                cursor: 0,
                start: 0,
                head: 0,
                one_time_keys: 0,
                kind,
                is_alone,
                at_once: has_room,
            }));
        };
        let head = self.newest(origin.user, record, tx)?;
        let unchanged = record.state != State::Changed && head <= self.stored_clock;
        let is_alone = record.devices.iter().all(|device| device.device == origin.device);
        let today = day_of(tx.now_ms);
        if let Some(device) = record.device(origin.device) {
            let (cursor, start) = (device.cursor, device.start);
            // A day that cannot be noted now is noted with the next change.
            let is_noted = device.seen_day == today || !has_room;
            let kind = if is_noted { Kind::Known } else { Kind::Seen };
            return Ok(Some(Found {
                cursor,
                start,
                head: head.max(cursor),
                one_time_keys: device.one_time.len() as u32,
                kind,
                is_alone,
                at_once: unchanged,
            }));
        }
        if !self.has_place(origin.user, record, today) {
            return Ok(None);
        }
        let (start, cursor) = self.beginning(origin.user, record, head, tx)?;
        Ok(Some(Found {
            cursor,
            start,
            head,
            one_time_keys: 0,
            kind: Kind::New,
            is_alone,
            // Where another makes room, its keys go in a batch.
            at_once: unchanged && has_room && record.devices.len() < limits::DEVICES_MAX,
        }))
    }

    /// Start and cursor of a new device. What waited for the user goes to the first device; one that comes later starts with
    /// what is new, and with the statuses that live.
    pub(super) fn beginning(
        &self,
        user: UserId,
        record: &User,
        head: u64,
        tx: &Tx<'_>,
    ) -> Result<(u64, u64), StoreError> {
        if record.devices.is_empty() {
            return Ok((record.tail, record.tail));
        }
        Ok((head, self.before_living_statuses(user, (record.tail, head), tx)?))
    }

    /// A device more finds a place, if need be that of one that is gone.
    pub(super) fn has_place(&self, id: UserId, user: &User, today: u32) -> bool {
        user.devices.len() < limits::DEVICES_MAX || self.makes_room(id, user, today).is_some()
    }

    /// Where devices are as many as there may be: the one that was away for longest, if nothing waits for it any more.
    fn makes_room(&self, id: UserId, user: &User, today: u32) -> Option<DeviceId> {
        let is_here = |device: &Device| self.sessions.get((id, device.device)).is_some();
        let gone =
            user.devices.iter().filter(|device| device.is_gone(today, &self.rules) && !is_here(device));
        let oldest = gone.min_by_key(|device| device.seen_day).map(|device| device.device);
        oldest.filter(|_| user.devices.len() >= limits::DEVICES_MAX)
    }

    /// Adds a device to a record that is being changed.
    pub(super) fn add_device(&mut self, user: UserId, device: Device, tx: &mut Tx<'_>) {
        let goes = self.users.get(user).and_then(|record| self.makes_room(user, record, device.seen_day));
        if let Some(goes) = goes {
            self.drop_keys(user, goes, tx);
        }
        if let Some(user) = self.users.get_mut(user) {
            user.devices.retain(|known| Some(known.device) != goes);
            user.devices.push(device);
        }
    }

    /// None of the user's sessions is that of an only device.
    pub(super) fn have_company(&mut self, user: UserId) {
        let mut numbers = std::mem::take(&mut self.numbers);
        self.sessions.of(user, &mut numbers);
        for number in &numbers {
            self.sessions.number_mut(*number).place.set_alone(false);
        }
        self.numbers = numbers;
    }

    fn welcome(&mut self, origin: &Origin, found: &Found, tx: &mut Tx<'_>) {
        let id = session_of(origin);
        let (user, device, is_behind) = (origin.user, origin.device, found.cursor < found.head);
        let mut place = Place::new(found.cursor, is_behind, found.is_alone);
        place.note_day(day_of(tx.now_ms));
        let old = self.insert_session(Session { user, place, id, device }, found.at_once);
        let effects = if found.at_once { &mut tx.out.at_once } else { &mut tx.out.effects };
        if let Some(old) = old.filter(|old| *old != id) {
            let reason = "replaced by a newer connection of the same device";
            effects.push(Effect { session: old, action: Action::Close { code: CLOSE_REPLACED, reason } });
        }
        let welcome = Welcome {
            user,
            device,
            acknowledged: found.cursor,
            head: found.head,
            heartbeat_s: self.rules.heartbeat_s,
            payload_bytes_max: self.rules.payload_bytes_max,
            time_ms: tx.now_ms,
            one_time_keys: found.one_time_keys,
        };
        effects.push(frame(id, 0, Some(welcome.into())));
        if is_behind {
            self.queue_refill((user, device));
        }
    }

    /// Forgets the session, unless another took its place. It is gone whatever becomes of the batch.
    pub(super) fn detach(&mut self, origin: &Origin, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let key = (origin.user, origin.device);
        if self.sessions.get(key).is_none_or(|session| session.id != session_of(origin)) {
            return Ok(());
        }
        self.remove_session(key);
        self.note_last_seen(origin.user, tx.now_ms);
        self.end_watch(key, None, tx)
    }
}
