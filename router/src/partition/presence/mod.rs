//! Presence: whether a user is connected, told to sessions that follow him. All of it is in memory: it goes with the process, and
//! sessions that come back say anew whom they follow.
//!
//! `watch` is the follower's side: his home keeps whom a session follows, the home of the pair says whether the two talk. This is
//! the side of the followed: his home keeps who follows him, and tells them at the next tick what is true then. So a user who
//! comes and goes ten times within a tick is told once, or not at all.

mod last_seen;
mod typing;
mod watch;

use super::{Partition, Tx, frame, session_of, window::shrink};
use crate::{
    api::{DeviceId, SessionId, UserId},
    error::StoreError,
    limits,
    log::{Follow, Origin},
    record,
};
use last_seen::LastSeen;
use roost_proto::v1;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use watch::{Asks, Watching};

/// What a partition knows of presence, for its users and for those who follow them.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// By user at home here: who follows him.
    followed: FxHashMap<UserId, Followed>,
    /// Followers of all of them.
    followers: usize,
    /// Those who came and were not told yet; each once.
    came: VecDeque<UserId>,
    /// Those whose last session went since the last tick; each once, here or in `leaving`.
    left: Vec<UserId>,
    /// The same, in the order of the time at which they are told; Unix milliseconds.
    leaving: VecDeque<(u64, UserId)>,
    last_seen: LastSeen,
    /// By session at home here: whom it follows.
    watching: Watching,
    asks: Asks,
    /// Typing notices since the last tick.
    typed: usize,
}

/// A user whom somebody follows.
#[derive(Debug, Default)]
struct Followed {
    /// The oldest first.
    followers: Vec<Follower>,
    /// What they were told last.
    is_online: bool,
    /// He stands in `came`.
    comes: bool,
    /// He stands in `left` or `leaving`.
    leaves: bool,
}

/// A session that follows somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Follower {
    user: UserId,
    device: DeviceId,
    session: SessionId,
}

impl Presence {
    /// A session of his came.
    pub(in crate::partition) fn came(&mut self, user: UserId) {
        if let Some(followed) = self.followed.get_mut(&user)
            && !followed.is_online
            && !std::mem::replace(&mut followed.comes, true)
        {
            self.came.push_back(user);
        }
    }

    /// A session of his went, and it was the last one as far as is known.
    pub(in crate::partition) fn went(&mut self, user: UserId) {
        if let Some(followed) = self.followed.get_mut(&user)
            && (followed.is_online || followed.comes)
            && !std::mem::replace(&mut followed.leaves, true)
        {
            self.left.push(user);
        }
    }

    /// Followers of all users, each as often as it follows one.
    pub(in crate::partition) fn followers(&self) -> usize {
        self.followers
    }

    /// False where there is no room for one more.
    fn follow(&mut self, user: UserId, follower: Follower, is_online: bool) -> bool {
        let is_full = self.followers >= limits::FOLLOWERS_MAX;
        if is_full && !self.followed.contains_key(&user) {
            return false;
        }
        let followed =
            self.followed.entry(user).or_insert_with(|| Followed { is_online, ..Followed::default() });
        let is_same = |other: &Follower| (other.user, other.device) == (follower.user, follower.device);
        if let Some(known) = followed.followers.iter_mut().find(|other| is_same(other)) {
            *known = follower;
        } else if followed.followers.len() >= limits::FOLLOWERS_OF_USER_MAX {
            // The one who came first has most likely gone without a word.
            followed.followers.remove(0);
            followed.followers.push(follower);
        } else if is_full {
            return false;
        } else {
            followed.followers.push(follower);
            self.followers += 1;
        }
        true
    }

    /// The session follows him no more. One that took its place does.
    fn unfollow(&mut self, user: UserId, follower: Follower) {
        let Some(followed) = self.followed.get_mut(&user) else { return };
        let before = followed.followers.len();
        followed.followers.retain(|other| *other != follower);
        self.followers -= before - followed.followers.len();
        if followed.followers.is_empty() {
            self.followed.remove(&user);
            shrink(&mut self.followed);
        }
    }

    /// Those who went are told when nobody came back within the time of grace.
    fn let_grace_begin(&mut self, now_ms: u64) {
        let due = now_ms + limits::PRESENCE_GRACE_MS;
        self.leaving.extend(self.left.drain(..).map(|user| (due, user)));
    }
}

impl Partition {
    /// Registers a session as a follower of these users, or takes that back; answers each with how it is now.
    pub(super) fn follow(&mut self, follow: &Follow, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let follower = follower_of(&follow.origin);
        for user in &follow.user {
            if follow.ends {
                self.presence.unfollow(*user, follower);
                continue;
            }
            if !follow.group.is_empty() && !self.is_in_one_of(*user, &follow.group, tx)? {
                continue;
            }
            let is_here = self.is_connected(*user);
            let is_kept = self.presence.follow(*user, follower, is_here);
            tx.out.presence_refused += u64::from(!is_kept);
            // What the others were told: who has just gone is here until they hear of it, too.
            let is_online = self.presence.followed.get(user).map_or(is_here, |followed| followed.is_online);
            let presence = self.presence_of(*user, is_online, tx)?;
            tx.out.effects.push(frame(follower.session, 0, Some(presence.into())));
        }
        Ok(())
    }

    /// Tells followers what has changed, up to the limit of a tick; the rest waits for the next one, and is told as it is by then.
    pub(super) fn tell_presence(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.presence.let_grace_begin(tx.now_ms);
        self.presence.typed = 0;
        let mut left = limits::PRESENCE_NOTICES_TICK_MAX;
        // Half of them for those who went, so that neither waits for the other.
        let for_leaving = left / 2;
        let mut leaving = for_leaving;
        while let Some((due, user)) = self.presence.leaving.front().copied() {
            // A clock that went back does not make anybody wait for longer.
            let waits = due > tx.now_ms && due - tx.now_ms <= limits::PRESENCE_GRACE_MS;
            if waits || !self.tell_if_changed(user, &mut leaving, tx)? {
                break;
            }
            self.presence.leaving.pop_front();
            self.after_grace(user, tx.now_ms);
        }
        left -= for_leaving - leaving;
        while let Some(user) = self.presence.came.front().copied() {
            if !self.tell_if_changed(user, &mut left, tx)? {
                break;
            }
            self.presence.came.pop_front();
            if let Some(followed) = self.presence.followed.get_mut(&user) {
                followed.comes = false;
            }
        }
        Ok(())
    }

    /// Who came back and went again within the time of grace has another one.
    fn after_grace(&mut self, user: UserId, now_ms: u64) {
        let is_here = self.is_connected(user);
        let Some(followed) = self.presence.followed.get_mut(&user) else { return };
        followed.leaves = followed.is_online && !is_here;
        if followed.leaves {
            self.presence.leaving.push_back((now_ms + limits::PRESENCE_GRACE_MS, user));
        }
    }

    /// False where the tick's limit has no room for all of a user's followers.
    fn tell_if_changed(
        &mut self,
        user: UserId,
        left: &mut usize,
        tx: &mut Tx<'_>,
    ) -> Result<bool, StoreError> {
        let is_online = self.is_connected(user) || self.has_just_gone(user, tx.now_ms);
        let Some(followed) = self.presence.followed.get_mut(&user) else { return Ok(true) };
        if followed.is_online == is_online {
            return Ok(true);
        }
        if followed.followers.len() > *left {
            return Ok(false);
        }
        *left -= followed.followers.len();
        followed.is_online = is_online;
        let presence = self.presence_of(user, is_online, tx)?;
        let followers = self.presence.followed.get(&user).map_or(&[][..], |followed| &followed.followers);
        tx.out.presence_notices += followers.len() as u64;
        let notice = |to: &Follower| frame(to.session, 0, Some(presence.clone().into()));
        tx.out.effects.extend(followers.iter().map(notice));
        Ok(true)
    }

    /// His last session went, and may come back.
    fn has_just_gone(&self, user: UserId, now_ms: u64) -> bool {
        let seen = self.presence.last_seen.get(user);
        seen.is_some_and(|seen| now_ms.abs_diff(seen) < limits::PRESENCE_GRACE_MS)
    }

    /// One of his devices is connected.
    pub(super) fn is_connected(&self, user: UserId) -> bool {
        self.sessions.has(user)
    }

    /// A session went, at a time that is known.
    pub(super) fn note_last_seen(&mut self, user: UserId, now_ms: u64) {
        if !self.is_connected(user) {
            self.presence.last_seen.put(user, now_ms);
        }
    }

    fn presence_of(&self, user: UserId, online: bool, tx: &Tx<'_>) -> Result<v1::Presence, StoreError> {
        let last_seen_ms = match self.presence.last_seen.get(user) {
            _ if online => tx.now_ms,
            Some(exact) => exact,
            None => self.last_day_of(user, tx)?,
        };
        Ok(v1::Presence { user, online, last_seen_ms })
    }

    /// The beginning of the last day on which a device of his was here; 0 where none ever was.
    fn last_day_of(&self, user: UserId, tx: &Tx<'_>) -> Result<u64, StoreError> {
        let stored = match self.users.get(user) {
            Some(_) => None,
            None => self.stored(user, tx.store)?,
        };
        let record = stored.as_ref().or_else(|| self.users.get(user));
        let days = record.into_iter().flat_map(|record| &record.devices).map(|device| device.seen_day);
        Ok(u64::from(days.max().unwrap_or(0)) * limits::DAY_MS)
    }

    fn is_in_one_of(&self, user: UserId, groups: &[u64], tx: &Tx<'_>) -> Result<bool, StoreError> {
        let memberships = self.memberships(user, tx)?;
        Ok(memberships.iter().any(|membership| membership.until == 0 && groups.contains(&membership.group)))
    }

    /// Something was said between the two within the time of retention, whoever said it. Known in the home of the pair.
    fn talk(&self, one: UserId, other: UserId, tx: &Tx<'_>) -> Result<bool, StoreError> {
        let mut found = false;
        for (from, to) in [(one, other), (other, one)] {
            let first = record::sent(self.number, from, to, &[]);
            let last = record::sent(self.number, from, to, &[u8::MAX; limits::CLIENT_ID_BYTES_MAX]);
            tx.store.scan(&first, &last, &mut |_, _| {
                found = true;
                false
            })?;
            if found {
                break;
            }
        }
        Ok(found)
    }
}

fn follower_of(origin: &Origin) -> Follower {
    Follower { user: origin.user, device: origin.device, session: session_of(origin) }
}

#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
