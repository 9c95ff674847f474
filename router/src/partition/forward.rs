//! What partitions tell each other, exactly once: an outbox at the source, a cursor at the target.

use super::{Output, Partition, Tx, home, window::Mark};
use crate::{
    api::UserId,
    error::StoreError,
    log::{self, forward::Body},
    record::{self, User},
};
use buffa::Message as _;
use roost_proto::v1::{Message, event};

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
            Body::Deliver(message) => self.deliver(message, tx),
            Body::Copy(message) => self.copy(message, tx),
            Body::Group(event) => self.group_event(event, tx),
            Body::Leave(leave) => self.leave_group(leave, tx),
            Body::GroupRead(read) => self.group_read(read, tx),
            Body::Receipt(receipt) => {
                let body = event::Body::Receipt((*receipt.receipt).clone().into());
                self.append(receipt.user, body, None, None, tx)
            }
        }
    }

    fn deliver(&mut self, message: &Message, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        use roost_proto::v1::address::To;
        let Some(To::User(user)) = message.to.as_option().and_then(|address| address.to.as_ref()) else {
            return Ok(());
        };
        let record = log::MarkRecord { from: message.from };
        tx.batch.put(record::mark(self.number, *user, message.id), record.encode_to_bytes());
        let mark = Mark { message: message.id, from: message.from };
        self.append(*user, event::Body::Message(message.clone().into()), None, Some(mark), tx)
    }

    /// For the sender's other devices; nothing where there is none.
    fn copy(&mut self, message: &Message, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.load(message.from, tx.store)?;
        let others = |user: &User| user.devices.iter().any(|d| d.device != message.from_device);
        if !self.users.get(message.from).is_some_and(others) {
            return Ok(());
        }
        let body = event::Body::Message(message.clone().into());
        self.append(message.from, body, Some(message.from_device), None, tx)
    }
}

impl Output {
    /// Forgets what a batch that failed would have caused.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
