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
use std::cmp::Reverse;

const NOT_KEPT: &str = "this server keeps no history";

/// What is asked for, newest first.
struct Page {
    conversation: (u64, u64),
    /// Message ids between these, both included: by falling id.
    spans: Vec<(u64, u64)>,
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

    /// A page of a conversation of the user's, or of a group for the user's time in it.
    pub(super) fn history(&mut self, command: &log::History, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let (origin, fetch): (&Origin, _) = (&command.origin, &*command.fetch);
        let session = session_of(origin);
        if self.rules.history_ms == 0 {
            tx.out.error(session, origin.id, Code::FORBIDDEN, NOT_KEPT);
            return Ok(());
        }
        let before = if fetch.before == 0 { u64::MAX } else { fetch.before };
        let (conversation, spans) = match fetch.with.as_option().and_then(|address| address.to.as_ref()) {
            Some(To::User(other)) => (of_pair(origin.user, *other), vec![(0, before - 1)]),
            Some(To::Group(group)) => {
                let times = self.times_in_group(*group, origin.user, tx)?;
                if times.is_empty() {
                    tx.out.error(session, origin.id, Code::NOT_FOUND, format!("there is no group {group}"));
                    return Ok(());
                }
                (of_group(*group), spans_of(&times, before))
            }
            None => {
                tx.out.error(session, origin.id, Code::MALFORMED, "with is missing");
                return Ok(());
            }
        };
        let limit = match fetch.limit as usize {
            0 => limits::HISTORY_MESSAGES,
            limit => limit.min(limits::HISTORY_MESSAGES_MAX),
        };
        let page = Page { conversation, spans, limit };
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
        for (first, last) in &page.spans {
            let first = record::history(self.number, page.conversation, *first);
            let last = record::history(self.number, page.conversation, *last);
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
            if history.more || failed.is_some() {
                break;
            }
        }
        failed.map_or(Ok(history), Err)
    }
}

/// The parts of a group's conversation before a message that somebody may read who was in it at these times: after the first place
/// of the clock, up to the second.
fn spans_of(times: &[(u64, u64)], before: u64) -> Vec<(u64, u64)> {
    let id_at = |place: u64| place.saturating_mul(1 << limits::PARTITION_BITS);
    let span = |(joined, left): &(u64, u64)| (id_at(joined.saturating_add(1)), id_at(*left).min(before - 1));
    let mut spans: Vec<_> = times.iter().map(span).filter(|(first, last)| first <= last).collect();
    spans.sort_unstable_by_key(|(first, _)| Reverse(*first));
    spans
}

/// What names the conversation of a group, which is no user.
pub(super) fn of_group(group: u64) -> (u64, u64) {
    (group | record::GROUP, 0)
}

/// The conversation asked for is one of two users.
pub(super) fn is_of_pair(fetch: &v1::HistoryFetch) -> bool {
    matches!(fetch.with.as_option().and_then(|address| address.to.as_ref()), Some(To::User(_)))
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
