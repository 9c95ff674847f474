//! One rule a test, on a partition that is home of everybody.

use super::*;
use crate::{config::Config, limits, record::Space, store::MemoryStore};
use roost_proto::v1::{self, Mark, address::To, event};

struct Bed {
    partition: Partition,
    store: MemoryStore,
    now_ms: u64,
}

fn origin(user: u64, device: u32, generation: u32) -> log::Origin {
    let slot = user as u32 * 10 + device;
    log::Origin { slot, generation, user, device, id: 9, ..log::Origin::default() }
}

fn message(to: u64, client_id: &[u8]) -> v1::Send {
    v1::Send {
        to: v1::Address { to: Some(To::User(to)) }.into(),
        client_id: client_id.to_vec().into(),
        payload: vec![7; 100].into(),
        ..v1::Send::default()
    }
}

fn empty(to: u64) -> v1::Send {
    v1::Send { payload: bytes::Bytes::new(), ..message(to, b"sealed") }
}

fn sealed(user: u64, device: u32) -> v1::Sealed {
    v1::Sealed { user, device, ciphertext: format!("for {user}:{device}").into_bytes().into() }
}

impl Bed {
    fn new() -> Self {
        let rules = Rules { window_events_max: 3, window_bytes_max: 10_000, ..Config::default().rules() };
        let store = MemoryStore::default();
        Self { partition: Partition::open(0, 1, rules, &store).unwrap(), store, now_ms: 1000 }
    }

    /// One batch: what leaves when it is durable, and what refills bring.
    fn run(&mut self, commands: impl IntoIterator<Item = Body>) -> Vec<Effect> {
        let (mut batch, mut out) = (Batch::default(), Output::default());
        for command in commands {
            let mut tx = Tx { store: &self.store, batch: &mut batch, now_ms: self.now_ms, out: &mut out };
            self.partition.apply(&command, &mut tx).unwrap();
        }
        self.partition.flush(&mut batch);
        self.store.commit(&batch).unwrap();
        self.partition.committed();
        out.at_once.append(&mut out.effects);
        std::mem::swap(&mut out.at_once, &mut out.effects);
        let mut skips = Vec::new();
        while self.partition.wants_refill() {
            skips.extend(self.partition.refill(&self.store, self.now_ms, &mut out.effects).unwrap());
        }
        let skip = |s: Skip| Body::from(log::Skip { user: s.user, device: s.device, up_to: s.up_to });
        if !skips.is_empty() {
            self.run(skips.into_iter().map(skip).collect::<Vec<_>>());
        }
        out.effects
    }

    fn attach(&mut self, user: u64, device: u32) -> Vec<Effect> {
        self.run([log::Attach { origin: origin(user, device, 1).into() }.into()])
    }

    fn send(&mut self, from: u64, device: u32, send: v1::Send) -> Vec<Effect> {
        let origin = origin(from, device, 1).into();
        self.run([log::Send { origin, send: send.into(), receiver_known: true }.into()])
    }

    fn ack(&mut self, user: u64, device: u32, up_to: u64) -> Vec<Effect> {
        self.run([log::Ack { origin: origin(user, device, 1).into(), up_to }.into()])
    }

    /// Ticks enough for a pass of the sweep over the store.
    fn pass(&mut self) {
        for _ in 0..20 {
            self.run([log::Tick::default().into()]);
        }
    }

    fn counts(&self) -> [usize; 3] {
        [Space::Events, Space::Sent, Space::Marks].map(|space| self.store.len(space))
    }

    fn read(&mut self, user: u64, message: Vec<u64>) -> Vec<Effect> {
        self.run([log::Read { origin: origin(user, 1, 1).into(), message }.into()])
    }
}

fn to(user: u64, device: u32, effects: &[Effect]) -> Vec<Action> {
    let slot = user as u32 * 10 + device;
    effects.iter().filter(|e| e.session.slot == slot).map(|e| e.action.clone()).collect()
}

fn seqs(actions: &[Action]) -> Vec<u64> {
    events(actions).iter().map(|event| event.seq).collect()
}

fn events(actions: &[Action]) -> Vec<v1::Event> {
    let event = |action: &Action| match action {
        Action::Event(bytes) => Some(v1::Event::decode_from_slice(bytes).unwrap()),
        _ => None,
    };
    actions.iter().filter_map(event).collect()
}

/// Their ids.
fn messages(events: &[v1::Event]) -> Vec<u64> {
    let id = |event: &v1::Event| match &event.body {
        Some(event::Body::Message(message)) => Some(message.id),
        _ => None,
    };
    events.iter().filter_map(id).collect()
}

fn receipts(actions: &[Action]) -> Vec<(Mark, u64, Vec<u64>)> {
    let receipt = |event: v1::Event| match event.body {
        Some(event::Body::Receipt(r)) => Some((r.mark.as_known()?, r.by, r.message)),
        _ => None,
    };
    events(actions).into_iter().filter_map(receipt).collect()
}

fn frames(effects: &[Effect]) -> Vec<server_frame::Body> {
    let body = |effect: &Effect| match &effect.action {
        Action::Frame(frame) => frame.body.clone(),
        _ => None,
    };
    effects.iter().filter_map(body).collect()
}

fn sent(effects: &[Effect]) -> v1::Sent {
    match frames(effects).first() {
        Some(server_frame::Body::Sent(sent)) => (**sent).clone(),
        other => panic!("not a Sent: {other:?}"),
    }
}

fn code(effects: &[Effect]) -> Code {
    match frames(effects).first() {
        Some(server_frame::Body::Error(error)) => error.code.as_known().unwrap(),
        other => panic!("not an Error: {other:?}"),
    }
}

fn welcome(effects: &[Effect]) -> (u64, u64) {
    match frames(effects).first() {
        Some(server_frame::Body::Welcome(welcome)) => (welcome.acknowledged, welcome.head),
        other => panic!("not a Welcome: {other:?}"),
    }
}

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

/// Applies commands to an open batch.
fn apply(bed: &mut Bed, batch: &mut Batch, out: &mut Output, commands: impl IntoIterator<Item = Body>) {
    for command in commands {
        let mut tx = Tx { store: &bed.store, batch, now_ms: 1000, out };
        bed.partition.apply(&command, &mut tx).unwrap();
    }
}

fn attach_of(user: u64, device: u32, generation: u32) -> Body {
    log::Attach { origin: origin(user, device, generation).into() }.into()
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
