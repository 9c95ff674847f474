//! What is said in a group: accepted and put in its place here, told once to each partition that members are at home in.

use super::{Refusal, no_group, record::Group};
use crate::{
    error::StoreError,
    log::{self, GroupMessageRecord, Origin, group_event},
    partition::{
        Partition, Tx, history, home,
        send::{answer, check_content, or_for_nobody},
        session_of,
    },
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
        let said = key::sent(self.number, origin.user, id | key::GROUP, &send.client_id);
        if let Some(value) = tx.batch.get(tx.store, &said)? {
            return Ok(Ok(answer(key::number(Some(value))?, send, true)));
        }
        let Some(group) = self.group_of(id, origin.user, tx)? else { return Ok(Err(no_group(id))) };
        let (homes, sealed) = (group.homes.clone(), sealed_for(group, send));
        let message_id = self.next_id(tx.now_ms);
        tx.batch.put_number(said, message_id);
        let record = GroupMessageRecord { group: id, from: origin.user };
        tx.batch.put(key::group_message(self.number, message_id), record.encode_to_bytes());
        tx.out.messages += 1;
        let sent = answer(message_id, send, false);
        let message = Message {
            id: message_id,
            from: origin.user,
            from_device: origin.device,
            to: send.to.clone(),
            client_id: send.client_id.clone(),
            kind: send.kind,
            payload: send.payload.clone(),
            sealed: false,
            sent_at_ms: sent.sent_at_ms,
        };
        self.keep(history::of_group(id), &message, &sealed, tx);
        self.tell_message(id, &homes, &message, &sealed, tx);
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
            let at_home = sealed.iter().filter(|sealed| home(sealed.user, partitions) == *to);
            let event = log::GroupEvent {
                group,
                sealed: or_for_nobody(at_home.cloned().collect(), sealed),
                body: Some(group_event::Body::Message(message.clone().into())),
                ..log::GroupEvent::default()
            };
            self.tell_members(*to, event, tx);
        }
    }
}

/// What is sealed for members: for none of them, one entry for nobody.
fn sealed_for(group: &Group, send: &v1::Send) -> Vec<Sealed> {
    if send.sealed.is_empty() {
        return Vec::new();
    }
    let users = group.users();
    let members = send.sealed.iter().filter(|sealed| users.contains(&sealed.user));
    or_for_nobody(members.cloned().collect(), &send.sealed)
}
