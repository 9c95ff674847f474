//! Presence and typing where followers, pairs, groups and the followed are at home in different partitions.

use crate::{
    api::{Action, Effect},
    log::{self, command::Body},
    partition::groups::bed::{Bed, origin, remove},
};
use roost_proto::v1::{self, address::To, server_frame};

/// Enough for all four partitions to be home of some.
const USERS: std::ops::RangeInclusive<u64> = 1..=12;

fn watch(user: u64, users: impl IntoIterator<Item = u64>) -> Body {
    log::Watch { origin: origin(user, 1).into(), user: users.into_iter().collect() }.into()
}

fn typing(user: u64, to: To) -> Body {
    let typing = v1::Typing { to: v1::Address { to: Some(to) }.into(), active: true };
    log::Typing { origin: origin(user, 1).into(), typing: typing.into() }.into()
}

fn frames(effects: &[Effect]) -> impl Iterator<Item = (u64, server_frame::Body)> {
    effects.iter().filter_map(|effect| match &effect.action {
        Action::Frame(frame) => Some((u64::from(effect.session.slot / 10), frame.body.clone()?)),
        _ => None,
    })
}

/// Who is told of whom.
fn told(effects: &[Effect]) -> Vec<(u64, u64)> {
    let mut told: Vec<_> = frames(effects)
        .filter_map(|(to, body)| match body {
            server_frame::Body::Presence(presence) => Some((to, presence.user)),
            _ => None,
        })
        .collect();
    told.sort_unstable();
    told
}

/// Who is told that somebody types.
fn typed(effects: &[Effect]) -> Vec<u64> {
    let mut typed: Vec<_> = frames(effects)
        .filter_map(|(to, body)| matches!(body, server_frame::Body::Typing(_)).then_some(to))
        .collect();
    typed.sort_unstable();
    typed
}

fn followers(bed: &Bed) -> usize {
    bed.partitions.iter().map(crate::partition::Partition::followers).sum()
}

fn message(to: u64) -> v1::Send {
    v1::Send {
        to: v1::Address { to: Some(To::User(to)) }.into(),
        client_id: "a".into(),
        payload: "x".into(),
        ..v1::Send::default()
    }
}

#[test]
fn members_of_a_group_are_told_of_each_other() {
    let mut bed = Bed::new();
    bed.attach_all(USERS);
    let group = bed.create(1, &[2, 3, 4, 5, 6]);
    for user in 1..=6 {
        let others: Vec<_> = (1..=6).filter(|other| *other != user).map(|other| (user, other)).collect();
        assert_eq!(told(&bed.run([watch(user, USERS.filter(|other| *other != user))])), others);
    }
    assert_eq!(followers(&bed), 30);
    // Who is not in it is told nothing, nor of him; who was in it no more than that.
    assert!(told(&bed.run([watch(7, USERS.filter(|other| *other != 7))])).is_empty());
    bed.group(1, group, remove(&[3]));
    assert!(told(&bed.run([watch(3, 4..=6)])).is_empty());
    assert_eq!(told(&bed.run([watch(1, 2..=4)])), [(1, 2), (1, 4)]);
    USERS.for_each(|user| bed.detach(user, 1));
    assert_eq!(followers(&bed), 0, "sessions take their watches with them, wherever those are");
}

#[test]
fn those_who_talk_are_told_of_each_other_wherever_they_are_at_home() {
    let mut bed = Bed::new();
    bed.attach_all(USERS);
    for to in USERS.skip(1) {
        bed.send(1, 1, message(to));
    }
    let others: Vec<_> = USERS.skip(1).map(|other| (1, other)).collect();
    assert_eq!(told(&bed.run([watch(1, USERS.skip(1))])), others);
    assert_eq!(followers(&bed), others.len());
    assert!(told(&bed.run([watch(2, 3..=12)])).is_empty(), "they talk with the first only");
    for to in USERS.skip(1) {
        assert_eq!(typed(&bed.run([typing(1, To::User(to))])), [to]);
        assert_eq!(typed(&bed.run([typing(to, To::User(1))])), [1]);
    }
    assert!(typed(&bed.run([typing(2, To::User(3))])).is_empty());
    assert!(told(&bed.run([watch(1, [])])).is_empty());
    assert_eq!(followers(&bed), 0);
}

#[test]
fn typing_in_a_group_reaches_its_members() {
    let mut bed = Bed::new();
    bed.attach_all(USERS);
    let group = bed.create(1, &[2, 3, 4, 5, 6]);
    assert_eq!(typed(&bed.run([typing(2, To::Group(group))])), [1, 3, 4, 5, 6]);
    assert!(typed(&bed.run([typing(7, To::Group(group))])).is_empty());
    assert!(typed(&bed.run([typing(1, To::Group(group ^ (1 << 20)))])).is_empty());
    bed.group(1, group, remove(&[3]));
    bed.detach(4, 1);
    assert_eq!(typed(&bed.run([typing(2, To::Group(group))])), [1, 5, 6]);
    assert!(typed(&bed.run([typing(3, To::Group(group))])).is_empty());
}
