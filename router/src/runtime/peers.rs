//! Forwards between threads: sent after the commit that wrote them, sent again until the other side has committed them.

use super::{stats::add, thread::Thread, work::Item};
use crate::{
    error::StoreError,
    limits,
    log::{self, Forward, command::Body},
    record,
};
use crossbeam::channel::TrySendError;

/// What one thread tells another. All of it may be lost: outboxes and cursors set it right.
pub(crate) enum Peer {
    /// A forward of partition `from` to partition `to`.
    Forward { from: u16, to: u16, seq: u64, forward: Box<Forward> },
    /// `to` tells `from`: everything up to here is durable with me.
    Taken { from: u16, to: u16, up_to: u64 },
    /// `to` tells `from`: go on after this one.
    Rewind { from: u16, to: u16, up_to: u64 },
    /// For partition `to`; nobody says it again.
    Whisper { to: u16, whisper: Box<log::Whisper> },
    /// Look at the stop flag.
    Wake,
}

/// What a partition owes another after a batch; the newest counts, so there is at most one for each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    Taken(u64),
    Rewind(u64),
}

impl Thread {
    /// What another thread says, as work for the next batch where it needs any.
    pub(super) fn hear(&mut self, peer: Peer) -> Option<Item> {
        match peer {
            Peer::Forward { from, to, seq, forward } => {
                self.heard.entry((from, to)).and_modify(|newest| *newest = seq.max(*newest)).or_insert(seq);
                let inbound = log::Inbound { from: u32::from(from), seq, forward: (*forward).into() };
                Some(Item::command(to, inbound.into()))
            }
            Peer::Taken { from, to, up_to } => {
                Some(Item::command(from, log::Taken { to: u32::from(to), up_to }.into()))
            }
            Peer::Rewind { from, to, up_to } => {
                self.partition(from).set_sent(to, up_to);
                None
            }
            Peer::Whisper { to, whisper } => Some(Item::command(to, Body::Whisper(whisper))),
            Peer::Wake => None,
        }
    }

    /// After a batch: what the sources of its forwards are to be told.
    pub(super) fn owe(&mut self) {
        for ((from, to), newest) in std::mem::take(&mut self.heard) {
            let cursor = self.partition(to).inbound_cursor(from);
            let owed = if newest > cursor { Owed::Rewind(cursor) } else { Owed::Taken(cursor) };
            self.owed.insert((from, to), owed);
        }
    }

    /// Tells it, where the other threads have room. While the store fails nobody is asked to send again.
    pub(super) fn pay(&mut self) {
        let failing = self.is_failing();
        let shared = self.shared.clone();
        self.owed.retain(|(from, to), owed| {
            let (from, to) = (*from, *to);
            let peer = match *owed {
                Owed::Taken(up_to) => Peer::Taken { from, to, up_to },
                Owed::Rewind(_) if failing => return true,
                Owed::Rewind(up_to) => Peer::Rewind { from, to, up_to },
            };
            matches!(shared.peers[shared.thread_of(from)].try_send(peer), Err(TrySendError::Full(_)))
        });
    }

    /// Whispers what was said to partitions of other threads. A queue that is half full is left to forwards, which are stored.
    pub(super) fn whisper_all(&mut self) {
        let shared = self.shared.clone();
        for (to, whisper) in self.whispers.drain(..) {
            let peers = &shared.peers[shared.thread_of(to)];
            let whisper = Box::new(whisper);
            let has_room = peers.len() < limits::QUEUE_WHISPERS_MAX;
            if !has_room || peers.try_send(Peer::Whisper { to, whisper }).is_err() {
                add(&shared.counters.whispers_dropped, 1);
            }
        }
    }

    /// Hands a forward that was just committed to its thread, if none before it is still waiting.
    pub(super) fn hand_over(&mut self, from: u16, to: u16, seq: u64, forward: Forward) {
        let shared = self.shared.clone();
        let partition = self.partition(from);
        if partition.outgoing(to).sent + 1 == seq {
            let peer = Peer::Forward { from, to, seq, forward: forward.into() };
            if shared.peers[shared.thread_of(to)].try_send(peer).is_ok() {
                partition.set_sent(to, seq);
            }
        }
    }

    /// Reads forwards that wait in outboxes and hands them over, as far as there is room.
    pub(super) fn pump(&mut self) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        for partition in &mut self.partitions {
            for to in 0..shared.partitions {
                let outgoing = partition.outgoing(to);
                if outgoing.sent == outgoing.written {
                    continue;
                }
                let from = partition.number();
                let last = outgoing.written.min(outgoing.sent + limits::PUMP_FORWARDS_MAX as u64);
                let range = (record::outbox(from, to, outgoing.sent + 1), record::outbox(from, to, last));
                let (mut sent, mut failed) = (outgoing.sent, None);
                shared.store.scan(&range.0, &range.1, &mut |key, value| {
                    let seq = record::last_u64(key);
                    let forward = match record::decode::<Forward>(value) {
                        Ok(forward) => Box::new(forward),
                        Err(error) => {
                            failed = Some(error);
                            return false;
                        }
                    };
                    let peer = Peer::Forward { from, to, seq, forward };
                    let there_was_room = shared.peers[shared.thread_of(to)].try_send(peer).is_ok();
                    if there_was_room {
                        sent = seq;
                    }
                    there_was_room
                })?;
                partition.set_sent(to, sent);
                failed.map_or(Ok(()), Err)?;
            }
        }
        Ok(())
    }

    /// Forwards wait for a peer's room.
    pub(super) fn has_unsent(&self) -> bool {
        self.partitions.iter().any(|partition| {
            (0..self.shared.partitions).any(|to| {
                let outgoing = partition.outgoing(to);
                outgoing.sent < outgoing.written
            })
        })
    }
}
