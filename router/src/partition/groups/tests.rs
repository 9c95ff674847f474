//! One rule of a group's home a test.

use super::bed::{Bed, PARTITIONS, add, error, info, messages, receipts, remove, say, sent, users, versions};
use crate::{
    config::{Config, Rules},
    log,
    partition::home,
    record::Space,
};
use roost_proto::v1::{self, Code, GroupInfo, Mark, group_command::Command};

fn members(info: &GroupInfo) -> Vec<u64> {
    info.member.iter().map(|member| member.user).collect()
}

fn admins(info: &GroupInfo) -> Vec<u64> {
    info.member.iter().filter(|member| member.admin).map(|member| member.user).collect()
}

fn promote(user: &[u64]) -> Command {
    Command::Promote(users(user).into())
}

#[test]
fn users_of_these_tests_are_at_home_in_several_partitions() {
    let homes: std::collections::BTreeSet<_> = (1..=6).map(|user| home(user, PARTITIONS)).collect();
    assert!(homes.len() > 2, "{homes:?}");
}

#[test]
fn a_group_is_made_and_told_to_its_members() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let create = v1::group_command::Create { name: "friends".into(), member: vec![3, 1, 2, 3, 5] };
    let effects = bed.group(1, 0, create.into());
    let made = info(1, &effects);
    assert_eq!((made.name.as_str(), made.version), ("friends", 1));
    assert_eq!((members(&made), admins(&made)), (vec![1, 3, 2, 5], vec![1]));
    for user in 1..=6 {
        assert_eq!(versions(user, &effects).len(), usize::from(![4, 6].contains(&user)), "user {user}");
    }
    // Asked for, it is told to who asks only; another group has another number.
    let effects = bed.group(3, made.group, Command::Info(true));
    assert_eq!(info(3, &effects), made);
    assert!(versions(1, &effects).is_empty());
    assert!(bed.create(1, &[2]) > made.group);
}

#[test]
fn only_admins_change_others() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2, 3]);
    for command in [add(&[4]), remove(&[3]), remove(&[2, 3]), promote(&[2]), Command::Rename("x".into())] {
        assert_eq!(error(2, &bed.group(2, group, command)).0, Code::FORBIDDEN);
    }
    assert_eq!(admins(&info(1, &bed.group(1, group, promote(&[2])))), [1, 2]);
    assert_eq!(members(&info(2, &bed.group(2, group, add(&[4])))), [1, 2, 3, 4]);
    assert_eq!(info(2, &bed.group(2, group, Command::Rename("x".into()))).name, "x");
    let last = info(2, &bed.group(2, group, remove(&[1, 3])));
    assert_eq!((members(&last), last.version), (vec![2, 4], 5));
}

#[test]
fn strangers_learn_nothing() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2]);
    bed.group(1, group, remove(&[2]));
    // A number that names another partition as its home, and one that names none.
    for group in [group, group ^ 1, group | 1023, 0] {
        let commands =
            [Command::Info(true), add(&[3]), remove(&[2]), promote(&[2]), Command::Rename("x".into())];
        for by in [2, 3] {
            for command in commands.clone() {
                let expected = (Code::NOT_FOUND, format!("there is no group {group}"));
                assert_eq!(error(by, &bed.group(by, group, command)), expected);
            }
            let expected = (Code::NOT_FOUND, format!("there is no group {group}"));
            assert_eq!(error(by, &bed.send(by, 1, say(group, b"a"))), expected);
        }
    }
    assert_eq!(bed.store.len(Space::GroupMessages), 0);
}

#[test]
fn what_changes_nothing_is_answered_and_told_to_nobody() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2, 3]);
    let same = [
        add(&[2, 3]),
        add(&[]),
        remove(&[4]),
        promote(&[1]),
        Command::Rename("friends".into()),
        Command::Info(false),
    ];
    for command in same {
        let effects = bed.group(1, group, command);
        assert_eq!(info(1, &effects).version, 1);
        assert!((1..=6).all(|user| versions(user, &effects).is_empty()));
    }
    assert_eq!(info(1, &bed.group(1, group, add(&[2, 4]))).version, 2);
}

#[test]
fn the_longest_standing_member_follows_the_last_admin_and_the_last_member_ends_the_group() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[5, 2]);
    let effects = bed.group(1, group, remove(&[1]));
    let left = info(1, &effects);
    assert_eq!((members(&left), admins(&left)), (vec![5, 2], vec![5]));
    // Who leaves is told of that, and of nothing more.
    assert_eq!(versions(1, &effects), [2]);
    let effects = bed.group(5, group, add(&[6]));
    assert!(versions(1, &effects).is_empty() && versions(6, &effects) == [3]);
    assert!(members(&info(5, &bed.group(5, group, remove(&[6, 2, 5])))).is_empty());
    assert_eq!(error(5, &bed.group(5, group, Command::Info(true))).0, Code::NOT_FOUND);
}

#[test]
fn a_group_has_bounds() {
    let rules = Rules { group_members_max: 3, ..Config::default().rules() };
    let mut bed = Bed::with(rules);
    bed.attach_all(1..=6);
    let create = |member: &[u64], name: &str| -> Command {
        v1::group_command::Create { name: name.into(), member: member.to_vec() }.into()
    };
    assert_eq!(error(1, &bed.group(1, 0, create(&[2, 3, 4], ""))).0, Code::TOO_LARGE);
    assert_eq!(error(1, &bed.group(1, 0, create(&[2; 4], ""))).0, Code::TOO_LARGE);
    assert_eq!(error(1, &bed.group(1, 0, create(&[0], ""))).0, Code::MALFORMED);
    assert_eq!(error(1, &bed.group(1, 0, create(&[1 << 63], ""))).0, Code::MALFORMED);
    assert_eq!(error(1, &bed.group(1, 0, create(&[2], &"x".repeat(257)))).0, Code::TOO_LARGE);
    assert_eq!(error(1, &bed.group(1, 7, create(&[2], ""))).0, Code::MALFORMED);
    let group = info(1, &bed.group(1, 0, create(&[2], &"x".repeat(256)))).group;
    assert_eq!(error(1, &bed.group(1, group, add(&[3, 4]))).0, Code::TOO_LARGE);
    assert_eq!(error(1, &bed.group(1, group, Command::Rename("x".repeat(257)))).0, Code::TOO_LARGE);
    assert_eq!(members(&info(1, &bed.group(1, group, add(&[3, 2])))), [1, 2, 3]);
    let nothing = v1::GroupCommand { group, command: None };
    let command = log::Group { origin: super::bed::origin(1, 1).into(), command: nothing.into(), unknown: 0 };
    assert_eq!(error(1, &bed.run([command.into()])).0, Code::MALFORMED);
}

#[test]
fn who_is_in_a_group_that_has_become_too_large_may_leave_it() {
    let mut bed = Bed::new();
    bed.attach_all(1..=8);
    let group = bed.create(1, &[2, 3, 4, 5, 6, 7]);
    bed.partitions.iter_mut().for_each(|partition| partition.rules.group_members_max = 4);
    assert_eq!(members(&info(2, &bed.group(2, group, remove(&[2])))).len(), 6);
    assert_eq!(error(1, &bed.group(1, group, add(&[8]))).0, Code::TOO_LARGE);
}

#[test]
fn the_groups_of_a_user_come_in_pages_with_all_their_members() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let mut made: Vec<u64> = (0..5).map(|_| bed.create(1, &[2, 3, 4, 5, 6])).collect();
    made.sort_unstable();
    let partition = &bed.partitions[usize::from(home(1, PARTITIONS))];
    let page = |after, bytes_max| partition.groups_of(1, after, bytes_max, &bed.store).unwrap();
    let (all, more) = page(0, usize::MAX);
    let numbers: Vec<u64> = all.iter().map(|info| info.group).collect();
    assert_eq!((numbers, more), (made, false));
    let (mut paged, mut more) = (Vec::new(), true);
    while more {
        let after = paged.last().map_or(0, |info: &GroupInfo| info.group);
        let (mut some, is_more) = page(after, 1);
        assert_eq!(some.len(), 1, "one at least");
        paged.append(&mut some);
        more = is_more;
    }
    assert_eq!(paged, all);
    assert!(all.iter().all(|info| info.member.len() == 6));
}

#[test]
fn who_does_not_exist_is_not_added() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2]);
    let mut ask = |by, group, command| {
        let command = v1::GroupCommand { group, command: Some(command) };
        let origin = super::bed::origin(by, 1).into();
        let effects = bed.run([log::Group { origin, command: command.into(), unknown: 77 }.into()]);
        error(by, &effects)
    };
    let no_user = (Code::NOT_FOUND, "there is no user 77".to_owned());
    assert_eq!(ask(1, group, add(&[3, 77])), no_user);
    let create = v1::group_command::Create { name: String::new(), member: vec![77] };
    assert_eq!(ask(1, 0, create.into()), no_user);
    // Whoever may not add learns nothing of who exists.
    assert_eq!(ask(2, group, add(&[77])).0, Code::FORBIDDEN);
    assert_eq!(ask(3, group, add(&[77])).1, format!("there is no group {group}"));
    let stranger = bed.group(1, group, promote(&[2, 5]));
    assert_eq!(error(1, &stranger), (Code::NOT_FOUND, "user 5 is not in the group".to_owned()));
    assert_eq!(admins(&info(1, &bed.group(1, group, Command::Info(true)))), [1]);
}

#[test]
fn a_message_reaches_every_device_of_every_member_but_the_one_that_said_it() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    bed.attach(1, 2);
    let group = bed.create(1, &[2, 3, 5, 6]);
    let effects = bed.send(1, 1, say(group, b"a"));
    let first = sent(1, &effects);
    assert!(!first.duplicate);
    for (user, device) in [(1, 2), (2, 1), (3, 1), (5, 1), (6, 1)] {
        let events = super::bed::events(user, device, &effects);
        let Some(v1::event::Body::Message(message)) = &events[0].body else { panic!("{events:?}") };
        assert_eq!((message.id, message.from, message.from_device, events.len()), (first.id, 1, 1, 1));
        assert_eq!(message.to.to, Some(v1::address::To::Group(group)));
    }
    assert!(messages(1, &effects).is_empty() && messages(4, &effects).is_empty());
    // Said again it is answered, also to who has left, and told to nobody.
    bed.group(1, group, remove(&[1]));
    bed.now_ms += 5;
    let effects = bed.send(1, 1, say(group, b"a"));
    let again = sent(1, &effects);
    assert_eq!((again.id, again.sent_at_ms, again.duplicate), (first.id, first.sent_at_ms, true));
    assert!((1..=6).all(|user| messages(user, &effects).is_empty()));
    // The same client_id to a user is another message.
    let to_user =
        v1::Send { to: v1::Address { to: Some(v1::address::To::User(2)) }.into(), ..say(group, b"a") };
    assert!(!sent(1, &bed.send(1, 1, to_user)).duplicate);
}

#[test]
fn all_see_one_order() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2, 3, 4, 5, 6]);
    let mut seen = vec![Vec::new(); 7];
    for n in 0..60_u64 {
        bed.now_ms = bed.now_ms + 3 * (n % 3) - 2;
        let from = 1 + n % 6;
        let effects = bed.send(from, 1, say(group, &n.to_be_bytes()));
        let id = sent(from, &effects).id;
        for user in 1..=6 {
            seen[user as usize].extend(if user == from { vec![id] } else { messages(user, &effects) });
        }
    }
    assert!(seen[1].len() == 60 && seen[1].is_sorted_by(|a, b| a < b));
    assert!((2..=6).all(|user| seen[user] == seen[1]));
}

#[test]
fn what_cannot_be_said_to_a_user_cannot_be_said_to_a_group() {
    let mut bed = Bed::new();
    bed.attach_all(1..=2);
    let group = bed.create(1, &[2]);
    for (send, expected) in [
        (say(group, b""), Code::MALFORMED),
        (say(group, &[1; 17]), Code::MALFORMED),
        (v1::Send { kind: 99.into(), ..say(group, b"a") }, Code::MALFORMED),
        (v1::Send { payload: vec![0; 64 * 1024 + 1].into(), ..say(group, b"a") }, Code::TOO_LARGE),
    ] {
        assert_eq!(error(1, &bed.send(1, 1, send)).0, expected);
    }
}

#[test]
fn a_batch_that_fails_leaves_groups_as_they_were() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2, 3]);
    bed.fail([
        Bed::command(1, group, add(&[4])),
        Bed::command(1, group, remove(&[2])),
        Bed::said(1, 1, say(group, b"a")),
        Bed::command(1, group, Command::Rename("x".into())),
    ]);
    let now = info(2, &bed.group(2, group, Command::Info(true)));
    assert_eq!((members(&now), now.version, now.name.as_str()), (vec![1, 2, 3], 1, "friends"));
    assert_eq!(error(4, &bed.group(4, group, Command::Info(true))).0, Code::NOT_FOUND);
    let effects = bed.send(1, 1, say(group, b"a"));
    assert!(!sent(1, &effects).duplicate);
    assert!(messages(4, &effects).is_empty() && messages(2, &effects).len() == 1);
    // And as they are over a restart.
    bed.restart();
    bed.attach_all(1..=6);
    assert_eq!(info(2, &bed.group(2, group, Command::Info(true))), now);
}

#[test]
fn delivered_comes_from_each_member_with_many_messages_at_once() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2, 3]);
    let mut said = Vec::new();
    for n in 0..3 {
        said.push(sent(1, &bed.send(1, 1, say(group, &[n]))).id);
    }
    let own = sent(2, &bed.send(2, 1, say(group, b"own"))).id;
    for user in [2, 3] {
        let effects = bed.ack(user, 1, u64::MAX);
        assert_eq!(receipts(1, &effects), [(Mark::DELIVERED, user, said.clone())]);
        let of_two = if user == 3 { vec![(Mark::DELIVERED, 3, vec![own])] } else { vec![] };
        assert_eq!(receipts(2, &effects), of_two);
    }
    assert!(receipts(1, &bed.ack(2, 1, u64::MAX)).is_empty());
}

#[test]
fn read_is_told_once_for_each_member_and_for_nobody_else() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2, 3]);
    let first = sent(1, &bed.send(1, 1, say(group, b"a"))).id;
    let other = sent(2, &bed.send(2, 1, say(group, b"b"))).id;
    let effects = bed.read(3, vec![first, other, first, 4711]);
    assert_eq!(receipts(1, &effects), [(Mark::READ, 3, vec![first])]);
    assert_eq!(receipts(2, &effects), [(Mark::READ, 3, vec![other])]);
    // Again, one's own, and a stranger's.
    for (by, messages) in [(3, vec![first, other]), (1, vec![first]), (4, vec![first, other])] {
        let effects = bed.read(by, messages);
        assert!((1..=6).all(|user| receipts(user, &effects).is_empty()), "read by {by}");
    }
    assert_eq!(receipts(1, &bed.read(2, vec![first])), [(Mark::READ, 2, vec![first])]);
}

#[test]
fn read_counts_for_who_was_in_the_group_when_it_was_said() {
    let mut bed = Bed::new();
    bed.attach_all(1..=6);
    let group = bed.create(1, &[2]);
    let say = |bed: &mut Bed, n: u8| {
        bed.now_ms += 1;
        sent(1, &bed.send(1, 1, say(group, &[n]))).id
    };
    let before = say(&mut bed, 0);
    bed.group(1, group, add(&[3]));
    let within = [say(&mut bed, 1), say(&mut bed, 2)];
    bed.group(1, group, remove(&[3]));
    let between = say(&mut bed, 3);
    assert_eq!(
        receipts(1, &bed.read(3, vec![before, within[0], between])),
        [(Mark::READ, 3, vec![within[0]])]
    );
    bed.group(1, group, add(&[3]));
    let after = say(&mut bed, 4);
    let effects = bed.read(3, vec![before, within[1], between, after]);
    assert_eq!(receipts(1, &effects), [(Mark::READ, 3, vec![within[1], after])]);
}
