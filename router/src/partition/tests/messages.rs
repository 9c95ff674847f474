//! What becomes of a Send.

use super::*;

#[test]
fn a_message_reaches_all_devices_but_the_one_that_said_it() {
    let mut bed = Bed::new();
    for (user, device) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        bed.attach(user, device);
    }
    let effects = bed.send(1, 1, message(2, b"a"));
    let id = sent(&effects).id;
    for (user, device) in [(1, 2), (2, 1), (2, 2)] {
        let events = events(&to(user, device, &effects));
        assert!(matches!(&events[..], [v1::Event { body: Some(event::Body::Message(m)), .. }] if m.id == id));
    }
    assert!(events(&to(1, 1, &effects)).is_empty());
}

#[test]
fn a_sender_with_one_device_keeps_no_copy() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    bed.attach(2, 1);
    bed.send(1, 1, message(2, b"a"));
    assert_eq!(bed.store.len(Space::Events), 1);
}

#[test]
fn the_same_client_id_is_answered_and_not_stored_twice() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    let first = sent(&bed.send(1, 1, message(2, b"a")));
    bed.now_ms += 50;
    let effects = bed.send(1, 1, message(2, b"a"));
    let again = sent(&effects);
    assert_eq!((again.id, again.sent_at_ms, again.duplicate), (first.id, first.sent_at_ms, true));
    assert!(to(2, 1, &effects).is_empty());
    // Another's client ids are another's.
    assert!(!sent(&bed.send(3, 1, message(2, b"a"))).duplicate);
    // To another receiver it is another message, wherever the pairs have their homes.
    assert!(!sent(&bed.send(1, 1, message(3, b"a"))).duplicate);
}

#[test]
fn ids_rise_though_the_clock_goes_back() {
    let mut bed = Bed::new();
    let mut last = 0;
    for (n, now_ms) in [1000, 1000, 5, 2000].into_iter().enumerate() {
        bed.now_ms = now_ms;
        let id = sent(&bed.send(1, 1, message(2, &[n as u8]))).id;
        assert!(id > last);
        last = id;
        // And over a restart.
        bed.partition = Partition::open(0, 1, bed.partition.rules, &bed.store).unwrap();
    }
}

#[test]
fn what_cannot_be_sent_is_refused_with_its_code() {
    let mut bed = Bed::new();
    let address = |to| v1::Send { to: v1::Address { to: Some(to) }.into(), ..message(2, b"a") };
    let bad = [
        (v1::Send { to: buffa::MessageField::none(), ..message(2, b"a") }, Code::MALFORMED),
        (message(0, b"a"), Code::MALFORMED),
        (message(1 << 63, b"a"), Code::MALFORMED),
        (message(2, b""), Code::MALFORMED),
        (message(2, &[1; 17]), Code::MALFORMED),
        (v1::Send { kind: 99.into(), ..message(2, b"a") }, Code::MALFORMED),
        (v1::Send { payload: vec![0; 64 * 1024 + 1].into(), ..message(2, b"a") }, Code::TOO_LARGE),
        (address(To::Group(7)), Code::NOT_FOUND),
        // Either a payload or sealed, for whom it concerns, once for each device.
        (v1::Send { sealed: vec![sealed(2, 1)], ..message(2, b"a") }, Code::MALFORMED),
        (v1::Send { sealed: vec![sealed(2, 1), sealed(3, 1)], ..empty(2) }, Code::MALFORMED),
        (v1::Send { sealed: vec![sealed(2, 1), sealed(2, 1)], ..empty(2) }, Code::MALFORMED),
        (v1::Send { sealed: vec![sealed(1, 2)], ..empty(2) }, Code::MALFORMED),
    ];
    for (send, expected) in bad {
        assert_eq!(code(&bed.send(1, 1, send.clone())), expected, "{send:?}");
    }
    let unknown =
        log::Send { origin: origin(1, 1, 1).into(), send: message(2, b"a").into(), receiver_known: false };
    assert_eq!(code(&bed.run([unknown.into()])), Code::NOT_FOUND);
    assert_eq!(bed.store.len(Space::Sent), 0);
    let largest = v1::Send { payload: vec![0; 64 * 1024].into(), ..message((1 << 63) - 1, &[1; 16]) };
    assert!(sent(&bed.send(1, 1, largest)).id > 0);
}

#[test]
fn sending_to_oneself_reaches_the_other_devices() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    bed.attach(1, 2);
    let effects = bed.send(1, 1, message(1, b"a"));
    let seqs = seqs(&to(1, 2, &effects));
    assert_eq!(seqs.len(), 1);
    assert!(events(&to(1, 1, &effects)).is_empty());
    bed.ack(1, 2, seqs[0]);
    assert_eq!(bed.store.len(Space::Events), 0);
}

#[test]
fn what_is_sealed_reaches_just_its_device() {
    let mut bed = Bed::new();
    for (user, device) in [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)] {
        bed.attach(user, device);
    }
    bed.run([log::Detach { origin: origin(2, 2, 1).into() }.into()]);
    let devices = [(2, 1), (2, 2), (1, 2)];
    let send = v1::Send { sealed: devices.map(|(user, device)| sealed(user, device)).to_vec(), ..empty(2) };
    let mut effects = bed.send(1, 1, send);
    // From disk as at once.
    effects.extend(bed.attach(2, 2));
    for (user, device) in devices {
        let [event] = events(&to(user, device, &effects)).try_into().expect("one event");
        let Some(event::Body::Message(message)) = event.body else { panic!("no message") };
        assert_eq!((&message.payload[..], message.sealed), (format!("for {user}:{device}").as_bytes(), true));
        bed.ack(user, device, event.seq);
    }
    for (user, device) in [(1, 1), (2, 3)] {
        assert!(events(&to(user, device, &effects)).is_empty());
    }
    // The devices that are told nothing hold nothing back, once they say anything.
    bed.ack(1, 1, 0);
    bed.ack(2, 3, 0);
    assert_eq!(bed.store.len(Space::Events), 1, "only the receipt");
}
