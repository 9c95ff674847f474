//! Random changes, messages, acknowledgements, crashes and failing commits in two groups, beside a plain list of who sees what.
//!
//! A failing seed is named; `ROOST_SEED=n cargo test -p roost-router --lib model_tests` replays it.

use super::bed::{Bed, add, events, origin, remove, say, to};
use crate::{
    api::{Action, Effect},
    config::{Config, Rules},
    log::{self, command::Body},
    record::Space,
};
use roost_proto::v1::{
    event,
    group_command::{self, Command},
    server_frame,
};
use std::collections::{BTreeMap, BTreeSet};

const USERS: u64 = 6;
const SEEDS: u64 = 300;
const STEPS: usize = 160;

/// `SplitMix64`: the same seed gives the same run.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % n
    }
}

/// A message by its id or a change by its version, and who sees it.
struct Item {
    number: u64,
    said_by: Option<(u64, u32)>,
    seen_by: BTreeSet<u64>,
}

struct Group {
    number: u64,
    members: BTreeSet<u64>,
    items: Vec<Item>,
}

#[derive(Default)]
struct Device {
    is_there: bool,
    /// By seq: group, and the item's number.
    seen: BTreeMap<u64, (u64, u64)>,
}

struct World {
    rng: Rng,
    bed: Bed,
    groups: Vec<Group>,
    devices: BTreeMap<(u64, u32), Device>,
    client_id: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let rules = Rules { window_events_max: 3, ..Config::default().rules() };
        let (bed, mut devices) = (Bed::with(rules), BTreeMap::new());
        for user in 1..=USERS {
            (1..=1 + rng.below(2) as u32)
                .for_each(|device| drop(devices.insert((user, device), Device::default())));
        }
        let mut world = Self { rng, bed, groups: Vec::new(), devices, client_id: 0 };
        world.devices.keys().copied().collect::<Vec<_>>().into_iter().for_each(|key| world.attach(key));
        for member in [[2, 3], [4, 5]] {
            let create = group_command::Create { name: "all".into(), member: member.to_vec() };
            let effects = world.bed.group(1, 0, create.into());
            world.observe(&effects);
            let number = super::bed::info(1, &effects).group;
            let members: BTreeSet<_> = member.into_iter().chain([1]).collect();
            let made = Item { number: 1, said_by: None, seen_by: members.clone() };
            world.groups.push(Group { number, members, items: vec![made] });
        }
        world
    }

    fn attach(&mut self, key: (u64, u32)) {
        self.devices.get_mut(&key).unwrap().is_there = true;
        let effects = self.bed.attach(key.0, key.1);
        self.observe(&effects);
    }

    fn observe(&mut self, effects: &[Effect]) {
        for ((user, device), state) in &mut self.devices {
            for told in events(*user, *device, effects) {
                let item = match told.body {
                    Some(event::Body::Message(message)) => match message.to.to {
                        Some(roost_proto::v1::address::To::Group(group)) => (group, message.id),
                        _ => panic!("not of a group: {message:?}"),
                    },
                    Some(event::Body::Group(info)) => (info.group, info.version),
                    _ => continue,
                };
                let before = state.seen.insert(told.seq, item);
                assert!(before.is_none_or(|before| before == item), "one seq, two events");
            }
        }
    }

    /// One that is in a group says something, or the first user changes the group.
    fn draw(&mut self) -> ((u64, u32), usize, Body) {
        let index = self.rng.below(2) as usize;
        let (number, members) = (self.groups[index].number, self.groups[index].members.clone());
        let other = 2 + self.rng.below(USERS - 1);
        let command = match self.rng.below(10) {
            0 | 1 => add(&[other, 2 + self.rng.below(USERS - 1)]),
            2 | 3 => remove(&[other]),
            4 => Command::Promote(super::bed::users(&[1]).into()),
            5 => Command::Rename(self.rng.below(3).to_string()),
            _ => {
                let from = *members.iter().nth(self.rng.below(members.len() as u64) as usize).unwrap();
                self.client_id += 1;
                let send = say(number, &self.client_id.to_be_bytes());
                return ((from, 1), index, Bed::said(from, 1, send));
            }
        };
        ((1, 1), index, Bed::command(1, number, command))
    }

    /// What was answered is what happened.
    fn note(&mut self, by: (u64, u32), index: usize, effects: &[Effect]) {
        let group = &mut self.groups[index];
        let answers = to(by.0, by.1, effects).into_iter().filter_map(|action| match action {
            Action::Frame(frame) => frame.body,
            _ => None,
        });
        for answer in answers {
            match answer {
                server_frame::Body::Sent(sent) => {
                    let seen_by = group.members.clone();
                    group.items.push(Item { number: sent.id, said_by: Some(by), seen_by });
                }
                server_frame::Body::Group(info) => {
                    let members: BTreeSet<_> = info.member.iter().map(|member| member.user).collect();
                    let seen_by = group.members.union(&members).copied().collect();
                    let last = group.items.iter().rev().find(|item| item.said_by.is_none());
                    if last.is_none_or(|last| last.number < info.version) {
                        group.items.push(Item { number: info.version, said_by: None, seen_by });
                    }
                    group.members = members;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn step(&mut self) {
        self.bed.now_ms += self.rng.below(3);
        let keys: Vec<_> = self.devices.keys().copied().collect();
        let key = keys[self.rng.below(keys.len() as u64) as usize];
        let ack = |up_to| log::Ack { origin: origin(key.0, key.1).into(), up_to }.into();
        match self.rng.below(20) {
            0..=8 => {
                let (by, index, command) = self.draw();
                let effects = self.bed.run([command]);
                self.note(by, index, &effects);
                self.observe(&effects);
            }
            9..=14 => {
                let seen = &self.devices[&key].seen;
                let places: Vec<_> = seen.keys().copied().chain([u64::MAX]).collect();
                let up_to = places[self.rng.below(places.len() as u64) as usize];
                let effects = self.bed.run([ack(up_to)]);
                self.observe(&effects);
            }
            15 => self.attach(key),
            16 => {
                self.devices.get_mut(&key).unwrap().is_there = false;
                self.bed.detach(key.0, key.1);
            }
            17 => {
                // As far as anybody is told, nothing of this happened.
                let count = 1 + self.rng.below(4);
                let drawn: Vec<_> = (0..count).map(|_| self.draw().2).chain([ack(u64::MAX)]).collect();
                self.bed.fail(drawn);
            }
            18 if self.rng.below(4) == 0 => {
                self.bed.restart();
                self.devices.values_mut().for_each(|device| device.is_there = false);
            }
            _ => self.bed.tick(),
        }
    }

    /// All are there and acknowledge all, until nothing more comes.
    fn settle(&mut self) {
        let keys: Vec<_> = self.devices.keys().copied().collect();
        for key in &keys {
            self.attach(*key);
        }
        for _ in 0..300 {
            let mut effects = Vec::new();
            for (user, device) in &keys {
                effects.extend(self.bed.ack(*user, *device, u64::MAX));
            }
            self.observe(&effects);
            self.bed.tick();
            let is_quiet = !effects.iter().any(|effect| matches!(effect.action, Action::Event(_)));
            if is_quiet && self.bed.store.len(Space::Feeds) + self.bed.store.len(Space::Events) == 0 {
                return;
            }
        }
        panic!(
            "{} entries of feeds and {} events are left",
            self.bed.store.len(Space::Feeds),
            self.bed.store.len(Space::Events)
        );
    }

    fn check(&self) {
        for ((user, device), state) in &self.devices {
            for group in &self.groups {
                let seen: Vec<_> =
                    state.seen.values().filter(|item| item.0 == group.number).map(|item| item.1).collect();
                let is_told =
                    |item: &&Item| item.seen_by.contains(user) && item.said_by != Some((*user, *device));
                let expected: Vec<_> = group.items.iter().filter(is_told).map(|item| item.number).collect();
                assert_eq!(seen, expected, "device {device} of user {user}");
            }
        }
    }

    /// Nothing is left of a group that all have left.
    fn end(&mut self) {
        for index in 0..self.groups.len() {
            let number = self.groups[index].number;
            let all: Vec<_> = self.groups[index].members.iter().copied().collect();
            let effects = self.bed.group(1, number, remove(&all));
            self.note((1, 1), index, &effects);
            self.observe(&effects);
        }
        self.settle();
        self.check();
        for space in [Space::Rosters, Space::Memberships] {
            assert_eq!(self.bed.store.len(space), 0, "{space:?}");
        }
    }
}

#[test]
fn members_see_what_is_theirs_once_and_in_order_and_nothing_is_left() {
    let only = std::env::var("ROOST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let run = || {
            let mut world = World::new(seed);
            (0..STEPS).for_each(|_| world.step());
            world.settle();
            world.check();
            world.end();
        };
        std::panic::catch_unwind(run)
            .unwrap_or_else(|_| panic!("seed {seed} failed: ROOST_SEED={seed} replays it"));
    }
}
