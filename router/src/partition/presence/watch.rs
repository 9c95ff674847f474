//! The follower's side of presence: whom a session follows, and whether he may.

use super::{Partition, Tx};
use crate::{
    api::{SessionId, UserId},
    error::StoreError,
    limits,
    log::{Follow, Origin, whisper},
    partition::{home, pair_home, send::USER_MAX, session_of, sessions::Key, window::shrink},
};
use roost_proto::v1::{Code, Error};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};

/// Whom the sessions at home here follow.
#[derive(Debug, Default)]
pub(super) struct Watching {
    sessions: FxHashMap<Key, Watch>,
    /// Users that all of them follow together.
    users: usize,
}

#[derive(Debug)]
struct Watch {
    session: SessionId,
    /// Sorted, each once.
    users: Box<[UserId]>,
}

impl Watching {
    fn has_room(&self, key: Key, users: usize) -> bool {
        let own = self.sessions.get(&key).map_or(0, |watch| watch.users.len());
        self.users - own + users <= limits::WATCHED_MAX
    }

    /// Returns what was there.
    fn put(&mut self, key: Key, watch: Watch) -> Option<Watch> {
        self.users += watch.users.len();
        let old = if watch.users.is_empty() {
            self.sessions.remove(&key)
        } else {
            self.sessions.insert(key, watch)
        };
        self.users -= old.as_ref().map_or(0, |old| old.users.len());
        old
    }

    /// What the session there follows, unless it is this one.
    fn take(&mut self, key: Key, unless: Option<SessionId>) -> Option<Watch> {
        if self.sessions.get(&key).is_none_or(|watch| Some(watch.session) == unless) {
            return None;
        }
        let watch = self.sessions.remove(&key)?;
        self.users -= watch.users.len();
        shrink(&mut self.sessions);
        Some(watch)
    }
}

/// Questions whether pairs talk, each of which reads the store: what is beyond a tick's share waits, so that a million
/// reconnecting sessions do not stop everything else.
#[derive(Debug, Default)]
pub(super) struct Asks {
    waiting: VecDeque<Follow>,
    /// Pairs in `waiting`.
    pairs: usize,
    /// Asked since the last tick.
    asked: usize,
}

impl Asks {
    /// One may be asked now.
    pub(super) fn take_one(&mut self) -> bool {
        self.asked += 1;
        self.asked <= limits::PAIRS_ASKED_TICK_MAX
    }
}

fn check(users: &[UserId]) -> Result<(), String> {
    if users.len() > limits::WATCH_USERS_MAX {
        return Err(format!(
            "{} users in one Watch, at most {} are taken",
            users.len(),
            limits::WATCH_USERS_MAX
        ));
    }
    match users.iter().find(|user| !(1..=USER_MAX).contains(*user)) {
        Some(user) => Err(format!("user {user} is not a number from 1 to 2^63-1")),
        None => Ok(()),
    }
}

impl Partition {
    /// In the session's home: replaces the set of users it follows. All of them are asked for again, so that a question that was
    /// lost is made up for by saying Watch once more.
    pub(in crate::partition) fn watch(
        &mut self,
        origin: &Origin,
        users: &[UserId],
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let (session, key) = (session_of(origin), (origin.user, origin.device));
        if origin.call {
            tx.out.error(session, origin.id, Code::FORBIDDEN, "presence is told to sessions only");
            return Ok(());
        }
        if !self.speaks(origin) {
            return Ok(());
        }
        if let Err(text) = check(users) {
            tx.out.error(session, origin.id, Code::MALFORMED, text);
            return Ok(());
        }
        let mut users = users.to_vec();
        users.sort_unstable();
        users.dedup();
        if !self.presence.watching.has_room(key, users.len()) {
            let message = "too many users are followed by all sessions together".to_owned();
            let (code, retry_after_ms) = (Code::UNAVAILABLE.into(), limits::WATCH_RETRY_MS);
            tx.out.refuse(session, origin.id, Error { code, message, retry_after_ms });
            return Ok(());
        }
        tx.out.done(session, origin.id);
        let watch = Watch { session, users: users.clone().into() };
        let old = self.presence.watching.put(key, watch).map_or(Box::default(), |old| old.users);
        let ended = old.into_iter().filter(|user| users.binary_search(user).is_err()).collect::<Vec<_>>();
        self.ask(origin, &ended, None, tx)?;
        let groups = self.groups_in(origin.user, tx)?;
        self.ask(origin, &users, Some(&groups), tx)
    }

    /// What a session follows goes with it. `unless`: the session that is there now.
    pub(in crate::partition) fn end_watch(
        &mut self,
        key: Key,
        unless: Option<SessionId>,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let Some(watch) = self.presence.watching.take(key, unless) else { return Ok(()) };
        let SessionId { gateway, shard, slot, generation } = watch.session;
        let (gateway, shard) = (u32::from(gateway), u32::from(shard));
        let (user, device) = key;
        let origin = Origin { gateway, shard, slot, generation, user, device, ..Origin::default() };
        self.ask(&origin, &watch.users, None, tx)
    }

    /// Groups that a user of this partition is in: the newest, where they are many.
    fn groups_in(&mut self, user: UserId, tx: &Tx<'_>) -> Result<Vec<u64>, StoreError> {
        self.load(user, tx.store)?;
        if self.users.get(user).is_none_or(|user| user.memberships == 0) {
            return Ok(Vec::new());
        }
        let memberships = self.memberships(user, tx)?;
        let open = memberships.iter().rev().filter(|membership| membership.until == 0);
        Ok(open.map(|membership| membership.group).take(limits::WATCH_GROUPS_MAX).collect())
    }

    /// One whisper to each partition that is the home of pairs. Without groups it is an end, which takes the same way, or it would
    /// overtake what it ends.
    fn ask(
        &mut self,
        origin: &Origin,
        users: &[UserId],
        groups: Option<&[u64]>,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let partitions = self.outgoing.len() as u16;
        let mut by_home: BTreeMap<u16, Vec<UserId>> = BTreeMap::new();
        for user in users {
            by_home.entry(pair_home(origin.user, *user, partitions)).or_default().push(*user);
        }
        by_home.into_iter().try_for_each(|(to, user)| {
            let (ends, group) = (groups.is_none(), groups.unwrap_or_default().to_vec());
            let ask = Follow { origin: origin.clone().into(), user, ends, group };
            self.whisper(to, whisper::Body::Ask(ask.into()), tx)
        })
    }

    /// In the home of the pairs: passes on what may be followed, now or with the next ticks.
    pub(in crate::partition) fn asked(&mut self, ask: &Follow, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let asks = &mut self.presence.asks;
        let fits = ask.ends || asks.asked + ask.user.len() <= limits::PAIRS_ASKED_TICK_MAX;
        if asks.waiting.is_empty() && fits {
            return self.pass_on_ask(ask, tx);
        }
        // An end that is lost leaves a follower who is gone; the next ones push him out.
        if asks.pairs + ask.user.len() <= limits::PAIRS_WAITING_MAX {
            asks.pairs += ask.user.len();
            asks.waiting.push_back(ask.clone());
        } else {
            tx.out.presence_refused += ask.user.len() as u64;
        }
        Ok(())
    }

    /// A tick: those that wait have a new share.
    pub(in crate::partition) fn answer_asks(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.presence.asks.asked = 0;
        while let Some(ask) = self.presence.asks.waiting.front()
            && (ask.ends || self.presence.asks.asked + ask.user.len() <= limits::PAIRS_ASKED_TICK_MAX)
            && let Some(ask) = self.presence.asks.waiting.pop_front()
        {
            self.presence.asks.pairs -= ask.user.len();
            self.pass_on_ask(&ask, tx)?;
        }
        Ok(())
    }

    fn pass_on_ask(&mut self, ask: &Follow, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let partitions = self.outgoing.len() as u16;
        let mut by_home: BTreeMap<(u16, bool), Vec<UserId>> = BTreeMap::new();
        for user in &ask.user {
            let may = ask.ends || *user == ask.origin.user || {
                self.presence.asks.asked += 1;
                self.talk(ask.origin.user, *user, tx)?
            };
            if may || !ask.group.is_empty() {
                by_home.entry((home(*user, partitions), may)).or_default().push(*user);
            }
        }
        by_home.into_iter().try_for_each(|((to, may), user)| {
            let group = if may { Vec::new() } else { ask.group.clone() };
            let follow = Follow { origin: ask.origin.clone(), user, ends: ask.ends, group };
            self.whisper(to, whisper::Body::Follow(follow.into()), tx)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sessions_follow_together_is_bounded_and_comes_back() {
        let session = SessionId { gateway: 0, shard: 0, slot: 1, generation: 1 };
        let watch = |users: usize| Watch { session, users: (0..users as u64).collect() };
        let mut watching = Watching::default();
        let each = limits::WATCH_USERS_MAX;
        let sessions = (limits::WATCHED_MAX / each) as u64;
        for user in 0..sessions {
            assert!(watching.has_room((user, 1), each));
            assert!(watching.put((user, 1), watch(each)).is_none());
        }
        assert!(!watching.has_room((sessions, 1), 1));
        assert!(watching.has_room((0, 1), each), "it makes room for itself");
        assert_eq!(watching.put((0, 1), watch(each - 1)).map(|old| old.users.len()), Some(each));
        assert!(watching.has_room((sessions, 1), 1));
        assert!(watching.take((1, 1), Some(session)).is_none());
        for user in 0..sessions {
            assert!(watching.take((user, 1), None).is_some());
        }
        assert_eq!((watching.users, watching.sessions.len()), (0, 0));
        watching.put((1, 1), watch(0));
        assert_eq!(watching.sessions.len(), 0, "who follows nobody takes no place");
    }
}
