//! A device has events for good: its cursor moves, senders hear that their messages were delivered, events go.

use super::{
    Partition, Tx, session_of,
    window::{self, InFlight, Mark},
};
use crate::{
    api::UserId,
    error::StoreError,
    limits,
    log::{self, Origin},
    record,
};
use roost_proto::v1::{self, Receipt};
use std::collections::BTreeMap;

impl Partition {
    /// Cumulative and monotonic. A place beyond what the session was sent is clamped: its client does not have those
    /// events, whatever it says, and an Ack must not make them vanish. A session that was sent nothing yet may acknowledge
    /// what the one before it got. A call is believed as far as the stream goes: it may have read that far.
    pub(super) fn ack(&mut self, origin: &Origin, up_to: u64, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let (id, key) = (session_of(origin), (origin.user, origin.device));
        if !self.speaks(origin) || origin.call && !self.enrol(origin, tx)? {
            return Ok(());
        }
        let sent = self.sessions.get(key).map_or(0, |session| session.sent);
        self.load(origin.user, tx.store)?;
        let Some(user) = self.users.get(origin.user) else { return Ok(()) };
        let Some(index) = user.devices.iter().position(|d| d.device == origin.device) else { return Ok(()) };
        let (head, cursor) = (user.head, user.devices[index].cursor);
        let reach = match origin.call {
            // What a call was answered with is remembered nowhere.
            true => head,
            false if sent > cursor => sent,
            false => cursor + limits::ACK_EVENTS_MAX,
        };
        let up_to = up_to.min(head).min(reach);
        if up_to > cursor {
            let acked = self.take_acked(key, up_to);
            let delivered = self.first_deliveries(origin.user, index, cursor, up_to, &acked, tx)?;
            let number = self.number;
            // Own messages that follow need no Ack of their own.
            let passed =
                self.sessions.get(key).filter(|_| self.nothing_in_flight(key)).map(|session| session.sent);
            let user = self.change(origin.user, tx)?;
            user.devices[index].cursor = up_to.max(passed.unwrap_or(0));
            window::trim(number, origin.user, user, tx.batch);
            self.tell_senders(origin.user, v1::Mark::DELIVERED, delivered, tx)?;
        }
        if self.sessions.get(key).is_some_and(|session| session.sent < head) {
            self.queue_refill(key);
        }
        tx.out.done(id, origin.id);
        Ok(())
    }

    /// By sender: the messages in (cursor, `up_to`] that no other device of the user had before.
    fn first_deliveries(
        &self,
        user_id: UserId,
        index: usize,
        cursor: u64,
        up_to: u64,
        acked: &[InFlight],
        tx: &Tx<'_>,
    ) -> Result<BTreeMap<UserId, Vec<u64>>, StoreError> {
        let mut by_sender: BTreeMap<UserId, Vec<u64>> = BTreeMap::new();
        let devices = self.users.get(user_id).map_or(&[][..], |user| &user.devices);
        let mut acked = acked.iter().peekable();
        for seq in cursor + 1..=up_to {
            let known = acked.next_if(|event| event.seq == seq);
            let others = devices.iter().enumerate().filter(|(other, _)| *other != index);
            if others.into_iter().any(|(_, d)| d.start < seq && seq <= d.cursor) {
                continue;
            }
            let mark = match known {
                Some(event) => event.mark,
                // Acknowledged by a session that did not see it: the one before it did.
                None => self.stored_mark(user_id, seq, tx)?,
            };
            if let Some(mark) = mark {
                by_sender.entry(mark.from).or_default().push(mark.message);
            }
        }
        Ok(by_sender)
    }

    fn stored_mark(&self, user: UserId, seq: u64, tx: &Tx<'_>) -> Result<Option<Mark>, StoreError> {
        match tx.batch.get(tx.store, &record::event(self.number, user, seq))? {
            Some(event) => Ok(window::Origin::of(user, event)?.mark()),
            None => Ok(None),
        }
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
