//! In the end: whoever was in a group saw all of that time, in the same order as everybody, and nothing else.

use crate::{
    PARTITIONS,
    groups::is_member,
    model::To,
    world::{World, place},
};
use roost_proto::v1::{Event, GroupInfo, Mark, event};
use roost_router::{partition::home, record::Space};
use std::collections::{BTreeMap, BTreeSet};

/// By message: the version of its group in which it was said.
type Versions = BTreeMap<u64, u64>;

impl World {
    pub fn check_groups(&self) {
        self.model.groups.check();
        if self.has_jumped {
            // Changes that are too old are not told, so that nobody's stream says when he was in it.
            return;
        }
        self.model.groups.check_refusals();
        let versions = self.check_views();
        for info in self.model.groups.states() {
            self.check_told(info);
        }
        for (id, number) in &self.model.ids {
            let said = &self.model.said[number];
            if let (To::Group(group), Some(version)) = (said.to, versions.get(id)) {
                let info = self.model.groups.at(group, *version).expect("it was told");
                assert!(is_member(info, said.from), "{} said #{number} in a group he was not in", said.from);
                info.member.iter().for_each(|member| self.check_heard(member.user, group, *id));
            } else if let To::Group(group) = said.to
                && said.is_answered
            {
                let always = |user: &u64| self.model.groups.was_always_in(group, *user);
                (1..=self.users).filter(always).for_each(|user| self.check_heard(user, group, *id));
            }
        }
    }

    /// Walks all streams: each is in its time, and all agree on the order.
    fn check_views(&self) -> Versions {
        let mut versions = Versions::new();
        let mut views: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for ((user, seq), event) in &self.model.streams {
            match event {
                Event { body: Some(event::Body::Group(info)), .. } => {
                    let before = views.insert((*user, info.group), info.version).unwrap_or(0);
                    assert!(
                        before < info.version,
                        "{user} saw a group's version {} after {before}",
                        info.version
                    );
                    let was_in = self.model.groups.at(info.group, info.version - 1);
                    let concerns =
                        is_member(info, *user) || was_in.is_some_and(|info| is_member(info, *user));
                    assert!(concerns, "{user} was told of {info:?}");
                }
                Event { body: Some(event::Body::Message(message)), .. } => {
                    let said = self.model.said_in(event).expect("it was checked when it came");
                    let To::Group(group) = said.to else { continue };
                    if self.has_removed(*user) {
                        // Perhaps only the device that is gone was told of the group.
                        continue;
                    }
                    let view = views.get(&(*user, group)).copied();
                    let name = self.name(message.id);
                    let version =
                        view.unwrap_or_else(|| panic!("{user} got {name} before he was in the group"));
                    let info = self.model.groups.at(group, version).expect("it was told");
                    assert!(is_member(info, *user), "{user} got {name} at {}, out of the group", place(*seq));
                    let other = *versions.entry(message.id).or_insert(version);
                    assert_eq!(other, version, "{name} is at two places of its group");
                }
                _ => {}
            }
        }
        versions
    }

    /// A change reached all who are in the group after it, or were before.
    fn check_told(&self, info: &GroupInfo) {
        let before = self.model.groups.at(info.group, info.version - 1);
        let concerned = before.iter().flat_map(|info| &info.member).chain(&info.member);
        for user in concerned.map(|member| member.user).collect::<BTreeSet<_>>() {
            let is_excused = self.model.groups.is_worn_out(info.group, user) || self.has_removed(user);
            let has = self.model.has_version(user, info.group, info.version);
            assert!(has || is_excused, "{user} was never told of {info:?}");
        }
    }

    /// A message reached this member, and its sender heard of it.
    fn check_heard(&self, user: u64, group: u64, id: u64) {
        let said = &self.model.said[&self.model.ids[&id]];
        let mut devices = self.devices.iter().filter(|device| device.user == user);
        if user == said.from
            || !devices.any(|device| said.is_for(user, device.number))
            || self.model.groups.is_worn_out(group, user)
            || self.has_removed(user)
        {
            return;
        }
        let has = self.model.place(user, id).is_some();
        assert!(
            has || !said.sealed.is_empty(),
            "{user} never got {}, said in his group {group}",
            self.name(id)
        );
        let is_told = |mark| self.has_removed(said.from) || self.model.has_receipt(mark, id, user);
        assert!(
            !has || is_told(Mark::DELIVERED),
            "{} was not reported as delivered to {user}",
            self.name(id)
        );
        let is_read = has && self.model.read.contains_key(&(user, id));
        assert!(!is_read || is_told(Mark::READ), "{} was not reported as read by {user}", self.name(id));
    }

    /// What the store keeps of groups when all is forgotten but who is in them.
    pub fn kept_of_groups(&self, space: Space) -> Option<usize> {
        let living = self.model.groups.living();
        let homes = |info: &&GroupInfo| {
            let homes = info.member.iter().map(|member| home(member.user, PARTITIONS));
            homes.collect::<BTreeSet<_>>().len()
        };
        let members = living.iter().flat_map(|info| info.member.iter().map(|member| member.user));
        match space {
            Space::Groups => Some(living.len()),
            Space::Memberships => Some(members.collect::<BTreeSet<_>>().len()),
            // Who is in it, and what they were told of it last.
            Space::Rosters => Some(living.iter().map(homes).sum::<usize>() * 2),
            _ => None,
        }
    }
}
