//! Requests without a session: each has one answer, and they read, acknowledge and remove as the device they speak for.

mod common;

use buffa::Message as _;
use common::{Client, Shards, config};
use roost_proto::v1::{self, Code, Event, Sealed, event, server_frame};
use roost_router::{
    Action, Answer, CLOSE_REMOVED, Call, Config, DeviceState, Effect, Handle, Request, Router, SessionId,
    UserId, limits, start, start_with_store, store::MemoryStore,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// Whoever makes calls for one device.
struct Caller {
    handle: Handle,
    shards: Arc<Shards>,
    user: UserId,
    device: u32,
}

impl Caller {
    /// The one effect that a call is answered with.
    fn ask(&self, call: Call) -> Action {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        // No shard has this number.
        let slot = CALLS.fetch_add(1, Ordering::Relaxed);
        let session = SessionId { gateway: 0, shard: 99, slot, generation: 1 };
        let (user, device) = (self.user, self.device);
        let request = Request::Call { session, user, device, id: 1, call };
        assert!(self.handle.submit(request).is_ok(), "the queue is full");
        let mut effects = self.shards.wait(session, "answer", |effects| !effects.is_empty());
        assert_eq!(effects.len(), 1, "{effects:?}");
        let Some(Effect { action, .. }) = effects.pop() else { unreachable!("one effect") };
        action
    }

    fn frame(&self, body: impl Into<v1::client_frame::Body>) -> Option<server_frame::Body> {
        match self.ask(Call::Frame(body.into())) {
            Action::Frame(frame) if frame.reply_to == 1 => frame.body,
            other => panic!("not the answer to a frame: {other:?}"),
        }
    }

    fn events(&self, after: Option<u64>, limit: u32) -> (Vec<Event>, u64, bool) {
        match self.ask(Call::Events { after, limit }) {
            Action::Answer(answer) => match *answer {
                Answer::Events { events, next, more } => {
                    let read = |bytes: &bytes::Bytes| Event::decode_from_slice(bytes).unwrap();
                    (events.iter().map(read).collect(), next, more)
                }
                other => panic!("not events: {other:?}"),
            },
            other => panic!("not events: {other:?}"),
        }
    }

    fn texts(&self) -> Vec<String> {
        let text = |event: Event| match event.body {
            Some(event::Body::Message(message)) => Some(String::from_utf8(message.payload.to_vec()).unwrap()),
            _ => None,
        };
        self.events(None, u32::MAX).0.into_iter().filter_map(text).collect()
    }

    /// Waits for an event: another thread may still have it.
    fn texts_until(&self, count: usize) -> Vec<String> {
        let deadline = std::time::Instant::now() + common::DEADLINE;
        loop {
            let texts = self.texts();
            if texts.len() >= count {
                return texts;
            }
            assert!(std::time::Instant::now() < deadline, "{texts:?}, not {count}");
            std::thread::yield_now();
        }
    }

    fn devices(&self) -> Vec<DeviceState> {
        match self.ask(Call::Devices) {
            Action::Answer(answer) => match *answer {
                Answer::Devices(devices) => devices,
                other => panic!("not devices: {other:?}"),
            },
            other => panic!("not devices: {other:?}"),
        }
    }
}

/// A router over a store in memory.
struct Fixture {
    store: Arc<MemoryStore>,
    shards: Arc<Shards>,
    router: Router,
}

impl Fixture {
    fn new(threads: usize) -> Self {
        let (store, shards) = (Arc::new(MemoryStore::default()), Shards::new());
        let config = Config { payload_bytes_max: 200_000, ..config(Path::new("unused"), threads) };
        let router = start_with_store(config, store.clone(), shards.clone()).unwrap();
        Self { store, shards, router }
    }

    fn caller(&self, user: UserId, device: u32) -> Caller {
        Caller { handle: self.router.handle(), shards: self.shards.clone(), user, device }
    }

    fn attach(&self, slot: u32, user: UserId, device: u32) -> Client {
        let client = Client::attach(&self.router.handle(), &self.shards, slot, user, device);
        client.welcome();
        client
    }
}

#[test]
fn a_device_that_only_calls_gets_what_is_new_until_it_acknowledges() {
    for threads in [1, 3] {
        let fixture = Fixture::new(threads);
        let (alice, bob) = (fixture.caller(1, 1), fixture.caller(2, 1));
        assert_eq!(bob.events(None, 10), (vec![], 0, false));
        for text in ["one", "two"] {
            assert!(matches!(alice.frame(common::send(2, text, text)), Some(server_frame::Body::Sent(_))));
        }
        assert_eq!(bob.texts_until(2), ["one", "two"]);
        let (first, next, more) = bob.events(None, 1);
        assert_eq!((first.len(), first[0].seq, more), (1, next, true));
        assert_eq!(bob.frame(v1::Ack { up_to: next }), None);
        assert_eq!(bob.texts(), ["two"]);
        assert_eq!(bob.devices()[0].acknowledged, next);
        // Alice hears of it, though no session of hers ever was.
        let deadline = std::time::Instant::now() + common::DEADLINE;
        while alice.events(None, 10).0.is_empty() {
            assert!(std::time::Instant::now() < deadline, "no receipt");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_page_is_bounded_in_events_and_bytes_and_a_large_event_comes_alone() {
    let fixture = Fixture::new(1);
    let (alice, bob) = (fixture.caller(1, 1), fixture.caller(2, 1));
    bob.events(None, 1);
    let large = "x".repeat(120_000);
    for number in 0..3 {
        alice.frame(common::send(2, &format!("l{number}"), &large));
    }
    let (page, next, more) = bob.events(None, u32::MAX);
    assert_eq!((page.len(), more), (2, true), "{} bytes hold two", limits::CALL_BYTES_MAX);
    assert_eq!(bob.events(Some(next), u32::MAX).0.len(), 1);
    bob.frame(v1::Ack { up_to: bob.events(Some(next), 1).1 });
    for number in 0..limits::CALL_EVENTS_MAX + 10 {
        alice.frame(common::send(2, &format!("s{number}"), "small"));
    }
    let (page, next, more) = bob.events(None, u32::MAX);
    assert_eq!((page.len(), more), (limits::CALL_EVENTS_MAX, true));
    let (rest, last, more) = bob.events(Some(next), u32::MAX);
    assert_eq!((rest.len(), more), (10, false));
    assert_eq!(bob.events(Some(last), 1), (vec![], last, false));
    assert_eq!(bob.events(Some(u64::MAX), 1), (vec![], u64::MAX, false));
    assert_eq!(bob.events(None, 0).0.len(), 1, "0 is not nothing");
}

#[test]
fn a_call_reads_as_its_device() {
    let fixture = Fixture::new(1);
    let [phone, laptop] = [1, 2].map(|device| fixture.caller(1, device));
    let bob = [1, 2].map(|device| fixture.caller(2, device));
    phone.events(None, 1);
    laptop.events(None, 1);
    for device in &bob {
        device.events(None, 1);
    }
    phone.frame(common::send(2, "a", "from the phone"));
    assert_eq!(phone.texts(), [""; 0], "what it said itself is not told a device");
    assert_eq!(laptop.texts(), ["from the phone"]);
    let seal = |user, device, text: &'static str| Sealed { user, device, ciphertext: text.into() };
    let send = v1::Send {
        sealed: vec![seal(2, 1, "for the first"), seal(2, 2, "for the second")],
        payload: bytes::Bytes::new(),
        ..common::send(2, "b", "")
    };
    let sent = phone.frame(send);
    assert!(matches!(sent, Some(server_frame::Body::Sent(_))), "{sent:?}");
    assert_eq!(bob[0].texts(), ["from the phone", "for the first"]);
    assert_eq!(bob[1].texts(), ["from the phone", "for the second"]);
}

#[test]
fn a_session_and_a_call_of_a_device_share_its_place() {
    let fixture = Fixture::new(1);
    let alice = fixture.caller(1, 1);
    let bob = fixture.attach(2, 2, 1);
    alice.frame(common::send(2, "a", "one"));
    let seq = fixture.shards.events(bob.session, 1)[0].seq;
    assert_eq!(fixture.caller(2, 1).frame(v1::Ack { up_to: seq }), None);
    assert_eq!(fixture.attach(3, 2, 1).welcome().acknowledged, seq);
    assert!(fixture.caller(2, 1).texts().is_empty());
}

#[test]
fn a_removed_device_is_closed_holds_nothing_back_and_may_come_back_as_new() {
    let fixture = Fixture::new(1);
    let alice = fixture.caller(1, 1);
    let (phone, laptop) = (fixture.attach(2, 2, 1), fixture.attach(4, 2, 2));
    alice.frame(common::send(2, "a", "one"));
    let seq = fixture.shards.events(phone.session, 1)[0].seq;
    fixture.shards.events(laptop.session, 1);
    let bob = fixture.caller(2, 1);
    bob.frame(v1::Ack { up_to: seq });
    let connected: Vec<_> = bob.devices().iter().map(|d| (d.device, d.connected)).collect();
    assert_eq!(connected, [(1, true), (2, true)]);
    assert_eq!(fixture.caller(2, 2).texts(), ["one"], "the laptop holds it back");

    let done = bob.ask(Call::RemoveDevice { device: 2 });
    assert!(matches!(&done, Action::Frame(frame) if frame.body.is_none()), "{done:?}");
    let is_closed = |effects: &[Effect]| {
        effects.iter().any(|e| matches!(e.action, Action::Close { code, .. } if code == CLOSE_REMOVED))
    };
    fixture.shards.wait(laptop.session, "Close", is_closed);
    assert_eq!(bob.devices().iter().map(|d| d.device).collect::<Vec<_>>(), [1]);
    assert_eq!(bob.events(Some(0), 10).0, [], "nothing holds it back any more");
    let again = bob.ask(Call::RemoveDevice { device: 2 });
    let Action::Frame(frame) = again else { panic!("{again:?}") };
    assert!(matches!(frame.body, Some(server_frame::Body::Error(error)) if error.code == Code::NOT_FOUND));

    // What the closed session still says does nothing; the device comes back as a new one.
    laptop.frame(5, v1::Ack { up_to: seq });
    assert_eq!(bob.devices().len(), 1);
    alice.frame(common::send(2, "b", "two"));
    let laptop = fixture.caller(2, 2);
    laptop.events(None, 1);
    alice.frame(common::send(2, "c", "three"));
    assert_eq!(laptop.texts(), ["three"]);
}

#[test]
fn while_the_store_fails_calls_read_and_change_nothing() {
    let fixture = Fixture::new(1);
    let alice = fixture.caller(1, 1);
    let (phone, laptop) = (fixture.attach(2, 2, 1), fixture.attach(4, 2, 2));
    alice.frame(common::send(2, "a", "one"));
    fixture.shards.events(laptop.session, 1);
    let seq = fixture.shards.events(phone.session, 1)[0].seq;
    fixture.store.fail(true);
    let bob = fixture.caller(2, 1);
    let is_refused = |answer: Option<server_frame::Body>| {
        let Some(server_frame::Body::Error(error)) = answer else { panic!("not refused: {answer:?}") };
        assert_eq!(error.code, Code::UNAVAILABLE);
        assert!(error.retry_after_ms > 0, "it says when to try again");
    };
    is_refused(alice.frame(common::send(2, "b", "two")));
    is_refused(bob.frame(v1::Ack { up_to: seq }));
    let Action::Frame(removal) = bob.ask(Call::RemoveDevice { device: 2 }) else { panic!("no frame") };
    is_refused(removal.body);
    assert_eq!(bob.texts(), ["one"]);
    assert_eq!(bob.devices().len(), 2);
    // The device is still there, and so is its session.
    fixture.store.fail(false);
    let deadline = std::time::Instant::now() + common::DEADLINE;
    while !matches!(alice.frame(common::send(2, "c", "three")), Some(server_frame::Body::Sent(_))) {
        assert!(std::time::Instant::now() < deadline, "the store did not come back");
    }
    assert_eq!(laptop.messages(2)[1].client_id, &b"c"[..]);
    assert_eq!(bob.devices().iter().map(|d| d.connected).collect::<Vec<_>>(), [true, true]);
}

#[test]
fn a_device_of_calls_is_known_to_a_router_started_anew() {
    let folder = tempfile::tempdir().unwrap();
    let shards = Shards::new();
    let caller =
        |router: &Router, user| Caller { handle: router.handle(), shards: shards.clone(), user, device: 1 };
    let router = start(config(folder.path(), 2), shards.clone()).unwrap();
    caller(&router, 2).events(None, 1);
    caller(&router, 1).frame(common::send(2, "a", "one"));
    let seq = caller(&router, 2).texts_until(1).len();
    assert_eq!(seq, 1);
    router.stop();
    let router = start(config(folder.path(), 1), shards.clone()).unwrap();
    assert_eq!(caller(&router, 2).texts(), ["one"]);
    assert_eq!(caller(&router, 2).devices().len(), 1);
    router.stop();
}
