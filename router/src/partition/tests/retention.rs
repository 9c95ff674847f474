//! What goes with time.

use super::*;

#[test]
fn what_is_not_delivered_in_30_days_goes_and_so_do_the_keys_kept_for_it() {
    let mut bed = Bed::new();
    bed.now_ms = 100 * limits::DAY_MS;
    bed.attach(2, 1);
    bed.run([log::Detach { origin: origin(2, 1, 1).into() }.into()]);
    for n in 0..2000_u16 {
        bed.send(1, 1, message(2, &n.to_be_bytes()));
    }
    bed.now_ms += 30 * limits::DAY_MS - 1;
    bed.pass();
    assert_eq!(bed.counts(), [2000, 2000, 2000]);
    bed.now_ms += limits::SWEEP_REST_MS;
    // What the sweep has not come to yet is not delivered either.
    assert_eq!(seqs(&to(2, 1, &bed.attach(2, 1))).len(), 0);
    bed.pass();
    assert_eq!(bed.counts(), [0, 0, 0]);
}

#[test]
fn a_status_lives_for_24_hours_whoever_has_seen_it() {
    let mut bed = Bed::new();
    bed.now_ms = 100 * limits::DAY_MS;
    let status = |id: &[u8]| v1::Send { kind: v1::Kind::STATUS.into(), ..message(2, id) };
    bed.attach(2, 1);
    let first = sent(&bed.send(1, 1, status(b"a"))).id;
    let seen = seqs(&to(2, 1, &bed.send(1, 1, message(2, b"b"))));
    bed.ack(2, 1, seen[0]);
    bed.now_ms += limits::STATUS_MS - 1;
    bed.run([log::Tick::default().into()]);
    // A device that comes now sees what lives, and nothing else of what was before it.
    let effects = bed.attach(2, 2);
    assert_eq!(messages(&events(&to(2, 2, &effects))), [first]);
    assert!(events(&to(2, 1, &bed.attach(2, 1))).is_empty());
    bed.now_ms += 1;
    assert!(events(&to(2, 3, &bed.attach(2, 3))).is_empty());
    bed.run([log::Tick::default().into()]);
    assert_eq!((bed.store.len(Space::Events), bed.store.len(Space::Statuses)), (1, 0), "a receipt");
}

#[test]
fn a_device_that_was_away_for_30_days_holds_nothing_back_and_makes_room() {
    let mut bed = Bed::new();
    bed.now_ms = 100 * limits::DAY_MS;
    for device in 1..=limits::DEVICES_MAX as u32 {
        bed.attach(2, device);
        bed.run([log::Detach { origin: origin(2, device, 1).into() }.into()]);
    }
    bed.now_ms += 31 * limits::DAY_MS;
    for device in 2..=limits::DEVICES_MAX as u32 {
        bed.attach(2, device);
    }
    let seen = seqs(&to(2, 2, &bed.send(1, 1, message(2, b"a"))));
    for device in 2..=limits::DEVICES_MAX as u32 {
        bed.ack(2, device, seen[0]);
    }
    let stored = bed.store.get(&record::event(0, 2, seen[0])).unwrap();
    assert!(stored.is_none(), "device 1 holds it back");
    welcome(&bed.attach(2, 99));
    assert_eq!(code(&bed.attach(2, 100)), Code::FORBIDDEN);
}

#[test]
fn a_device_that_stays_connected_for_a_month_is_not_away_when_it_goes() {
    let mut bed = Bed::new();
    bed.now_ms = 100 * limits::DAY_MS;
    bed.attach(2, 1);
    bed.attach(2, 2);
    for _ in 0..40 {
        bed.now_ms += limits::DAY_MS;
        bed.run([log::Tick::default().into()]);
    }
    bed.run([log::Detach { origin: origin(2, 1, 1).into() }.into()]);
    let seen = seqs(&to(2, 2, &bed.send(1, 1, message(2, b"a"))));
    bed.ack(2, 2, seen[0]);
    assert_eq!(seqs(&to(2, 1, &bed.attach(2, 1))), seen);
}

#[test]
fn a_device_that_only_asks_over_http_is_here() {
    let mut bed = Bed::new();
    bed.now_ms = 100 * limits::DAY_MS;
    bed.attach(2, 1);
    let ask = || log::Events { origin: caller(2, 2).into(), after: None, limit: 100 }.into();
    for _ in 0..40 {
        bed.run([ask()]);
        bed.now_ms += limits::DAY_MS;
    }
    let seen = seqs(&to(2, 1, &bed.send(1, 1, message(2, b"a"))));
    bed.ack(2, 1, seen[0]);
    let effects = bed.run([ask()]);
    let [Action::Answer(answer)] = &effects.iter().map(|e| e.action.clone()).collect::<Vec<_>>()[..] else {
        panic!("not an answer: {effects:?}")
    };
    assert!(matches!(&**answer, Answer::Events { events, .. } if events.len() == 1), "{answer:?}");
}

#[test]
fn a_device_that_is_connected_makes_no_room_for_another() {
    let mut bed = Bed::new();
    bed.now_ms = 100 * limits::DAY_MS;
    for device in 1..=limits::DEVICES_MAX as u32 {
        bed.attach(2, device);
    }
    bed.now_ms += 31 * limits::DAY_MS;
    assert_eq!(code(&bed.attach(2, 99)), Code::FORBIDDEN);
    let seen = seqs(&to(2, 1, &bed.send(1, 1, message(2, b"a"))));
    assert_eq!(to(2, 1, &bed.ack(2, 1, seen[0])).len(), 1, "an answer");
}

#[test]
fn what_one_ack_leaves_to_be_deleted_goes_with_ticks() {
    let mut bed = Bed::new();
    bed.partition.rules.window_events_max = 10_000;
    bed.partition.rules.window_bytes_max = 10_000_000;
    bed.attach(2, 1);
    bed.attach(2, 2);
    let count = limits::TRIM_EVENTS_MAX as u32 + 500;
    for n in 0..count {
        bed.send(1, 1, message(2, &n.to_be_bytes()));
    }
    bed.ack(2, 1, u64::MAX);
    bed.ack(2, 2, u64::MAX);
    assert_eq!(bed.events_of(2), 500);
    bed.run([log::Tick::default().into()]);
    assert_eq!(bed.events_of(2), 0);
}

#[test]
fn what_is_left_to_be_deleted_is_found_again_after_a_start() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    bed.run([log::Detach { origin: origin(2, 1, 1).into() }.into()]);
    for n in 0..3 * limits::TRIM_EVENTS_MAX as u32 {
        bed.send(1, 1, message(2, &n.to_be_bytes()));
    }
    bed.run([log::Ack { origin: caller(2, 1).into(), up_to: u64::MAX }.into()]);
    let left = bed.events_of(2);
    assert!(left > limits::TRIM_EVENTS_MAX, "{left}");
    bed.partition = Partition::open(0, 1, bed.partition.rules, &bed.store).unwrap();
    bed.run([log::Tick::default().into()]);
    assert_eq!(bed.events_of(2), left, "nobody knows of them");
    bed.attach(2, 1);
    (0..3).for_each(|_| drop(bed.run([log::Tick::default().into()])));
    assert_eq!(bed.events_of(2), 0);
}

#[test]
fn what_only_a_removed_device_lacked_goes_however_much_it_is() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    bed.attach(2, 2);
    bed.run([log::Detach { origin: origin(2, 2, 1).into() }.into()]);
    for n in 0..3000_u16 {
        let seen = seqs(&to(2, 1, &bed.send(1, 1, message(2, &n.to_be_bytes()))));
        bed.ack(2, 1, seen[0]);
    }
    bed.run([log::RemoveDevice { origin: caller(2, 1).into(), device: 2 }.into()]);
    assert!(bed.events_of(2) > 0);
    let seen = seqs(&to(2, 1, &bed.send(1, 1, message(2, b"another"))));
    bed.ack(2, 1, seen[0]);
    (0..3).for_each(|_| drop(bed.run([log::Tick::default().into()])));
    assert_eq!(bed.events_of(2), 0);
}
