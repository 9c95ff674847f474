//! READ receipts of group messages: the partition that gave a message its id keeps whose it is and who has read it.

use super::{group_home, record::Member};
use crate::{
    api::UserId,
    error::StoreError,
    limits,
    log::{self, FormerRecord, GroupMessageRecord, forward},
    partition::{Partition, Tx},
    record as key,
};
use buffa::Message as _;
use bytes::Bytes;
use roost_proto::v1::Mark;
use std::collections::BTreeMap;

impl Partition {
    /// A user has read these; none of them waits for that in his own home. Each partition that gave ids hears of its own.
    pub(in crate::partition) fn read_in_groups(&mut self, by: UserId, messages: &[u64], tx: &mut Tx<'_>) {
        let mut by_home: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        for message in messages {
            if let Some(home) = group_home(*message, self.outgoing.len() as u16) {
                by_home.entry(home).or_default().push(*message);
            }
        }
        for (home, message) in by_home {
            let body = forward::Body::GroupRead(log::GroupRead { by, message }.into());
            tx.out.forwards.push((self.number, home, log::Forward { body: Some(body) }));
        }
    }

    /// Each sender hears once of each reader who was in the group when the message was said.
    pub(in crate::partition) fn group_read(
        &mut self,
        read: &log::GroupRead,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let mut by_sender: BTreeMap<UserId, Vec<u64>> = BTreeMap::new();
        for message in &read.message {
            let Some(value) = tx.batch.get(tx.store, &key::group_message(self.number, *message))? else {
                continue;
            };
            let record: GroupMessageRecord = key::decode(value)?;
            let once = key::group_reader(self.number, *message, read.by);
            if record.from != read.by
                && tx.batch.get(tx.store, &once)?.is_none()
                && self.was_member(record.group, read.by, *message >> limits::PARTITION_BITS, tx)?
            {
                tx.batch.put(once, Bytes::new());
                by_sender.entry(record.from).or_default().push(*message);
            }
        }
        self.tell_senders(read.by, Mark::READ, by_sender, tx)
    }

    /// He was in the group at this place of the clock.
    fn was_member(&mut self, group: u64, user: UserId, at: u64, tx: &Tx<'_>) -> Result<bool, StoreError> {
        let times = self.times_in_group(group, user, tx)?;
        Ok(times.iter().any(|(joined, left)| *joined < at && at < *left))
    }

    /// When he was in the group: places of the clock, after the first of which and up to the second it was his.
    pub(in crate::partition) fn times_in_group(
        &mut self,
        group: u64,
        user: UserId,
        tx: &Tx<'_>,
    ) -> Result<Vec<(u64, u64)>, StoreError> {
        let joined = self.group_of(group, user, tx)?.and_then(|group| group.member(user)).map(|m| m.joined);
        let former = self.former(group, user, tx)?;
        let former = former.joined.iter().copied().zip(former.left.iter().copied());
        Ok(former.chain(joined.map(|joined| (joined, u64::MAX))).collect())
    }

    /// When he was in the group before; the newest times, where there were many.
    pub(super) fn former(&self, group: u64, user: UserId, tx: &Tx<'_>) -> Result<FormerRecord, StoreError> {
        let value = tx.batch.get(tx.store, &key::former(self.number, group, user))?;
        Ok(value.map(key::decode).transpose()?.unwrap_or_default())
    }

    /// He was in it until now.
    pub(super) fn remember_former(
        &self,
        group: u64,
        member: &Member,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let mut former = self.former(group, member.user, tx)?;
        if former.joined.len() >= limits::FORMER_MEMBERSHIPS_MAX {
            former.joined.remove(0);
            former.left.remove(0);
        }
        former.joined.push(member.joined);
        former.left.push(self.clock);
        tx.batch.put(key::former(self.number, group, member.user), former.encode_to_bytes());
        Ok(())
    }
}
