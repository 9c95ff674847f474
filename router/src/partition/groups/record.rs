//! A group as its home keeps it, and what commands make of it. Nothing here reads or writes.

use crate::{
    api::UserId,
    error::StoreError,
    log::{GroupMember, GroupRecord},
    partition::{cache::Weigh, home},
    record,
};
use buffa::Message as _;
use bytes::Bytes;
use roost_proto::v1::{GroupInfo, group_info};
use rustc_hash::FxHashSet;

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    /// Rises by one with each change; 0 before the group is made.
    pub(super) version: u64,
    /// In the order of joining: the first is the longest-standing one.
    pub(super) members: Vec<Member>,
    /// The partitions that members are at home in, rising.
    pub(super) homes: Vec<u16>,
}

/// Somebody in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) user: UserId,
    pub(super) admin: bool,
    /// The place in the home's clock of the change that added him: messages past it are his. `JOINING` until it has one.
    pub(super) joined: u64,
}

/// The place of a change that is being made.
pub(super) const JOINING: u64 = u64::MAX;

impl Group {
    /// Reads a record.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn decode(value: Bytes, partitions: u16) -> Result<Self, StoreError> {
        let record: GroupRecord = record::decode(value)?;
        let member = |m: &GroupMember| Member { user: m.user, admin: m.admin, joined: m.joined };
        let members = record.member.iter().map(member).collect();
        let mut group = Self { name: record.name, version: record.version, members, homes: Vec::new() };
        group.find_homes(partitions);
        Ok(group)
    }

    /// The record of it.
    pub(super) fn encode(&self) -> Bytes {
        let member = |m: &Member| GroupMember { user: m.user, admin: m.admin, joined: m.joined };
        let member = self.members.iter().map(member).collect();
        GroupRecord { name: self.name.clone(), version: self.version, member }.encode_to_bytes()
    }

    /// What members are told of it.
    pub(super) fn info(&self, id: u64) -> GroupInfo {
        let member = |m: &Member| group_info::Member { user: m.user, admin: m.admin };
        GroupInfo {
            group: id,
            name: self.name.clone(),
            member: self.members.iter().map(member).collect(),
            version: self.version,
        }
    }

    pub(super) fn member(&self, user: UserId) -> Option<&Member> {
        self.members.iter().find(|member| member.user == user)
    }

    pub(super) fn users(&self) -> FxHashSet<UserId> {
        self.members.iter().map(|member| member.user).collect()
    }

    /// Returns those who were not in it, each once, in their order.
    pub(super) fn add(&mut self, users: &[UserId]) -> Vec<UserId> {
        let mut known = self.users();
        let added: Vec<_> = users.iter().copied().filter(|user| known.insert(*user)).collect();
        self.members.extend(added.iter().map(|user| Member { user: *user, admin: false, joined: JOINING }));
        added
    }

    /// Returns those who were in it. Where no admin is left, the longest-standing member becomes one.
    pub(super) fn remove(&mut self, users: &[UserId]) -> Vec<Member> {
        let users: FxHashSet<_> = users.iter().copied().collect();
        let removed = self.members.extract_if(.., |member| users.contains(&member.user)).collect();
        if !self.members.iter().any(|member| member.admin)
            && let Some(first) = self.members.first_mut()
        {
            first.admin = true;
        }
        removed
    }

    /// Returns whether that changed anything.
    ///
    /// # Errors
    /// This one is not in it; nothing was changed.
    pub(super) fn promote(&mut self, users: &[UserId]) -> Result<bool, UserId> {
        let known = self.users();
        if let Some(stranger) = users.iter().find(|user| !known.contains(user)) {
            return Err(*stranger);
        }
        let promoted: FxHashSet<_> = users.iter().copied().collect();
        let mut is_changed = false;
        for member in self.members.iter_mut().filter(|member| promoted.contains(&member.user)) {
            is_changed |= !std::mem::replace(&mut member.admin, true);
        }
        Ok(is_changed)
    }

    /// To be called after members changed.
    pub(super) fn find_homes(&mut self, partitions: u16) {
        let mut homes: Vec<_> = self.members.iter().map(|member| home(member.user, partitions)).collect();
        homes.sort_unstable();
        homes.dedup();
        self.homes = homes;
    }
}

impl Weigh for Group {
    /// In members.
    fn weight(&self) -> usize {
        self.members.len() + 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(users: &[UserId]) -> Group {
        let mut group = Group::default();
        group.add(users);
        group
    }

    fn admins(group: &Group) -> Vec<UserId> {
        group.members.iter().filter(|member| member.admin).map(|member| member.user).collect()
    }

    #[test]
    fn members_join_once_and_in_order() {
        let mut group = group(&[3, 1, 3]);
        assert_eq!(group.add(&[1, 9, 9, 2]), [9, 2]);
        assert_eq!(group.members.iter().map(|member| member.user).collect::<Vec<_>>(), [3, 1, 9, 2]);
    }

    #[test]
    fn the_longest_standing_member_follows_the_last_admin() {
        let mut group = group(&[3, 1, 2]);
        assert_eq!(group.promote(&[1]), Ok(true));
        assert_eq!(group.remove(&[1, 77]).len(), 1);
        assert_eq!(admins(&group), [3]);
        group.remove(&[2]);
        assert_eq!(admins(&group), [3]);
        group.remove(&[3]);
        assert!(group.members.is_empty());
    }

    #[test]
    fn promoting_a_stranger_promotes_nobody() {
        let mut group = group(&[3, 1]);
        assert_eq!(group.promote(&[1, 4]), Err(4));
        assert!(admins(&group).is_empty());
        assert_eq!(group.promote(&[1]), Ok(true));
        assert_eq!(group.promote(&[1]), Ok(false));
    }

    #[test]
    fn a_record_is_the_group_again() {
        let mut group = group(&(1..=100).collect::<Vec<_>>());
        (group.name, group.version) = ("Ümlaut".into(), 3);
        group.find_homes(16);
        assert_eq!(group.homes, (0..16).collect::<Vec<_>>());
        assert_eq!(Group::decode(group.encode(), 16).unwrap(), group);
    }
}
