//! Groups at their home: the one partition that changes a group, orders what is said in it, and tells the homes of its members.
//!
//! A group's number is drawn from the clock of its creator's home like a message's id, and names that partition.

#[cfg(test)]
pub(super) mod bed;
mod read;
mod record;
mod send;

pub use send::group_receiver;

use super::{Partition, Tx, cache::Cache, home, send::USER_MAX, session_of};
use crate::{
    api::UserId,
    error::StoreError,
    limits,
    log::{self, forward, group_event},
    record as key,
};
use record::{Group, JOINING, Member};
use roost_proto::v1::{
    self, Code, GroupInfo,
    group_command::{Command, Create},
};

/// Why a command or a Send is not served.
type Refusal = (Code, String);

/// The groups that a partition is home of.
#[derive(Debug, Default)]
pub(super) struct Groups {
    cache: Cache<Group>,
    /// Those that this batch changed.
    changed: Vec<u64>,
}

impl Groups {
    /// What is cached is stored.
    pub(super) fn committed(&mut self) {
        self.changed.clear();
        drop(self.cache.age(limits::GROUP_MEMBERS_CACHED_MAX));
    }

    /// Nothing is changed.
    pub(super) fn settled(&mut self) {
        drop(self.cache.age(limits::GROUP_MEMBERS_CACHED_MAX));
    }

    pub(super) fn rollback(&mut self) {
        self.changed.drain(..).for_each(|group| drop(self.cache.remove(group)));
    }
}

/// The partition that orders a group; None where no such partition is.
pub fn group_home(group: u64, partitions: u16) -> Option<u16> {
    let number = (group & u64::from(limits::PARTITIONS_MAX - 1)) as u16;
    (number < partitions).then_some(number)
}

/// The users a command makes members of a group.
pub fn joining(command: &v1::GroupCommand) -> &[UserId] {
    match &command.command {
        Some(Command::Create(create)) => &create.member,
        Some(Command::Add(members)) => &members.user,
        _ => &[],
    }
}

impl Partition {
    /// Runs in the group's home, which knows no sessions of users at home elsewhere: what a session said before it was
    /// replaced counts. Each answer is the group as it is then, or an Error, which has changed nothing.
    pub(super) fn group_command(&mut self, command: &log::Group, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let origin = &*command.origin;
        let session = session_of(origin);
        match self.group_answer(origin.user, command, tx)? {
            Ok(info) => tx.out.frame(session, origin.id, Some(info.into())),
            Err((code, text)) => tx.out.error(session, origin.id, code, text),
        }
        Ok(())
    }

    fn group_answer(
        &mut self,
        by: UserId,
        command: &log::Group,
        tx: &mut Tx<'_>,
    ) -> Result<Result<GroupInfo, Refusal>, StoreError> {
        let (id, asked) = (command.command.group, &*command.command);
        if let Err(refusal) = self.check_command(asked) {
            return Ok(Err(refusal));
        }
        if let Some(Command::Create(create)) = &asked.command {
            return Ok(self.create_group(by, create, command.unknown, tx));
        }
        let Some(group) = self.group_of(id, by, tx)? else { return Ok(Err(no_group(id))) };
        let mut group = group.clone();
        let (added, removed) = match edit(&mut group, by, asked, command.unknown) {
            Err(refusal) => return Ok(Err(refusal)),
            Ok(None) => return Ok(Ok(group.info(id))),
            Ok(Some(change)) => change,
        };
        // Whoever lowered the limit does not keep anybody in.
        if !added.is_empty()
            && let Err(refusal) = self.check_size(&group)
        {
            return Ok(Err(refusal));
        }
        Ok(Ok(self.change_group(id, group, &added, &removed, tx)?))
    }

    /// What can be told to be wrong without the group.
    fn check_command(&self, asked: &v1::GroupCommand) -> Result<(), Refusal> {
        let (users, name) = match &asked.command {
            Some(Command::Create(create)) if asked.group == 0 => (&create.member[..], create.name.as_str()),
            Some(Command::Create(_)) => {
                return Err((
                    Code::MALFORMED,
                    "group is not 0 with create: the server gives the number".into(),
                ));
            }
            Some(Command::Add(members) | Command::Remove(members) | Command::Promote(members)) => {
                (&members.user[..], "")
            }
            Some(Command::Rename(name)) => (&[][..], name.as_str()),
            Some(Command::Info(_)) => (&[][..], ""),
            None => return Err((Code::MALFORMED, "command is missing".into())),
        };
        if users.len() > self.rules.group_members_max {
            return Err(self.too_many(users.len()));
        }
        if users.iter().any(|user| !(1..=USER_MAX).contains(user)) {
            return Err((Code::MALFORMED, "a user is not a number from 1 to 2^63-1".into()));
        }
        if name.len() > limits::GROUP_NAME_BYTES_MAX {
            let text = format!(
                "the name has {} bytes, at most {} are taken",
                name.len(),
                limits::GROUP_NAME_BYTES_MAX
            );
            return Err((Code::TOO_LARGE, text));
        }
        Ok(())
    }

    fn check_size(&self, group: &Group) -> Result<(), Refusal> {
        let count = group.members.len();
        if count > self.rules.group_members_max { Err(self.too_many(count)) } else { Ok(()) }
    }

    fn too_many(&self, count: usize) -> Refusal {
        (Code::TOO_LARGE, format!("{count} members, a group has at most {}", self.rules.group_members_max))
    }

    fn create_group(
        &mut self,
        by: UserId,
        create: &Create,
        unknown: UserId,
        tx: &mut Tx<'_>,
    ) -> Result<GroupInfo, Refusal> {
        if unknown != 0 {
            return Err(no_user(unknown));
        }
        let mut group = Group { name: create.name.clone(), ..Group::default() };
        let mut added = group.add(&[by]);
        group.members[0].admin = true;
        added.extend(group.add(&create.member));
        self.check_size(&group)?;
        let id = self.next_id(tx.now_ms);
        Ok(self.store_group(id, group, &added, &[], tx))
    }

    /// The group, where this user is in it; what a stranger learns of a group is the same as of none.
    fn group_of(&mut self, id: u64, user: UserId, tx: &Tx<'_>) -> Result<Option<&Group>, StoreError> {
        let group = self.load_group(id, tx)?;
        Ok(group.filter(|group| group.member(user).is_some()))
    }

    /// The partitions that members of a group are at home in, where this user is one of them.
    pub(super) fn homes_of_group(
        &mut self,
        id: u64,
        member: UserId,
        tx: &Tx<'_>,
    ) -> Result<Vec<u16>, StoreError> {
        Ok(self.group_of(id, member, tx)?.map_or(Vec::new(), |group| group.homes.clone()))
    }

    fn load_group(&mut self, id: u64, tx: &Tx<'_>) -> Result<Option<&Group>, StoreError> {
        if self.groups.cache.get(id).is_none() {
            let Some(value) = tx.batch.get(tx.store, &key::group(self.number, id))? else { return Ok(None) };
            let group = Group::decode(value, self.outgoing.len() as u16)?;
            self.groups.cache.put(id, group);
        }
        Ok(self.groups.cache.get(id).map(|group| &*group))
    }

    /// Stores it, after a change, and tells it to all who are or were in it.
    fn change_group(
        &mut self,
        id: u64,
        group: Group,
        added: &[UserId],
        removed: &[Member],
        tx: &mut Tx<'_>,
    ) -> Result<GroupInfo, StoreError> {
        self.next_id(tx.now_ms);
        for member in removed {
            self.remember_former(id, member, tx)?;
        }
        let removed: Vec<_> = removed.iter().map(|member| member.user).collect();
        Ok(self.store_group(id, group, added, &removed, tx))
    }

    /// The change has the newest place in the clock.
    fn store_group(
        &mut self,
        id: u64,
        mut group: Group,
        added: &[UserId],
        removed: &[UserId],
        tx: &mut Tx<'_>,
    ) -> GroupInfo {
        let partitions = self.outgoing.len() as u16;
        group.version += 1;
        group.members.iter_mut().filter(|m| m.joined == JOINING).for_each(|m| m.joined = self.clock);
        group.find_homes(partitions);
        let info = group.info(id);
        let mut homes = group.homes.clone();
        homes.extend(removed.iter().map(|user| home(*user, partitions)));
        homes.sort_unstable();
        homes.dedup();
        for to in homes {
            let at_home = |users: &[UserId]| {
                users.iter().copied().filter(|user| home(*user, partitions) == to).collect::<Vec<_>>()
            };
            let event = log::GroupEvent {
                group: id,
                added: at_home(added),
                removed: at_home(removed),
                sealed: Vec::new(),
                body: Some(group_event::Body::Info(info.clone().into())),
            };
            self.tell_members(to, event, tx);
        }
        let stored = key::group(self.number, id);
        self.groups.changed.push(id);
        if group.members.is_empty() {
            tx.batch.delete(stored);
            self.groups.cache.remove(id);
        } else {
            tx.batch.put(stored, group.encode());
            self.groups.cache.put(id, group);
        }
        info
    }

    /// Also to this partition itself only by way of the runtime: what comes of it may change the group, whose change must
    /// have reached the others before.
    fn tell_members(&mut self, to: u16, event: log::GroupEvent, tx: &mut Tx<'_>) {
        let forward = log::Forward { body: Some(forward::Body::Group(event.into())) };
        tx.out.forwards.push((self.number, to, forward));
    }

    /// A member's home does not take him: he leaves, as if he had said so.
    pub(super) fn leave_group(&mut self, leave: &log::GroupLeave, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let Some(group) = self.group_of(leave.group, leave.user, tx)? else { return Ok(()) };
        let mut group = group.clone();
        let removed = group.remove(&[leave.user]);
        self.change_group(leave.group, group, &[], &removed, tx)?;
        Ok(())
    }
}

/// Who joined and who went; None where the command changes nothing.
type Change = Option<(Vec<UserId>, Vec<Member>)>;

/// Makes of the group what a member's command asks for.
fn edit(group: &mut Group, by: UserId, asked: &v1::GroupCommand, unknown: UserId) -> Result<Change, Refusal> {
    let is_admin = group.member(by).is_some_and(|member| member.admin);
    let leaves = matches!(&asked.command, Some(Command::Remove(m)) if m.user.iter().all(|user| *user == by));
    if !is_admin && !leaves && !matches!(asked.command, Some(Command::Info(_))) {
        return Err((Code::FORBIDDEN, "only an admin of the group may do this".into()));
    }
    let changed = |is_changed: bool| is_changed.then(Default::default);
    match &asked.command {
        Some(Command::Add(_)) if unknown != 0 => Err(no_user(unknown)),
        Some(Command::Add(members)) => {
            let added = group.add(&members.user);
            Ok((!added.is_empty()).then_some((added, Vec::new())))
        }
        Some(Command::Remove(members)) => {
            let removed = group.remove(&members.user);
            Ok((!removed.is_empty()).then_some((Vec::new(), removed)))
        }
        Some(Command::Promote(members)) => match group.promote(&members.user) {
            Ok(is_changed) => Ok(changed(is_changed)),
            Err(stranger) => Err((Code::NOT_FOUND, format!("user {stranger} is not in the group"))),
        },
        Some(Command::Rename(name)) => Ok(changed(std::mem::replace(&mut group.name, name.clone()) != *name)),
        Some(Command::Info(_) | Command::Create(_)) | None => Ok(None),
    }
}

fn no_group(group: u64) -> Refusal {
    (Code::NOT_FOUND, format!("there is no group {group}"))
}

fn no_user(user: UserId) -> Refusal {
    (Code::NOT_FOUND, format!("there is no user {user}"))
}

#[cfg(test)]
mod feed_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
