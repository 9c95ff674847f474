//! Sessions through a real gateway process: two users in both encodings, devices, receipts, windows, restarts.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use roost_client::{Client, Credentials, harness::Gateway, send_to};
use roost_proto::{
    codec::Encoding,
    v1::{self, client_frame, event, server_frame},
};

const ALICE: u64 = 491_711_234_567;
const BOB: u64 = 42;

fn gateway(arguments: &[&str]) -> Gateway {
    Gateway::start(arguments).expect("the gateway starts")
}

fn connect(gateway: &Gateway, user: u64, device: u32) -> (Client, v1::Welcome) {
    gateway.connect(user, device, Encoding::Proto).expect("a session")
}

fn ack(client: &mut Client, up_to: u64) {
    let id = client.ask(v1::Ack { up_to }).expect("sent");
    client.answer(id).expect("the ack is durable");
}

#[test]
fn users_on_all_shards_exchange_messages_in_both_encodings() {
    let gateway = gateway(&["--shards", "2"]);
    let mut clients: Vec<Client> = (1..=16)
        .map(|user| {
            let encoding = if user % 2 == 0 { Encoding::Proto } else { Encoding::Json };
            let (client, welcome) = gateway.connect(user, 1, encoding).expect("a session");
            assert_eq!((welcome.user, welcome.device, welcome.head), (user, 1, 0));
            client
        })
        .collect();
    for from in 0..clients.len() {
        let to = (from + 1) % clients.len();
        let text = format!("from {} with \u{e9}", from + 1);
        let sent = clients[from].say(to as u64 + 1, &[from as u8 + 1], text.as_bytes()).expect("sent");
        let (_, message) = clients[to].message().expect("delivered");
        assert_eq!((message.id, message.from, message.from_device), (sent.id, from as u64 + 1, 1));
        assert_eq!(message.payload, text.as_bytes());
        assert_eq!(message.sent_at_ms, sent.sent_at_ms);
    }
    let (_, metrics) = gateway.request("GET", "/metrics", "").expect("metrics");
    for shard in ["0", "1"] {
        let line = format!("roost_upgraded_total{{shard=\"{shard}\"}} ");
        let count =
            metrics.lines().find_map(|text| text.strip_prefix(&line)).expect("a counter for each shard");
        assert_ne!(count, "0", "16 connections fall on both shards");
    }
}

/// The request head of an upgrade.
fn head(gateway: &Gateway, user: u64, device: u32) -> String {
    let token = gateway.token(user, device).expect("a token");
    format!(
        "GET /v1/ws?access_token={token} HTTP/1.1\r\nHost: roost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A short text, masked with zeroes.
fn frame(text: &str) -> Vec<u8> {
    [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat()
}

#[test]
fn a_device_too_many_stores_nothing_even_with_its_upgrade() {
    let gateway = gateway(&[]);
    drop(connect(&gateway, BOB, 1));
    for device in 1..=32 {
        drop(connect(&gateway, ALICE, device));
    }
    let send = frame(&format!("{{\"id\":5,\"send\":{{\"to\":{{\"user\":{BOB}}},\"clientId\":\"AQ==\"}}}}"));
    let mut stream = TcpStream::connect(gateway.ws).expect("connected");
    stream.write_all(&[head(&gateway, ALICE, 33).as_bytes(), &send].concat()).expect("written");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("closed");
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("FORBIDDEN") && !said.contains("\"replyTo\":5"), "{said}");
    // The answer to a later message of another device comes after whatever the refused one has stored.
    let (mut alice, _) = connect(&gateway, ALICE, 1);
    alice.say(BOB, b"2", b"allowed").expect("sent");
    let (mut bob, welcome) = connect(&gateway, BOB, 1);
    let (seq, message) = bob.message().expect("delivered");
    assert_eq!((seq, &*message.client_id), (welcome.head, &b"2"[..]), "only what a known device sent");
}

#[test]
fn the_welcome_comes_first_even_when_frames_come_with_the_upgrade() {
    let gateway = gateway(&["--router-threads", "4"]);
    for user in 1..=40 {
        let head = head(&gateway, user, 1);
        // To a number whose home may be any thread; masked with zeroes.
        let json =
            format!("{{\"id\":5,\"send\":{{\"to\":{{\"user\":{}}},\"clientId\":\"AQ==\"}}}}", user + 1_000);
        let heartbeat = "{\"id\":4}";
        let frame = [frame(heartbeat), frame("not JSON"), frame(&json)].concat();
        let mut stream = TcpStream::connect(gateway.ws).expect("connected");
        stream.write_all(&[head.as_bytes(), &frame].concat()).expect("written");
        let mut said = Vec::new();
        while !said.windows(11).any(|window| window == b"\"replyTo\":5") {
            let mut buffer = [0; 4_096];
            let bytes = stream.read(&mut buffer).expect("readable");
            assert!(bytes > 0, "closed after {}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&buffer[..bytes]);
        }
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(
            said.find("welcome").expect("a Welcome") < said.find("replyTo").expect("an answer"),
            "{said}"
        );
    }
}

#[test]
fn what_waits_for_an_offline_user_survives_kill_and_comes_in_order() {
    let mut gateway = gateway(&[]);
    let (mut bob, _) = connect(&gateway, BOB, 1);
    drop(connect(&gateway, ALICE, 1));
    let sent: Vec<u64> = (0..50_u8).map(|n| bob.say(ALICE, &[n, 1], &[n]).expect("sent").id).collect();
    assert!(sent.windows(2).all(|pair| pair[0] < pair[1]), "ids rise within a conversation");
    gateway.kill().expect("killed");
    gateway.restart().expect("started again");

    let (mut alice, welcome) = connect(&gateway, ALICE, 1);
    assert_eq!(welcome.acknowledged, 0);
    let got: Vec<(u64, v1::Message)> = (0..50).map(|_| alice.message().expect("delivered")).collect();
    assert_eq!(got[49].0, welcome.head);
    assert_eq!(got.iter().map(|(_, message)| message.id).collect::<Vec<_>>(), sent);
    ack(&mut alice, got[29].0);
    gateway.kill().expect("killed");
    gateway.restart().expect("started again");

    let (mut alice, welcome) = connect(&gateway, ALICE, 1);
    assert_eq!(welcome.acknowledged, got[29].0, "the cursor is durable");
    assert_eq!(alice.message().expect("the rest").1.id, sent[30]);

    let (mut bob, _) = connect(&gateway, BOB, 1);
    let again = bob.say(ALICE, &[7, 1], b"once more").expect("answered");
    assert_eq!((again.duplicate, again.id), (true, sent[7]), "the same client_id is not stored again");
}

#[test]
fn both_sides_other_devices_see_a_message_and_the_sending_one_does_not() {
    let gateway = gateway(&[]);
    let (mut phone, _) = connect(&gateway, ALICE, 1);
    let (mut laptop, _) = connect(&gateway, ALICE, 2);
    let (mut bob_phone, _) = connect(&gateway, BOB, 1);
    let (mut bob_laptop, _) = gateway.connect(BOB, 2, Encoding::Json).expect("a session");
    let sent = phone.say(BOB, b"1", b"hello").expect("sent");
    for other in [&mut laptop, &mut bob_phone, &mut bob_laptop] {
        assert_eq!(other.message().expect("delivered").1.id, sent.id);
    }
    let reply = bob_phone.say(ALICE, b"2", b"hello yourself").expect("sent");
    // The first event that reaches the sending device is the reply: its own message never comes back to it.
    assert_eq!(phone.message().expect("delivered").1.id, reply.id);
    assert!(reply.id > sent.id);
}

#[test]
fn the_sender_hears_that_a_message_was_delivered_and_read() {
    let gateway = gateway(&[]);
    let (mut alice, _) = connect(&gateway, ALICE, 1);
    let (mut bob, _) = connect(&gateway, BOB, 1);
    let sent = alice.say(BOB, b"1", b"hello").expect("sent");
    let (seq, _) = bob.message().expect("delivered");
    ack(&mut bob, seq);
    let delivered = receipt(&mut alice);
    assert_eq!((delivered.mark.to_i32(), delivered.by, &delivered.message[..]), (0, BOB, &[sent.id][..]));
    bob.ask(v1::Read { message: vec![sent.id, 999] }).expect("sent");
    let read = receipt(&mut alice);
    assert_eq!((read.mark.to_i32(), read.by, &read.message[..]), (1, BOB, &[sent.id][..]));
}

fn receipt(client: &mut Client) -> v1::Receipt {
    match client.event().expect("an event").body {
        Some(event::Body::Receipt(receipt)) => *receipt,
        other => panic!("not a receipt but {other:?}"),
    }
}

#[test]
fn a_window_of_unacknowledged_events_bounds_what_is_in_flight() {
    const MESSAGES: usize = 600;
    let gateway = gateway(&[]);
    drop(connect(&gateway, ALICE, 1));
    let (mut bob, _) = connect(&gateway, BOB, 1);
    for n in 0..MESSAGES as u16 {
        bob.send(&v1::ClientFrame {
            id: u32::from(n) + 1,
            body: Some(send_to(ALICE, &n.to_be_bytes(), &n.to_be_bytes()).into()),
        })
        .expect("sent");
    }
    for _ in 0..MESSAGES {
        assert!(matches!(bob.receive().expect("answered").body, Some(server_frame::Body::Sent(_))));
    }
    let (mut alice, welcome) = connect(&gateway, ALICE, 1);
    // An answer to a heartbeat comes after all that was sent before it: what came until then is the window.
    alice.send(&v1::ClientFrame { id: 77, ..Default::default() }).expect("sent");
    let mut got = Vec::new();
    let mut heartbeat = false;
    while got.len() < MESSAGES {
        let frame = alice.receive().expect("a frame");
        match frame.body {
            Some(server_frame::Body::Event(event)) => got.push(event.seq),
            None if frame.reply_to == 77 => heartbeat = true,
            other => panic!("unexpected {other:?}"),
        }
        if got.len() == 256 {
            ack_without_answer(&mut alice, got[255]);
        } else if got.len() == 512 {
            ack_without_answer(&mut alice, got[511]);
        }
        assert!(got.len() <= 256 || got[256..].iter().all(|seq| *seq > got[255]));
    }
    assert!(heartbeat);
    assert_eq!(got.last(), Some(&welcome.head));
    assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice");
}

fn ack_without_answer(client: &mut Client, up_to: u64) {
    let body: client_frame::Body = v1::Ack { up_to }.into();
    client.send(&v1::ClientFrame { body: Some(body), ..Default::default() }).expect("sent");
}

#[test]
fn a_second_connection_of_a_device_replaces_the_first() {
    let gateway = gateway(&[]);
    let (mut first, _) = connect(&gateway, ALICE, 1);
    let (mut second, _) = connect(&gateway, ALICE, 1);
    let frame = first.receive().expect("a goodbye");
    assert!(matches!(frame.body, Some(server_frame::Body::GoAway(_))), "{frame:?}");
    assert!(first.receive().expect_err("closed").to_string().contains("closed with"));
    let (mut bob, _) = connect(&gateway, BOB, 1);
    bob.say(ALICE, b"1", b"to the second").expect("sent");
    assert_eq!(second.message().expect("delivered").1.payload, b"to the second"[..]);
}

#[test]
fn the_silent_are_reaped_and_those_who_speak_stay() {
    // The one that lives may be held up for six seconds by a busy machine.
    let gateway = gateway(&["--heartbeat-s", "3"]);
    let (mut silent, welcome) = connect(&gateway, ALICE, 1);
    assert_eq!(welcome.heartbeat_s, 3);
    let (mut alive, _) = connect(&gateway, BOB, 1);
    let (sender, receiver) = std::sync::mpsc::channel();
    let watcher = std::thread::spawn(move || {
        let end = silent.receive().expect_err("reaped").to_string();
        sender.send(()).expect("somebody listens");
        end
    });
    // The one that lives answers each of its heartbeats with the next, until the other is gone.
    let mut id = 0;
    while receiver.recv_timeout(std::time::Duration::from_millis(300)).is_err() {
        id += 1;
        alive.send(&v1::ClientFrame { id, ..Default::default() }).expect("alive");
        assert_eq!(alive.receive().expect("answered").reply_to, id);
    }
    let end = watcher.join().expect("no panic");
    assert!(end.contains("1001"), "{end}");
    alive.send(&v1::ClientFrame { id: id + 1, ..Default::default() }).expect("still alive");
    assert_eq!(alive.receive().expect("answered").reply_to, id + 1);
}

#[test]
fn connections_beyond_the_maximum_get_503_and_the_next_is_taken_when_one_leaves() {
    let gateway = gateway(&["--max-connections", "3"]);
    let clients: Vec<Client> = (1..=3).map(|user| connect(&gateway, user, 1).0).collect();
    let error = format!("{:#}", gateway.connect(4, 1, Encoding::Proto).expect_err("full"));
    assert!(error.contains("503"), "{error}");
    drop(clients);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while gateway.connect(4, 1, Encoding::Proto).is_err() {
        assert!(std::time::Instant::now() < deadline, "those who left make room");
    }
}

#[test]
fn those_being_refused_take_no_place() {
    let gateway = gateway(&["--max-connections", "1", "--handshake-s", "600"]);
    let (client, _) = connect(&gateway, 1, 1);
    // They never finish their request, so each is refused only when the time for its handshake is up: long after this test.
    let begin = || {
        let mut peer = TcpStream::connect(gateway.ws).expect("connected");
        peer.write_all(b"GET /v1/ws HT").expect("written");
        peer
    };
    let refused: Vec<_> = (0..5).map(|_| begin()).collect();
    let accepted = || {
        let (_, metrics) = gateway.request("GET", "/metrics", "").expect("metrics");
        let counts = metrics.lines().filter(|line| line.starts_with("roost_accepted_total{"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum::<usize>()
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while accepted() <= refused.len() {
        assert!(std::time::Instant::now() < deadline, "all are accepted");
        std::thread::yield_now();
    }
    drop(client);
    while gateway.connect(2, 1, Encoding::Proto).is_err() {
        assert!(std::time::Instant::now() < deadline, "the only place is free");
    }
    drop(refused);
}

#[test]
fn sigterm_says_goodbye_and_exits_0() {
    let mut gateway = gateway(&[]);
    let (mut alice, _) = connect(&gateway, ALICE, 1);
    gateway.signal("TERM").expect("signalled");
    match alice.receive().expect("a goodbye").body {
        Some(server_frame::Body::GoAway(away)) => assert!(away.reconnect_max_ms > away.reconnect_min_ms),
        other => panic!("not a GoAway but {other:?}"),
    }
    let end = alice.receive().expect_err("closed").to_string();
    assert!(end.contains("1001"), "{end}");
    drop(alice);
    assert_eq!(gateway.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_second_sigterm_exits_at_once() {
    let mut gateway = gateway(&[]);
    // Its half of a request head keeps the drain waiting for ten seconds.
    let mut slow = TcpStream::connect(gateway.ws).expect("connected");
    slow.write_all(b"GET /v1/ws HT").expect("written");
    assert_eq!(gateway.request("GET", "/readyz", "").expect("answered").0, 200);
    // A drain waits only for who was accepted before it.
    let metrics = || gateway.request("GET", "/metrics", "").expect("answered").1;
    while !metrics().lines().any(|line| line.starts_with("roost_connections{") && line.ends_with(" 1")) {
        std::thread::yield_now();
    }
    gateway.signal("TERM").expect("signalled");
    while gateway.request("GET", "/readyz", "").expect("answered").0 == 200 {
        std::thread::yield_now();
    }
    gateway.signal("TERM").expect("signalled");
    assert_eq!(gateway.wait().expect("it ends").code(), Some(1));
}

#[test]
fn ipv4_ipv6_and_dual_stack() {
    for (listen, reach) in [
        ("127.0.0.1:0", &["127.0.0.1"][..]),
        ("[::1]:0", &["::1"]),
        ("[::]:0", &["127.0.0.1", "::1"]),
        ("0.0.0.0:0", &["127.0.0.1"]),
    ] {
        let gateway = Gateway::start_on(listen, &["--auth", "none"]).expect("the gateway starts");
        for (device, host) in (1..).zip(reach) {
            let address = SocketAddr::new(host.parse().expect("an address"), gateway.ws.port());
            let (_, welcome) = Client::connect(address, Encoding::Json, &Credentials::Claimed(7, device))
                .unwrap_or_else(|error| panic!("{listen} from {host}: {error:#}"));
            assert_eq!((welcome.user, welcome.device), (7, device));
        }
    }
}

#[test]
fn the_page_is_told_where_a_proxy_serves() {
    let gateway = gateway(&["--public-url", "wss://chat.example.org/v1/ws"]);
    let (status, config) = gateway.request("GET", "/v1/config", "").expect("answered");
    assert_eq!((status, config.contains("wss://chat.example.org/v1/ws")), (200, true), "{config}");
}

#[test]
fn by_default_only_loopback_is_served() {
    let addresses: BTreeSet<String> = [gateway(&[])]
        .iter()
        .flat_map(|gateway| [gateway.ws.ip().to_string(), gateway.http.ip().to_string()])
        .collect();
    assert_eq!(addresses, ["127.0.0.1".to_owned()].into());
}
