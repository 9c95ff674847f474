//! A store made by this version opens in the next: one that was made when format 2 came to be lies in `store-2/`.
//!
//! `ROOST_REGENERATE=1 cargo test -p roost-router --test format` makes it anew, which is right only together with a new format.

mod common;

use common::{Client, Shards, config};
use roost_proto::v1::{self, GroupCommand, KeysFetch, KeysPublish, group_command::Create, server_frame};
use roost_router::{Config, start};
use std::{fs, path::Path};

const ALICE: u64 = 1001;
const BOB: u64 = 1002;

/// Alice has written to Bob, who was there once, to a group of both, and published her keys.
fn make(folder: &Path) {
    let shards = Shards::new();
    let router = start(config(folder, 1), shards.clone()).expect("a new store");
    let handle = router.handle();
    let bob = Client::attach(&handle, &shards, 2, BOB, 1);
    bob.welcome();
    let alice = Client::attach(&handle, &shards, 1, ALICE, 1);
    alice.welcome();
    let keys = KeysPublish {
        identity: b"identity".to_vec().into(),
        signed_prekey: b"prekey".to_vec().into(),
        signature: b"signature".to_vec().into(),
        one_time: vec![b"one".to_vec().into(), b"two".to_vec().into()],
    };
    alice.frame(1, keys);
    assert!(shards.reply(alice.session, 1).body.is_none());
    alice.send(2, BOB, "a", "to Bob");
    alice.sent(2);
    let create = Create { name: "both".into(), member: vec![BOB] };
    alice.frame(3, GroupCommand { command: Some(create.into()), ..GroupCommand::default() });
    let Some(server_frame::Body::Group(group)) = shards.reply(alice.session, 3).body else {
        panic!("no group")
    };
    let to = v1::Address { to: Some(v1::address::To::Group(group.group)) };
    let send = common::send(BOB, "b", "to both");
    alice.frame(4, v1::Send { to: to.into(), ..send });
    alice.sent(4);
    router.stop();
}

/// A journal is as long as it may become: the zeros at its end are not worth keeping.
fn cut_journals(folder: &Path) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let mut bytes = fs::read(&path).expect("readable");
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            fs::write(&path, bytes).expect("written");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn a_store_of_format_2_opens_with_all_that_is_in_it() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store-2");
    if std::env::var_os("ROOST_REGENERATE").is_some() {
        fs::remove_dir_all(&kept).ok();
        make(&kept);
        cut_journals(&kept);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(&kept, folder.path());
    let shards = Shards::new();
    // Else what waits there would be too old one day.
    let config = Config { retention_days: 36_500, ..config(folder.path(), 2) };
    let router = start(config, shards.clone()).expect("it opens");
    let handle = router.handle();
    let alice = Client::attach(&handle, &shards, 1, ALICE, 1);
    assert_eq!(alice.welcome().one_time_keys, 2);
    let bob = Client::attach(&handle, &shards, 2, BOB, 1);
    let texts: Vec<_> = bob.messages(3).into_iter().map(|message| message.payload).collect();
    assert_eq!(texts, [&b"to Bob"[..], b"to both"]);
    bob.frame(1, KeysFetch { user: ALICE });
    let Some(server_frame::Body::Keys(keys)) = shards.reply(bob.session, 1).body else { panic!("no keys") };
    assert_eq!((&keys.device[0].identity[..], &keys.device[0].one_time[..]), (&b"identity"[..], &b"one"[..]));
    alice.send(9, BOB, "a", "to Bob");
    assert!(alice.sent(9).duplicate, "the client id is known");
    router.stop();
}
