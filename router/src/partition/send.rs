//! A message is accepted: checked, de-duplicated, given its place in the conversation.

use super::{Partition, Tx, groups::group_receiver, session_of};
use crate::{
    api::UserId,
    error::StoreError,
    limits,
    log::{self, Origin, SentRecord},
    record,
};
use buffa::Message as _;
use roost_proto::v1::{self, Code, Message, Sent, address::To};

/// The largest number of a user.
pub(super) const USER_MAX: UserId = (1 << 63) - 1;

/// What is wrong with a Send, if anything.
fn check(send: &v1::Send, payload_bytes_max: u32) -> Result<UserId, (Code, String)> {
    let to = match send.to.as_option().and_then(|address| address.to.as_ref()) {
        Some(To::User(user)) if (1..=USER_MAX).contains(user) => *user,
        Some(To::User(_)) => {
            return Err((Code::MALFORMED, "to.user is not a number from 1 to 2^63-1".into()));
        }
        // Those have their own way.
        Some(To::Group(_)) | None => return Err((Code::MALFORMED, "to is missing".into())),
    };
    check_content(send, payload_bytes_max).map(|()| to)
}

/// The same of what does not depend on whom it is for.
pub(super) fn check_content(send: &v1::Send, payload_bytes_max: u32) -> Result<(), (Code, String)> {
    if !(1..=limits::CLIENT_ID_BYTES_MAX).contains(&send.client_id.len()) {
        return Err((Code::MALFORMED, format!("client_id has {} bytes, not 1 to 16", send.client_id.len())));
    }
    if send.kind.is_unknown() {
        return Err((Code::MALFORMED, format!("kind {} is unknown", send.kind.to_i32())));
    }
    if !send.sealed.is_empty() {
        return Err((Code::FORBIDDEN, "sealed payloads are not served by this version".into()));
    }
    if send.payload.len() > payload_bytes_max as usize {
        let text =
            format!("the payload has {} bytes, at most {payload_bytes_max} are taken", send.payload.len());
        return Err((Code::TOO_LARGE, text));
    }
    Ok(())
}

/// Whom a Send is for, where it names a user at all.
pub fn receiver(send: &v1::Send) -> Option<UserId> {
    match send.to.as_option()?.to.as_ref()? {
        To::User(user) => Some(*user),
        To::Group(_) => None,
    }
}

impl Partition {
    /// Runs in the home of the pair, which knows no sessions of users at home elsewhere: the frame of a session that was
    /// replaced meanwhile counts, and its answer is dropped by the shard.
    pub(super) fn send(&mut self, command: &log::Send, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        if let Some(group) = group_receiver(&command.send) {
            return self.send_to_group(group, command, tx);
        }
        let origin: &Origin = &command.origin;
        let (session, send) = (session_of(origin), &*command.send);
        let to = match check(send, self.rules.payload_bytes_max) {
            Ok(to) => to,
            Err((code, text)) => {
                tx.out.error(session, origin.id, code, text);
                return Ok(());
            }
        };
        let key = record::sent(self.number, origin.user, to, &send.client_id);
        if let Some(value) = tx.batch.get(tx.store, &key)? {
            let first: SentRecord = record::decode(value)?;
            let sent = Sent {
                id: first.id,
                client_id: send.client_id.clone(),
                sent_at_ms: first.sent_at_ms,
                duplicate: true,
            };
            tx.out.frame(session, origin.id, Some(sent.into()));
            return Ok(());
        }
        if !command.receiver_known && to != origin.user {
            tx.out.error(session, origin.id, Code::NOT_FOUND, format!("there is no user {to}"));
            return Ok(());
        }
        let id = self.next_id(tx.now_ms);
        tx.batch.put(key, SentRecord { id, sent_at_ms: tx.now_ms }.encode_to_bytes());
        let sent = Sent { id, client_id: send.client_id.clone(), sent_at_ms: tx.now_ms, duplicate: false };
        tx.out.frame(session, origin.id, Some(sent.into()));
        tx.out.messages += 1;
        self.pass_on(origin, send, to, id, tx)
    }

    fn pass_on(
        &mut self,
        origin: &Origin,
        send: &v1::Send,
        to: UserId,
        id: u64,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let message = Message {
            id,
            from: origin.user,
            from_device: origin.device,
            to: send.to.clone(),
            client_id: send.client_id.clone(),
            kind: send.kind,
            payload: send.payload.clone(),
            sealed: false,
            sent_at_ms: tx.now_ms,
        };
        // What one says to oneself is one event, for one's other devices.
        if to != origin.user {
            self.forward(to, log::forward::Body::Deliver(message.clone().into()), tx)?;
        }
        self.forward(origin.user, log::forward::Body::Copy(message.into()), tx)
    }

    /// Rises strictly, whatever the clock does: the milliseconds of a clock that stood still or went back are counted on.
    pub(super) fn next_id(&mut self, now_ms: u64) -> u64 {
        self.clock = (self.clock + 1).max(now_ms << limits::COUNTER_BITS);
        self.clock_dirty = true;
        (self.clock << limits::PARTITION_BITS) | u64::from(self.number)
    }
}
