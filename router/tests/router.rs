//! The whole router over a store on disk: requests in, effects out, and the same after a restart.

mod common;

use common::{Client, Shards, config, events};
use roost_proto::v1::{self, Code, event};
use roost_router::{AccountOutcome, Request, start};
use std::sync::mpsc;

#[test]
fn a_message_is_answered_delivered_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for (round, threads) in [(0u32, 1), (1, 2), (2, 3), (3, 1)] {
        let shards = Shards::new();
        let router = start(config(dir.path(), threads), shards.clone()).unwrap();
        let alice = Client::attach(&router.handle(), &shards, 10, 1, 1);
        let bob = Client::attach(&router.handle(), &shards, 20, 2, 1);
        assert_eq!(alice.welcome().user, 1);
        // The messages of the rounds before were not acknowledged, and come again first.
        assert_eq!(bob.welcome().head > bob.welcome().acknowledged, round > 0);
        alice.send(7, 2, &format!("c{round}"), &format!("hello {round}"));
        let sent = alice.sent(7);
        assert!(!sent.duplicate);
        let messages = bob.messages(round as usize + 1);
        assert_eq!(messages.last().map(|m| m.id), Some(sent.id));
        let texts: Vec<_> = messages.iter().map(|m| String::from_utf8(m.payload.to_vec()).unwrap()).collect();
        assert_eq!(texts, (0..=round).map(|n| format!("hello {n}")).collect::<Vec<_>>());
        assert!(messages.is_sorted_by(|a, b| a.id < b.id), "ids rise within a conversation");
        // Sent again, it is answered and not stored again, also after a restart.
        alice.send(8, 2, "c0", "hello 0");
        assert_eq!((alice.sent(8).duplicate, alice.sent(8).id), (true, messages[0].id));
        router.stop();
    }
}

#[test]
fn receipts_reach_the_sender_on_other_threads() {
    let dir = tempfile::tempdir().unwrap();
    let shards = Shards::new();
    let router = start(config(dir.path(), 4), shards.clone()).unwrap();
    for n in 0..8u32 {
        let alice = Client::attach(&router.handle(), &shards, 100 + n, 1000 + u64::from(n), 1);
        let bob = Client::attach(&router.handle(), &shards, 200 + n, 2000 + u64::from(n * 7), 1);
        bob.welcome();
        alice.send(1, bob.user, "a", "x");
        let id = alice.sent(1).id;
        let seq = shards.events(bob.session, 1)[0].seq;
        bob.frame(2, v1::Ack { up_to: seq });
        assert!(shards.reply(bob.session, 2).body.is_none());
        bob.frame(3, v1::Read { message: vec![id] });
        let receipts: Vec<_> = shards.events(alice.session, 2);
        let marks: Vec<_> = receipts
            .iter()
            .map(|event| match &event.body {
                Some(event::Body::Receipt(r)) => (r.mark.as_known(), r.by, r.message.clone()),
                other => panic!("not a receipt: {other:?}"),
            })
            .collect();
        let expected = |mark| (Some(mark), bob.user, vec![id]);
        assert_eq!(marks, [expected(v1::Mark::DELIVERED), expected(v1::Mark::READ)]);
    }
    assert_eq!(router.handle().stats().messages, 8);
    router.stop();
}

#[test]
fn accounts_are_made_once_and_make_a_user_known() {
    let dir = tempfile::tempdir().unwrap();
    let shards = Shards::new();
    let router = start(config(dir.path(), 2), shards.clone()).unwrap();
    let handle = router.handle();
    let create = |handle: &roost_router::Handle, user| {
        let (tx, rx) = mpsc::channel();
        handle.create_account(user, format!("hash of {user}"), Box::new(move |o| tx.send(o).unwrap()));
        rx.recv_timeout(common::DEADLINE).unwrap()
    };
    let alice = Client::attach(&handle, &shards, 1, 1, 1);
    alice.send(1, 77, "a", "x");
    assert_eq!(alice.error(1).code, Code::NOT_FOUND);
    assert_eq!(create(&handle, 77), AccountOutcome::Created);
    assert_eq!(create(&handle, 77), AccountOutcome::Exists);
    assert_eq!(handle.account(77).unwrap().as_deref(), Some("hash of 77"));
    assert_eq!(handle.account(78).unwrap(), None);
    alice.send(2, 77, "a", "x");
    alice.sent(2);
    router.stop();
    drop((handle, alice));
    let shards = Shards::new();
    let router = start(config(dir.path(), 1), shards.clone()).unwrap();
    assert_eq!(router.handle().account(77).unwrap().as_deref(), Some("hash of 77"));
    // What waited for an account goes to its first device.
    let bob = Client::attach(&router.handle(), &shards, 2, 77, 5);
    assert_eq!(bob.messages(1)[0].from, 1);
    router.stop();
}

#[test]
fn a_full_shard_holds_effects_and_loses_none() {
    use std::sync::atomic::Ordering;
    let dir = tempfile::tempdir().unwrap();
    let shards = Shards::new();
    let mut config = config(dir.path(), 2);
    (config.effects_held_max, config.queue_requests_max, config.batch_requests_max) = (4, 8, 4);
    let router = start(config, shards.clone()).unwrap();
    let alice = Client::attach(&router.handle(), &shards, 1, 1, 1);
    let bob = Client::attach(&router.handle(), &shards, 2, 2, 1);
    alice.welcome();
    bob.welcome();
    shards.room.store(0, Ordering::SeqCst);
    let mut id = 0;
    // Until the router says that it is full; what comes back is offered again below.
    let back = loop {
        id += 1;
        let body = common::send(2, &id.to_string(), "x").into();
        let request = Request::Frame { session: alice.session, user: 1, device: 1, id, body };
        if let Err(full) = router.handle().submit(request) {
            break full.0;
        }
        assert!(id < 100_000, "the queue has a bound");
    };
    shards.room.store(1, Ordering::SeqCst);
    alice.submit(back);
    let messages = bob.messages(id as usize);
    assert_eq!(messages.len(), id as usize);
    let order: Vec<_> = messages.iter().map(|m| String::from_utf8(m.client_id.to_vec()).unwrap()).collect();
    assert_eq!(order, (1..=id).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(events(&shards.now(alice.session)).is_empty());
    router.stop();
}
