//! The receivers' side of the ledger for messages to groups: which member got which message, and whether all got them in one order.
//!
//! A group's messages bear numbers that rise in its one order (`roost.proto`: rising within a conversation). So all members have seen the
//! same order exactly if each has seen the numbers rise, and each message bore the same number with all of them.

use super::{Delivery, Fate, Outgoing, Tally};
use crate::schedule::{Plan, Target};
use rustc_hash::FxHashMap;

/// What one member has of one group.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// A bit for each message of its group, by the message's place among those.
    pub(super) arrived: Vec<u64>,
    /// The highest message number that arrived.
    newest_id: u64,
    /// The highest place of the stream at which a message arrived, in any session.
    newest_seq: u64,
}

impl Member {
    /// One of another process, to be counted.
    pub(super) fn of(arrived: Vec<u64>) -> Self {
        Self { arrived, ..Self::default() }
    }
}

/// What the members of one worker have.
#[derive(Debug, Default)]
pub struct Groups {
    /// By message: its place among those of its group; 0 where it is for none.
    place: Vec<u32>,
    /// By group: its messages.
    count: Vec<u32>,
    /// By message: the number it bore when it arrived; 0 where it did not.
    pub(super) ids: Vec<u64>,
    /// By client and group.
    pub(super) members: FxHashMap<(u32, u32), Member>,
}

impl Groups {
    /// Nothing has arrived.
    pub fn new(plan: &Plan) -> Self {
        let mut count = vec![0; plan.groups.len() as usize];
        let place = (0..plan.len() as u32).map(|index| {
            let Target::Group(group) = plan.target(index) else { return 0 };
            let next: &mut u32 = &mut count[group as usize];
            *next += 1;
            *next - 1
        });
        let place = place.collect();
        Self { place, count, ids: vec![0; plan.len()], members: FxHashMap::default() }
    }

    /// A message to a group arrived at a client.
    pub(super) fn delivered(
        &mut self,
        plan: &Plan,
        (group, member): (u32, u32),
        (seq, index, id): (u64, u32, u64),
        tally: &mut Tally,
    ) -> Delivery {
        let at = index as usize;
        // Somebody else's, or one's own, which only other devices are told.
        if !plan.groups.has(group, member) || plan.sender[at] == member {
            tally.violations += 1;
            return Delivery::Duplicated;
        }
        let known = std::mem::replace(&mut self.ids[at], id);
        tally.violations += u64::from(known != 0 && known != id);
        let words = self.count[group as usize].div_ceil(64) as usize;
        let state = self.members.entry((member, group)).or_default();
        state.arrived.resize(words, 0);
        let (word, bit) = bit_of(self.place[at]);
        let again = state.arrived[word] & bit != 0;
        state.arrived[word] |= bit;
        // What comes again because it was not acknowledged comes at its old place in the stream.
        let is_old_place = seq <= state.newest_seq;
        state.newest_seq = seq.max(state.newest_seq);
        if again && is_old_place {
            tally.redelivered += 1;
            return Delivery::Redelivered;
        }
        if again {
            tally.duplicated += 1;
            return Delivery::Duplicated;
        }
        tally.received += 1;
        tally.received_in_groups += 1;
        tally.out_of_order += u64::from(id <= state.newest_id);
        state.newest_id = id.max(state.newest_id);
        Delivery::First
    }

    /// The messages that arrived anywhere: number, place in the schedule.
    pub(super) fn arrived(&self) -> impl Iterator<Item = (u64, u32)> {
        self.ids.iter().zip(0..).filter(|(id, _)| **id != 0).map(|(id, index)| (*id, index))
    }

    /// Takes over what another worker's members have.
    pub(super) fn merge(&mut self, other: Self, tally: &mut Tally) {
        for (mine, theirs) in self.ids.iter_mut().zip(other.ids) {
            tally.violations += u64::from(*mine != 0 && theirs != 0 && *mine != theirs);
            *mine = theirs.max(*mine);
        }
        self.members.extend(other.members);
    }

    /// What is missing, or should not be there, once all workers are merged.
    pub(super) fn count(&self, plan: &Plan, outgoing: &[Outgoing], tally: &mut Tally) {
        let words = |group: u32| self.count[group as usize].div_ceil(64) as usize;
        let mut answered: Vec<_> = (0..plan.groups.len()).map(|group| vec![0_u64; words(group)]).collect();
        let mut own: FxHashMap<(u32, u32), Vec<(usize, u64)>> = FxHashMap::default();
        let mut last_id: FxHashMap<(u32, u32), u64> = FxHashMap::default();
        for (at, sent) in outgoing.iter().enumerate() {
            let Target::Group(group) = plan.target(at as u32) else { continue };
            let (sender, id) = (plan.sender[at], self.ids[at]);
            tally.violations += u64::from(sent.fate == Fate::Waiting && id != 0);
            if sent.fate != Fate::Answered {
                continue;
            }
            tally.violations += u64::from(id != 0 && id != sent.id);
            let (word, bit) = bit_of(self.place[at]);
            answered[group as usize][word] |= bit;
            own.entry((sender, group)).or_default().push((word, bit));
            let last = last_id.entry((sender, group)).or_default();
            // One sender's messages to a group have the order in which they were sent.
            tally.out_of_order += u64::from(sent.id < *last && !sent.postponed);
            *last = sent.id.max(*last);
        }
        let none = Member::default();
        let members = (0..plan.groups.len())
            .flat_map(|group| plan.groups.members(group).iter().map(move |&client| (client, group)));
        for (client, group) in members {
            let mut due = answered[group as usize].clone();
            own.get(&(client, group)).into_iter().flatten().for_each(|(word, bit)| due[*word] &= !bit);
            let arrived = &self.members.get(&(client, group)).unwrap_or(&none).arrived;
            let arrived = arrived.iter().copied().chain(std::iter::repeat(0));
            let missing =
                due.iter().zip(arrived).map(|(due, arrived)| u64::from((due & !arrived).count_ones()));
            tally.lost += missing.sum::<u64>();
        }
    }
}

/// Word and bit of a place.
fn bit_of(place: u32) -> (usize, u64) {
    ((place / 64) as usize, 1 << (place % 64))
}
