//! What members of groups see, live and from disk, and what goes once they have it: one rule a test.

use super::bed::{
    Bed, PARTITIONS, add, error, events, info, messages, origin, receipts, remove, say, sent, versions,
};
use crate::{
    api::Action,
    config::{Config, Rules},
    limits, log,
    partition::home,
    record::Space,
};
use roost_proto::v1::{self, Code, Kind, Mark, address::To, event, group_command::Command};
use std::collections::BTreeSet;

/// What a device was told of, by the numbers of messages and the versions of groups.
fn told(user: u64, device: u32, effects: &[crate::api::Effect]) -> Vec<u64> {
    let number = |event: v1::Event| match event.body {
        Some(event::Body::Message(message)) => Some(message.id),
        Some(event::Body::Group(info)) => Some(info.version),
        _ => None,
    };
    events(user, device, effects).into_iter().filter_map(number).collect()
}

fn homes(users: &[u64]) -> usize {
    users.iter().map(|user| home(*user, PARTITIONS)).collect::<BTreeSet<_>>().len()
}

/// Everybody acknowledges all, until nothing more comes of it.
fn settle(bed: &mut Bed, users: &[u64]) {
    let mut is_quiet = false;
    for _ in 0..200 {
        let acked: Vec<_> = users.iter().flat_map(|user| bed.ack(*user, 1, u64::MAX)).collect();
        bed.tick();
        let was_quiet =
            std::mem::replace(&mut is_quiet, !acked.iter().any(|e| matches!(e.action, Action::Event(_))));
        if was_quiet && is_quiet {
            return;
        }
    }
    panic!("there is always more");
}

fn assert_nothing_waits(bed: &Bed) {
    for space in [Space::Feeds, Space::Events, Space::Outbox] {
        assert_eq!(bed.store.len(space), 0, "{space:?}");
    }
}

#[test]
fn a_payload_is_stored_once_a_partition_and_goes_when_all_have_it() {
    let mut bed = Bed::new();
    bed.attach_all(1..=12);
    let group = bed.create(1, &(2..=12).collect::<Vec<_>>());
    settle(&mut bed, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_nothing_waits(&bed);
    bed.send(1, 1, say(group, b"a"));
    let partitions = homes(&(1..=12).collect::<Vec<_>>());
    assert!(partitions > 2);
    assert_eq!((bed.store.len(Space::Feeds), bed.store.len(Space::Events)), (partitions, 0));
    for user in (2..=12).rev() {
        assert!(bed.store.len(Space::Feeds) > 0);
        bed.ack(user, 1, u64::MAX);
    }
    assert_eq!(bed.store.len(Space::Feeds), 0);
    settle(&mut bed, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_nothing_waits(&bed);
}

#[test]
fn who_comes_sees_nothing_before_and_who_goes_sees_nothing_after() {
    for is_there in [true, false] {
        let mut bed = Bed::new();
        bed.attach_all(1..=6);
        let group = bed.create(1, &[2]);
        if !is_there {
            bed.detach(3, 1);
        }
        let mut seen = Vec::new();
        let mut step = |bed: &mut Bed, n: u8, command: Option<Command>| {
            bed.now_ms += 1;
            let effects = match command {
                Some(command) => bed.group(1, group, command),
                None => bed.send(1, 1, say(group, &[n])),
            };
            seen.extend(told(3, 1, &effects));
            if n == 0 { 0 } else { sent(1, &effects).id }
        };
        step(&mut bed, 1, None);
        step(&mut bed, 0, Some(add(&[3])));
        let first = step(&mut bed, 2, None);
        step(&mut bed, 0, Some(remove(&[3])));
        step(&mut bed, 3, None);
        step(&mut bed, 0, Some(Command::Rename("without him".into())));
        step(&mut bed, 0, Some(add(&[3, 4])));
        let last = step(&mut bed, 4, None);
        seen.extend(told(3, 1, &if is_there { vec![] } else { bed.attach(3, 1) }));
        assert_eq!(seen, [2, first, 3, 5, last], "connected: {is_there}");
        settle(&mut bed, &[1, 2, 3, 4]);
        assert_nothing_waits(&bed);
    }
}

#[test]
fn who_was_away_catches_up_in_one_order_through_a_small_window() {
    let rules = Rules { window_events_max: 3, ..Config::default().rules() };
    let mut bed = Bed::with(rules);
    bed.attach_all(1..=6);
    let groups = [bed.create(1, &[2, 3]), bed.create(2, &[3, 4]), bed.create(3, &[5])];
    settle(&mut bed, &[1, 2, 3, 4, 5, 6]);
    bed.detach(3, 1);
    let mut expected = Vec::new();
    for n in 0..30_u8 {
        let to_user = v1::Send { to: v1::Address { to: Some(To::User(3)) }.into(), ..say(0, &[n]) };
        let (from, send) = match n % 4 {
            0 => (1, say(groups[0], &[n])),
            1 => (4, say(groups[1], &[n])),
            2 => (5, say(groups[2], &[n])),
            _ => (2, to_user),
        };
        let effects = bed.send(from, 1, send);
        expected.push(sent(from, &effects).id);
        // The others acknowledge: nothing of what he has not seen goes with that.
        (1..=6).filter(|user| *user != 3).for_each(|user| drop(bed.ack(user, 1, u64::MAX)));
    }
    let mut effects = bed.attach(3, 1);
    let mut seen = Vec::new();
    while let Some(last) = events(3, 1, &effects).last().map(|event| event.seq) {
        let now = messages(3, &effects);
        assert!(now.len() <= 3);
        seen.extend(now);
        effects = bed.ack(3, 1, last);
    }
    assert_eq!(seen, expected);
    settle(&mut bed, &[1, 2, 3, 4, 5, 6]);
    assert_nothing_waits(&bed);
}

#[test]
fn a_member_whose_window_is_full_holds_nobody_else_back() {
    let rules = Rules { window_events_max: 3, ..Config::default().rules() };
    let mut bed = Bed::with(rules);
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2, 3, 4, 5, 6]);
    let mut seen = vec![0; 7];
    for n in 0..20 {
        let effects = bed.send(1, 1, say(group, &[n]));
        for user in 2..=6 {
            seen[user as usize] += messages(user, &effects).len();
            if user != 4 {
                let effects = bed.ack(user, 1, u64::MAX);
                seen[user as usize] += messages(user, &effects).len();
            }
        }
    }
    assert_eq!(seen, [0, 0, 20, 20, 2, 20, 20]);
    for _ in 0..10 {
        seen[4] += messages(4, &bed.ack(4, 1, u64::MAX)).len();
    }
    assert_eq!(seen[4], 20);
    settle(&mut bed, &[1, 2, 3, 4, 5, 6]);
    assert_nothing_waits(&bed);
}

#[test]
fn a_crash_loses_nothing_and_leaves_nothing() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2, 3, 4, 5, 6]);
    let said: Vec<_> = (0..5).map(|n| sent(1, &bed.send(1, 1, say(group, &[n]))).id).collect();
    bed.ack(2, 1, u64::MAX);
    bed.restart();
    for user in [3, 4, 5, 6, 2] {
        let effects = bed.attach(user, 1);
        assert_eq!(messages(user, &effects), if user == 2 { vec![] } else { said.clone() }, "user {user}");
    }
    bed.attach(1, 1);
    settle(&mut bed, &[1, 2, 3, 4, 5, 6]);
    assert_nothing_waits(&bed);
}

#[test]
fn an_ack_that_is_taken_back_takes_nothing_away() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2, 3, 4, 5, 6]);
    settle(&mut bed, &[1, 2, 3, 4, 5, 6]);
    let said = sent(1, &bed.send(1, 1, say(group, b"a"))).id;
    let ack = |user| log::Ack { origin: origin(user, 1).into(), up_to: u64::MAX }.into();
    bed.fail((2..=6).map(ack));
    for user in 2..=6 {
        // The connection breaks, and the message comes again.
        bed.detach(user, 1);
        assert_eq!(messages(user, &bed.attach(user, 1)), [said]);
    }
    settle(&mut bed, &[1, 2, 3, 4, 5, 6]);
    assert_nothing_waits(&bed);
    // A message that is taken back was seen by nobody.
    bed.fail([Bed::said(1, 1, say(group, b"b"))]);
    assert_nothing_waits(&bed);
    let effects = bed.send(1, 1, say(group, b"b"));
    assert!((2..=6).all(|user| messages(user, &effects).len() == 1));
}

#[test]
fn when_all_have_left_and_know_it_nothing_is_kept_of_the_group() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2, 3, 4, 5, 6]);
    bed.send(2, 1, say(group, b"a"));
    bed.group(1, group, remove(&[3, 4]));
    for user in [1, 2, 5, 6] {
        bed.group(user, group, remove(&[user]));
    }
    assert_eq!(error(1, &bed.group(1, group, Command::Info(true))).0, Code::NOT_FOUND);
    assert!(bed.store.len(Space::Rosters) > 0 && bed.store.len(Space::Memberships) == 6);
    settle(&mut bed, &[1, 2, 3, 4, 5, 6]);
    assert_nothing_waits(&bed);
    assert_eq!((bed.store.len(Space::Rosters), bed.store.len(Space::Memberships)), (0, 0));
}

#[test]
fn every_device_of_a_member_has_its_own_pace() {
    let mut bed = Bed::new();
    bed.attach_all(1..=3);
    bed.attach(2, 2);
    let group = bed.create(1, &[2, 3]);
    let effects = bed.send(1, 1, say(group, b"a"));
    let said = sent(1, &effects).id;
    assert_eq!(receipts(1, &bed.ack(2, 2, u64::MAX)), [(Mark::DELIVERED, 2, vec![said])]);
    assert!(receipts(1, &bed.ack(2, 1, u64::MAX)).is_empty());
    // A device that is new begins with what is new.
    let effects = bed.attach(3, 2);
    assert!(told(3, 2, &effects).is_empty());
    let next = told(2, 1, &bed.send(2, 2, say(group, b"b")))[0];
    bed.detach(2, 1);
    assert_eq!(told(2, 1, &bed.attach(2, 1)), [next]);
    bed.detach(3, 2);
    assert_eq!(told(3, 2, &bed.attach(3, 2)), [next]);
    for device in [1, 2] {
        assert!(bed.store.len(Space::Feeds) > 0);
        (1..=3).for_each(|user| drop(bed.ack(user, device, u64::MAX)));
        (1..=3).for_each(|user| drop(bed.ack(user, device, u64::MAX)));
    }
    assert_nothing_waits(&bed);
}

#[test]
fn receipts_of_the_same_batch_hold_back_nothing_that_was_acknowledged_before() {
    let mut bed = Bed::new();
    bed.attach_all(1..=2);
    assert_eq!(homes(&[1, 2]), 2);
    let group = bed.create(1, &[2]);
    settle(&mut bed, &[1, 2]);
    bed.send(1, 1, say(group, b"a"));
    bed.ack(2, 1, u64::MAX);
    let effects = bed.send(2, 1, say(group, b"b"));
    let seen = events(1, 1, &effects)[0].seq;
    bed.send(1, 1, say(group, b"c"));
    let ack = |user, up_to| log::Ack { origin: origin(user, 1).into(), up_to }.into();
    bed.run([ack(2, u64::MAX), ack(1, seen)]);
    assert_eq!(
        bed.store.len(Space::Feeds),
        1,
        "only what the first said last, which he has not acknowledged"
    );
    settle(&mut bed, &[1, 2]);
    assert_nothing_waits(&bed);
}

#[test]
fn what_is_sealed_reaches_its_devices_and_nobody_else() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    bed.attach(2, 2);
    let group = bed.create(1, &[2, 3, 4]);
    let sealed = |user: u64, device: u32| v1::Sealed {
        user,
        device,
        ciphertext: vec![user as u8, device as u8].into(),
    };
    let send = v1::Send {
        payload: Vec::new().into(),
        sealed: vec![sealed(2, 1), sealed(3, 1), sealed(5, 1)],
        ..say(group, b"a")
    };
    bed.detach(3, 1);
    let mut effects = bed.send(1, 1, send);
    effects.extend(bed.attach(3, 1));
    for (user, device) in [(1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (5, 1)] {
        let texts: Vec<_> = events(user, device, &effects)
            .into_iter()
            .filter_map(|event| match event.body {
                Some(event::Body::Message(message)) => Some((message.payload.to_vec(), message.sealed)),
                _ => None,
            })
            .collect();
        let is_for_it = [(2, 1), (3, 1)].contains(&(user, device));
        let expected = is_for_it.then(|| (vec![user as u8, device as u8], true));
        assert_eq!(texts, expected.into_iter().collect::<Vec<_>>(), "device {device} of {user}");
    }
    bed.ack(2, 2, u64::MAX);
    settle(&mut bed, &[1, 2, 3, 4, 5, 6]);
    assert_nothing_waits(&bed);
}

#[test]
fn a_status_lives_a_day_whoever_has_seen_it() {
    let mut bed = Bed::new();
    bed.attach_all(1..=4);
    let group = bed.create(1, &[2, 3]);
    let status = v1::Send { kind: Kind::STATUS.into(), ..say(group, b"a") };
    let said = sent(1, &bed.send(1, 1, status)).id;
    settle(&mut bed, &[1, 2, 3, 4]);
    assert_eq!(bed.store.len(Space::Feeds), homes(&[1, 2, 3]));
    bed.now_ms += limits::STATUS_MS - 1000;
    assert_eq!(told(2, 2, &bed.attach(2, 2)), [said]);
    bed.ack(2, 2, u64::MAX);
    bed.now_ms += 1000;
    bed.tick();
    assert_nothing_waits(&bed);
    assert!(told(3, 2, &bed.attach(3, 2)).is_empty());
}

#[test]
fn what_was_not_delivered_goes_after_its_time_with_all_that_was_kept_of_it() {
    let mut bed = Bed::new();
    bed.attach_all(1..=4);
    let group = bed.create(1, &[2, 3]);
    bed.detach(3, 1);
    let said = sent(1, &bed.send(1, 1, say(group, b"a"))).id;
    bed.read(2, vec![said]);
    bed.group(1, group, remove(&[3]));
    assert!(bed.store.len(Space::Feeds) > 0 && bed.store.len(Space::GroupMessages) == 2);
    assert_eq!(bed.store.len(Space::Groups), 2);
    bed.now_ms += 31 * limits::DAY_MS;
    (0..40).for_each(|_| bed.tick());
    assert_nothing_waits(&bed);
    assert_eq!((bed.store.len(Space::GroupMessages), bed.store.len(Space::Groups)), (0, 1));
    assert_eq!(info(2, &bed.group(2, group, Command::Info(true))).version, 2);
    assert_eq!(bed.store.len(Space::Memberships), 2, "who was removed is told no more");
    assert!(told(3, 1, &bed.attach(3, 1)).is_empty());
}

#[test]
fn a_user_in_too_many_groups_leaves_at_once() {
    let mut bed = Bed::new();
    bed.attach_all(1..=3);
    for _ in 0..limits::MEMBERSHIPS_MAX {
        bed.create(1, &[2]);
        bed.now_ms += 1;
        bed.ack(2, 1, u64::MAX);
    }
    let create = v1::group_command::Create { name: String::new(), member: vec![2, 3] };
    let effects = bed.group(3, 0, create.into());
    let group = info(3, &effects).group;
    assert!(versions(2, &effects).is_empty());
    assert_eq!(versions(3, &effects), [1, 2]);
    let users: Vec<_> =
        info(3, &bed.group(3, group, Command::Info(true))).member.iter().map(|m| m.user).collect();
    assert_eq!(users, [3]);
}
