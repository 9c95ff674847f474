//! Sessions come and go.

use super::{Partition, Tx, session_of, window::Session};
use crate::{
    api::{Action, Effect},
    error::StoreError,
    limits,
    log::Origin,
    record::Device,
};
use roost_proto::v1::{Code, Welcome};

/// A newer connection of the same device took over. From the private range of RFC 6455 section 7.4.2, so that a client
/// can tell it from every other close and does not come back to throw out its successor.
pub const CLOSE_REPLACED: u16 = 4001;
/// "Policy violation" (RFC 6455 section 7.4.1).
pub const CLOSE_POLICY: u16 = 1008;

impl Partition {
    /// Welcome, then what the device has not acknowledged. Writes nothing for a device that was here before.
    pub(super) fn attach(&mut self, origin: &Origin, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let (session, key) = (session_of(origin), (origin.user, origin.device));
        let known = self.load(origin.user, tx)?;
        let device = self
            .users
            .get(&origin.user)
            .and_then(|user| user.devices.iter().find(|d| d.device == origin.device));
        let cursor = match device {
            Some(device) => device.cursor,
            None if known && self.users[&origin.user].devices.len() >= limits::DEVICES_MAX => {
                tx.out.error(session, 0, Code::FORBIDDEN, "this user has too many devices");
                tx.out.effects.push(Effect {
                    session,
                    action: Action::Close { code: CLOSE_POLICY, reason: "this user has too many devices" },
                });
                return Ok(());
            }
            None => {
                let user = self.change(origin.user, tx)?;
                // What waited for the user goes to the first device; one that comes later starts with what is new.
                let start = if user.devices.is_empty() { user.tail } else { user.head };
                user.devices.push(Device { device: origin.device, start, cursor: start });
                start
            }
        };
        let head = self.users[&origin.user].head;
        if let Some(old) = self.insert_session(key, Session::new(session, cursor))
            && old != session
        {
            tx.out.effects.push(Effect {
                session: old,
                action: Action::Close {
                    code: CLOSE_REPLACED,
                    reason: "replaced by a newer connection of the same device",
                },
            });
        }
        let welcome = Welcome {
            user: origin.user,
            device: origin.device,
            acknowledged: cursor,
            head,
            heartbeat_s: self.rules.heartbeat_s,
            payload_bytes_max: self.rules.payload_bytes_max,
            time_ms: tx.now_ms,
            one_time_keys: 0,
        };
        tx.out.frame(session, 0, Some(welcome.into()));
        if cursor < head {
            self.queue_refill(key);
        }
        Ok(())
    }

    /// Forgets the session, unless another took its place.
    pub(super) fn detach(&mut self, origin: &Origin) {
        let key = (origin.user, origin.device);
        if self.sessions.get(&key).is_some_and(|session| session.id == session_of(origin)) {
            self.remove_session(key);
        }
    }
}
