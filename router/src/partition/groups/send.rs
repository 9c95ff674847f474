//! What is said in a group: accepted and put in its place here, told once to each partition that members are at home in.

use super::{Refusal, no_group, record::Group};
use crate::{
    api::UserId,
    error::StoreError,
    log::{self, GroupMessageRecord, Origin, SentRecord, group_event},
    partition::{Partition, Tx, home, send::check_content, session_of},
    record as key,
};
use buffa::Message as _;
use roost_proto::v1::{self, Message, Sealed, Sent, address::To};

/// The group a Send is for, where it names one.
pub fn group_receiver(send: &v1::Send) -> Option<u64> {
    match send.to.as_option()?.to.as_ref()? {
        To::Group(group) => Some(*group),
        To::User(_) => None,
    }
}

/// What stands for a group where a de-duplication key names a receiver: no user has such a number.
fn as_receiver(group: u64) -> UserId {
    group | 1 << 63
}

impl Partition {
    /// Runs in the group's home.
    pub(in crate::partition) fn send_to_group(
        &mut self,
        group: u64,
        command: &log::Send,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let (origin, send) = (&*command.origin, &*command.send);
        match self.accept(group, origin, send, tx)? {
            Ok(sent) => tx.out.frame(session_of(origin), origin.id, Some(sent.into())),
            Err((code, text)) => tx.out.error(session_of(origin), origin.id, code, text),
        }
        Ok(())
    }

    fn accept(
        &mut self,
        id: u64,
        origin: &Origin,
        send: &v1::Send,
        tx: &mut Tx<'_>,
    ) -> Result<Result<Sent, Refusal>, StoreError> {
        if let Err(refusal) = check_content(send, self.rules.payload_bytes_max) {
            return Ok(Err(refusal));
        }
        // Whoever has left meanwhile still learns what became of what he said before.
        let said = key::sent(self.number, origin.user, as_receiver(id), &send.client_id);
        let client_id = send.client_id.clone();
        if let Some(value) = tx.batch.get(tx.store, &said)? {
            let first: SentRecord = key::decode(value)?;
            return Ok(Ok(Sent { id: first.id, client_id, sent_at_ms: first.sent_at_ms, duplicate: true }));
        }
        let number = self.number;
        let Some(group) = self.group_of(id, origin.user, tx)? else { return Ok(Err(no_group(id))) };
        let (homes, members) = (group.homes.clone(), sealed_for(group, send));
        let message = self.next_id(tx.now_ms);
        tx.batch.put(said, SentRecord { id: message, sent_at_ms: tx.now_ms }.encode_to_bytes());
        let record = GroupMessageRecord { group: id, from: origin.user };
        tx.batch.put(key::group_message(number, message), record.encode_to_bytes());
        tx.out.messages += 1;
        let message = Message {
            id: message,
            from: origin.user,
            from_device: origin.device,
            to: send.to.clone(),
            client_id: client_id.clone(),
            kind: send.kind,
            payload: send.payload.clone(),
            sealed: false,
            sent_at_ms: tx.now_ms,
        };
        let sent = Sent { id: message.id, client_id, sent_at_ms: tx.now_ms, duplicate: false };
        self.tell_message(id, &homes, &message, &members, tx);
        Ok(Ok(sent))
    }

    fn tell_message(
        &mut self,
        group: u64,
        homes: &[u16],
        message: &Message,
        sealed: &[Sealed],
        tx: &mut Tx<'_>,
    ) {
        let partitions = self.outgoing.len() as u16;
        for to in homes {
            let sealed = sealed.iter().filter(|sealed| home(sealed.user, partitions) == *to);
            let event = log::GroupEvent {
                group,
                sealed: sealed.cloned().collect(),
                body: Some(group_event::Body::Message(message.clone().into())),
                ..log::GroupEvent::default()
            };
            self.tell_members(*to, event, tx);
        }
    }
}

/// What is sealed for members; the rest reaches nobody.
fn sealed_for(group: &Group, send: &v1::Send) -> Vec<Sealed> {
    if send.sealed.is_empty() {
        return Vec::new();
    }
    let users = group.users();
    send.sealed.iter().filter(|sealed| users.contains(&sealed.user)).cloned().collect()
}
