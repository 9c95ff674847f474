//! Disks that are full, stores that are damaged, folders that cannot be used.

mod common;
#[path = "common/faulty.rs"]
mod faulty;

use common::{Client, Shards, config};
use faulty::{Fault, Faulty, Operation};
use roost_proto::v1::{self, Code};
use roost_router::{
    StartError, StoreError, limits,
    partition::home,
    record::{self, Key, Space},
    start, start_with_store,
    store::MemoryStore,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
};

/// Offers a message until it is accepted: the store comes back by itself.
fn send_until_sent(client: &Client, first_id: u32, to: u64, client_id: &str) -> v1::Sent {
    let deadline = std::time::Instant::now() + common::DEADLINE;
    for id in first_id.. {
        client.send(id, to, client_id, "again");
        match client.shards.reply(client.session, id).body {
            Some(v1::server_frame::Body::Sent(sent)) => return *sent,
            Some(v1::server_frame::Body::Error(error)) => assert_eq!(error.code, Code::UNAVAILABLE),
            other => panic!("unexpected {other:?}"),
        }
        assert!(std::time::Instant::now() < deadline, "the store did not come back");
    }
    unreachable!("ids do not end")
}

#[test]
fn a_full_disk_answers_unavailable_and_loses_nothing_accepted() {
    for (lands, threads) in [(false, 1), (true, 1), (false, 3), (true, 3)] {
        let store = Arc::new(MemoryStore::default());
        store.failed_commits_land(lands);
        let shards = Shards::new();
        let config = config(Path::new("unused"), threads);
        let router = start_with_store(config, store.clone(), shards.clone()).unwrap();
        let handle = router.handle();
        let alice = Client::attach(&handle, &shards, 1, 1, 1);
        let bob = Client::attach(&handle, &shards, 2, 2, 1);
        alice.welcome();
        bob.welcome();
        alice.send(1, 2, "a", "before");
        let before = alice.sent(1).id;
        bob.messages(1);
        store.fail(true);
        alice.send(2, 2, "b", "refused");
        let refused = alice.error(2);
        assert_eq!(refused.code, Code::UNAVAILABLE);
        assert!(refused.retry_after_ms > 0, "it says when to try again");
        // New and known users come and go as ever.
        let carol = Client::attach(&handle, &shards, 3, 3, 1);
        assert_eq!(carol.welcome().acknowledged, 0);
        alice.send(4, 3, "c", "refused too");
        assert_eq!(alice.error(4).code, Code::UNAVAILABLE, "a user who is welcome is known");
        let again = Client::attach(&handle, &shards, 4, 2, 1);
        assert_eq!(again.welcome().acknowledged, 0);
        assert_eq!(again.messages(1)[0].id, before);
        // What was accepted before is still answered.
        alice.send(3, 2, "a", "before");
        assert!(alice.sent(3).duplicate);
        store.fail(false);
        let sent = send_until_sent(&alice, 1_000, 2, "b");
        let messages = again.messages(2);
        assert_eq!(messages.iter().map(|m| m.id).collect::<Vec<_>>(), [before, sent.id]);
        // Who came while nothing could be stored gets what is said from now on, and is registered.
        let sent = send_until_sent(&alice, 1_000_000, 3, "c");
        assert_eq!(carol.messages(1)[0].id, sent.id);
        assert!(handle.stats().store_errors > 0 && handle.stats().refused > 0);
        router.stop();
        assert_eq!(store.len(Space::Users), 3);
    }
}

/// The number of the router thread this is, or commits for.
fn router_thread() -> String {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    name.rsplit('-').next().unwrap_or_default().to_owned()
}

/// A store that neither takes batches nor can be read by the thread that first writes a certain key, until it is mended.
struct LostDisk {
    trigger: Key,
    state: Mutex<Lost>,
    asked: Condvar,
}

#[derive(Default)]
struct Lost {
    by: Option<String>,
    mended: bool,
    /// How often that thread asked the store to recover in vain.
    recoveries: usize,
}

impl LostDisk {
    fn check(&self, operation: &'static str) -> Result<(), StoreError> {
        let lost = self.state.lock().unwrap();
        let is_lost = lost.by == Some(router_thread()) && !lost.mended;
        if is_lost { Err(StoreError::new(operation, "the disk is gone (simulated)")) } else { Ok(()) }
    }

    fn wait_for_recoveries(&self, count: usize) {
        let lost = self.state.lock().unwrap();
        let wait = self.asked.wait_timeout_while(lost, common::DEADLINE, |lost| lost.recoveries < count);
        assert!(!wait.unwrap().1.timed_out(), "the store was not asked to recover");
    }
}

impl Fault for LostDisk {
    fn before(&self, operation: Operation<'_>) -> Result<(), StoreError> {
        match operation {
            Operation::Read => self.check("read"),
            Operation::Commit(batch) => {
                if batch.writes().any(|(key, _)| *key == self.trigger) {
                    self.state.lock().unwrap().by.get_or_insert_with(router_thread);
                }
                self.check("commit")
            }
            Operation::Recover => self.check("recover").inspect_err(|_| {
                self.state.lock().unwrap().recoveries += 1;
                self.asked.notify_all();
            }),
        }
    }
}

#[test]
fn what_a_failed_batch_took_is_not_confirmed_though_it_cannot_be_read_back() {
    const THREADS: u16 = 2;
    let home = |user| home(user, limits::PARTITIONS);
    let bob = (2..100).find(|user| home(*user) % THREADS != home(1) % THREADS).unwrap();
    let store = Arc::new(Faulty {
        memory: MemoryStore::default(),
        fault: LostDisk {
            trigger: record::inbound(home(bob), home(1)),
            state: Mutex::default(),
            asked: Condvar::new(),
        },
    });
    let shards = Shards::new();
    let router =
        start_with_store(config(Path::new("unused"), usize::from(THREADS)), store.clone(), shards.clone());
    let router = router.unwrap();
    let alice = Client::attach(&router.handle(), &shards, 1, 1, 1);
    let bob = Client::attach(&router.handle(), &shards, 2, bob, 1);
    alice.welcome();
    bob.welcome();
    alice.send(1, bob.user, "a", "accepted");
    let accepted = alice.sent(1).id;
    // Bob's thread has tried the forward again and answered Alice's before it asks twice.
    store.fault.wait_for_recoveries(2);
    // Alice's thread has taken that answer before it takes this.
    alice.send(2, 1, "b", "to herself");
    alice.sent(2);
    assert_eq!(store.memory.len(Space::Outbox), 1, "the message was deleted where it was the only one");
    store.fault.state.lock().unwrap().mended = true;
    assert_eq!(bob.messages(1)[0].id, accepted);
    router.stop();
}

#[test]
fn a_store_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let _router = start(config(dir.path(), 1), Shards::new()).unwrap();
    let error = start(config(dir.path(), 1), Shards::new()).err().expect("a second start fails");
    assert!(matches!(error, StartError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[test]
fn a_folder_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = start(config(&path, 1), Shards::new()).err().expect("a file is no folder");
        assert!(matches!(error, StartError::Unusable { .. }), "{error:?}");
    }
}

#[test]
fn a_damaged_store_is_an_error_and_no_panic() {
    let mut refused = 0;
    for name in ["version", "keyspaces"] {
        let dir = tempfile::tempdir().unwrap();
        start(config(dir.path(), 1), Shards::new()).unwrap().stop();
        damage(&dir.path().join(name));
        match start(config(dir.path(), 1), Shards::new()) {
            Err(error) => {
                assert!(matches!(error, StartError::Corrupt { .. }), "{error:?}");
                assert!(error.to_string().contains("restore the folder from a backup"), "{error}");
                refused += 1;
            }
            Ok(_) => panic!(
                "damage of {name} went unnoticed: {:?}",
                fs::read_dir(dir.path()).unwrap().collect::<Vec<_>>()
            ),
        }
    }
    assert_eq!(refused, 2);
}

/// Overwrites every file at or below a path.
fn damage(path: &Path) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            damage(&entry.unwrap().path());
        }
    } else {
        let len = fs::metadata(path).unwrap().len() as usize;
        fs::write(path, vec![0xA5; len]).unwrap();
    }
}

#[test]
fn a_store_that_another_process_has_open_is_looked_at_without_opening_it() {
    let dir = tempfile::tempdir().unwrap();
    let router = start(config(dir.path(), 1), Shards::new()).unwrap();
    let examine = || roost_router::store::examine(dir.path());
    examine().unwrap();
    fs::write(dir.path().join("format"), "99\n").unwrap();
    let error = examine().expect_err("it is of another format");
    assert!(matches!(error, StartError::UnknownFormat { found: 99, .. }), "{error:?}");
    router.stop();
    // The copy is mended where the store itself is of our format.
    start(config(dir.path(), 1), Shards::new()).unwrap().stop();
    examine().unwrap();
    assert!(!dir.path().join("probe-of-successor").exists());
    fs::create_dir(dir.path().join("probe-of-successor")).unwrap();
    let error = examine().expect_err("nothing can be written there");
    assert!(matches!(error, StartError::Unusable { .. }), "{error:?}");
}

#[test]
fn a_store_of_another_format_is_named() {
    let dir = tempfile::tempdir().unwrap();
    start(config(dir.path(), 1), Shards::new()).unwrap().stop();
    let database = fjall::Database::builder(dir.path()).open().unwrap();
    let meta = database.keyspace("meta", fjall::KeyspaceCreateOptions::default).unwrap();
    let key = roost_router::record::format();
    meta.insert(key.bytes(), [0, 0, 0, 99, 0, 16]).unwrap();
    database.persist(fjall::PersistMode::SyncAll).unwrap();
    drop((meta, database));
    let error = start(config(dir.path(), 1), Shards::new()).err().expect("format 99 is unknown");
    assert!(matches!(error, StartError::UnknownFormat { found: 99, .. }), "{error:?}");
}

const MESSAGES: usize = 6;

/// Alice sends Bob these, each in a batch of its own; the store is then as a killed process leaves it: its journal is not cut.
fn write_messages(store: &Path, texts: &[String]) {
    let shards = Shards::new();
    let router = start(config(store, 1), shards.clone()).unwrap();
    let alice = Client::attach(&router.handle(), &shards, 1, 1, 1);
    let bob = Client::attach(&router.handle(), &shards, 2, 2, 1);
    alice.welcome();
    bob.welcome();
    for (id, text) in (1..).zip(texts) {
        alice.send(id, 2, text, text);
        alice.sent(id);
    }
    router.stop();
}

/// Starts the store and returns the payloads that wait for Bob, of whom there are at least `count`.
fn read_messages(store: &Path, count: usize) -> Vec<String> {
    let shards = Shards::new();
    let router = start(config(store, 1), shards.clone()).unwrap();
    let bob = Client::attach(&router.handle(), &shards, 2, 2, 1);
    bob.welcome();
    let messages = bob.messages(count);
    router.stop();
    messages.iter().map(|message| String::from_utf8(message.payload.to_vec()).unwrap()).collect()
}

fn sent_messages(count: usize) -> Vec<String> {
    (1..=count).map(|id| format!("message {id}")).collect()
}

/// The bytes of all files at or below a path.
fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// The files that hold what was cut off journals.
fn kept_aside(store: &Path) -> Vec<PathBuf> {
    let is_aside = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("torn-");
    files(store).into_keys().filter(is_aside).collect()
}

/// The journal without the zeroes behind it.
fn used_journal(store: &Path) -> Vec<u8> {
    let mut bytes = fs::read(store.join("0.jnl")).unwrap();
    bytes.truncate(bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1);
    bytes
}

#[test]
fn a_damaged_journal_is_refused_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("0.jnl");
    write_messages(dir.path(), &sent_messages(MESSAGES));
    let whole = fs::read(&journal).unwrap();
    let used = used_journal(dir.path()).len();
    for (from, to, garbage) in
        [(5, 6, 0xFF), (220, 221, 0xA5), (0, 1, 0), (0, 64, 0xA5), (used - 40, used - 39, 0xA5)]
    {
        let mut bytes = whole.clone();
        bytes[from..to].fill(garbage);
        assert_ne!(bytes, whole);
        fs::write(&journal, &bytes).unwrap();
        let before = files(dir.path());
        let error = start(config(dir.path(), 1), Shards::new()).err().expect("damage is refused");
        assert!(matches!(error, StartError::Corrupt { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("0.jnl cannot be read from byte ") && text.contains("nothing was changed"),
            "{text}"
        );
        assert!(files(dir.path()) == before, "the store was changed by a refused start");
        if (from, to) == (0, 64) {
            assert!(text.contains(&format!("from byte 0 on, and {used} bytes")), "{text}");
        }
    }
    fs::write(&journal, &whole).unwrap();
    assert_eq!(read_messages(dir.path(), MESSAGES), sent_messages(MESSAGES));
    assert_eq!(read_messages(dir.path(), MESSAGES), sent_messages(MESSAGES));
    assert!(kept_aside(dir.path()).is_empty(), "a healthy start keeps nothing aside");
}

#[test]
fn a_torn_end_is_cut_and_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("0.jnl");
    write_messages(dir.path(), &sent_messages(MESSAGES));
    for round in 1..=limits::STORE_TORN_FILES_MAX + 2 {
        // A batch of its own, of which the second half is lost.
        write_messages(dir.path(), &[]);
        let whole_end = used_journal(dir.path()).len();
        write_messages(dir.path(), &[format!("torn {round}")]);
        let used = used_journal(dir.path());
        assert!(used.len() > whole_end + 100, "{} bytes, {whole_end} before", used.len());
        let torn = &used[..whole_end + 100];
        fs::write(&journal, [torn, &[0; 8192]].concat()).unwrap();

        assert_eq!(read_messages(dir.path(), MESSAGES), sent_messages(MESSAGES));
        let kept = kept_aside(dir.path());
        assert_eq!(kept.len(), round.min(limits::STORE_TORN_FILES_MAX));
        let newest = dir.path().join(format!("torn-{round}-0-{whole_end}"));
        // Zeroes at its end cannot be told from those behind it.
        let zeroes = torn.iter().rev().take_while(|&&byte| byte == 0).count();
        assert_eq!(fs::read(newest).unwrap(), torn[whole_end..torn.len() - zeroes], "round {round}");
    }
}
