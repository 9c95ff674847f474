//! Sessions come and go.

use super::{Partition, Tx, error, frame, session_of, sessions::Session};
use crate::{
    api::{Action, Effect},
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
    /// Of the device, or where it starts.
    cursor: u64,
    head: u64,
    /// The device is not registered.
    is_new: bool,
    /// Nothing of what is told waits for a commit.
    at_once: bool,
}

impl Partition {
    /// Welcome, then what the device has not acknowledged. Writes nothing for a device that was here before. The Welcome
    /// leaves at once, unless it tells what a command before it in the batch has changed: nobody waits for the registration of
    /// a new device (docs/decisions/0008-attach-without-waiting.md).
    pub(super) fn attach(&mut self, origin: &Origin, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let session = session_of(origin);
        let stored = match self.users.get(origin.user) {
            Some(_) => None,
            None => self.stored(origin.user, tx.store)?,
        };
        let record = stored.as_ref().or_else(|| self.users.get(origin.user));
        let is_known = record.is_some();
        let Some(found) = self.find(record, origin) else {
            let unchanged = record.is_none_or(|record| record.state != State::Changed);
            let close = Action::Close { code: CLOSE_POLICY, reason: TOO_MANY_DEVICES };
            let effects =
                [error(session, 0, Code::FORBIDDEN, TOO_MANY_DEVICES), Effect { session, action: close }];
            if unchanged { &mut tx.out.at_once } else { &mut tx.out.effects }.extend(effects);
            return Ok(());
        };
        match (found.is_new, found.at_once) {
            (true, true) => {
                self.register(origin.user, stored, origin.device, found.cursor);
                if !is_known {
                    tx.out.registered.push(origin.user);
                }
            }
            (true, false) => {
                let (start, user) = (found.cursor, self.change(origin.user, tx)?);
                let device = Device { device: origin.device, registering: false, start, cursor: start };
                user.devices.push(device);
            }
            (false, _) => {}
        }
        self.welcome(origin, &found, tx);
        Ok(())
    }

    /// None: it is new and there is no room for it.
    fn find(&self, record: Option<&User>, origin: &Origin) -> Option<Found> {
        let Some(record) = record else {
            let at_once = self.registrations() < limits::REGISTRATIONS_MAX;
            return Some(Found { cursor: 0, head: 0, is_new: true, at_once });
        };
        let (head, unchanged) = (record.head, record.state != State::Changed);
        if let Some(device) = record.device(origin.device) {
            return Some(Found { cursor: device.cursor, head, is_new: false, at_once: unchanged });
        }
        // What waited for the user goes to the first device; one that comes later starts with what is new.
        let cursor = if record.devices.is_empty() { record.tail } else { head };
        let at_once = unchanged && self.registrations() < limits::REGISTRATIONS_MAX;
        let has_room = record.devices.len() < limits::DEVICES_MAX;
        has_room.then_some(Found { cursor, head, is_new: true, at_once })
    }

    fn welcome(&mut self, origin: &Origin, found: &Found, tx: &mut Tx<'_>) {
        let id = session_of(origin);
        let (user, device, sent) = (origin.user, origin.device, found.cursor);
        let old = self.insert_session(Session { user, sent, id, device }, found.at_once);
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
            one_time_keys: 0,
        };
        effects.push(frame(id, 0, Some(welcome.into())));
        if found.cursor < found.head {
            self.queue_refill((user, device));
        }
    }

    /// Forgets the session, unless another took its place. It is gone whatever becomes of the batch.
    pub(super) fn detach(&mut self, origin: &Origin) {
        let key = (origin.user, origin.device);
        if self.sessions.get(key).is_some_and(|session| session.id == session_of(origin)) {
            self.remove_session(key);
        }
    }
}
