//! A message is accepted: checked, de-duplicated, given its place in the conversation.

use super::{Partition, Tx, groups::group_receiver, history, session_of, stream::time_of};
use crate::{
    api::UserId,
    error::StoreError,
    limits,
    log::{self, Delivery, Origin},
    record,
};
use roost_proto::v1::{self, Code, Message, Sealed, Sent, address::To};
use rustc_hash::FxHashSet;

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
    check_sealed(send)?;
    let bytes = send.sealed.iter().map(|sealed| sealed.ciphertext.len()).max().unwrap_or(send.payload.len());
    if bytes > payload_bytes_max as usize {
        let text = format!("the payload has {bytes} bytes, at most {payload_bytes_max} are taken");
        return Err((Code::TOO_LARGE, text));
    }
    Ok(())
}

/// Whether what is sealed for devices reaches the one it is for, and nobody else's is among it.
fn check_sealed_for(send: &v1::Send, from: UserId, to: UserId) -> Result<(), (Code, String)> {
    if let Some(other) = send.sealed.iter().find(|sealed| ![from, to].contains(&sealed.user)) {
        return Err((
            Code::MALFORMED,
            format!("sealed names user {}, who is not in this conversation", other.user),
        ));
    }
    if !send.sealed.is_empty() && send.sealed.iter().all(|sealed| sealed.user != to) {
        return Err((Code::MALFORMED, format!("nothing is sealed for user {to}")));
    }
    Ok(())
}

fn check_sealed(send: &v1::Send) -> Result<(), (Code, String)> {
    if !send.sealed.is_empty() && !send.payload.is_empty() {
        return Err((Code::MALFORMED, "a message has a payload or is sealed, not both".into()));
    }
    if send.sealed.len() > limits::SEALED_MAX {
        let text =
            format!("sealed for {} devices, at most {} are taken", send.sealed.len(), limits::SEALED_MAX);
        return Err((Code::TOO_LARGE, text));
    }
    let mut devices = FxHashSet::default();
    for sealed in &send.sealed {
        if !devices.insert((sealed.user, sealed.device)) {
            let text = format!("sealed names device {} of user {} twice", sealed.device, sealed.user);
            return Err((Code::MALFORMED, text));
        }
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
        let checked = check(send, self.rules.payload_bytes_max)
            .and_then(|to| check_sealed_for(send, origin.user, to).map(|()| to));
        let to = match checked {
            Ok(to) => to,
            Err((code, text)) => {
                tx.out.error(session, origin.id, code, text);
                return Ok(());
            }
        };
        let key = record::sent(self.number, origin.user, to, &send.client_id);
        if let Some(value) = tx.batch.get(tx.store, &key)? {
            let id = record::number(Some(value))?;
            tx.out.frame(session, origin.id, Some(answer(id, send, true).into()));
            return Ok(());
        }
        if !command.receiver_known && to != origin.user {
            tx.out.error(session, origin.id, Code::NOT_FOUND, format!("there is no user {to}"));
            return Ok(());
        }
        let id = self.next_id(tx.now_ms);
        tx.batch.put_number(key, id);
        tx.out.frame(session, origin.id, Some(answer(id, send, false).into()));
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
            sent_at_ms: time_of_id(id),
        };
        self.keep(history::of_pair(origin.user, to), &message, &send.sealed, tx);
        // What one says to oneself is one event, for one's other devices.
        if to != origin.user {
            let delivery = Delivery { message: message.clone().into(), sealed: sealed_for(send, to) };
            self.forward(to, log::forward::Body::Deliver(delivery.into()), tx)?;
        }
        let copy = Delivery { message: message.into(), sealed: sealed_for(send, origin.user) };
        self.forward(origin.user, log::forward::Body::Copy(copy.into()), tx)
    }

    /// Rises strictly, whatever the clock does.
    pub(super) fn next_id(&mut self, now_ms: u64) -> u64 {
        (self.next_seq(now_ms) << limits::PARTITION_BITS) | u64::from(self.number)
    }
}

pub(super) fn answer(id: u64, send: &v1::Send, duplicate: bool) -> Sent {
    Sent { id, client_id: send.client_id.clone(), sent_at_ms: time_of_id(id), duplicate }
}

/// Unix milliseconds of a message id: when it was accepted.
pub(super) fn time_of_id(id: u64) -> u64 {
    time_of(id >> limits::PARTITION_BITS)
}

/// What is sealed for the devices of a user.
fn sealed_for(send: &v1::Send, user: UserId) -> Vec<Sealed> {
    or_for_nobody(send.sealed.iter().filter(|sealed| sealed.user == user).cloned().collect(), &send.sealed)
}

/// Where all is sealed for others, one entry for nobody: no device takes the message for one that is not sealed.
pub(super) fn or_for_nobody(own: Vec<Sealed>, all: &[Sealed]) -> Vec<Sealed> {
    if own.is_empty() && !all.is_empty() { vec![Sealed::default()] } else { own }
}
