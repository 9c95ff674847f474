//! The ledger of a `chat`, `group`, `slow` or `mix` run: what was sent, what was answered, what arrived, and whether the three agree.
//!
//! Each worker keeps a ledger of its own over the whole schedule; the sender's side of a message and the receiver's side
//! may stand in different ones. [`Ledger::merge`] brings them together, [`Ledger::tally`] gives the verdict.

mod groups;
mod packed;
mod tally;

pub use groups::Groups;
pub use packed::Packed;
pub use tally::Tally;

use crate::limits::ORPHAN_RECEIPTS_MAX;
use crate::schedule::{Plan, Target, To};
use roost_proto::v1::Mark;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// What the sender knows of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Fate {
    /// Not handed to a socket.
    #[default]
    Waiting,
    /// Handed to a socket at least once, no answer.
    Unanswered,
    /// The server said that it will not take it.
    Refused,
    /// Answered by Sent: the server has it for good.
    Answered,
}

#[derive(Clone, Copy, Debug, Default)]
struct Outgoing {
    id: u64,
    fate: Fate,
    /// Refused for now and sent again later: its place in the order is no longer its number's.
    postponed: bool,
    delivered_receipt: bool,
    read_receipt: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Incoming {
    id: u64,
    seq: u64,
    session: u32,
    arrived: bool,
    disordered: bool,
}

/// Where one device stands in its stream.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    session: u32,
    /// `Welcome.acknowledged` of this session: nothing up to here may come again.
    floor: u64,
    /// The last event's place in this session.
    last_seq: u64,
    /// The highest place this device ever acknowledged.
    acknowledged: u64,
    /// The first place that came, in any session, since it last acknowledged something; 0 where none did.
    open: u64,
}

/// What a delivery turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The first one.
    First,
    /// Again, because it was not acknowledged when the connection broke: allowed.
    Redelivered,
    /// Again without such a reason.
    Duplicated,
}

/// What an answer to a message changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// It was the first answer to this message.
    pub first: bool,
    /// DELIVERED receipts that had overtaken it.
    pub receipts_delivered: u64,
}

/// A receipt as its sender got it.
#[derive(Clone, Copy, Debug)]
struct Notice {
    sender: u32,
    mark: Mark,
    by: u64,
}

/// What one worker saw.
#[derive(Debug, Default)]
pub struct Ledger {
    outgoing: Vec<Outgoing>,
    incoming: Vec<Incoming>,
    /// Message number to place in the schedule, for receipts; only messages sent here.
    by_id: FxHashMap<u64, u32>,
    cursors: FxHashMap<u32, Cursor>,
    /// The last message of each (receiver, sender) by its place in the schedule.
    order: FxHashMap<(u32, u32), u32>,
    orphans: FxHashMap<u64, Vec<Notice>>,
    orphans_count: usize,
    tally: Tally,
    /// The receivers' side of messages to groups, where there are any.
    groups: Option<Groups>,
    /// The store held events before this run: receipts for its messages may still come.
    store_was_used: bool,
}

impl Ledger {
    /// An empty ledger over `messages` messages.
    pub fn new(messages: usize) -> Self {
        Self {
            outgoing: vec![Outgoing::default(); messages],
            incoming: vec![Incoming::default(); messages],
            ..Self::default()
        }
    }

    /// An empty ledger for what the plan says.
    pub fn of(plan: &Plan) -> Self {
        if plan.params.to == To::Nobody {
            return Self::default();
        }
        let direct = if plan.has_direct() { plan.len() } else { 0 };
        Self {
            outgoing: vec![Outgoing::default(); plan.len()],
            incoming: vec![Incoming::default(); direct],
            groups: (!plan.groups.is_empty()).then(|| Groups::new(plan)),
            ..Self::default()
        }
    }

    /// A message was handed to a socket. True the first time.
    pub fn handed(&mut self, index: u32) -> bool {
        let entry = &mut self.outgoing[index as usize];
        let first = entry.fate == Fate::Waiting;
        entry.fate = entry.fate.max(Fate::Unanswered);
        first
    }

    /// A message was refused for now and will be sent again behind others.
    pub fn postponed(&mut self, index: u32) {
        self.outgoing[index as usize].postponed = true;
    }

    /// A message was refused for good.
    pub fn refused(&mut self, index: u32) {
        let entry = &mut self.outgoing[index as usize];
        entry.fate = entry.fate.max(Fate::Refused);
    }

    /// Sent came for a message, with the number the server gave it.
    pub fn answered(&mut self, plan: &Plan, index: u32, id: u64) -> Answer {
        let entry = &mut self.outgoing[index as usize];
        if entry.fate == Fate::Answered {
            self.tally.violations += u64::from(entry.id != id);
            return Answer::default();
        }
        entry.fate = Fate::Answered;
        entry.id = id;
        if self.by_id.insert(id, index).is_some() {
            self.tally.violations += 1;
        }
        let waiting = self.orphans.remove(&id).unwrap_or_default();
        let mut receipts_delivered = 0;
        for notice in &waiting {
            let new = self.settle(plan, index, notice);
            receipts_delivered += u64::from(new && notice.mark == Mark::DELIVERED);
        }
        Answer { first: true, receipts_delivered }
    }

    /// A session of this device began with `Welcome.acknowledged` and `Welcome.head`.
    pub fn welcomed(&mut self, client: u32, acknowledged: u64, head: u64) {
        let first = !self.cursors.contains_key(&client);
        let cursor = self.cursors.entry(client).or_default();
        if first {
            cursor.acknowledged = acknowledged;
            self.store_was_used |= head > 0;
        }
        // The server may have missed our last acknowledgement, but not forget one it reported, nor invent one. In groups it steps over
        // our own messages by itself, though not over what came to us; what else it were to step over would be lost.
        let steps_over = self.groups.is_some() && (cursor.open == 0 || acknowledged < cursor.open);
        let invented = acknowledged > cursor.acknowledged && !steps_over;
        if acknowledged < cursor.floor || invented {
            self.tally.violations += 1;
        }
        cursor.session += 1;
        cursor.floor = acknowledged;
        cursor.last_seq = acknowledged;
    }

    /// This device acknowledges everything up to `seq`.
    pub fn acknowledged(&mut self, client: u32, seq: u64) {
        let cursor = self.cursors.entry(client).or_default();
        cursor.acknowledged = cursor.acknowledged.max(seq);
        cursor.open = 0;
    }

    /// An event arrived; call it before looking at what the event holds. False where its place in the stream does not
    /// rise: the event is then counted as doubled.
    pub fn event(&mut self, client: u32, seq: u64) -> bool {
        let cursor = self.cursors.entry(client).or_default();
        if seq <= cursor.last_seq {
            self.tally.duplicated += 1;
            return false;
        }
        cursor.last_seq = seq;
        if cursor.open == 0 || seq < cursor.open {
            cursor.open = seq;
        }
        true
    }

    /// A message of this run arrived, in an event that [`Self::event`] accepted.
    pub fn delivered(&mut self, plan: &Plan, receiver: u32, seq: u64, index: u32, id: u64) -> Delivery {
        if let (Target::Group(group), Some(groups)) = (plan.target(index), &mut self.groups) {
            return groups.delivered(plan, (group, receiver), (seq, index, id), &mut self.tally);
        }
        let session = self.cursors.get(&receiver).map_or(0, |cursor| cursor.session);
        let sender = plan.sender[index as usize];
        if plan.target(index) != Target::Client(receiver) {
            self.tally.violations += 1;
        }
        let entry = &mut self.incoming[index as usize];
        if entry.arrived {
            self.tally.violations += u64::from(entry.id != id);
            // The same place in the stream, in a later session, above what the server had as acknowledged: allowed.
            if entry.seq == seq && entry.session < session {
                entry.session = session;
                self.tally.redelivered += 1;
                return Delivery::Redelivered;
            }
            self.tally.duplicated += 1;
            return Delivery::Duplicated;
        }
        *entry = Incoming { id, seq, session, arrived: true, disordered: false };
        let last = self.order.entry((receiver, sender)).or_insert(index);
        if index < *last {
            entry.disordered = true;
        } else {
            *last = index;
        }
        Delivery::First
    }

    /// A receipt arrived at a sender. True where it is the first of its kind for a message known already.
    pub fn receipt(&mut self, plan: &Plan, sender: u32, mark: Mark, by: u64, id: u64) -> bool {
        let notice = Notice { sender, mark, by };
        let Some(&index) = self.by_id.get(&id) else {
            if self.orphans_count < ORPHAN_RECEIPTS_MAX {
                self.orphans_count += 1;
                self.orphans.entry(id).or_default().push(notice);
            } else {
                self.tally.receipts_wrong += 1;
            }
            return false;
        };
        self.settle(plan, index, &notice)
    }

    fn settle(&mut self, plan: &Plan, index: u32, notice: &Notice) -> bool {
        let at = index as usize;
        if plan.sender[at] != notice.sender || !plan.receives(index, notice.by) {
            self.tally.receipts_wrong += 1;
            return false;
        }
        let entry = &mut self.outgoing[at];
        let seen = match notice.mark {
            Mark::DELIVERED => &mut entry.delivered_receipt,
            Mark::READ => &mut entry.read_receipt,
        };
        !std::mem::replace(seen, true)
    }

    /// Something arrived that the contract forbids.
    pub fn violation(&mut self) {
        self.tally.violations += 1;
    }

    /// The counts that are kept as they happen: all of `echo`'s, which has no schedule to look back at.
    pub fn counted(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// Takes over what another worker saw of the same schedule.
    pub fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.outgoing.iter_mut().zip(other.outgoing) {
            if theirs.fate > mine.fate || theirs.postponed {
                *mine = theirs;
            }
        }
        for (mine, theirs) in self.incoming.iter_mut().zip(other.incoming) {
            if theirs.arrived {
                *mine = theirs;
            }
        }
        if let (Some(mine), Some(theirs)) = (&mut self.groups, other.groups) {
            mine.merge(theirs, &mut self.tally);
        }
        self.by_id.extend(other.by_id);
        self.orphans.extend(other.orphans);
        self.store_was_used |= other.store_was_used;
        self.tally += other.tally;
    }

    /// The counts of the whole run, once all workers are merged.
    pub fn tally(mut self, plan: &Plan) -> Tally {
        self.settle_orphans(plan);
        let tally = &mut self.tally;
        for sent in &self.outgoing {
            tally.sent += u64::from(sent.fate != Fate::Waiting);
            tally.answered += u64::from(sent.fate == Fate::Answered);
            tally.refused += u64::from(sent.fate == Fate::Refused);
            tally.unanswered += u64::from(sent.fate <= Fate::Unanswered);
            tally.receipts_delivered += u64::from(sent.delivered_receipt);
            tally.receipts_read += u64::from(sent.read_receipt);
        }
        let pairs = self.outgoing.iter().zip(&self.incoming).zip(0..);
        for ((sent, arrived), _) in
            pairs.filter(|&(_, index)| matches!(plan.target(index), Target::Client(_)))
        {
            tally.received += u64::from(arrived.arrived);
            tally.lost += u64::from(sent.fate == Fate::Answered && !arrived.arrived);
            tally.out_of_order += u64::from(arrived.disordered && !sent.postponed);
            tally.receipts_missing += u64::from(arrived.arrived && !sent.delivered_receipt);
            let numbered_twice = sent.fate == Fate::Answered && arrived.arrived && sent.id != arrived.id;
            tally.violations += u64::from(numbered_twice);
            // What nobody sent cannot arrive, nor be confirmed.
            tally.violations += u64::from(sent.fate == Fate::Waiting && arrived.arrived);
            tally.receipts_wrong += u64::from(sent.delivered_receipt && !arrived.arrived);
        }
        if let Some(groups) = &self.groups {
            groups.count(plan, &self.outgoing, &mut self.tally);
        }
        self.tally
    }

    /// Receipts that overtook the answer to their message, now that both sides' numbers are known.
    fn settle_orphans(&mut self, plan: &Plan) {
        for (index, entry) in self.incoming.iter().enumerate().filter(|(_, entry)| entry.arrived) {
            self.by_id.entry(entry.id).or_insert(index as u32);
        }
        for (id, index) in self.groups.iter().flat_map(Groups::arrived) {
            self.by_id.entry(id).or_insert(index);
        }
        for (id, notices) in std::mem::take(&mut self.orphans) {
            let index = self.by_id.get(&id).copied();
            for notice in &notices {
                match index {
                    Some(index) => _ = self.settle(plan, index, notice),
                    None if self.store_was_used => self.tally.foreign += 1,
                    None => self.tally.receipts_wrong += 1,
                }
            }
        }
    }
}
