//! The opening handshake over real sockets: each line of RFC 6455 sections 4.2.1 and 4.2.2 kept, bent and broken in turn.

use std::io::{Read as _, Write as _};

use roost_client::harness::Gateway;
use roost_proto::handshake::{HEADER_BYTES_MAX, HEADER_COUNT_MAX};

use super::raw;

/// A valid request line by line. The tables below replace its lines, leave them out, or add to them.
const LINES: [&str; 6] = [
    "GET /any HTTP/1.1",
    "Host: roost",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

fn request(lines: &[&str]) -> Vec<u8> {
    (lines.join("\r\n") + "\r\n\r\n").into_bytes()
}

fn with(index: usize, line: &str) -> Vec<u8> {
    let mut lines = LINES;
    lines[index] = line;
    request(&lines)
}

fn without(index: usize) -> Vec<u8> {
    let mut lines = LINES.to_vec();
    lines.remove(index);
    request(&lines)
}

fn and(more: &[&str]) -> Vec<u8> {
    request(&[&LINES[..], more].concat())
}

/// Everything that comes until the end, for a request that is refused.
fn refusal(gateway: &Gateway, request: &[u8]) -> String {
    let mut stream = raw::connect(gateway.ws);
    stream.write_all(request).expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer, and the end");
    String::from_utf8(answer).expect("ASCII")
}

/// One whole response that ends the connection, and nothing behind it.
fn assert_refused(gateway: &Gateway, what: &str, request: &[u8], status: &str) {
    let answer = refusal(gateway, request);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{what}: {answer:?}"));
    let has = |line: &str| head.split("\r\n").any(|one| one.eq_ignore_ascii_case(line));
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
    assert!(has("Connection: close"), "{what}: {answer}");
    assert!(has(&format!("Content-Length: {}", body.len())), "{what}: one answer and no more: {answer}");
    match status {
        // RFC 6455 section 4.4, RFC 9110 sections 15.5.22 and 15.5.6.
        "426" => assert!(has("Sec-WebSocket-Version: 13") && has("Upgrade: websocket"), "{what}: {answer}"),
        "405" => assert!(has("Allow: GET"), "{what}: {answer}"),
        _ => {}
    }
}

#[test]
fn each_line_that_is_broken_is_refused_with_its_status() {
    let gateway = Gateway::start(&["--backend", "echo", "--shards", "1"]).expect("it starts");
    let key = LINES[4];
    let large = format!("X: {}", "x".repeat(HEADER_BYTES_MAX));
    let many = vec!["X: x"; HEADER_COUNT_MAX];
    let cases = [
        ("1: POST", with(0, "POST /any HTTP/1.1"), "405"),
        ("1: a method in small letters", with(0, "get /any HTTP/1.1"), "405"),
        ("1: HTTP/1.0", with(0, "GET /any HTTP/1.0"), "400"),
        ("1: HTTP/2.0", with(0, "GET /any HTTP/2.0"), "400"),
        ("1: HTTP/0.9", with(0, "GET /any"), "400"),
        ("1: a preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "400"),
        ("1: a hello of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), "400"),
        ("2: no path", with(0, "GET any HTTP/1.1"), "400"),
        ("2: another scheme", with(0, "GET ftp://roost/any HTTP/1.1"), "400"),
        ("2: a fragment", with(0, "GET /any#part HTTP/1.1"), "400"),
        ("2: a NUL in the path", with(0, "GET /a\0ny HTTP/1.1"), "400"),
        ("2: a space in the path", with(0, "GET /a ny HTTP/1.1"), "400"),
        ("3: no Host", without(1), "400"),
        ("3: two Hosts", and(&["Host: other"]), "400"),
        ("4: no Upgrade", without(2), "426"),
        ("4: another Upgrade", with(2, "Upgrade: h2c"), "426"),
        ("4: nearly websocket", with(2, "Upgrade: websockets"), "426"),
        ("5: no Connection", without(3), "400"),
        ("5: a Connection that is kept alive", with(3, "Connection: keep-alive"), "400"),
        ("5: a list without upgrade", with(3, "Connection: keep-alive, upgrades"), "400"),
        ("6: no key", without(4), "400"),
        ("6: an empty key", with(4, "Sec-WebSocket-Key:"), "400"),
        ("6: 15 bytes", with(4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"), "400"),
        ("6: 17 bytes", with(4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWE="), "400"),
        ("6: no base64", with(4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!!=="), "400"),
        ("6: two keys", and(&[key]), "400"),
        ("7: no version", without(5), "426"),
        ("7: version 0", with(5, "Sec-WebSocket-Version: 0"), "426"),
        ("7: version 7", with(5, "Sec-WebSocket-Version: 7"), "426"),
        ("7: version 8", with(5, "Sec-WebSocket-Version: 8"), "426"),
        ("7: version 14", with(5, "Sec-WebSocket-Version: 14"), "426"),
        ("7: two versions in one", with(5, "Sec-WebSocket-Version: 8, 13"), "426"),
        ("7: two versions", and(&[LINES[5]]), "400"),
        ("9: a sub-protocol that is no token", and(&["Sec-WebSocket-Protocol: a b"]), "400"),
        ("9: one in quotes", and(&["Sec-WebSocket-Protocol: \"a\""]), "400"),
        ("too large", and(&[&large]), "431"),
        ("too many lines", and(&many), "431"),
        ("a folded line", and(&["X: x", " folded"]), "400"),
        ("a line without a colon", and(&["nothing"]), "400"),
        ("a space before the colon", and(&["Host : other"]), "400"),
        ("a NUL in a value", and(&["X: a\0b"]), "400"),
        ("a CR in a value", and(&["X: a\rHost: other"]), "400"),
        ("a bare LF", and(&["X: a\nHost: other"]), "400"),
        ("only bare LFs", (LINES.join("\n") + "\n\n").into_bytes(), "400"),
        ("a body by length", [and(&["Content-Length: 5"]), b"hello".to_vec()].concat(), "400"),
        ("a body in chunks", [and(&["Transfer-Encoding: chunked"]), b"0\r\n\r\n".to_vec()].concat(), "400"),
        ("both", and(&["Content-Length: 5", "Transfer-Encoding: chunked"]), "400"),
        ("two lengths", and(&["Content-Length: 0", "Content-Length: 0"]), "400"),
        ("a length with a sign", and(&["Content-Length: +0"]), "400"),
        ("a second request behind a bad one", [without(4), request(&LINES)].concat(), "400"),
        (
            "a request in the body of another",
            [and(&["Content-Length: 200"]), request(&LINES)].concat(),
            "400",
        ),
    ];
    for (what, request, status) in cases {
        assert_refused(&gateway, what, &request, status);
    }
    assert_eq!(raw::sample(&gateway, "roost_upgraded_total{shard=\"0\"}"), 0, "of all these none");
    raw::upgraded(&gateway, "/any", "");
}

#[test]
fn what_the_standard_leaves_to_clients_is_taken() {
    let gateway = Gateway::start(&["--backend", "echo"]).expect("it starts");
    let in_other_cases = [
        "GET /any HTTP/1.1",
        "HOST: roost",
        "upgrade: WEBSOCKET",
        "connection: UPGRADE",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "SEC-WEBSOCKET-VERSION: 13",
    ];
    let cases = [
        ("as it is", request(&LINES)),
        ("other cases", request(&in_other_cases)),
        ("a target in absolute form", with(0, "GET ws://roost/any HTTP/1.1")),
        ("the same of http", with(0, "GET http://roost:9000/any?a=b HTTP/1.1")),
        ("WebSocket", with(2, "Upgrade: WebSocket")),
        ("a list of upgrades", with(2, "Upgrade: h2c, websocket")),
        ("a list of connections", with(3, "Connection: keep-alive, Upgrade")),
        ("the list in two lines", and(&["Connection: keep-alive"])),
        ("empty elements, tabs", with(3, "Connection: ,\tupgrade ,,")),
        ("no body by length", and(&["Content-Length: 0"])),
        ("an Origin", and(&["Origin: null"])),
        ("fields of no meaning here", and(&["Cookie: a=b", "X-Forwarded-For: 203.0.113.7"])),
        ("an empty line before", [b"\r\n".to_vec(), request(&LINES)].concat()),
    ];
    for (what, request) in cases {
        for pieces in [vec![&request[..]], request.chunks(1).collect()] {
            let mut stream = raw::connect(gateway.ws);
            for piece in pieces {
                stream.write_all(piece).expect("written");
            }
            let answer = raw::head(&mut stream);
            let mut lines = answer.split("\r\n");
            assert!(lines.next().is_some_and(|line| line.starts_with("HTTP/1.1 101 ")), "{what}: {answer}");
            // Section 4.2.2 number 5; the accept key is that of section 1.3.
            for line in [
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            ] {
                assert!(answer.split("\r\n").any(|one| one.eq_ignore_ascii_case(line)), "{what}: {answer}");
            }
        }
    }
}

#[test]
fn offers_of_extensions_are_answered_without_them() {
    let gateway = Gateway::start(&["--backend", "echo"]).expect("it starts");
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9",
        "permessage-deflate; client_max_window_bits=15, permessage-deflate",
        "x-webkit-deflate-frame, permessage-bzip2",
        "no=such;thing",
    ] {
        let mut stream = raw::connect(gateway.ws);
        let request = raw::upgrade("/any", &format!("Sec-WebSocket-Extensions: {offer}\r\n"));
        stream.write_all(request.as_bytes()).expect("written");
        let answer = raw::head(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{offer}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("extensions"), "{offer}: {answer}");
        // What was not agreed on is against the protocol: a compressed message has RSV1 (RFC 7692 section 6).
        stream.write_all(&raw::frame(0xC1, b"\xAA\x56\x4A\x04\0")).expect("written");
        let frames = raw::rest(&mut stream);
        assert_eq!(frames.iter().map(raw::close_code).collect::<Vec<_>>(), [1002], "{offer}");
    }
}

#[test]
fn the_product_takes_one_of_its_sub_protocols() {
    let gateway = Gateway::start(&[]).expect("it starts");
    let bearer = format!("Authorization: Bearer {}\r\n", gateway.token(1001, 1).expect("a token"));
    for (offered, chosen) in [
        ("roost.v1.json", Some("roost.v1.json")),
        ("roost.v1.proto", Some("roost.v1.proto")),
        ("chat, roost.v1.proto, roost.v1.json", Some("roost.v1.proto")),
        ("ROOST.V1.JSON", None),
        ("chat", None),
    ] {
        let request = raw::upgrade("/v1/ws", &format!("{bearer}Sec-WebSocket-Protocol: {offered}\r\n"));
        let answer = raw::ask(gateway.ws, &request);
        let status = if chosen.is_some() { "101" } else { "400" };
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{offered}: {answer}");
        let line = answer.split("\r\n").find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        assert_eq!(line, chosen, "{offered}: {answer}");
    }
    // One that names none gets none, and speaks JSON.
    let answer = raw::ask(gateway.ws, &raw::upgrade("/v1/ws", &bearer));
    assert!(answer.starts_with("HTTP/1.1 101 ") && !answer.contains("Sec-WebSocket-Protocol"), "{answer}");
}
