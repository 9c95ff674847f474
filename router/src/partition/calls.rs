//! What a user asks without a session: the stream, the devices, the groups.

use super::{Partition, Tx, attach::TOO_MANY_DEVICES, session_of, stream::day_of};
use crate::{
    api::{Action, Answer, DeviceId, DeviceState, Effect, UserId},
    error::StoreError,
    limits,
    log::{self, Origin},
    record::{Device, State},
};
use bytes::Bytes;
use roost_proto::v1::Code;

/// A device was removed from its user. From the private range of RFC 6455 section 7.4.2, as `CLOSE_REPLACED`: its client does not
/// come back by itself, which would register it anew.
pub const CLOSE_REMOVED: u16 = 4002;

const REMOVED: &str = "this device was removed by its user";

/// The part of a stream that answers one call.
#[derive(Default)]
struct Page {
    events: Vec<Bytes>,
    bytes: usize,
    /// The last event that is in `events` or passed over.
    next: u64,
    more: bool,
}

impl Partition {
    /// Whoever says this speaks for the device: it is the device's session, or a call, which needs none.
    pub(super) fn speaks(&self, origin: &Origin) -> bool {
        let session = || self.sessions.get((origin.user, origin.device));
        origin.call || session().is_some_and(|session| session.id == session_of(origin))
    }

    /// Registers the device of a call as an Attach does: what is new from then on waits for it. False: the user has too many
    /// devices, and the call is answered.
    pub(super) fn enrol(&mut self, origin: &Origin, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        self.load(origin.user, tx.store)?;
        let today = day_of(tx.now_ms);
        let known = self.users.get(origin.user);
        if let Some(device) = known.and_then(|user| user.device(origin.device)) {
            if device.seen_day != today {
                self.seen(origin.user, None, origin.device, today);
            }
            return Ok(true);
        }
        if known.is_some_and(|user| !self.has_place(origin.user, user, today)) {
            tx.out.error(session_of(origin), origin.id, Code::FORBIDDEN, TOO_MANY_DEVICES);
            return Ok(false);
        }
        let (start, cursor) = match known {
            Some(user) => self.beginning(origin.user, user, self.newest(origin.user, user, tx)?, tx)?,
            None => (0, 0),
        };
        let device = Device { start, cursor, seen_day: today, ..Device::new(origin.device) };
        self.change(origin.user, tx)?;
        self.add_device(origin.user, device, tx);
        Ok(true)
    }

    /// Answers with what the store holds: events of this batch come with the next call.
    pub(super) fn events(&mut self, command: &log::Events, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let origin: &Origin = &command.origin;
        if !self.enrol(origin, tx)? {
            return Ok(());
        }
        let cursor = self.users.get(origin.user).and_then(|user| user.device(origin.device));
        let after = command.after.or(cursor.map(|device| device.cursor)).unwrap_or(0);
        let page = self.page(origin, after, command.limit, tx)?;
        let answer = Answer::Events { events: page.events, next: page.next, more: page.more };
        self.answer(origin, answer, tx);
        Ok(())
    }

    fn page(&self, origin: &Origin, after: u64, limit: u32, tx: &Tx<'_>) -> Result<Page, StoreError> {
        let events_max = (limit as usize).clamp(1, limits::CALL_EVENTS_MAX);
        let (user, mut page) = (origin.user, Page { next: after, ..Page::default() });
        let record = self.users.get(user).and_then(|user| user.device(origin.device)).copied();
        let (rules, now_ms, mut looked_at) = (self.rules, tx.now_ms, 0);
        self.read_stream(user, (after, u64::MAX), tx.store, &mut |event| {
            let is_for_it =
                !event.is_expired(&rules, now_ms) && !record.is_some_and(|device| event.is_before(&device));
            let view = event.view(user, origin.device).filter(|_| is_for_it);
            // What is passed over was read, too.
            let bytes = event.bytes_read();
            let is_full = page.events.len() >= events_max
                || looked_at > 0 && page.bytes + bytes > limits::CALL_BYTES_MAX;
            page.more = is_full || looked_at >= limits::REFILL_EVENTS_MAX;
            if !page.more {
                looked_at += 1;
                (page.next, page.bytes) = (event.seq, page.bytes + bytes);
                page.events.extend(view);
            }
            !page.more
        })?;
        Ok(page)
    }

    pub(super) fn devices(&mut self, origin: &Origin, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.load(origin.user, tx.store)?;
        let devices = self.users.get(origin.user).map_or(&[][..], |user| &user.devices);
        let state = |device: &Device| DeviceState {
            device: device.device,
            acknowledged: device.cursor,
            last_seen_ms: u64::from(device.seen_day) * limits::DAY_MS,
            connected: self.sessions.get((origin.user, device.device)).is_some(),
            one_time_keys: device.one_time.len() as u32,
        };
        let answer = Answer::Devices(devices.iter().map(state).collect());
        self.answer(origin, answer, tx);
        Ok(())
    }

    /// The device is forgotten, with its session and its keys; events wait for it no more.
    pub(super) fn remove_device(
        &mut self,
        origin: &Origin,
        device: DeviceId,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let caller = session_of(origin);
        self.load(origin.user, tx.store)?;
        if self.users.get(origin.user).is_none_or(|user| user.device(device).is_none()) {
            let text = format!("user {} has no device {device}", origin.user);
            tx.out.error(caller, origin.id, Code::NOT_FOUND, text);
            // Where a removal that failed is found stored after all, the session is still here.
            return self.close_removed(origin.user, device, tx);
        }
        self.drop_keys(origin.user, device, tx);
        let user = self.change(origin.user, tx)?;
        let removed: Vec<Device> = user.devices.extract_if(.., |known| known.device == device).collect();
        self.removed.extend(removed.into_iter().map(|device| (origin.user, device)));
        self.trim(origin.user, None, tx)?;
        self.close_removed(origin.user, device, tx)?;
        tx.out.done(caller, origin.id);
        Ok(())
    }

    fn close_removed(&mut self, user: UserId, device: DeviceId, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.end_watch((user, device), None, tx)?;
        if let Some(session) = self.take_session((user, device)) {
            self.note_last_seen(user, tx.now_ms);
            let close = Action::Close { code: CLOSE_REMOVED, reason: REMOVED };
            tx.out.effects.push(Effect { session, action: close });
        }
        Ok(())
    }

    /// The groups this user is a member of.
    pub(super) fn groups(&self, command: &log::Groups, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let origin: &Origin = &command.origin;
        let (groups, more) = self.groups_of(origin.user, command.after, limits::CALL_BYTES_MAX, tx.store)?;
        self.answer(origin, Answer::Groups { groups, more }, tx);
        Ok(())
    }

    /// Leaves at once where it tells nothing that this batch has changed, so that a disk that stalls does not hold up reads.
    fn answer(&self, origin: &Origin, answer: Answer, tx: &mut Tx<'_>) {
        let unchanged = self.users.get(origin.user).is_none_or(|user| user.state != State::Changed);
        let effects = if unchanged { &mut tx.out.at_once } else { &mut tx.out.effects };
        effects.push(Effect { session: session_of(origin), action: Action::Answer(answer.into()) });
    }
}
