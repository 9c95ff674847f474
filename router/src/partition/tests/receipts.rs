//! Who is told of what was delivered and read.

use super::*;

#[test]
fn delivered_is_told_once_for_the_first_device_and_in_one_receipt() {
    let mut bed = Bed::new();
    for (user, device) in [(1, 1), (2, 1), (2, 2)] {
        bed.attach(user, device);
    }
    let effects: Vec<_> = (0..3).map(|n| bed.send(1, 1, message(2, &[n]))).collect();
    let ids: Vec<u64> = effects.iter().map(|effects| sent(effects).id).collect();
    let seen: Vec<u64> = effects.iter().flat_map(|effects| seqs(&to(2, 1, effects))).collect();
    let effects = bed.ack(2, 1, seen[1]);
    assert_eq!(receipts(&to(1, 1, &effects)), [(Mark::DELIVERED, 2, ids[..2].to_vec())]);
    let effects = bed.ack(2, 2, seen[2]);
    assert_eq!(receipts(&to(1, 1, &effects)), [(Mark::DELIVERED, 2, ids[2..].to_vec())]);
    assert!(receipts(&to(1, 1, &bed.ack(2, 1, seen[2]))).is_empty());
}

#[test]
fn a_late_device_does_not_deliver_what_it_never_got() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    bed.attach(2, 1);
    let first = sent(&bed.send(1, 1, message(2, b"a"))).id;
    bed.attach(2, 2);
    let second = sent(&bed.send(1, 1, message(2, b"b"))).id;
    assert_eq!(receipts(&to(1, 1, &bed.ack(2, 2, u64::MAX))), [(Mark::DELIVERED, 2, vec![second])]);
    assert_eq!(receipts(&to(1, 1, &bed.ack(2, 1, u64::MAX))), [(Mark::DELIVERED, 2, vec![first])]);
}

#[test]
fn read_is_told_once_and_only_by_the_receiver() {
    let mut bed = Bed::new();
    for user in [1, 2, 3] {
        bed.attach(user, 1);
    }
    let id = sent(&bed.send(1, 1, message(2, b"a"))).id;
    assert!(receipts(&to(1, 1, &bed.read(3, vec![id]))).is_empty());
    assert_eq!(receipts(&to(1, 1, &bed.read(2, vec![id, 4711, id]))), [(Mark::READ, 2, vec![id])]);
    assert!(receipts(&to(1, 1, &bed.read(2, vec![id]))).is_empty());
    assert_eq!(bed.store.len(Space::Marks), 0);
    assert_eq!(code(&bed.read(2, vec![1; limits::READ_MESSAGES_MAX + 1])), Code::MALFORMED);
}
