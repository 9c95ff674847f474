//! Pages of what was said.

use super::*;

fn fetch(bed: &mut Bed, (user, device): (u64, u32), with: u64, before: u64, limit: u32) -> v1::History {
    let fetch = v1::HistoryFetch { with: v1::Address { to: Some(To::User(with)) }.into(), before, limit };
    let origin = origin(user, device, 1).into();
    let effects = bed.run([log::History { origin, fetch: fetch.into() }.into()]);
    match frames(&effects).first() {
        Some(server_frame::Body::History(history)) => (**history).clone(),
        other => panic!("no history: {other:?}"),
    }
}

fn ids(history: &v1::History) -> Vec<u64> {
    history.message.iter().map(|message| message.id).collect()
}

#[test]
fn it_is_off_unless_configured() {
    let mut bed = Bed::new();
    bed.send(1, 1, message(2, b"a"));
    assert_eq!(bed.store.len(Space::History), 0);
    let fetch = v1::HistoryFetch { with: v1::Address { to: Some(To::User(2)) }.into(), ..Default::default() };
    let command = log::History { origin: origin(1, 1, 1).into(), fetch: fetch.into() };
    assert_eq!(code(&bed.run([command.into()])), Code::FORBIDDEN);
}

#[test]
fn both_sides_page_through_what_they_said_newest_first_and_nobody_else() {
    let mut bed = Bed::new();
    bed.partition.rules.history_ms = u64::MAX;
    let mut said: Vec<u64> = Vec::new();
    for n in 0..5 {
        said.push(sent(&bed.send(1 + u64::from(n) % 2, 1, message(2 - u64::from(n) % 2, &[n]))).id);
    }
    bed.send(3, 1, message(1, b"x"));
    for kind in [v1::Kind::STATUS, v1::Kind::SIGNAL] {
        bed.send(1, 1, v1::Send { kind: kind.into(), ..message(2, &[kind as u8, 9]) });
    }
    said.reverse();
    let first = fetch(&mut bed, (1, 1), 2, 0, 2);
    assert_eq!((ids(&first), first.more), (said[..2].to_vec(), true));
    let rest = fetch(&mut bed, (2, 1), 1, said[1], 100);
    assert_eq!((ids(&rest), rest.more), (said[2..].to_vec(), false));
    assert!(fetch(&mut bed, (3, 1), 2, 0, 0).message.is_empty());
}

#[test]
fn a_page_is_bounded_in_bytes_and_messages() {
    let mut bed = Bed::new();
    bed.partition.rules.history_ms = u64::MAX;
    for n in 0..250_u32 {
        let payload = vec![0; if n < 10 { 60_000 } else { 10 }].into();
        bed.send(1, 1, v1::Send { payload, ..message(2, &n.to_be_bytes()) });
    }
    let page = fetch(&mut bed, (1, 1), 2, 0, u32::MAX);
    assert_eq!((page.message.len(), page.more), (limits::HISTORY_MESSAGES_MAX, true));
    let oldest = page.message.last().expect("a message").id;
    let page = fetch(&mut bed, (1, 1), 2, oldest, u32::MAX);
    assert_eq!((page.message.len(), page.more), (40 + 3, true));
}

#[test]
fn a_device_sees_what_was_sealed_for_it() {
    let mut bed = Bed::new();
    bed.partition.rules.history_ms = u64::MAX;
    bed.send(1, 1, v1::Send { sealed: vec![sealed(2, 1)], ..empty(2) });
    let own = fetch(&mut bed, (2, 1), 1, 0, 0).message.remove(0);
    assert_eq!((&own.payload[..], own.sealed), (&b"for 2:1"[..], true));
    let other = fetch(&mut bed, (2, 2), 1, 0, 0).message.remove(0);
    assert_eq!((&other.payload[..], other.sealed), (&b""[..], true));
}

#[test]
fn it_goes_after_the_days_it_is_kept_for() {
    let mut bed = Bed::new();
    bed.now_ms = 100 * limits::DAY_MS;
    bed.partition.rules.history_ms = 7 * limits::DAY_MS;
    bed.send(1, 1, message(2, b"a"));
    bed.now_ms += 7 * limits::DAY_MS - 1;
    bed.pass();
    assert_eq!(bed.store.len(Space::History), 1);
    bed.now_ms += limits::SWEEP_REST_MS;
    bed.pass();
    assert_eq!(bed.store.len(Space::History), 0);
}

mod groups {
    use crate::{
        config::{Config, Rules},
        limits::DAY_MS,
        log,
        partition::groups::bed::{Bed, PARTITIONS, add, answer, error, origin, remove, say, sent},
        partition::{Output, Partition, group_home},
        store::{Batch, Store},
    };
    use roost_proto::v1::{self, Code, HistoryFetch, address::To, server_frame};

    fn fetch(bed: &mut Bed, user: u64, group: u64, before: u64, limit: u32) -> Result<Vec<u64>, Code> {
        let with = v1::Address { to: Some(To::Group(group)) }.into();
        let command = log::History {
            origin: origin(user, 1).into(),
            fetch: HistoryFetch { with, before, limit }.into(),
        };
        let home = group_home(group, PARTITIONS).unwrap();
        let effects = bed.batch(&[(home, command.into())]);
        match answer(user, &effects) {
            server_frame::Body::History(history) => Ok(history.message.iter().map(|m| m.id).collect()),
            _ => Err(error(user, &effects).0),
        }
    }

    #[test]
    fn members_read_what_was_said_while_they_were_in_it() {
        let mut bed = Bed::with(Rules { history_ms: u64::MAX, ..Config::default().rules() });
        bed.attach_all(1..=4);
        let group = bed.create(1, &[2]);
        let mut said = Vec::new();
        let say = |bed: &mut Bed, n: u8| sent(1, &bed.send(1, 1, say(group, &[n]))).id;
        said.push(say(&mut bed, 0));
        bed.group(1, group, add(&[3]));
        said.push(say(&mut bed, 1));
        bed.group(1, group, remove(&[3]));
        said.push(say(&mut bed, 2));
        bed.group(1, group, add(&[3]));
        said.push(say(&mut bed, 3));
        said.push(say(&mut bed, 4));
        let newest_first = |ids: &[usize]| Ok(ids.iter().map(|index| said[*index]).collect());
        assert_eq!(fetch(&mut bed, 1, group, 0, 0), newest_first(&[4, 3, 2, 1, 0]));
        assert_eq!(fetch(&mut bed, 3, group, 0, 0), newest_first(&[4, 3, 1]));
        assert_eq!(fetch(&mut bed, 3, group, said[4], 1), newest_first(&[3]));
        assert_eq!(fetch(&mut bed, 3, group, said[3], 1), newest_first(&[1]));
        bed.group(1, group, remove(&[2]));
        say(&mut bed, 5);
        assert_eq!(fetch(&mut bed, 2, group, 0, 2), newest_first(&[4, 3]));
        assert_eq!(fetch(&mut bed, 4, group, 0, 0), Err(Code::NOT_FOUND));
    }

    #[test]
    fn what_was_said_in_an_earlier_membership_is_read_for_as_long_as_it_is_kept() {
        let mut bed = Bed::with(Rules { history_ms: u64::MAX, ..Config::default().rules() });
        bed.now_ms = 100 * DAY_MS;
        bed.attach_all(1..=3);
        let group = bed.create(1, &[2]);
        let said = sent(1, &bed.send(1, 1, say(group, b"a"))).id;
        bed.group(1, group, remove(&[2]));
        bed.group(1, group, add(&[2]));
        bed.now_ms += 31 * DAY_MS;
        (0..40).for_each(|_| bed.tick());
        assert_eq!(fetch(&mut bed, 2, group, 0, 0), Ok(vec![said]));
    }

    #[test]
    fn a_group_that_is_being_deleted_is_not_read_beside_the_commit() {
        let mut bed = Bed::with(Rules { history_ms: u64::MAX, ..Config::default().rules() });
        bed.attach_all(1..=2);
        let group = bed.create(1, &[]);
        let home = group_home(group, PARTITIONS).unwrap();
        let (mut batch, mut out) = (Batch::default(), Output::default());
        bed.apply(home, &Bed::command(1, group, remove(&[1])), &mut batch, &mut out);
        let with = v1::Address { to: Some(To::Group(group)) }.into();
        let fetch = HistoryFetch { with, before: 0, limit: 0 }.into();
        let fetch = log::History { origin: origin(1, 1).into(), fetch }.into();
        if bed.partitions[usize::from(home)].goes_aside(&fetch, &bed.store, bed.now_ms) {
            bed.apply(home, &fetch, &mut Batch::default(), &mut Output::default());
        }
        bed.partitions.iter().for_each(|partition| partition.flush(&mut batch));
        bed.store.commit(&batch).unwrap();
        bed.partitions.iter_mut().for_each(Partition::committed);
        let effects = bed.group(1, group, add(&[2]));
        assert_eq!(error(1, &effects).0, Code::NOT_FOUND, "it lives again");
    }
}
