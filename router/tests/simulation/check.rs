//! In the end: everybody comes back, all is delivered, and nothing is left.

use crate::{
    PARTITIONS,
    device::Device,
    model::{DAY_MS, HOUR_MS, RETENTION_MS, Said, To, time_of_seq},
    world::{World, place},
};
use roost_proto::v1::{Event, Mark, event};
use roost_router::record::Space;
use std::collections::BTreeMap;

/// Rounds of acknowledging in which all is delivered.
const ROUNDS_MAX: usize = 400;
/// Fetches of one user's keys more than there can be.
const FETCHES_MAX: u64 = 2;
/// Ticks of a pass of the sweep, which finds the feeds that nobody watches.
const TICKS: usize = 16;
/// Rounds of Ticks in which all that is too old is found.
const SWEEPS_MAX: usize = 40;

impl World {
    /// Everybody comes back, says again what was not answered, and acknowledges all.
    pub fn heal(&mut self) {
        self.tell(|_| "in the end: the disk works, everybody is here, and all is acknowledged".into());
        self.host.disk.mend();
        for n in 0..self.devices.len() {
            self.attach(n);
        }
        self.host.resend();
        self.rest();
        // A commit that seemed to fail may have been the one that registered somebody.
        self.durable(&(0..PARTITIONS).collect::<Vec<_>>());
        for index in 0..self.removals.len() {
            self.ask_to_remove(index);
        }
        for n in 0..self.devices.len() {
            assert!(self.devices[n].is_welcomed(), "{} was not welcomed", self.devices[n]);
            for number in self.devices[n].waiting.clone() {
                self.tell(|world| format!("{} sends #{number} again", world.devices[n]));
                self.say(n, number);
            }
        }
        self.rest();
        for _ in 0..ROUNDS_MAX {
            let behind = |n: &usize| self.devices[*n].newest() > self.devices[*n].acked;
            let behind: Vec<usize> = (0..self.devices.len()).filter(behind).collect();
            if behind.is_empty() {
                return;
            }
            for n in behind {
                self.ack(n, self.devices[n].newest());
            }
            self.rest();
        }
        panic!("events keep coming");
    }

    pub fn check(&self) {
        assert!(self.removals.iter().all(|removal| removal.is_done), "a device was not removed");
        for device in &self.devices {
            assert!(device.waiting.is_empty(), "{device} has no answer to {:?}", device.waiting);
            self.check_stream(device);
        }
        for (number, said) in self.model.said.iter().filter(|(_, said)| !said.is_given_up) {
            self.check_said(*number, said);
        }
        self.check_order();
        let here: usize = self.host.partitions().map(roost_router::partition::Partition::sessions).sum();
        assert_eq!(here, self.devices.len(), "each device has one session");
    }

    /// Whatever any device of the user got, past where this one begins, it has too.
    fn check_stream(&self, device: &Device) {
        let start = device.registered.expect("everybody is registered in the end");
        let stream =
            self.model.streams.range((device.user, start.acknowledged + 1)..=(device.user, u64::MAX));
        for ((_, seq), event) in stream {
            let said = self.model.said_in(event);
            let lifetime_ms = said.map_or(RETENTION_MS, Said::lifetime_ms);
            let is_status = lifetime_ms == DAY_MS;
            let is_for_it = said.is_none_or(|said| said.is_for(device.user, device.number));
            let is_over = self.now_ms.saturating_sub(time_of_seq(*seq)) >= lifetime_ms
                || time_of_seq(*seq) <= device.gone_until_ms;
            let is_its_time = *seq > start.head || is_status;
            assert!(
                device.got.contains_key(seq) || !is_for_it || !is_its_time || is_over,
                "{device} never got {} {}",
                place(*seq),
                self.describe(event)
            );
        }
    }

    /// A device of this user was removed, and what only that one had is gone.
    pub fn has_removed(&self, user: u64) -> bool {
        self.model.removed.contains(&user)
    }

    /// Each device has the one-time keys that it was told, and no more: all are fetched.
    pub fn check_keys(&mut self) {
        for n in 0..self.devices.len() {
            self.publish(n, 2);
        }
        self.rest();
        for user in 1..=self.users {
            let n = self.rng.index(self.devices.len());
            let most = FETCHES_MAX + self.model.keys.most_left(user);
            (0..most).for_each(|_| self.fetch(n, user));
        }
        self.rest();
        for n in 0..self.devices.len() {
            self.attach(n);
        }
        self.rest();
        for device in &self.devices {
            let session = device.session.as_ref().expect("everybody is here");
            assert_eq!(session.one_time_keys, 0, "{device} has keys that nobody is given");
        }
    }

    /// It reached whom it had to reach, and its sender heard of it.
    fn check_said(&self, number: u64, said: &Said) {
        assert!(said.is_answered, "#{number} was never answered");
        if said.may_be_over(self.now_ms) {
            return;
        }
        let id = said.id.expect("it was answered");
        for device in said.must_reach.iter().map(|n| &self.devices[*n]) {
            let has = self.model.place(device.user, id).is_some_and(|seq| device.got.contains_key(&seq));
            assert!(has || said.begun_ms <= device.gone_until_ms, "{device} never got #{number}");
        }
        let To::User(to) = said.to else { return };
        if to == said.from {
            return;
        }
        let was_here = |device: &&Device| device.gone_until_ms < said.begun_ms;
        let of_receiver = || self.devices.iter().filter(|device| device.user == to);
        let reached = self.model.place(to, id);
        // Whoever comes first gets what waited. Only if that one was away too long, or is removed, it may have come to nobody.
        let is_first = |device: &Device| device.registered.is_some_and(|start| !start.is_late);
        let may_be_missed =
            self.has_removed(to) || of_receiver().any(|device| is_first(device) && !was_here(&device));
        let is_for_any = of_receiver().any(|device| said.is_for(to, device.number));
        assert!(
            reached.is_some() || may_be_missed || !said.sealed.is_empty() || !is_for_any,
            "#{number} reached no device of {to}"
        );
        // A device that was away too long may have it, and find nothing left to acknowledge.
        let has_it = |device: &Device| reached.is_some_and(|seq| device.got.contains_key(&seq));
        let is_delivered = of_receiver().filter(was_here).any(has_it);
        // So may a receipt wait for a device that was away too long, and for no other.
        let hears = said.must_hear.iter().any(|n| was_here(&&self.devices[*n]));
        let is_told = |mark| !hears || self.model.has_receipt(mark, id, to);
        assert!(!is_delivered || is_told(Mark::DELIVERED), "#{number} was not reported as delivered");
        let is_read = self.model.read.contains_key(&(to, id));
        assert!(!is_read || is_told(Mark::READ), "#{number} was not reported as read");
    }

    /// The messages of a conversation rise in every stream.
    fn check_order(&self) {
        let mut newest: BTreeMap<(u64, To), (u64, u64)> = BTreeMap::new();
        for ((user, seq), event) in &self.model.streams {
            let Event { body: Some(event::Body::Message(message)), .. } = event else { continue };
            let said = self.model.said_in(event).expect("it was checked when it came");
            let peer = match said.to {
                To::User(to) if to == *user => To::User(said.from),
                to => to,
            };
            let before = newest.insert((*user, peer), (message.id, *seq)).unwrap_or_default();
            assert!(
                before.0 < message.id,
                "{user}'s conversation with {peer:?} has {} at {} after {} at {}",
                self.name(message.id),
                place(*seq),
                self.name(before.0),
                place(before.1)
            );
        }
    }

    /// All is acknowledged: what lives is no more than what time takes away.
    pub fn check_acknowledged(&mut self) {
        // A pass that was begun before is ended, and one goes over all.
        for _ in 0..2 {
            self.now_ms += 2 * HOUR_MS;
            for _ in 0..TICKS {
                (0..PARTITIONS).for_each(|partition| self.tick(partition));
                self.rest();
            }
        }
        let disk = &self.host.disk;
        assert_eq!(disk.len(Space::Outbox), 0, "forwards are left");
        assert!(
            disk.len(Space::Events) + disk.len(Space::Feeds) <= disk.len(Space::Statuses),
            "events are left that everybody has: {}; {}",
            self.left(Space::Events),
            self.left(Space::Feeds)
        );
        let accepted = self.model.said.len();
        assert!(
            disk.len(Space::Sent) <= accepted && disk.len(Space::Marks) <= accepted,
            "more keys than messages"
        );
    }

    /// What stands in a space: the numbers of its keys.
    fn left(&self, space: Space) -> String {
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_be_bytes);
        let names = self.host.disk.contents().into_keys().filter(|(of, _)| *of == space).map(|(_, key)| {
            let numbers =
                key[2..].chunks(8).map(number).map(|n| if n < 1 << 40 { n.to_string() } else { place(n) });
            numbers.collect::<Vec<_>>().join(" ")
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// Time takes away what is left.
    pub fn check_forgotten(&mut self) {
        // What changed in groups is not known where it was too old to be told, or told to a device that was removed.
        let of_groups =
            |space| self.kept_of_groups(space).filter(|_| !self.has_jumped && self.removals.is_empty());
        let kept = |space: Space| match space {
            Space::Meta => None,
            Space::Users => Some(self.users as usize),
            Space::Groups | Space::Memberships | Space::Rosters => of_groups(space),
            Space::Keys => Some(self.devices.len()),
            _ => Some(0),
        };
        let kept: Vec<(Space, usize)> = Space::ALL.into_iter().filter_map(|s| Some((s, kept(s)?))).collect();
        self.let_pass(RETENTION_MS + DAY_MS, true);
        for _ in 0..SWEEPS_MAX {
            // A pass rests for an hour before the next.
            self.now_ms += HOUR_MS / 4;
            (0..PARTITIONS).for_each(|partition| self.tick(partition));
            self.rest();
            if kept.iter().all(|(space, count)| self.host.disk.len(*space) == *count) {
                break;
            }
        }
        for (space, count) in kept {
            assert_eq!(self.host.disk.len(space), count, "keys of {}: {}", space.name(), self.left(space));
        }
        // A clock, and two cursors for each other partition.
        let count = self.host.disk.len(Space::Meta);
        assert!(count <= usize::from(PARTITIONS * (1 + 2 * PARTITIONS) + 1), "{count} keys of meta");
    }
}
