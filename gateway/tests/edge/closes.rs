//! How connections end: each reason for which the gateway closes, each way in which a peer may take it, and each Close frame a peer may send.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
};

use roost_client::{Client, harness::Gateway};
use roost_gateway::limits;
use roost_proto::codec::Encoding;

use super::raw;

const ALICE: u64 = 1001;
const CLOSE: u8 = 0x88;

fn bearer(gateway: &Gateway, device: u32) -> String {
    format!("Authorization: Bearer {}\r\n", gateway.token(ALICE, device).expect("a token"))
}

/// A session whose Welcome has come, in JSON.
fn session(gateway: &Gateway, device: u32) -> TcpStream {
    let mut stream = raw::upgraded(gateway, "/v1/ws", &bearer(gateway, device));
    let (_, welcome) = raw::next(&mut stream).expect("a Welcome");
    assert!(welcome.starts_with(b"{\"welcome\":"), "{}", welcome.escape_ascii());
    stream
}

/// The gateway says goodbye with this code, sends a FIN, and takes our answer.
fn assert_closed(what: &str, mut stream: TcpStream, code: u16) {
    let frames = raw::rest(&mut stream);
    let close = frames.last().unwrap_or_else(|| panic!("{what}: an end without a Close frame"));
    assert_eq!(raw::close_code(close), code, "{what}: {frames:?}");
    assert!(str::from_utf8(&close.1[2..]).is_ok_and(|reason| !reason.is_empty()), "{what} says why");
    assert_eq!(
        frames.iter().filter(|(first, _)| *first == CLOSE).count(),
        1,
        "{what}: one Close frame, the last"
    );
    stream.write_all(&raw::frame(CLOSE, &code.to_be_bytes())).expect("the other half is open");
}

#[test]
fn each_reason_has_its_code_and_the_fin_follows_the_close_frame() {
    let gateway = Gateway::start(&["--max-message-bytes", "4096"]).expect("it starts");
    let cases = [
        ("a reserved bit", raw::frame(0xC1, b""), 1002),
        ("a continuation of nothing", raw::frame(0x80, b""), 1002),
        ("binary where JSON is spoken", raw::frame(0x82, b"{}"), 1003),
        ("text that is not UTF-8", raw::frame(0x81, b"\xC0\xAF"), 1007),
        ("a message of 4,097 bytes", raw::frame(0x81, &[b' '; 4_097]), 1009),
        ("one that only says so", raw::frame(0x81, &vec![b' '; 70_000])[..14].to_vec(), 1009),
        ("one in pieces", [raw::frame(0x01, &[b' '; 4_000]), raw::frame(0x80, &[b' '; 97])].concat(), 1009),
    ];
    for (device, (what, bytes, code)) in (1..).zip(cases) {
        let mut stream = session(&gateway, device);
        stream.write_all(&bytes).expect("written");
        assert_closed(what, stream, code);
    }

    let replaced = session(&gateway, 1);
    let _replacing = session(&gateway, 1);
    assert_closed("a second session of the device", replaced, 4001);
    let removed = session(&gateway, 2);
    let (status, _) =
        gateway.request_with("DELETE", "/v1/devices/2", &bearer(&gateway, 1), "").expect("an answer");
    assert_eq!(status, 204);
    assert_closed("a device that was removed", removed, 4002);
    let mut devices: Vec<Client> = Vec::new();
    for device in 8..=32 {
        devices.push(gateway.connect(ALICE, device, Encoding::Proto).expect("a session").0);
    }
    // The removed one made room for one more.
    devices.push(gateway.connect(ALICE, 33, Encoding::Proto).expect("a session").0);
    let one_too_many = raw::upgraded(&gateway, "/v1/ws", &bearer(&gateway, 34));
    assert_closed("the 33rd device", one_too_many, 1008);

    let drained = session(&gateway, 3);
    gateway.signal("TERM").expect("sent");
    assert_closed("a drain", drained, 1001);
}

/// Messages of which all but the last byte has come fill what a shard may hold; one of those who hold much of it is told to come back later.
#[test]
fn a_shard_without_memory_for_partial_input_closes_with_1013_and_serves_others() {
    const BYTES: usize = 16 * 1_024 * 1_024;
    let gateway = Gateway::start(&["--backend", "echo", "--shards", "1", "--max-message-bytes", "16777216"])
        .expect("it starts");
    // A mask of zeros, so that the payload is as it is.
    let head = [&[0x82, 0xFF][..], &(BYTES as u64).to_be_bytes(), &[0; 4]].concat();
    let payload = vec![0; BYTES];
    let mut held = Vec::new();
    let mut received = 0;
    while raw::sample(&gateway, "roost_closed_total{code=\"1013\"}") == 0 {
        assert!(held.len() <= limits::ASSEMBLY_BYTES_MAX / BYTES, "more is held than may be");
        let mut stream = raw::upgraded(&gateway, "/any", "");
        stream.write_all(&head).expect("written");
        stream.write_all(&payload[1..]).expect("written");
        received += head.len() + BYTES - 1;
        raw::wait_until(&gateway, "roost_received_bytes_total{shard=\"0\"}", |bytes| {
            bytes >= received as u64
        });
        held.push(stream);
    }
    // Whom it takes is the shard's choice: one of those who hold much and say nothing.
    let told = |stream: &TcpStream| {
        stream.set_nonblocking(true).expect("set");
        let told = stream.peek(&mut [0]).is_ok();
        stream.set_nonblocking(false).expect("set");
        told
    };
    raw::wait_until(&gateway, "roost_closed_total{code=\"1013\"}", |_| held.iter().any(told));
    let closed = held.iter().position(told).expect("one of them");
    assert_closed("no memory", held.swap_remove(closed), 1013);
    raw::upgraded(&gateway, "/any", "");
}

#[test]
fn a_session_that_says_nothing_is_closed_with_1001() {
    let gateway = Gateway::start(&["--heartbeat-s", "1"]).expect("it starts");
    assert_closed("silence", session(&gateway, 1), 1001);
}

/// What peers do after our Close frame, and what becomes of their connection: it is gone, within a bound, whatever they do.
#[test]
fn however_a_peer_takes_our_close_its_connection_ends() {
    let gateway = Gateway::start(&["--backend", "echo", "--shards", "1"]).expect("it starts");
    let closed = || {
        let mut stream = raw::upgraded(&gateway, "/any", "");
        stream.write_all(&raw::unmasked(0x81, b"x")).expect("written");
        assert_eq!(raw::next(&mut stream).as_ref().map(raw::close_code), Some(1002));
        stream
    };
    let ours = raw::frame(CLOSE, &1002_u16.to_be_bytes());

    let mut answers = closed();
    answers.write_all(&ours).expect("written");
    assert_eq!(raw::next(&mut answers), None, "nothing but a FIN follows a Close frame");
    drop(answers);
    let mut half = closed();
    half.shutdown(Shutdown::Write).expect("shut down");
    assert_eq!(raw::next(&mut half), None);
    drop(closed());
    raw::wait_for(&gateway, "roost_connections{shard=\"0\"}", 0);

    // Those who do not play along: one keeps quiet, one goes on as if nothing had happened.
    let mut quiet = closed();
    let mut talks = closed();
    let message = raw::frame(0x81, &[b'x'; 1_000]);
    for _ in 0..100 {
        talks.write_all(&message).expect("taken and not answered");
    }
    assert_eq!(raw::next(&mut talks), None, "messages after our Close frame are not echoed");
    assert_eq!(raw::next(&mut quiet), None);
    raw::wait_for(&gateway, "roost_connections{shard=\"0\"}", 0);
    let ended = talks.write_all(&message).and_then(|()| talks.read(&mut [0])).map(|bytes| bytes == 0);
    assert!(ended.is_err() || ended.is_ok_and(|end| end), "it is gone for good");
}

/// RFC 6455 section 7.1.1: the server ends TCP first, once both Close frames are there.
#[test]
fn a_peer_that_closes_is_answered_with_its_code_and_the_end() {
    let gateway = Gateway::start(&["--backend", "echo", "--shards", "1"]).expect("it starts");
    let valid =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    let invalid = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65_535];
    let answer = |payload: &[u8]| {
        let mut stream = raw::upgraded(&gateway, "/any", "");
        // A message behind a Close frame is not looked at.
        stream.write_all(&[raw::frame(CLOSE, payload), raw::frame(0x81, b"late")].concat()).expect("written");
        let frames = raw::rest(&mut stream);
        assert_eq!(frames.len(), 1, "one Close frame and the end: {frames:?}");
        raw::close_code(&frames[0])
    };
    for code in valid {
        assert_eq!(answer(&u16::to_be_bytes(code)), code);
    }
    for code in invalid {
        assert_eq!(answer(&u16::to_be_bytes(code)), 1002, "{code}");
    }
    let with_reason = |reason: &[u8]| [&1000_u16.to_be_bytes(), reason].concat();
    for (what, payload, code) in [
        ("no code", vec![], 1005),
        ("half a code", vec![3], 1002),
        ("a reason of 123 bytes", with_reason(&[b'r'; 123]), 1000),
        ("a reason of 124 bytes", with_reason(&[b'r'; 124]), 1002),
        ("a reason that is not UTF-8", with_reason(b"\xFF"), 1007),
        ("one that is cut within a character", with_reason("é".as_bytes().split_at(1).0), 1007),
    ] {
        assert_eq!(answer(&payload), code, "{what}");
    }
    raw::wait_for(&gateway, "roost_connections{shard=\"0\"}", 0);
    let none = "roost_closed_by_peer_total{code=\"none\"}";
    assert_eq!(raw::sample(&gateway, none), 1);
}

#[test]
fn a_peer_that_goes_without_a_close_frame_is_counted_as_lost() {
    let gateway = Gateway::start(&["--backend", "echo", "--shards", "1"]).expect("it starts");
    drop(raw::upgraded(&gateway, "/any", ""));
    let mut half = raw::upgraded(&gateway, "/any", "");
    half.write_all(&raw::frame(0x01, b"half a message")).expect("written");
    half.shutdown(Shutdown::Write).expect("shut down");
    assert_eq!(raw::next(&mut half), None, "no Close frame for one who is gone");
    raw::wait_for(&gateway, "roost_connections{shard=\"0\"}", 0);
    assert_eq!(raw::sample(&gateway, "roost_lost_total{shard=\"0\"}"), 2);
}
