//! Keys: what a device publishes, and who gets which of it.

use super::*;
use crate::limits::{ONE_TIME_KEYS_DEVICE_MAX, ONE_TIME_KEYS_FRAME_MAX};
use bytes::Bytes;
use roost_proto::v1::{KeyBundle, KeysPublish};

fn keys(identity: &'static str, one_time: impl IntoIterator<Item = u32>) -> KeysPublish {
    KeysPublish {
        identity: identity.into(),
        signed_prekey: "prekey".into(),
        signature: "signature".into(),
        one_time: one_time.into_iter().map(|n| n.to_string().into()).collect(),
    }
}

fn publication(user: u64, device: u32, keys: KeysPublish) -> Body {
    log::KeysPublish { origin: origin(user, device, 1).into(), keys: keys.into() }.into()
}

fn fetch_by(user: u64, of: u64) -> Body {
    log::KeysFetch { origin: origin(user, 1, 1).into(), user: of }.into()
}

fn one_time_of(effects: &[Effect]) -> Vec<String> {
    let text = |bundle: KeyBundle| String::from_utf8(bundle.one_time.to_vec()).unwrap();
    bundles(effects).into_iter().map(text).collect()
}

fn bundles(effects: &[Effect]) -> Vec<KeyBundle> {
    match frames(effects).first() {
        Some(server_frame::Body::Keys(keys)) => keys.device.clone(),
        other => panic!("not KeyBundles: {other:?}"),
    }
}

fn one_time_keys(effects: &[Effect]) -> u32 {
    match frames(effects).first() {
        Some(server_frame::Body::Welcome(welcome)) => welcome.one_time_keys,
        other => panic!("not a Welcome: {other:?}"),
    }
}

impl Bed {
    fn publish(&mut self, user: u64, device: u32, keys: KeysPublish) -> Vec<Effect> {
        self.run([publication(user, device, keys)])
    }

    fn fetch(&mut self, user: u64) -> Vec<Effect> {
        self.run([fetch_by(1, user)])
    }

    /// What a restart reads; sessions are gone with the process.
    fn restart(&mut self) {
        self.partition = Partition::open(0, 1, self.partition.rules, &self.store).unwrap();
    }
}

#[test]
fn each_device_that_has_published_gets_a_bundle_and_each_one_time_key_goes_once() {
    let mut bed = Bed::new();
    for device in [1, 2, 3] {
        bed.attach(2, device);
    }
    let effects = bed.publish(2, 1, keys("one", [10, 11]));
    assert!(
        matches!(&effects[0].action, Action::Frame(frame) if frame.reply_to == 9 && frame.body.is_none())
    );
    bed.publish(2, 3, keys("three", [30]));
    let bundle = |device, identity: &'static str, one_time: &'static str| KeyBundle {
        user: 2,
        device,
        identity: identity.into(),
        signed_prekey: "prekey".into(),
        signature: "signature".into(),
        one_time: one_time.into(),
    };
    assert_eq!(bundles(&bed.fetch(2)), [bundle(1, "one", "10"), bundle(3, "three", "30")]);
    assert_eq!(bundles(&bed.fetch(2)), [bundle(1, "one", "11"), bundle(3, "three", "")]);
    assert_eq!(bundles(&bed.fetch(2)), [bundle(1, "one", ""), bundle(3, "three", "")]);
    assert_eq!(bed.store.len(Space::OneTime), 0);
}

#[test]
fn two_fetches_of_one_batch_get_two_keys() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    let effects = bed.run([publication(2, 1, keys("i", [1, 2])), fetch_by(1, 2), fetch_by(3, 2)]);
    let of = |user: u64| {
        let mine = effects.iter().filter(|effect| effect.session.slot == user as u32 * 10 + 1);
        one_time_of(&mine.cloned().collect::<Vec<_>>())
    };
    assert_eq!((of(1), of(3)), (vec!["1".to_owned()], vec!["2".to_owned()]));
}

#[test]
fn a_key_is_handed_out_once_over_restarts_and_failed_commits() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    bed.publish(2, 1, keys("i", 0..5));
    assert_eq!(one_time_of(&bed.fetch(2)), ["0"]);
    bed.restart();
    assert_eq!(one_time_of(&bed.fetch(2)), ["1"]);
    // A batch that is taken back has handed out nothing.
    let fail = |bed: &mut Bed| {
        let (mut batch, mut out) = (Batch::default(), Output::default());
        apply(bed, &mut batch, &mut out, [fetch_by(1, 2)]);
        // Its answer must not leave before the key is deleted for good.
        assert!(out.at_once.is_empty() && bed.partition.has_changes());
        bed.partition.flush(&mut batch);
        bed.store.fail(true);
        assert!(bed.store.commit(&batch).is_err());
        bed.partition.rollback(&bed.store).unwrap();
        bed.store.fail(false);
        bed.store.recover().unwrap();
        bed.partition.recovered(&bed.store).unwrap();
    };
    fail(&mut bed);
    assert_eq!(one_time_of(&bed.fetch(2)), ["2"]);
    // One whose commit was lost on the way back has burnt its key: nobody was told, and nobody will be.
    bed.store.failed_commits_land(true);
    fail(&mut bed);
    assert_eq!(one_time_of(&bed.fetch(2)), ["4"]);
    assert_eq!(one_time_of(&bed.fetch(2)), [""]);
    assert_eq!(bed.store.len(Space::OneTime), 0);
}

#[test]
fn publishing_again_replaces_prekeys_and_adds_one_time_keys() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    bed.publish(2, 1, keys("i", [1, 2]));
    assert_eq!(one_time_of(&bed.fetch(2)), ["1"]);
    let newer =
        KeysPublish { signed_prekey: "newer".into(), signature: "for newer".into(), ..keys("i", [3]) };
    bed.publish(2, 1, newer);
    // Only one-time keys: the rest stays.
    bed.publish(2, 1, KeysPublish { one_time: vec!["4".into()], ..KeysPublish::default() });
    let bundle = bundles(&bed.fetch(2)).remove(0);
    assert_eq!(&bundle.identity[..], b"i");
    assert_eq!((&bundle.signed_prekey[..], &bundle.signature[..]), (&b"newer"[..], &b"for newer"[..]));
    assert_eq!(&bundle.one_time[..], b"2");
    assert_eq!([one_time_of(&bed.fetch(2)), one_time_of(&bed.fetch(2))].concat(), ["3", "4"]);
}

#[test]
fn another_identity_is_another_installation() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    bed.publish(2, 1, keys("old", [1, 2, 3]));
    assert_eq!(one_time_of(&bed.fetch(2)), ["1"]);
    // What it leaves out is not taken from the old one.
    let half = KeysPublish { identity: "new".into(), ..KeysPublish::default() };
    assert_eq!(code(&bed.publish(2, 1, half)), Code::MALFORMED);
    bed.publish(2, 1, keys("new", [10]));
    assert_eq!(bed.store.len(Space::OneTime), 1);
    let bundle = bundles(&bed.fetch(2)).remove(0);
    assert_eq!((&bundle.identity[..], &bundle.one_time[..]), (&b"new"[..], &b"10"[..]));
    assert_eq!(one_time_of(&bed.fetch(2)), [""]);
}

#[test]
fn welcome_tells_how_many_are_left() {
    let mut bed = Bed::new();
    assert_eq!(one_time_keys(&bed.attach(2, 1)), 0);
    bed.publish(2, 1, keys("i", 0..7));
    bed.fetch(2);
    assert_eq!(one_time_keys(&bed.attach(2, 1)), 6);
    assert_eq!(one_time_keys(&bed.attach(2, 2)), 0);
    bed.restart();
    assert_eq!(one_time_keys(&bed.attach(2, 1)), 6);
    bed.publish(2, 1, keys("other", []));
    assert_eq!(one_time_keys(&bed.attach(2, 1)), 0);
}

#[test]
fn a_publication_over_a_limit_changes_nothing_and_says_why() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    let long = |bytes| vec![1; bytes + 1].into();
    let few = || keys("i", []);
    let empty = KeysPublish::default;
    let bad = [
        (KeysPublish { identity: long(limits::IDENTITY_BYTES_MAX), ..few() }, Code::TOO_LARGE, "1025"),
        (
            KeysPublish { signed_prekey: long(limits::SIGNED_PREKEY_BYTES_MAX), ..few() },
            Code::TOO_LARGE,
            "2049",
        ),
        (KeysPublish { signature: long(limits::SIGNATURE_BYTES_MAX), ..few() }, Code::TOO_LARGE, "1025"),
        (
            KeysPublish { one_time: vec![long(limits::ONE_TIME_KEY_BYTES_MAX)], ..few() },
            Code::TOO_LARGE,
            "2049",
        ),
        (keys("i", 0..=ONE_TIME_KEYS_FRAME_MAX as u32), Code::TOO_LARGE, "at most 256"),
        (KeysPublish { one_time: vec![Bytes::new()], ..few() }, Code::MALFORMED, "one_time"),
        (KeysPublish { identity: Bytes::new(), ..few() }, Code::MALFORMED, "identity"),
        (KeysPublish { signed_prekey: Bytes::new(), ..few() }, Code::MALFORMED, "signed_prekey"),
        (empty(), Code::MALFORMED, "identity"),
    ];
    for (keys, expected, part) in bad {
        let effects = bed.publish(2, 1, keys);
        assert_eq!(code(&effects), expected);
        let Some(server_frame::Body::Error(error)) = frames(&effects).pop() else { panic!("no Error") };
        assert!(error.message.contains(part), "{}", error.message);
    }
    assert_eq!((bed.store.len(Space::Keys), bed.store.len(Space::OneTime)), (0, 0));
    let largest = KeysPublish {
        identity: vec![1; limits::IDENTITY_BYTES_MAX].into(),
        signed_prekey: vec![1; limits::SIGNED_PREKEY_BYTES_MAX].into(),
        signature: vec![1; limits::SIGNATURE_BYTES_MAX].into(),
        one_time: vec![vec![1; limits::ONE_TIME_KEY_BYTES_MAX].into(); ONE_TIME_KEYS_FRAME_MAX],
    };
    bed.publish(2, 1, largest);
    assert_eq!(bed.store.len(Space::OneTime), ONE_TIME_KEYS_FRAME_MAX);
}

#[test]
fn one_time_keys_of_a_device_are_bounded() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    for _ in 0..ONE_TIME_KEYS_DEVICE_MAX / ONE_TIME_KEYS_FRAME_MAX {
        bed.publish(2, 1, keys("i", 0..ONE_TIME_KEYS_FRAME_MAX as u32));
    }
    assert_eq!(code(&bed.publish(2, 1, keys("i", [1]))), Code::TOO_LARGE);
    assert_eq!(bed.store.len(Space::OneTime), ONE_TIME_KEYS_DEVICE_MAX);
    // One that is handed out makes room, and a new installation has all of it.
    bed.fetch(2);
    assert!(frames(&bed.publish(2, 1, keys("i", [1]))).is_empty());
    bed.publish(2, 1, keys("other", [1]));
    assert_eq!(bed.store.len(Space::OneTime), 1);
}

#[test]
fn who_has_no_keys_and_who_is_nobody_are_told_apart() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    assert!(bundles(&bed.fetch(2)).is_empty());
    assert_eq!(code(&bed.fetch(3)), Code::NOT_FOUND);
    assert_eq!(code(&bed.fetch(0)), Code::MALFORMED);
    assert_eq!(code(&bed.fetch(1 << 63)), Code::MALFORMED);
    assert_eq!(bed.store.len(Space::Users), 1);
}

#[test]
fn a_session_that_was_replaced_publishes_nothing() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    bed.run([attach_of(2, 1, 2)]);
    assert!(bed.publish(2, 1, keys("i", [1])).is_empty());
    assert_eq!((bed.store.len(Space::Keys), bed.store.len(Space::OneTime)), (0, 0));
}

#[test]
fn a_device_that_makes_room_for_another_leaves_no_keys() {
    let mut bed = Bed::new();
    bed.attach(2, 1);
    bed.publish(2, 1, keys("first", 0..4));
    bed.run([log::Detach { origin: origin(2, 1, 1).into() }.into()]);
    bed.now_ms += 31 * limits::DAY_MS;
    for device in 2..=limits::DEVICES_MAX as u32 {
        bed.attach(2, device);
    }
    assert_eq!((bed.store.len(Space::Keys), bed.store.len(Space::OneTime)), (1, 4));
    bed.attach(2, 99);
    assert_eq!((bed.store.len(Space::Keys), bed.store.len(Space::OneTime)), (0, 0));
    assert!(bundles(&bed.fetch(2)).is_empty());
}
