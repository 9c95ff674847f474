//! What router threads tell each other, as `runtime/peers.rs` does: first in, first out, with a little room, and lost at times.

use crate::{
    PARTITIONS,
    disk::Disk,
    random::Rng,
    thread::{Item, Thread},
};
use buffa::Message as _;
use roost_router::{
    StoreError,
    log::{self, Forward},
    partition::Partition,
    record,
    store::Store,
};
use std::collections::{BTreeMap, VecDeque};

/// Full: the outbox keeps what does not fit.
const ROOM: usize = 8;

pub enum Peer {
    Forward { from: u16, to: u16, seq: u64, forward: Forward },
    Taken { from: u16, to: u16, up_to: u64 },
    Rewind { from: u16, to: u16, up_to: u64 },
}

#[derive(Clone, Copy)]
enum Owed {
    Taken(u64),
    Rewind(u64),
}

pub struct Wires {
    /// By the thread that hears.
    queues: Vec<VecDeque<Peer>>,
    /// By the thread that tells: source and target of the forwards.
    owed: Vec<BTreeMap<(u16, u16), Owed>>,
}

impl Wires {
    pub fn new(threads: usize) -> Self {
        Self {
            queues: (0..threads).map(|_| VecDeque::new()).collect(),
            owed: (0..threads).map(|_| BTreeMap::new()).collect(),
        }
    }

    pub fn is_empty(&self, thread: usize) -> bool {
        self.queues[thread].is_empty() && self.owed[thread].is_empty()
    }

    /// One message between threads is gone.
    pub fn lose(&mut self, rng: &mut Rng) {
        let thread = rng.index(self.queues.len());
        let queue = &mut self.queues[thread];
        if !queue.is_empty() {
            queue.remove(rng.index(queue.len()));
        }
    }

    fn send(&mut self, partition: u16, peer: Peer) -> bool {
        let thread = usize::from(partition) % self.queues.len();
        let has_room = self.queues[thread].len() < ROOM;
        if has_room {
            self.queues[thread].push_back(peer);
        }
        has_room
    }

    /// What others say, as work for a batch.
    pub fn hear(&mut self, it: &mut Thread, thread: usize, most: usize) -> Vec<Item> {
        let mut items = Vec::new();
        for _ in 0..most {
            match self.queues[thread].pop_front() {
                Some(Peer::Forward { from, to, seq, forward }) => {
                    let newest = it.heard.entry((from, to)).or_insert(seq);
                    *newest = seq.max(*newest);
                    let inbound = log::Inbound { from: u32::from(from), seq, forward: forward.into() };
                    items.push(Item::new(to, inbound.into()));
                }
                Some(Peer::Taken { from, to, up_to }) => {
                    items.push(Item::new(from, log::Taken { to: u32::from(to), up_to }.into()));
                }
                Some(Peer::Rewind { from, to, up_to }) => it.partition(from).set_sent(to, up_to),
                None => break,
            }
        }
        items
    }

    /// After a batch: what the sources of its forwards are to be told.
    pub fn owe(&mut self, it: &mut Thread) {
        for ((from, to), newest) in std::mem::take(&mut it.heard) {
            let cursor = it.partition(to).inbound_cursor(from);
            let owed = if newest > cursor { Owed::Rewind(cursor) } else { Owed::Taken(cursor) };
            self.owed[usize::from(to) % self.queues.len()].insert((from, to), owed);
        }
    }

    pub fn pay(&mut self, it: &Thread, thread: usize) {
        let mut owed = std::mem::take(&mut self.owed[thread]);
        owed.retain(|(from, to), owed| {
            let (from, to) = (*from, *to);
            let peer = match *owed {
                Owed::Taken(up_to) => Peer::Taken { from, to, up_to },
                Owed::Rewind(_) if it.failing => return true,
                Owed::Rewind(up_to) => Peer::Rewind { from, to, up_to },
            };
            !self.send(from, peer)
        });
        self.owed[thread] = owed;
    }

    /// A forward that was just committed.
    pub fn hand_over(&mut self, source: &mut Partition, to: u16, seq: u64, forward: Forward) {
        let from = source.number();
        if source.outgoing(to).sent + 1 == seq && self.send(to, Peer::Forward { from, to, seq, forward }) {
            source.set_sent(to, seq);
        }
    }

    /// Forwards that wait in outboxes, as far as there is room.
    pub fn pump(&mut self, it: &mut Thread, disk: &Disk) -> Result<(), StoreError> {
        for partition in &mut it.partitions {
            for to in 0..PARTITIONS {
                let (outgoing, from) = (partition.outgoing(to), partition.number());
                if outgoing.sent == outgoing.written {
                    continue;
                }
                let range =
                    (record::outbox(from, to, outgoing.sent + 1), record::outbox(from, to, outgoing.written));
                let mut sent = outgoing.sent;
                disk.scan(&range.0, &range.1, &mut |key, value| {
                    let seq = record::last_u64(key);
                    let forward = Forward::decode_from_slice(&value).unwrap();
                    let goes = self.send(to, Peer::Forward { from, to, seq, forward });
                    sent = if goes { seq } else { sent };
                    goes
                })?;
                partition.set_sent(to, sent);
            }
        }
        Ok(())
    }
}
