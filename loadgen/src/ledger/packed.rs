//! A worker's ledger on its way from one process to another: what [`Ledger::merge`] takes, and of that only what is not empty.

use super::groups::Member;
use super::{Fate, Groups, Incoming, Ledger, Notice, Outgoing, Tally};
use crate::schedule::Plan;
use roost_proto::v1::Mark;
use serde::{Deserialize, Serialize};

/// A ledger without its emptiness. Messages are named by their place in the schedule.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Messages that were handed to a socket, or should have been.
    outgoing: Vec<(u32, Sent)>,
    /// Messages that arrived.
    incoming: Vec<(u32, Arrived)>,
    /// Receipts whose message number is known elsewhere.
    orphans: Vec<(u64, Waiting)>,
    groups: Option<PackedGroups>,
    tally: Tally,
    store_was_used: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    id: u64,
    fate: Fate,
    postponed: bool,
    delivered_receipt: bool,
    read_receipt: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Arrived {
    id: u64,
    seq: u64,
    session: u32,
    disordered: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    sender: u32,
    is_read: bool,
    by: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PackedGroups {
    /// Messages that arrived: place, number.
    ids: Vec<(u32, u64)>,
    /// Clients and groups they are in, with a bit for each message of the group.
    members: Vec<(u32, u32, Vec<u64>)>,
}

impl Ledger {
    /// What another process needs to merge this.
    pub fn pack(&self) -> Packed {
        let outgoing = self.outgoing.iter().zip(0..).filter(|(entry, _)| entry.is_of_interest());
        let incoming = self.incoming.iter().zip(0..).filter(|(entry, _)| entry.arrived);
        let orphans =
            self.orphans.iter().flat_map(|(id, notices)| notices.iter().map(|notice| (*id, notice)));
        Packed {
            outgoing: outgoing.map(|(entry, index)| (index, Sent::from(entry))).collect(),
            incoming: incoming.map(|(entry, index)| (index, Arrived::from(entry))).collect(),
            orphans: orphans.map(|(id, notice)| (id, Waiting::from(notice))).collect(),
            groups: self.groups.as_ref().map(PackedGroups::from),
            tally: self.tally.clone(),
            store_was_used: self.store_was_used,
        }
    }
}

impl Packed {
    /// The ledger again, to be merged into one of the same schedule.
    ///
    /// # Errors
    /// In a sentence, where it names what the schedule does not have.
    pub fn unpack(self, plan: &Plan) -> Result<Ledger, String> {
        let mut ledger = Ledger::of(plan);
        for (index, sent) in self.outgoing {
            *ledger.outgoing.get_mut(index as usize).ok_or_else(|| unknown(index))? = sent.into();
        }
        for (index, arrived) in self.incoming {
            *ledger.incoming.get_mut(index as usize).ok_or_else(|| unknown(index))? = arrived.into();
        }
        for (index, sent) in
            ledger.outgoing.iter().enumerate().filter(|(_, sent)| sent.fate == Fate::Answered)
        {
            ledger.by_id.insert(sent.id, index as u32);
        }
        for (id, waiting) in self.orphans {
            ledger.orphans_count += 1;
            ledger.orphans.entry(id).or_default().push(waiting.into());
        }
        if let Some(packed) = self.groups {
            let groups = ledger.groups.as_mut().ok_or("its ledger has groups, and the run has none")?;
            packed.unpack(plan, groups)?;
        }
        if !self.tally.is_plausible() {
            return Err("its ledger counts more than can have happened".into());
        }
        (ledger.tally, ledger.store_was_used) = (self.tally, self.store_was_used);
        Ok(ledger)
    }
}

impl PackedGroups {
    fn unpack(self, plan: &Plan, groups: &mut Groups) -> Result<(), String> {
        for (index, id) in self.ids {
            *groups.ids.get_mut(index as usize).ok_or_else(|| unknown(index))? = id;
        }
        for (client, group, arrived) in self.members {
            if !plan.groups.has(group, client) {
                return Err(format!("its ledger names client {client} in group {group}, and there is none"));
            }
            groups.members.insert((client, group), Member::of(arrived));
        }
        Ok(())
    }
}

fn unknown(index: u32) -> String {
    format!("its ledger names message {index}, and the schedule has none")
}

impl Outgoing {
    fn is_of_interest(self) -> bool {
        self.fate != Fate::Waiting || self.postponed || self.delivered_receipt || self.read_receipt
    }
}

impl From<&Groups> for PackedGroups {
    fn from(groups: &Groups) -> Self {
        let members = groups.members.iter();
        let members = members.map(|(&(client, group), member)| (client, group, member.arrived.clone()));
        Self { ids: groups.arrived().map(|(id, index)| (index, id)).collect(), members: members.collect() }
    }
}

impl From<&Outgoing> for Sent {
    fn from(entry: &Outgoing) -> Self {
        let Outgoing { id, fate, postponed, delivered_receipt, read_receipt } = *entry;
        Self { id, fate, postponed, delivered_receipt, read_receipt }
    }
}

impl From<Sent> for Outgoing {
    fn from(sent: Sent) -> Self {
        let Sent { id, fate, postponed, delivered_receipt, read_receipt } = sent;
        Self { id, fate, postponed, delivered_receipt, read_receipt }
    }
}

impl From<&Incoming> for Arrived {
    fn from(entry: &Incoming) -> Self {
        let Incoming { id, seq, session, arrived: _, disordered } = *entry;
        Self { id, seq, session, disordered }
    }
}

impl From<Arrived> for Incoming {
    fn from(arrived: Arrived) -> Self {
        let Arrived { id, seq, session, disordered } = arrived;
        Self { id, seq, session, arrived: true, disordered }
    }
}

impl From<&Notice> for Waiting {
    fn from(notice: &Notice) -> Self {
        let Notice { sender, mark, by } = *notice;
        Self { sender, is_read: mark == Mark::READ, by }
    }
}

impl From<Waiting> for Notice {
    fn from(waiting: Waiting) -> Self {
        let Waiting { sender, is_read, by } = waiting;
        Self { sender, mark: if is_read { Mark::READ } else { Mark::DELIVERED }, by }
    }
}
