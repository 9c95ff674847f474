//! A device has events for good: its cursor moves, senders hear that their messages were delivered, events go.

use super::{Partition, Tx, session_of, stream::day_of, window::InFlight};
use crate::{
    api::UserId,
    error::StoreError,
    limits,
    log::{self, Origin},
    record::Device,
};
use roost_proto::v1::{self, Receipt};
use std::collections::BTreeMap;

impl Partition {
    /// Cumulative and monotonic. A place beyond what the session was sent is clamped: its client does not have those
    /// events, whatever it says, and an Ack must not make them vanish. A session that was sent nothing yet may acknowledge
    /// what the one before it got. A call is believed likewise: what it was answered
    /// with is remembered nowhere.
    pub(super) fn ack(&mut self, origin: &Origin, up_to: u64, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let (id, key) = (session_of(origin), (origin.user, origin.device));
        if !self.speaks(origin) || origin.call && !self.enrol(origin, tx)? {
            return Ok(());
        }
        let place = self.sessions.get(key).map(|session| session.place).filter(|_| !origin.call);
        self.load(origin.user, tx.store)?;
        let Some(user) = self.users.get(origin.user) else { return Ok(()) };
        let Some(index) = user.devices.iter().position(|d| d.device == origin.device) else { return Ok(()) };
        let known = user.devices[index];
        let cursor = known.cursor;
        let was_sent = place.filter(|place| place.sent() > cursor || !place.is_behind());
        let (mut acked, up_to) = if let Some(place) = was_sent {
            let up_to = up_to.min(place.sent().max(cursor));
            (self.take_acked(key, up_to), up_to)
        } else {
            let (acked, up_to) = self.sent_before(origin.user, &known, up_to, tx)?;
            self.take_acked(key, up_to);
            (acked, up_to)
        };
        // A batch that failed and was stored all the same may have moved the cursor past some.
        acked.retain(|event| event.seq > cursor);
        // What was passed over and follows needs no Ack of its own.
        let passed =
            self.sessions.get(key).filter(|_| self.nothing_in_flight(key)).map_or(0, |s| s.place.sent());
        let up_to = up_to.max(passed);
        if up_to > cursor {
            let delivered = self.first_deliveries(origin.user, index, &acked, tx)?;
            let today = day_of(tx.now_ms);
            let user = self.change(origin.user, tx)?;
            // None is left from before, and each one since was in the window.
            let is_all = user.devices.len() == 1
                && user.tail == cursor
                && was_sent.is_some_and(|place| !place.has_passed());
            let device = &mut user.devices[index];
            (device.cursor, device.seen_day) = (up_to, today);
            self.trim(origin.user, is_all.then_some(&acked[..]), tx)?;
            self.tell_senders(origin.user, v1::Mark::DELIVERED, delivered, tx)?;
        }
        if self.sessions.get(key).is_some_and(|session| session.place.is_behind()) {
            self.queue_refill(key);
        }
        tx.out.done(id, origin.id);
        Ok(())
    }

    /// The events after a cursor that a session before this one may have been sent, and the newest of them that is
    /// acknowledged.
    fn sent_before(
        &self,
        user: UserId,
        device: &Device,
        up_to: u64,
        tx: &Tx<'_>,
    ) -> Result<(Vec<InFlight>, u64), StoreError> {
        let (mut events, mut newest, mut left) = (Vec::new(), device.cursor, limits::ACK_EVENTS_MAX);
        self.read_stream(user, (device.cursor, up_to), tx.store, &mut |event| {
            newest = event.seq;
            let was_sent = !event.is_before(device) && !event.is_expired(&self.rules, tx.now_ms);
            if was_sent && event.view(user, device.device).is_some() {
                events.push(InFlight::new(&event, user, 0));
            }
            left -= 1;
            left > 0
        })?;
        Ok((events, newest))
    }

    /// By sender: those of the messages that no other device of the user had before.
    fn first_deliveries(
        &self,
        user: UserId,
        index: usize,
        acked: &[InFlight],
        tx: &Tx<'_>,
    ) -> Result<BTreeMap<UserId, Vec<u64>>, StoreError> {
        let mut by_sender: BTreeMap<UserId, Vec<u64>> = BTreeMap::new();
        let devices = self.users.get(user).map_or(&[][..], |user| &user.devices);
        for event in acked {
            let Some(mark) = event.mark else { continue };
            let others = devices.iter().enumerate().filter(|(other, _)| *other != index);
            let mut past = others
                .map(|(_, other)| other)
                .filter(|other| other.has(event.seq, event.is_status))
                .peekable();
            let mut is_known = past.peek().is_some();
            if is_known && event.is_sealed {
                // They may be past it only because it was not for them. Where it is gone, nobody can say any more.
                self.read_stream(user, (event.seq - 1, event.seq), tx.store, &mut |event| {
                    is_known = past.any(|other| event.view(user, other.device).is_some());
                    false
                })?;
            }
            if !is_known {
                by_sender.entry(mark.from).or_default().push(mark.message);
            }
        }
        Ok(by_sender)
    }

    /// One Receipt a sender, however many messages it is about.
    pub(super) fn tell_senders(
        &mut self,
        by: UserId,
        mark: v1::Mark,
        messages: BTreeMap<UserId, Vec<u64>>,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        for (sender, message) in messages {
            let receipt = Receipt { mark: mark.into(), by, message, at_ms: tx.now_ms };
            let receipt = log::ReceiptFor { user: sender, receipt: receipt.into() };
            self.forward(sender, receipt.into(), tx)?;
        }
        Ok(())
    }
}
