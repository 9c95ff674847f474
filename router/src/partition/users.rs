//! Users' records: a bounded cache of them, what a batch changes in them, and registrations, which nobody waits for.

use super::{Partition, Tx};
use crate::{
    api::{DeviceId, UserId},
    error::StoreError,
    limits,
    record::{self, Device, OneTime, State, User},
    store::{Batch, Store},
};
use rustc_hash::FxHashMap;

/// Records at hand. Two generations: what was not used since the last change of generations goes with the next.
#[derive(Debug, Default)]
pub(super) struct Users {
    young: FxHashMap<UserId, User>,
    old: FxHashMap<UserId, User>,
}

impl Users {
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub(super) fn get(&self, user: UserId) -> Option<&User> {
        self.young.get(&user).or_else(|| self.old.get(&user))
    }

    /// Makes it young.
    pub(super) fn get_mut(&mut self, user: UserId) -> Option<&mut User> {
        if let Some(record) = self.old.remove(&user) {
            self.young.insert(user, record);
        }
        self.young.get_mut(&user)
    }

    fn entry(&mut self, user: UserId) -> &mut User {
        if let Some(record) = self.old.remove(&user) {
            self.young.insert(user, record);
        }
        self.young.entry(user).or_default()
    }

    fn remove(&mut self, user: UserId) -> Option<User> {
        self.young.remove(&user).or_else(|| self.old.remove(&user))
    }

    /// The old ones go where there are enough young ones, all of which are stored.
    fn age(&mut self) {
        if self.young.len() > limits::USERS_CACHED_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        // What a storm of registrations needed is not kept.
        if self.young.is_empty() && self.young.capacity() > limits::BATCH_REQUESTS_MAX {
            self.young = FxHashMap::default();
        }
    }

    /// The same while some cannot be stored: those stay.
    fn age_stored(&mut self) {
        if self.young.len() > limits::USERS_CACHED_MAX / 2 + limits::REGISTRATIONS_MAX {
            self.old = FxHashMap::default();
            self.young.retain(|_, record| record.state != State::Stored);
        }
    }
}

impl Partition {
    /// Brings a user's record into the cache; false where the user is unknown.
    pub(super) fn load(&mut self, user: UserId, store: &dyn Store) -> Result<bool, StoreError> {
        if self.users.get_mut(user).is_some() {
            return Ok(true);
        }
        let stored = self.stored(user, store)?;
        let known = stored.is_some();
        if let Some(record) = stored {
            *self.users.entry(user) = record;
        }
        Ok(known)
    }

    /// A user's record as the store has it, past the cache.
    pub(super) fn stored(&self, user: UserId, store: &dyn Store) -> Result<Option<User>, StoreError> {
        store.get(&record::user(self.number, user))?.map(User::decode).transpose()
    }

    /// A record to be changed; one is made where there is none.
    pub(super) fn change(&mut self, user: UserId, tx: &mut Tx<'_>) -> Result<&mut User, StoreError> {
        let known = self.load(user, tx.store)?;
        if !known {
            tx.out.fresh.push(user);
        }
        let record = self.users.entry(user);
        if record.state != State::Changed {
            record.state = State::Changed;
            self.changed.push(user);
        }
        Ok(record)
    }

    /// Adds a device whose session is told so before that is stored. `known`: the user's record as stored, where it is not in
    /// the cache.
    pub(super) fn register(&mut self, user: UserId, known: Option<User>, device: Device) {
        if let Some(known) = known {
            *self.users.entry(user) = known;
        }
        let record = self.users.entry(user);
        record.devices.reserve_exact(1);
        record.devices.push(device);
        self.wait_to_be_stored(user);
    }

    /// Notes that a device was here on this day, which nobody waits for either.
    pub(super) fn seen(&mut self, user: UserId, known: Option<User>, device: DeviceId, today: u32) {
        if let Some(known) = known {
            *self.users.entry(user) = known;
        }
        let record = self.users.entry(user);
        if let Some(device) = record.devices.iter_mut().find(|known| known.device == device) {
            device.seen_day = today;
        }
        self.wait_to_be_stored(user);
    }

    fn wait_to_be_stored(&mut self, user: UserId) {
        let record = self.users.entry(user);
        if record.state == State::Stored {
            record.state = State::Registering;
            self.registering.push(user);
        }
    }

    /// Devices wait to be stored, and nobody waits for that; users with such a device, about.
    pub fn registrations(&self) -> usize {
        self.registering.len() + self.unplaced.len()
    }

    /// Something must be stored before the effects of this batch may leave.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty() || self.clock != self.stored_clock
    }

    pub(super) fn flush_users(&self, batch: &mut Batch) {
        let mut put = |user: UserId, state| {
            if let Some(record) = self.users.get(user).filter(|record| record.state == state) {
                batch.put(record::user(self.number, user), record.encode());
            }
        };
        self.changed.iter().for_each(|user| put(*user, State::Changed));
        self.registering.iter().for_each(|user| put(*user, State::Registering));
    }

    pub(super) fn users_are_stored(&mut self) {
        for user in self.registering.drain(..) {
            match self.users.get_mut(user) {
                // Who only connects is not asked about again soon.
                Some(record) if record.state == State::Registering => {
                    self.users.remove(user);
                }
                Some(record) => record.devices.iter_mut().for_each(|device| device.registering = None),
                None => {}
            }
        }
        for user in self.changed.drain(..) {
            if let Some(record) = self.users.get_mut(user) {
                record.state = State::Stored;
            }
        }
        self.removed.clear();
        self.registering.shrink_to(limits::BATCH_REQUESTS_MAX);
        self.users.age();
    }

    /// Nothing had to be stored.
    pub(super) fn users_are_settled(&mut self) {
        self.users.age_stored();
    }

    /// Forgets what this batch changed. Devices whose sessions were welcomed stay registered, where the rest of their user's
    /// record is as it was.
    pub(super) fn take_back_users(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        for user in std::mem::take(&mut self.changed) {
            self.displace(user);
        }
        self.unplaced.extend(self.removed.drain(..).filter_map(begun));
        if !self.unplaced.is_empty() {
            self.registering.retain(|user| self.users.get(*user).is_some());
        }
        self.place(store)
    }

    /// Forgets all records, which may not be what the store has now; registrations are made again where it lacks them.
    pub(super) fn reread_users(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        for user in std::mem::take(&mut self.registering).into_iter().chain(std::mem::take(&mut self.changed))
        {
            self.displace(user);
        }
        self.users = Users::default();
        self.place(store)
    }

    /// Takes a record out of the cache and keeps the registrations in it.
    fn displace(&mut self, user: UserId) {
        let devices = self.users.remove(user).map(|record| record.devices).unwrap_or_default();
        self.unplaced.extend(devices.into_iter().filter_map(|device| begun((user, device))));
    }

    /// Puts registrations that were taken out into the records as stored. After an error those left wait for the next time.
    fn place(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        while let Some((user, device)) = self.unplaced.last().copied() {
            self.load(user, store)?;
            let stored = (self.users.get_mut(user))
                .and_then(|record| record.devices.iter_mut().find(|stored| stored.device == device.device));
            match stored {
                None => self.register(user, None, device),
                // An Attach of the batch that failed was stored after all, and begins later than its session was told since.
                Some(stored) if stored.start > device.start => {
                    (stored.start, stored.cursor) = (device.start, device.cursor);
                    self.wait_to_be_stored(user);
                }
                Some(_) => {}
            }
            self.unplaced.pop();
            // A session that came meanwhile did not see this one.
            if self.users.get(user).is_some_and(|record| record.devices.len() > 1) {
                self.have_company(user);
            }
        }
        Ok(())
    }

    /// A user this partition is home of is in its cache or connected: known, without a read of the store.
    pub fn has_at_hand(&self, user: UserId) -> bool {
        self.users.get(user).is_some() || self.sessions.has(user)
    }

    /// Records in the cache.
    pub fn users_cached(&self) -> usize {
        self.users.len()
    }
}

/// A device that is registering, as its session was told: an Ack of the batch may have moved the cursor, and its keys are not stored.
fn begun((user, device): (UserId, Device)) -> Option<(UserId, Device)> {
    device.registering.map(|cursor| (user, Device { cursor, one_time: OneTime::default(), ..device }))
}
