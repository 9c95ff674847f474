//! What is known of groups: each state that anybody was told, by version; and the rules from one to the next.

use roost_proto::v1::{GroupInfo, group_command::Command};
use std::collections::{BTreeMap, BTreeSet};

/// Members of a group: small, so that the limit is met.
pub const MEMBERS_MAX: usize = 4;
/// Times in one group of which a user has not had all: more are not taken, and end at once.
const TIMES_MAX: usize = 8;

#[derive(Default)]
pub struct Groups {
    infos: BTreeMap<(u64, u64), GroupInfo>,
    /// Refusals: group, user, the newest version that was known, and whether it was as no admin.
    refused: Vec<(u64, u64, u64, bool)>,
}

impl Groups {
    /// Somebody was told this.
    pub fn learn(&mut self, info: &GroupInfo) {
        assert!(info.group != 0 && info.version != 0, "a group without number or version: {info:?}");
        assert!(info.member.len() <= MEMBERS_MAX, "too many members: {info:?}");
        let known = self.infos.entry((info.group, info.version)).or_insert_with(|| info.clone());
        assert_eq!(known, info, "one version of a group is told in two ways");
    }

    pub fn at(&self, group: u64, version: u64) -> Option<&GroupInfo> {
        self.infos.get(&(group, version))
    }

    /// The newest state of a group that anybody was told.
    pub fn newest(&self, group: u64) -> Option<&GroupInfo> {
        self.infos.range((group, 0)..=(group, u64::MAX)).next_back().map(|(_, info)| info)
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.infos.keys().map(|(group, _)| *group).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Those that have members.
    pub fn living(&self) -> Vec<&GroupInfo> {
        let newest = self.numbers().into_iter().filter_map(|group| self.newest(group));
        newest.filter(|info| !info.member.is_empty()).collect()
    }

    /// A command was done and answered with this.
    pub fn answered(&mut self, by: u64, command: &Command, info: &GroupInfo) {
        self.learn(info);
        let before = self.at(info.group, info.version - 1);
        let was_admin = before.is_some_and(|before| is_admin(before, by)) || is_admin(info, by);
        let leaves = matches!(command, Command::Remove(users) if users.user.iter().all(|user| *user == by));
        let may = match command {
            Command::Create(_) => info.version == 1 && is_admin(info, by),
            Command::Info(_) => is_member(info, by),
            _ => leaves || was_admin || before.is_none(),
        };
        assert!(may, "{by} may not do {command:?}: {before:?}, then {info:?}");
        let are =
            |users: &[u64], what: fn(&GroupInfo, u64) -> bool| users.iter().all(|user| what(info, *user));
        let is_done = match command {
            Command::Create(create) => info.name == create.name && are(&create.member, is_member),
            Command::Add(users) => are(&users.user, is_member),
            Command::Remove(users) => are(&users.user, |info, user| !is_member(info, user)),
            Command::Promote(users) => are(&users.user, is_admin),
            Command::Rename(name) => info.name == *name,
            Command::Info(_) => true,
        };
        assert!(is_done, "{command:?} was answered with {info:?}");
    }

    pub fn refuse(&mut self, group: u64, user: u64, since: u64, as_no_admin: bool) {
        self.refused.push((group, user, since, as_no_admin));
    }

    /// From version to version, one thing changes, and only as it may.
    pub fn check(&self) {
        for ((group, version), info) in &self.infos {
            assert!(
                info.member.is_empty() || info.member.iter().any(|m| m.admin),
                "no admin is left: {info:?}"
            );
            match self.at(*group, version - 1) {
                None => assert!(*version != 1 || info.member.first().is_some_and(|m| m.admin), "{info:?}"),
                Some(before) => check_change(before, info),
            }
        }
    }

    /// Who was refused had no right just then. All changes must be known for that.
    pub fn check_refusals(&self) {
        for (group, user, since, as_no_admin) in &self.refused {
            let mut states = self.infos.range((*group, *since)..=(*group, u64::MAX)).map(|(_, info)| info);
            let lacks = |info: &GroupInfo| {
                if *as_no_admin { !is_admin(info, *user) } else { !is_member(info, *user) }
            };
            let is_right = self.at(*group, *since).is_none() || states.any(lacks);
            assert!(is_right, "{user} was refused in group {group}, as no admin: {as_no_admin}");
        }
    }

    /// He came back so often that his home does not take him any more.
    pub fn is_worn_out(&self, group: u64, user: u64) -> bool {
        let is_in = |(_, info): (_, &GroupInfo)| is_member(info, user);
        let states: Vec<bool> = self.infos.range((group, 0)..=(group, u64::MAX)).map(is_in).collect();
        states.windows(2).filter(|pair| !pair[0] && pair[1]).count() + 1 >= TIMES_MAX
    }

    /// In all states that are known.
    pub fn was_always_in(&self, group: u64, user: u64) -> bool {
        let mut states = self.infos.range((group, 0)..=(group, u64::MAX)).peekable();
        states.peek().is_some_and(|((_, version), _)| *version == 1)
            && states.all(|(_, info)| is_member(info, user))
    }

    /// All states, for the check of streams.
    pub fn states(&self) -> impl Iterator<Item = &GroupInfo> {
        self.infos.values()
    }
}

fn check_change(before: &GroupInfo, after: &GroupInfo) {
    let text = || format!("{before:?} became {after:?}");
    let stay: Vec<_> = before.member.iter().filter(|m| is_member(after, m.user)).collect();
    let still: Vec<_> = after.member.iter().filter(|m| is_member(before, m.user)).collect();
    let order =
        |members: &[&roost_proto::v1::group_info::Member]| members.iter().map(|m| m.user).collect::<Vec<_>>();
    assert_eq!(order(&stay), order(&still), "the order of members changed: {}", text());
    assert!(
        after.member[..still.len()].iter().all(|m| is_member(before, m.user)),
        "who came is not last: {}",
        text()
    );
    let (gone, came) = (before.member.len() - stay.len(), after.member.len() - still.len());
    let newly: Vec<u64> =
        after.member.iter().filter(|m| m.admin && !is_admin(before, m.user)).map(|m| m.user).collect();
    assert!(
        still.iter().all(|m| m.admin || !is_admin(before, m.user)),
        "an admin is one no more: {}",
        text()
    );
    let renamed = usize::from(before.name != after.name);
    let follows =
        gone > 0 && !stay.iter().any(|m| m.admin) && still.first().is_some_and(|m| newly == [m.user]);
    let promoted = usize::from(!newly.is_empty() && !follows);
    assert_eq!(
        usize::from(gone > 0) + usize::from(came > 0) + renamed + promoted,
        1,
        "not one change: {}",
        text()
    );
}

pub fn is_member(info: &GroupInfo, user: u64) -> bool {
    info.member.iter().any(|member| member.user == user)
}

pub fn is_admin(info: &GroupInfo, user: u64) -> bool {
    info.member.iter().any(|member| member.user == user && member.admin)
}
