//! Cursors, windows and what is deleted.

use super::*;

#[test]
fn a_window_closes_and_an_ack_opens_it_in_order() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    let mut ids = Vec::new();
    let mut seen = Vec::new();
    for n in 0..8 {
        let effects = bed.send(1, 1, message(2, &[n]));
        ids.push(sent(&effects).id);
        seen.extend(events(&to(2, 1, &effects)));
    }
    assert_eq!(messages(&seen), ids[..3]);
    for (acked, expected) in [(0, 3..4), (3, 4..7), (6, 7..8)] {
        let up_to = seen[acked].seq;
        let more = events(&to(2, 1, &bed.ack(2, 1, up_to)));
        assert_eq!(messages(&more), ids[expected]);
        seen.extend(more);
    }
    assert!(seen.is_sorted_by_key(|event| event.seq));
    assert_eq!(seqs(&to(2, 1, &bed.send(1, 1, message(2, b"x")))).len(), 1);
}

#[test]
fn an_ack_ahead_of_the_window_makes_nothing_vanish() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    let ids: Vec<u64> = (0..8).map(|n| sent(&bed.send(1, 1, message(2, &[n]))).id).collect();
    // Three are in flight; what it was not sent comes all the same.
    assert_eq!(messages(&events(&to(2, 1, &bed.ack(2, 1, u64::MAX)))), ids[3..6]);
    assert_eq!(messages(&events(&to(2, 1, &bed.ack(2, 1, u64::MAX)))), ids[6..]);
}

#[test]
fn a_window_is_bounded_in_bytes_and_a_large_event_passes_alone() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    let large = |n| v1::Send { payload: vec![0; 20_000].into(), ..message(2, &[n]) };
    let first = seqs(&to(2, 1, &bed.send(1, 1, large(1))));
    assert_eq!(first.len(), 1);
    assert!(to(2, 1, &bed.send(1, 1, large(2))).is_empty());
    assert_eq!(seqs(&to(2, 1, &bed.ack(2, 1, first[0]))).len(), 1);
}

#[test]
fn a_first_device_gets_what_waited_and_a_later_one_what_is_new() {
    let mut bed = Bed::new();
    bed.send(1, 1, message(2, b"a"));
    bed.send(1, 1, message(2, b"b"));
    let effects = bed.attach(2, 1);
    let seen = seqs(&to(2, 1, &effects));
    assert_eq!((welcome(&effects), seen.len()), ((0, seen[1]), 2));
    let effects = bed.attach(2, 2);
    assert_eq!((welcome(&effects), seqs(&to(2, 2, &effects))), ((seen[1], seen[1]), vec![]));
    // The stream resumes where the device acknowledged it.
    bed.ack(2, 1, seen[0]);
    let effects = bed.attach(2, 1);
    assert_eq!((welcome(&effects), seqs(&to(2, 1, &effects))), ((seen[0], seen[1]), vec![seen[1]]));
}

#[test]
fn events_go_when_every_device_has_them() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    bed.attach(2, 2);
    let seen = seqs(&to(2, 1, &bed.send(1, 1, message(2, b"a"))));
    let stored = |bed: &Bed| bed.store.get(&record::event(0, 2, seen[0])).unwrap().is_some();
    bed.ack(2, 1, seen[0]);
    assert!(stored(&bed));
    bed.ack(2, 2, seen[0]);
    assert!(!stored(&bed));
}

#[test]
fn an_ack_is_cumulative_monotonic_clamped_and_answered() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    let seen = seqs(&to(2, 1, &bed.send(1, 1, message(2, b"a"))));
    let effects = bed.ack(2, 1, u64::MAX);
    let Action::Frame(frame) = &effects[0].action else { panic!("no answer") };
    assert_eq!((frame.reply_to, &frame.body), (9, &None));
    bed.ack(2, 1, 0);
    assert_eq!(welcome(&bed.attach(2, 1)), (seen[0], seen[0]));
    // The stream goes on after the clamped place.
    assert_eq!(seqs(&to(2, 1, &bed.send(1, 1, message(2, b"b")))).len(), 1);
}

#[test]
fn own_copies_do_not_hold_a_cursor_back() {
    let mut bed = Bed::new();
    for (user, device) in [(1, 1), (1, 2), (2, 1)] {
        bed.attach(user, device);
    }
    let theirs = seqs(&to(1, 1, &bed.send(2, 1, message(1, b"a"))));
    let own = seqs(&to(1, 2, &bed.send(1, 1, message(2, b"b"))));
    // Device 1 was sent the first event only; the second is its own.
    bed.ack(1, 1, theirs[0]);
    assert_eq!(welcome(&bed.attach(1, 1)).0, own[0]);
    // With nothing in flight, its own messages pass it at once.
    let own = seqs(&to(1, 2, &bed.send(1, 1, message(2, b"c"))));
    assert_eq!(welcome(&bed.attach(1, 1)), (own[0], own[0]));
}
