//! Sessions, registrations, batches that fail.

use super::*;

#[test]
fn a_newer_connection_replaces_the_older_one() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    let effects = bed.run([log::Attach { origin: origin(2, 1, 2).into() }.into()]);
    assert!(matches!(effects[0].action, Action::Close { code: CLOSE_REPLACED, .. }));
    assert_eq!(effects[0].session.generation, 1);
    bed.send(1, 1, message(2, b"a"));
    // What the old session says, and that it goes, changes nothing.
    assert!(bed.ack(2, 1, 1).is_empty());
    bed.run([log::Detach { origin: origin(2, 1, 1).into() }.into()]);
    assert_eq!(bed.partition.sessions(), 1);
    let effects = bed.send(1, 1, message(2, b"b"));
    assert_eq!(effects.iter().filter(|e| e.session.generation == 2).count(), 1);
    bed.run([log::Detach { origin: origin(2, 1, 2).into() }.into()]);
    assert_eq!(bed.partition.sessions(), 0);
}

#[test]
fn connecting_again_writes_nothing() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    let (mut batch, mut out) = (Batch::default(), Output::default());
    apply(&mut bed, &mut batch, &mut out, [attach_of(2, 1, 1)]);
    bed.partition.flush(&mut batch);
    assert!(batch.is_empty());
}

#[test]
fn devices_of_a_user_are_bounded() {
    let mut bed = Bed::new();
    for device in 1..=limits::DEVICES_MAX as u32 {
        welcome(&bed.attach(2, device));
    }
    let effects = bed.attach(2, 99);
    assert_eq!(code(&effects), Code::FORBIDDEN);
    assert!(matches!(effects[1].action, Action::Close { code: CLOSE_POLICY, .. }));
}

#[test]
fn a_rollback_leaves_state_and_sessions_as_they_were() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    bed.attach(2, 1);
    let seen = seqs(&to(2, 1, &bed.send(1, 1, message(2, b"a"))));
    let (mut batch, mut out) = (Batch::default(), Output::default());
    let commands: [Body; 3] = [
        log::Ack { origin: origin(2, 1, 1).into(), up_to: seen[0] }.into(),
        log::Send { origin: origin(1, 1, 1).into(), send: message(2, b"b").into(), receiver_known: true }
            .into(),
        log::Attach { origin: origin(2, 1, 2).into() }.into(),
    ];
    for command in commands {
        let mut tx = Tx { store: &bed.store, batch: &mut batch, now_ms: 2000, out: &mut out };
        bed.partition.apply(&command, &mut tx).unwrap();
    }
    bed.partition.flush(&mut batch);
    bed.partition.rollback(&bed.store).unwrap();
    // The message was not stored, the sessions live on, and the window knows what is in flight.
    let effects = bed.send(1, 1, message(2, b"b"));
    assert!(!sent(&effects).duplicate);
    let [message] = events(&to(2, 1, &effects)).try_into().expect("one event");
    assert_eq!(receipts(&to(1, 1, &bed.ack(2, 1, message.seq)))[0].2.len(), 2);
}

#[test]
fn a_log_gives_the_same_state_and_effects_from_its_encoding() {
    let commands: Vec<Body> = vec![
        log::Attach { origin: origin(1, 1, 1).into() }.into(),
        log::Attach { origin: origin(2, 1, 1).into() }.into(),
        log::Send { origin: origin(1, 1, 1).into(), send: message(2, b"a").into(), receiver_known: true }
            .into(),
        log::Ack { origin: origin(2, 1, 1).into(), up_to: u64::MAX }.into(),
    ];
    let encode = |body: &Body| log::Command { now_ms: 1000, body: Some(body.clone()) }.encode_to_vec();
    let decode = |bytes: Vec<u8>| log::Command::decode_from_slice(&bytes).unwrap().body.unwrap();
    let replayed: Vec<Body> = commands.iter().map(|body| decode(encode(body))).collect();
    let (mut one, mut other) = (Bed::new(), Bed::new());
    for (command, again) in commands.into_iter().zip(replayed) {
        assert_eq!(format!("{:?}", one.run([command])), format!("{:?}", other.run([again])));
    }
}

#[test]
fn a_welcome_waits_only_for_what_it_tells() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    let (mut batch, mut out) = (Batch::default(), Output::default());
    apply(&mut bed, &mut batch, &mut out, [attach_of(2, 1, 1), attach_of(2, 1, 2), attach_of(1, 1, 2)]);
    // Two Welcomes and a Close for the new device, the same for the known one, and nothing that must be stored.
    assert_eq!((out.at_once.len(), out.effects.len()), (5, 0));
    assert!(batch.is_empty() && !bed.partition.has_changes());
    assert_eq!(bed.partition.registrations(), 1);
    bed.partition.settled();
    let send =
        log::Send { origin: origin(1, 1, 2).into(), send: message(2, b"a").into(), receiver_known: true };
    out = Output::default();
    apply(&mut bed, &mut batch, &mut out, [send.into(), attach_of(2, 1, 3), attach_of(2, 2, 1)]);
    // They tell of an event that is not stored yet.
    assert!(bed.partition.has_changes() && out.at_once.is_empty());
    assert_eq!(frames(&out.effects).len(), 3);
}

#[test]
fn a_user_who_only_connects_is_one_small_record() {
    let mut bed = Bed::new();
    bed.attach(400_000_000, 1);
    let value = bed.store.get(&record::user(0, 400_000_000)).unwrap().unwrap();
    let bytes = record::user(0, 400_000_000).bytes().len() + value.len();
    assert!(bytes <= 18, "{bytes} bytes");
    assert_eq!(bed.partition.users_cached(), 0);
}

#[test]
fn a_registration_outlives_a_batch_that_fails() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    let (mut batch, mut out) = (Batch::default(), Output::default());
    let send =
        log::Send { origin: origin(1, 1, 1).into(), send: message(2, b"a").into(), receiver_known: true };
    apply(&mut bed, &mut batch, &mut out, [attach_of(2, 1, 1), send.into()]);
    bed.partition.rollback(&bed.store).unwrap();
    assert_eq!((bed.partition.sessions(), bed.partition.registrations()), (2, 1));
    bed.partition.recovered(&bed.store).unwrap();
    assert_eq!(bed.partition.registrations(), 1);
    let effects = bed.send(1, 1, message(2, b"a"));
    let seen = seqs(&to(2, 1, &effects));
    assert_eq!((seen.len(), bed.partition.registrations()), (1, 0));
    bed.run([log::Detach { origin: origin(2, 1, 1).into() }.into()]);
    assert_eq!(welcome(&bed.attach(2, 1)), (0, seen[0]));
}
