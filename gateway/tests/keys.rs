//! Keys through a real gateway process, in both encodings: what is published is handed out, and a one-time key once ever, also
//! where the process is killed.

use std::collections::BTreeSet;

use roost_client::{Client, harness::Gateway};
use roost_proto::{
    codec::Encoding,
    v1::{self, Code, server_frame},
};

const ALICE: u64 = 491_711_234_567;
const BOB: u64 = 42;

fn gateway() -> Gateway {
    Gateway::start(&[]).expect("the gateway starts")
}

fn keys(identity: &str, one_time: impl IntoIterator<Item = u32>) -> v1::KeysPublish {
    v1::KeysPublish {
        identity: identity.as_bytes().to_vec().into(),
        signed_prekey: vec![0, 255].into(),
        signature: b"signature".to_vec().into(),
        one_time: one_time.into_iter().map(|n| n.to_string().into()).collect(),
    }
}

fn publish(client: &mut Client, keys: v1::KeysPublish) {
    let id = client.ask(keys).expect("sent");
    let answer = client.answer(id).expect("answered");
    assert!(answer.body.is_none(), "{answer:?}");
}

fn fetch(client: &mut Client, user: u64) -> Vec<v1::KeyBundle> {
    let id = client.ask(v1::KeysFetch { user }).expect("sent");
    match client.answer(id).expect("answered").body {
        Some(server_frame::Body::Keys(keys)) => keys.device,
        other => panic!("not KeyBundles: {other:?}"),
    }
}

#[test]
fn devices_publish_and_others_fetch_in_both_encodings() {
    let gateway = gateway();
    for (user, encoding) in [(ALICE, Encoding::Json), (ALICE + 1, Encoding::Proto)] {
        let (mut phone, welcome) = gateway.connect(user, 1, encoding).expect("a session");
        assert_eq!(welcome.one_time_keys, 0);
        let (mut laptop, _) = gateway.connect(user, 2, encoding).expect("a session");
        let (mut bob, _) = gateway.connect(BOB, 1, encoding).expect("a session");
        assert!(fetch(&mut bob, user).is_empty());
        publish(&mut phone, keys("phone", [1, 2]));
        publish(&mut laptop, keys("laptop", []));
        let bundles = fetch(&mut bob, user);
        let expected = |device, identity: &str, one_time: &str| v1::KeyBundle {
            user,
            device,
            identity: identity.as_bytes().to_vec().into(),
            signed_prekey: vec![0, 255].into(),
            signature: b"signature".to_vec().into(),
            one_time: one_time.as_bytes().to_vec().into(),
        };
        assert_eq!(bundles, [expected(1, "phone", "1"), expected(2, "laptop", "")]);
        let (_phone, welcome) = gateway.connect(user, 1, encoding).expect("a session");
        assert_eq!(welcome.one_time_keys, 1);
        let id = bob.ask(v1::KeysFetch { user: 4711 }).expect("sent");
        let answer = bob.answer(id).expect("answered").body;
        assert!(
            matches!(&answer, Some(server_frame::Body::Error(error)) if error.code == Code::NOT_FOUND),
            "{answer:?}"
        );
    }
}

/// Each round asks for more than it waits for, so that the process dies with fetches in every state: in its queue, in a batch,
/// committed and not answered.
#[test]
fn a_one_time_key_is_handed_out_once_though_the_process_is_killed() {
    const KEYS: u32 = 250;
    const ASKED: usize = 40;
    let mut gateway = gateway();
    let (mut phone, _) = gateway.connect(ALICE, 1, Encoding::Proto).expect("a session");
    publish(&mut phone, keys("phone", 0..KEYS));
    let mut handed_out = BTreeSet::new();
    for round in 0..5 {
        let (mut bob, _) = gateway.connect(BOB + round, 1, Encoding::Proto).expect("a session");
        for _ in 0..ASKED {
            bob.ask(v1::KeysFetch { user: ALICE }).expect("sent");
        }
        let mut answers = 0;
        // What had left before the kill is read too, until the connection's end.
        while answers < ASKED
            && let Ok(frame) = bob.receive()
        {
            let Some(server_frame::Body::Keys(keys)) = frame.body else { panic!("{frame:?}") };
            let one_time = keys.device[0].one_time.to_vec();
            assert!(!one_time.is_empty(), "there are keys for all");
            assert!(handed_out.insert(one_time), "handed out twice in round {round}");
            answers += 1;
            if answers == round as usize * 3 + 1 {
                gateway.kill().expect("killed");
            }
        }
        gateway.restart().expect("started anew");
    }
    let (_phone, welcome) = gateway.connect(ALICE, 1, Encoding::Proto).expect("a session");
    let left = welcome.one_time_keys as usize;
    assert!(left + handed_out.len() <= KEYS as usize, "{left} left, {} handed out", handed_out.len());
    assert!(left >= KEYS as usize - 5 * ASKED, "a fetch takes one key: {left} left");
    let (mut bob, _) = gateway.connect(BOB, 1, Encoding::Proto).expect("a session");
    assert!(handed_out.insert(fetch(&mut bob, ALICE)[0].one_time.to_vec()), "handed out before");
}
