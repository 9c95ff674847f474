//! Calls over HTTP beside sessions over WebSocket.

use super::rest::{self, Rest, from_base64, text};
use roost_client::{Client, harness::Gateway};
use roost_proto::{
    codec::Encoding,
    v1::{self, client_frame, event, server_frame},
};
use serde_json::{Value, json};

pub const ALICE: u64 = 1001;
pub const BOB: u64 = 1002;
const CAROL: u64 = 1003;

pub fn gateway() -> Gateway {
    Gateway::start(&["--shards", "2", "--router-threads", "2"]).expect("the gateway starts")
}

pub fn session(gateway: &Gateway, user: u64, device: u32) -> Client {
    gateway.connect(user, device, Encoding::Proto).expect("a session").0
}

/// Every frame before it was applied once this is answered.
fn settle(client: &mut Client) {
    let id = client.ask(v1::Read::default()).expect("asked");
    client.answer(id).expect("answered");
}

#[test]
fn a_message_posted_over_http_arrives_over_websocket_and_the_reverse() {
    let gateway = gateway();
    let mut bob = session(&gateway, BOB, 1);
    let alice = Rest::new(&gateway, ALICE, 1);
    let sent = alice.post(
        "/v1/messages",
        &json!({ "to": { "user": "1002" }, "clientId": "aQ==", "payload": "aGVsbG8=" }),
    );
    assert_eq!(sent.status, 201, "{}", sent.body);
    let (_, message) = bob.message().expect("a message");
    assert_eq!((message.from, message.from_device, &*message.payload), (ALICE, 1, &b"hello"[..]));
    assert_eq!(sent.json()["id"], message.id.to_string());
    assert_eq!(sent.json()["clientId"], "aQ==");

    let again = alice.post(
        "/v1/messages",
        &json!({ "to": { "user": "1002" }, "clientId": "aQ==", "payload": "aGVsbG8=" }),
    );
    assert_eq!((again.status, again.json()["duplicate"].clone()), (200, json!(true)));
    assert_eq!(again.json()["id"], sent.json()["id"]);

    bob.say(ALICE, b"b", b"hello, Alice").expect("sent");
    let page = alice.events_until(|events| events.iter().any(|event| event["message"].is_object()));
    let message = page.iter().find(|event| event["message"].is_object()).expect("a message");
    assert_eq!(from_base64(&message["message"]["payload"]), b"hello, Alice");
}

#[test]
fn a_session_and_a_call_of_one_device_are_the_same_device() {
    let gateway = gateway();
    let mut alice = session(&gateway, ALICE, 1);
    let mut bob = session(&gateway, BOB, 1);
    Rest::new(&gateway, ALICE, 1).say(BOB, "from a call");
    let (seq, _) = bob.message().expect("a message");
    let acked = Rest::new(&gateway, BOB, 1).post("/v1/ack", &json!({ "upTo": seq.to_string() }));
    assert_eq!((acked.status, &*acked.body), (204, ""));
    // What her own device posted is not told her; that Bob has it is.
    let event::Body::Receipt(receipt) = alice.event().expect("an event").body.expect("a body") else {
        panic!("not a receipt")
    };
    assert_eq!((receipt.by, receipt.mark.as_known()), (BOB, Some(v1::Mark::DELIVERED)));
    assert_eq!(gateway.connect(BOB, 1, Encoding::Proto).expect("again").1.acknowledged, seq);
}

#[test]
fn pages_of_the_stream_follow_each_other_and_move_no_cursor() {
    let gateway = gateway();
    let mut alice = session(&gateway, ALICE, 1);
    let bob = Rest::new(&gateway, BOB, 1);
    assert_eq!(
        bob.get("/v1/messages").json()["events"],
        json!([]),
        "nothing yet, and the device is known from now on"
    );
    for number in 0..5_u8 {
        alice.say(BOB, &[number], &[b'a' + number]).expect("sent");
    }
    bob.events_until(|events| events.len() == 5);
    let (mut after, mut read, mut pages) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let page = bob.get(&format!("/v1/messages?after={after}&limit=2")).json();
        read.extend(
            page["events"]
                .as_array()
                .expect("events")
                .iter()
                .map(|event| from_base64(&event["message"]["payload"])),
        );
        pages += 1;
        after = text(&page["next"]);
        if page["more"] == false {
            break;
        }
    }
    assert_eq!((pages, read.concat()), (3, b"abcde".to_vec()));
    assert_eq!(bob.get(&format!("/v1/messages?after={after}")).json()["events"], json!([]));
    assert_eq!(bob.get("/v1/messages?limit=1").json()["events"].as_array().expect("events").len(), 1);
    assert_eq!(
        bob.get("/v1/messages").json()["events"].as_array().expect("events").len(),
        5,
        "reading is not acknowledging"
    );
}

#[test]
fn an_ack_over_http_moves_the_cursor_and_read_tells_the_sender() {
    let gateway = gateway();
    let mut alice = session(&gateway, ALICE, 1);
    let bob = Rest::new(&gateway, BOB, 1);
    bob.get("/v1/messages");
    let sent = alice.say(BOB, b"1", b"one").expect("sent");
    alice.say(BOB, b"2", b"two").expect("sent");
    let events = bob.events_until(|events| events.len() == 2);
    let first = text(&events[0]["seq"]);
    assert_eq!(bob.post("/v1/ack", &json!({ "upTo": first })).status, 204);
    let left = bob.get("/v1/messages").json();
    assert_eq!(left["events"].as_array().expect("events").len(), 1);
    assert_eq!(left["events"][0], events[1]);
    assert_eq!(bob.get("/v1/devices").json()["devices"][0]["acknowledged"], first);
    // Gone, since Bob's only device has it.
    assert_eq!(bob.get("/v1/messages?after=0").json()["events"][0], events[1]);

    assert_eq!(bob.post("/v1/read", &json!({ "message": [sent.id.to_string()] })).status, 204);
    let mut marks = Vec::new();
    while marks.len() < 2 {
        if let Some(event::Body::Receipt(receipt)) = alice.event().expect("an event").body {
            assert_eq!((receipt.by, &receipt.message), (BOB, &vec![sent.id]));
            marks.extend(receipt.mark.as_known());
        }
    }
    assert_eq!(marks, [v1::Mark::DELIVERED, v1::Mark::READ]);
}

#[test]
fn an_ack_beyond_the_stream_loses_nothing() {
    let gateway = gateway();
    let mut alice = session(&gateway, ALICE, 1);
    let bob = Rest::new(&gateway, BOB, 1);
    assert_eq!(bob.post("/v1/ack", &json!({ "upTo": u64::MAX.to_string() })).status, 204);
    alice.say(BOB, b"1", b"late").expect("sent");
    let events = bob.events_until(|events| !events.is_empty());
    assert_eq!(from_base64(&events[0]["message"]["payload"]), b"late");
    let (mut session, welcome) = gateway.connect(BOB, 1, Encoding::Proto).expect("a session");
    assert_eq!(&*session.message().expect("a message").1.payload, b"late", "{welcome:?}");
}

#[test]
fn a_client_id_comes_from_the_idempotency_key_or_is_made_up_and_told() {
    let gateway = gateway();
    drop(session(&gateway, BOB, 1));
    let alice = Rest::new(&gateway, ALICE, 1);
    let body = json!({ "to": { "user": "1002" }, "payload": "aGVsbG8=" });
    let key = [("Idempotency-Key", "order-77")];
    let first = alice.with(&key).post("/v1/messages", &body);
    let again = alice.with(&key).post("/v1/messages", &body);
    assert_eq!((first.status, again.status), (201, 200), "{} {}", first.body, again.body);
    assert_eq!(
        (&first.json()["id"], &first.json()["clientId"]),
        (&again.json()["id"], &again.json()["clientId"])
    );
    let made_up = [alice.post("/v1/messages", &body), alice.post("/v1/messages", &body)];
    assert_eq!([made_up[0].status, made_up[1].status], [201, 201]);
    assert_eq!(from_base64(&made_up[0].json()["clientId"]).len(), 16);
    assert_ne!(made_up[0].json()["clientId"], made_up[1].json()["clientId"]);
    let long = "k".repeat(256);
    let refused = alice.with(&[("Idempotency-Key", &long)]).post("/v1/messages", &body);
    assert_eq!(refused.status, 400);
    assert!(refused.error().contains("\"Idempotency-Key\" has 256 bytes"), "{}", refused.body);
}

#[test]
fn the_largest_payload_is_taken_and_a_larger_one_is_413() {
    let gateway = gateway();
    let (mut bob, welcome) = gateway.connect(BOB, 1, Encoding::Proto).expect("a session");
    let alice = Rest::new(&gateway, ALICE, 1);
    let largest = vec![7; welcome.payload_bytes_max as usize];
    assert_eq!(alice.say_bytes(BOB, &largest).status, 201);
    assert_eq!(bob.message().expect("a message").1.payload, largest);
    let larger = alice.say_bytes(BOB, &[&largest[..], b"x"].concat());
    assert_eq!((larger.status, larger.code()), (413, "TOO_LARGE".to_owned()));
    let huge = alice.request("POST", "/v1/messages", &" ".repeat(200_000));
    assert_eq!(huge.status, 413);
    assert!(huge.error().contains("131072 bytes"), "{}", huge.body);
}

#[test]
fn devices_are_listed_and_a_removed_one_is_sent_away() {
    let gateway = gateway();
    let mut phone = session(&gateway, ALICE, 1);
    let mut laptop = session(&gateway, ALICE, 2);
    settle(&mut phone);
    settle(&mut laptop);
    let mut bob = session(&gateway, BOB, 1);
    bob.say(ALICE, b"1", b"for both").expect("sent");
    let (seq, _) = phone.message().expect("a message");
    laptop.message().expect("a message");
    let ack = phone.ask(v1::Ack { up_to: seq }).expect("asked");
    phone.answer(ack).expect("answered");
    let alice = Rest::new(&gateway, ALICE, 1);
    let devices = alice.get("/v1/devices").json();
    let of = |device: usize, member: &str| devices["devices"][device][member].clone();
    assert_eq!([of(0, "device"), of(1, "device")], [json!(1), json!(2)], "{devices}");
    assert_eq!([of(0, "connected"), of(1, "connected")], [json!(true), json!(true)]);
    assert_eq!(of(0, "acknowledged"), seq.to_string());
    assert_ne!(of(1, "acknowledged"), seq.to_string());

    assert_eq!(alice.delete("/v1/devices/2").status, 204);
    let reason = loop {
        let frame = laptop.receive().expect("a GoAway comes before the end");
        if let Some(server_frame::Body::GoAway(away)) = frame.body {
            break away.reason;
        }
    };
    assert_eq!(reason, "this device was removed by its user");
    let end = laptop.receive().expect_err("closed").to_string();
    assert!(end.contains("4002"), "{end}");
    let left = alice.get("/v1/devices").json();
    assert_eq!(left["devices"].as_array().expect("devices").len(), 1, "{left}");
    // The removed device's place holds nothing back: what the phone has is gone.
    assert_eq!(alice.get("/v1/messages?after=0").json()["events"], json!([]));
    let gone = alice.delete("/v1/devices/2");
    assert_eq!((gone.status, gone.code()), (404, "NOT_FOUND".to_owned()));
    assert!(gone.error().contains("has no device 2"), "{}", gone.body);
}

#[test]
fn what_was_posted_survives_a_kill() {
    let mut gateway = gateway();
    drop(session(&gateway, BOB, 1));
    let sent = Rest::new(&gateway, ALICE, 1).say(BOB, "durable");
    assert_eq!(sent.status, 201, "{}", sent.body);
    gateway.kill().expect("killed");
    gateway.restart().expect("started again");
    let events = Rest::new(&gateway, BOB, 1).events_until(|events| !events.is_empty());
    assert_eq!(events[0]["message"]["id"], sent.json()["id"]);
}

#[test]
fn json_sessions_and_calls_write_the_same_event() {
    let gateway = gateway();
    let (mut bob, _) = gateway.connect(BOB, 1, Encoding::Json).expect("a session");
    Rest::new(&gateway, ALICE, 1).say(BOB, "the same");
    let event = bob.event().expect("an event");
    let page = Rest::new(&gateway, BOB, 1).get("/v1/messages?after=0").json();
    let as_json: Value = serde_json::to_value(&event).expect("JSON");
    assert_eq!(page["events"], json!([as_json]));
    let frame: client_frame::Body = v1::Ack { up_to: event.seq }.into();
    bob.ask(frame).expect("asked");
}

#[test]
fn a_group_made_over_http_is_one_of_sessions_too() {
    let gateway = gateway();
    let (mut bob, mut carol) = (session(&gateway, BOB, 1), session(&gateway, CAROL, 1));
    let alice = Rest::new(&gateway, ALICE, 1);
    let made = alice.post("/v1/groups", &json!({ "name": "friends", "member": ["1002", "1003"] }));
    assert_eq!(made.status, 201, "{}", made.body);
    let group = text(&made.json()["group"]);
    for member in [&mut bob, &mut carol] {
        let event::Body::Group(info) = member.event().expect("an event").body.expect("a body") else {
            panic!("not a group")
        };
        assert_eq!((info.group.to_string(), &*info.name, info.member.len()), (group.clone(), "friends", 3));
    }
    let said = alice.post("/v1/messages", &json!({ "to": { "group": group }, "payload": "aGk=" }));
    assert_eq!(said.status, 201, "{}", said.body);
    for member in [&mut bob, &mut carol] {
        assert_eq!(member.message().expect("a message").1.id.to_string(), said.json()["id"]);
    }
    let refused =
        Rest::new(&gateway, BOB, 1).request("PATCH", &format!("/v1/groups/{group}"), r#"{"name":"mine"}"#);
    assert_eq!((refused.status, refused.code()), (403, "FORBIDDEN".to_owned()), "{}", refused.body);
    let removed = alice.delete(&format!("/v1/groups/{group}/members/1003"));
    assert_eq!(removed.status, 200, "{}", removed.body);
    let carol = Rest::new(&gateway, CAROL, 1);
    let deadline = std::time::Instant::now() + rest::DEADLINE;
    while carol.get("/v1/groups").json()["groups"] != json!([]) {
        assert!(std::time::Instant::now() < deadline, "she is still a member");
    }
    assert_eq!(carol.get(&format!("/v1/groups/{group}")).status, 404);
    let groups = Rest::new(&gateway, BOB, 1).get("/v1/groups").json();
    assert_eq!(groups["groups"][0]["group"], group, "{groups}");
    let mut stream = Vec::new();
    for event in Rest::new(&gateway, BOB, 1).events_until(|events| events.len() == 3) {
        stream.push(event.as_object().expect("an event").keys().find(|key| *key != "seq").cloned());
    }
    assert_eq!(stream, ["group", "message", "group"].map(|kind| Some(kind.to_owned())));
}
