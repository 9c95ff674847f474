//! Which day a device was last here. An Attach notes it, and an Ack; for a session that lasts, a walk over the table does, so that
//! a device that was connected for a month is not taken for one that was away for it.

use super::{Partition, Tx, stream::day_of};
use crate::{error::StoreError, limits};

impl Partition {
    /// A slice of the walk.
    pub(super) fn note_days(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let today = day_of(tx.now_ms);
        let mut noted = 0;
        for _ in 0..limits::DAYS_LOOKED_AT_MAX.min(self.sessions.len()) {
            self.walk = if self.walk + 1 < self.sessions.len() { self.walk + 1 } else { 0 };
            let Some(session) = self.sessions.at(self.walk).filter(|session| !session.place.is_noted(today))
            else {
                continue;
            };
            let (user, device) = session.key();
            if noted == limits::DAYS_NOTED_MAX || self.registrations() >= limits::REGISTRATIONS_COMMIT {
                break;
            }
            noted += 1;
            if self.load(user, tx.store)? {
                self.seen(user, None, device, today);
            }
            if let Some(session) = self.sessions.get_mut((user, device)) {
                session.place.note_day(today);
            }
        }
        Ok(())
    }
}
