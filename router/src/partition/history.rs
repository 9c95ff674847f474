//! What was said in a conversation, kept where it is ordered, if the operator wants it kept.

use super::{Partition, Tx, session_of};
use crate::{
    api::{DeviceId, UserId},
    error::StoreError,
    limits,
    log::{self, Delivery, Origin},
    record,
};
use buffa::Message as _;
use roost_proto::v1::{self, Code, History, Kind, Message, address::To};

const NOT_KEPT: &str = "this server keeps no history";

/// What is asked for: whose conversation, newest first, before which message, at most how many.
struct Page {
    conversation: (u64, u64),
    before: u64,
    limit: usize,
}

impl Partition {
    /// Keeps what was accepted. Statuses live in streams only, and signals are no conversation.
    pub(super) fn keep(
        &self,
        conversation: (u64, u64),
        message: &Message,
        sealed: &[v1::Sealed],
        tx: &mut Tx<'_>,
    ) {
        if self.rules.history_ms == 0 || message.kind == Kind::STATUS || message.kind == Kind::SIGNAL {
            return;
        }
        let key = record::history(self.number, conversation, message.id);
        let record = Delivery { message: message.clone().into(), sealed: sealed.to_vec() };
        tx.batch.put(key, record.encode_to_bytes());
    }

    /// A page of a conversation of the user's: of one's own, whoever the other is.
    pub(super) fn history(&mut self, command: &log::History, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let (origin, fetch): (&Origin, _) = (&command.origin, &*command.fetch);
        let session = session_of(origin);
        if self.rules.history_ms == 0 {
            tx.out.error(session, origin.id, Code::FORBIDDEN, NOT_KEPT);
            return Ok(());
        }
        let with = fetch.with.as_option().and_then(|address| address.to.as_ref());
        let Some(To::User(other)) = with else {
            tx.out.error(session, origin.id, Code::MALFORMED, "with is missing");
            return Ok(());
        };
        let limit = match fetch.limit as usize {
            0 => limits::HISTORY_MESSAGES,
            limit => limit.min(limits::HISTORY_MESSAGES_MAX),
        };
        let before = if fetch.before == 0 { u64::MAX } else { fetch.before };
        let page = Page { conversation: of_pair(origin.user, *other), before, limit };
        let history = self.read_history((origin.user, origin.device), &page, tx)?;
        tx.out.frame(session, origin.id, Some(history.into()));
        Ok(())
    }

    fn read_history(
        &self,
        (user, device): (UserId, DeviceId),
        page: &Page,
        tx: &Tx<'_>,
    ) -> Result<History, StoreError> {
        let mut history = History::default();
        let (mut bytes, mut failed) = (0, None);
        let first = record::history(self.number, page.conversation, 0);
        let last = record::history(self.number, page.conversation, page.before - 1);
        tx.store.scan_back(&first, &last, &mut |_, value| {
            history.more = history.message.len() == page.limit || bytes > limits::HISTORY_BYTES_MAX;
            if history.more {
                return false;
            }
            bytes += value.len();
            match record::decode(value) {
                Ok(kept) => history.message.push(view(&kept, user, device)),
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        failed.map_or(Ok(history), Err)
    }
}

/// What names the conversation of two users, whoever asks.
pub(super) fn of_pair(one: UserId, other: UserId) -> (u64, u64) {
    (one.min(other), one.max(other))
}

/// A message as a device may see it: sealed and empty where it was sealed for others.
fn view(kept: &Delivery, user: UserId, device: DeviceId) -> Message {
    let mut message = (*kept.message).clone();
    if !kept.sealed.is_empty() {
        let own = kept.sealed.iter().find(|sealed| (sealed.user, sealed.device) == (user, device));
        (message.payload, message.sealed) =
            (own.map(|sealed| sealed.ciphertext.clone()).unwrap_or_default(), true);
    }
    message
}
