//! What partitions tell each other, exactly once: an outbox at the source, a cursor at the target.

use super::{
    Output, Partition, Tx, home,
    sessions::{Key, Session},
    stream,
};
use crate::{
    api::UserId,
    error::StoreError,
    log::{self, Delivery, forward::Body, stored_event},
    record,
};
use buffa::Message as _;
use roost_proto::v1::address::To;

impl Partition {
    /// Applies it here where the user is at home here, and leaves it to the runtime otherwise.
    pub(super) fn forward(&mut self, user: UserId, body: Body, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let to = home(user, self.outgoing.len() as u16);
        if to == self.number {
            return self.take(&body, tx);
        }
        tx.out.forwards.push((self.number, to, log::Forward { body: Some(body) }));
        Ok(())
    }

    /// Applies what another partition says, in the batch in which it says so: for partitions of one thread.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn take_local(&mut self, forward: &log::Forward, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        forward.body.as_ref().map_or(Ok(()), |body| self.take(body, tx))
    }

    /// Nothing is on its way to that partition, so that a forward applied at once overtakes none.
    pub fn outbox_is_empty(&self, to: u16) -> bool {
        let outgoing = &self.outgoing[usize::from(to)];
        outgoing.acked == outgoing.written
    }

    /// Writes a forward to the outbox and returns its seq; it is sent once the batch is durable.
    pub fn enqueue(&mut self, to: u16, forward: &log::Forward, tx: &mut Tx<'_>) -> u64 {
        let outgoing = &mut self.outgoing[usize::from(to)];
        outgoing.written += 1;
        tx.batch.put(record::outbox(self.number, to, outgoing.written), forward.encode_to_bytes());
        outgoing.written
    }

    /// The forwards to a partition, for the runtime to send and send again.
    pub fn outgoing(&self, to: u16) -> super::Outgoing {
        self.outgoing[usize::from(to)]
    }

    /// The runtime has handed over everything up to here (or has to start again from here).
    pub fn set_sent(&mut self, to: u16, sent: u64) {
        let outgoing = &mut self.outgoing[usize::from(to)];
        outgoing.sent = sent.clamp(outgoing.acked, outgoing.written);
    }

    /// The last forward of another partition applied here.
    pub fn inbound_cursor(&self, from: u16) -> u64 {
        self.inbound[usize::from(from)]
    }

    /// A forward of another thread's partition. One that was here already, or that comes before its turn, changes nothing:
    /// the answer of the runtime tells the cursor, and the source goes on from there.
    pub(super) fn inbound(&mut self, inbound: &log::Inbound, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let from = inbound.from as u16;
        let Some(cursor) = self.inbound.get_mut(usize::from(from)) else { return Ok(()) };
        if inbound.seq != *cursor + 1 {
            return Ok(());
        }
        self.inbound_undo.push((from, *cursor));
        *cursor = inbound.seq;
        tx.batch.put_number(record::inbound(self.number, from), inbound.seq);
        self.take_local(&inbound.forward, tx)
    }

    /// Cursors stand again where they stood before the batch.
    pub(super) fn undo_inbound(&mut self) {
        while let Some((from, cursor)) = self.inbound_undo.pop() {
            self.inbound[usize::from(from)] = cursor;
        }
    }

    /// The other partition has made everything up to here durable.
    pub(super) fn taken(&mut self, to: u16, up_to: u64, tx: &mut Tx<'_>) {
        let Some(outgoing) = self.outgoing.get_mut(usize::from(to)) else { return };
        let up_to = up_to.min(outgoing.written);
        if up_to > outgoing.acked {
            for seq in outgoing.acked + 1..=up_to {
                tx.batch.delete(record::outbox(self.number, to, seq));
            }
            outgoing.acked = up_to;
            outgoing.sent = outgoing.sent.max(up_to);
            tx.batch.put_number(record::taken(self.number, to), up_to);
        }
    }

    fn take(&mut self, body: &Body, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        match body {
            Body::Deliver(delivery) => self.deliver(delivery, tx),
            Body::Copy(delivery) => self.copy(delivery, tx),
            Body::Group(event) => self.group_event(event, tx),
            Body::Leave(leave) => self.leave_group(leave, tx),
            Body::GroupRead(read) => self.group_read(read, tx),
            Body::Receipt(receipt) => {
                let body = stored_event::Body::Receipt((*receipt.receipt).clone().into());
                self.append(receipt.user, body, Vec::new(), tx).map(|_| ())
            }
        }
    }

    fn deliver(&mut self, delivery: &Delivery, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let message = &*delivery.message;
        let Some(To::User(user)) = message.to.as_option().and_then(|address| address.to.as_ref()) else {
            return Ok(());
        };
        tx.batch.put_number(record::mark(self.number, *user, message.id), message.from);
        self.append(*user, stream::message(message.clone()), delivery.sealed.clone(), tx).map(|_| ())
    }

    /// For the sender's other devices; nothing where there is none. A sender is known from then on.
    fn copy(&mut self, delivery: &Delivery, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let message = &*delivery.message;
        let key = (message.from, message.from_device);
        if self.sessions.get(key).is_some_and(|session| session.place.is_alone()) {
            return Ok(());
        }
        if !self.load(message.from, tx.store)? {
            self.change(message.from, tx)?;
        }
        let is_for_others = delivery.sealed.iter().all(|sealed| sealed.user != message.from);
        let Some(user) = self.users.get(message.from) else { return Ok(()) };
        if user.devices.iter().all(|device| device.device == message.from_device)
            || is_for_others && !delivery.sealed.is_empty()
        {
            return Ok(());
        }
        let seq = self.append(message.from, stream::message(message.clone()), delivery.sealed.clone(), tx)?;
        self.pass_own(key, seq, tx)
    }

    /// What a device said itself has its place in its stream: the cursor of one that has all before it moves over it.
    pub(super) fn pass_own(&mut self, key: Key, seq: u64, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let passed = |session: &Session| session.place.sent() == seq && !session.place.is_behind();
        if self.sessions.get(key).is_some_and(passed) && self.nothing_in_flight(key) {
            self.skip(key.0, key.1, seq, tx)?;
        }
        Ok(())
    }
}

impl Output {
    /// Forgets what a batch that failed would have caused.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
