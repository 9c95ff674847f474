//! Each rule of the opening handshake by hand: RFC 6455 section 4.2.1, RFC 9110 and RFC 9112 where it leans on them.

use roost_proto::handshake::{HEADER_BYTES_MAX, HEADER_COUNT_MAX, Refusal, parse};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A valid request, line by line; tests replace or add lines.
const LINES: [&str; 6] = [
    "GET /v1/ws HTTP/1.1",
    "Host: localhost:9000",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

fn request(lines: &[&str]) -> Vec<u8> {
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

/// The valid request with line `index` replaced.
fn replaced(index: usize, line: &str) -> Vec<u8> {
    let mut lines = LINES;
    lines[index] = line;
    request(&lines)
}

/// The valid request without line `index`.
fn without(index: usize) -> Vec<u8> {
    let mut lines = LINES.to_vec();
    lines.remove(index);
    request(&lines)
}

/// The valid request with a line more.
fn with(line: &str) -> Vec<u8> {
    request(&[&LINES[..], &[line]].concat())
}

fn refused(request: &[u8]) -> Refusal {
    let shown = String::from_utf8_lossy(request);
    match parse(request) {
        Err(refusal) => refusal,
        Ok(found) => panic!("not refused, {found:?}: {shown}"),
    }
}

fn bad(request: &[u8], reason: &str) {
    match refused(request) {
        Refusal::BadRequest(said) => assert!(said.contains(reason), "said {said:?}, not {reason:?}"),
        other => panic!("{other:?} in place of 400 {reason:?}"),
    }
}

fn taken(request: &[u8]) {
    let shown = String::from_utf8_lossy(request);
    let parsed = parse(request).unwrap_or_else(|refusal| panic!("{refusal:?}: {shown}"));
    assert_eq!(parsed.map(|(_, bytes)| bytes), Some(request.len()));
}

#[test]
fn a_valid_request_is_read_and_frames_may_follow() {
    let mut bytes = replaced(0, "GET /v1/ws?access_token=a%2Bb&user=4%202+x&flag HTTP/1.1");
    let request_bytes = bytes.len();
    bytes.extend_from_slice(&[0x81, 0x80, 0, 0, 0, 0]);
    let (upgrade, consumed) = parse(&bytes).expect("valid").expect("complete");
    assert_eq!(consumed, request_bytes);
    assert_eq!((upgrade.path, upgrade.key, upgrade.host), ("/v1/ws", KEY, "localhost:9000"));
    assert_eq!(upgrade.query, Some("access_token=a%2Bb&user=4%202+x&flag"));
    assert_eq!(upgrade.query_parameter("access_token").as_deref(), Some("a+b"));
    assert_eq!(upgrade.query_parameter("user").as_deref(), Some("4 2 x"));
    assert_eq!(upgrade.query_parameter("flag").as_deref(), Some(""));
    assert_eq!(upgrade.query_parameter("acces"), None);
    assert_eq!((upgrade.bearer(), upgrade.origin), (None, None));
    assert_eq!(upgrade.protocols().count(), 0);
}

#[test]
fn every_prefix_is_incomplete() {
    let bytes = with("Sec-WebSocket-Protocol: roost.v1.proto");
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]).map(|found| found.is_some()), Ok(false), "at {end}");
    }
}

#[test]
fn protocols_come_in_order_from_one_line_or_several() {
    let mut lines = LINES.to_vec();
    lines.insert(1, "sec-websocket-protocol: roost.v1.json,  ,soap");
    lines.push("SEC-WEBSOCKET-PROTOCOL:\troost.v1.proto");
    let bytes = request(&lines);
    let (upgrade, _) = parse(&bytes).expect("valid").expect("complete");
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["roost.v1.json", "soap", "roost.v1.proto"]);
    bad(&with("Sec-WebSocket-Protocol: a b"), "list of tokens");
    bad(&with("Sec-WebSocket-Protocol: \"quoted\""), "list of tokens");
}

#[test]
fn bearer_tokens() {
    let bearer = |line: &str| {
        let bytes = with(line);
        let (upgrade, _) = parse(&bytes).expect("valid").expect("complete");
        upgrade.bearer().map(str::to_owned)
    };
    assert_eq!(bearer("Authorization: Bearer a.b.c").as_deref(), Some("a.b.c"));
    assert_eq!(bearer("AUTHORIZATION:bearer   a.b.c  ").as_deref(), Some("a.b.c"));
    assert_eq!(bearer("Authorization: Basic a.b.c"), None);
    assert_eq!(bearer("Authorization: Bearer"), None);
    assert_eq!(bearer("Authorization: Bearer "), None);
    assert_eq!(bearer("X-Authorization: Bearer a"), None);
}

#[test]
fn the_request_line() {
    assert_eq!(refused(&replaced(0, "POST /v1/ws HTTP/1.1")), Refusal::MethodNotAllowed);
    assert_eq!(refused(&replaced(0, "get /v1/ws HTTP/1.1")), Refusal::MethodNotAllowed);
    bad(&replaced(0, "GET /v1/ws HTTP/1.0"), "HTTP/1.1");
    bad(&replaced(0, "GET /v1/ws HTTP/2.0"), "version");
    bad(&replaced(0, "GET /v1/ws"), "");
    for target in ["/v1/ws#top", "/v1/w\u{e9}", "/<", "/>", "/\"", "/`", "/?a=<"] {
        bad(&replaced(0, &format!("GET {target} HTTP/1.1")), "percent-encoded");
    }
    // Browsers leave these as they are.
    taken(&replaced(0, "GET /a|b?a={`|^} HTTP/1.1"));
    bad(&replaced(0, "GET v1/ws HTTP/1.1"), "begin with /");
    bad(&replaced(0, "GET * HTTP/1.1"), "begin with /");
    for target in [
        "ftp://localhost/v1/ws",
        "http:///v1/ws",
        "http://",
        "http://a^b/",
        "http://[::1/",
        "http://a:b/",
        "http://:80/",
    ] {
        bad(&replaced(0, &format!("GET {target} HTTP/1.1")), "begin with /");
    }
    bad(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "request line");
    for (target, path, query) in [
        ("http://localhost:9000/v1/ws?a=1", "/v1/ws", Some("a=1")),
        ("WS://localhost:9000", "/", None),
        ("https://localhost?a", "/", Some("a")),
        ("ws://[::1]:9000/v1/ws", "/v1/ws", None),
        ("/?", "/", Some("")),
        ("/a?b?c", "/a", Some("b?c")),
    ] {
        let bytes = replaced(0, &format!("GET {target} HTTP/1.1"));
        let (upgrade, _) = parse(&bytes).expect("valid").expect("complete");
        assert_eq!((upgrade.path, upgrade.query), (path, query), "{target}");
    }
}

#[test]
fn the_fields_of_section_4_2_1() {
    bad(&without(1), "Host is missing");
    assert_eq!(refused(&without(2)), Refusal::UpgradeRequired);
    assert_eq!(refused(&replaced(2, "Upgrade: h2c")), Refusal::UpgradeRequired);
    assert_eq!(refused(&replaced(2, "Upgrade: websocket2")), Refusal::UpgradeRequired);
    taken(&replaced(2, "upgrade: h2c, WebSocket"));
    bad(&without(3), "Connection must name Upgrade");
    bad(&replaced(3, "Connection: keep-alive"), "Connection must name Upgrade");
    bad(&replaced(3, "Connection: upgraded"), "Connection must name Upgrade");
    taken(&replaced(3, "connection: keep-alive ,\tupgrade"));
    taken(&with("Connection: keep-alive"));
    bad(&without(4), "Sec-WebSocket-Key is missing");
    assert_eq!(refused(&without(5)), Refusal::UpgradeRequired);
    for version in ["", "8", "14", "013", "13, 8", "0x0d"] {
        assert_eq!(
            refused(&replaced(5, &format!("Sec-WebSocket-Version: {version}"))),
            Refusal::UpgradeRequired
        );
    }
}

#[test]
fn a_key_is_sixteen_bytes() {
    for key in [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",   // without padding
        "dGhlIHNhbXBsZSBub25jZQ=",  // half of it
        "dGhlIHNhbXBsZSBub25j",     // 15 bytes
        "dGhlIHNhbXBsZSBub25jZWE=", // 17 bytes
        "dGhlIHNhbXBsZSBub25jZWFh", // 18 bytes
        "dGhlIHNhbXBsZSBub25jZR==", // bits left over
        "dGhlIHNhbXBsZSBub25j-_==", // the other alphabet
        "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==",
        "AAAAAAAAAAA=AAAAAAAAAAA=", // padding inside
    ] {
        bad(&replaced(4, &format!("Sec-WebSocket-Key: {key}")), "16 bytes");
    }
}

#[test]
fn what_may_stand_once_stands_once() {
    for line in ["Host: other", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="] {
        bad(&with(line), "stands twice");
    }
    for line in ["Authorization: Bearer a", "Origin: http://localhost", "Content-Length: 0"] {
        taken(&with(line));
        bad(&request(&[&LINES[..], &[line, line]].concat()), "stands twice");
    }
}

#[test]
fn an_upgrade_has_no_body() {
    taken(&with("Content-Length: 0"));
    for line in ["Content-Length: 5", "Content-Length: -1", "Content-Length:", "Transfer-Encoding: chunked"] {
        bad(&with(line), "no body");
    }
}

#[test]
fn bytes_that_do_not_belong_in_a_header() {
    bad(&with("X-A: a\0b"), "header value");
    bad(&with("X-A: a\x07b"), "header value");
    bad(&with("X-A: a\x7fb"), "header value");
    bad(&with("X-A: a\rb"), "");
    bad(&with("X-A: a\nX-B: b"), "CR LF");
    bad(&with("X A: b"), "header name");
    bad(&with(" folded"), "");
    bad(&with("no colon"), "header name");
    bad(&replaced(1, "Host: caf\u{e9}"), "not ASCII");
    bad(&[b"\n", &request(&LINES)[..]].concat(), "CR LF");
    // What is not part of the handshake may be in any character set.
    taken(&[&request(&LINES)[..request(&LINES).len() - 2], b"Cookie: caf\xe9\r\n\r\n"].concat());
    // RFC 9112 section 2.2: an empty line before the request is passed over.
    taken(&[b"\r\n", &request(&LINES)[..]].concat());
}

#[test]
fn size_and_count_are_limited() {
    let fill = |bytes: usize| {
        let empty = with("X: ").len();
        with(&format!("X: {}", "a".repeat(bytes - empty)))
    };
    taken(&fill(HEADER_BYTES_MAX));
    assert_eq!(refused(&fill(HEADER_BYTES_MAX + 1)), Refusal::HeadersTooLarge);
    assert_eq!(refused(&fill(HEADER_BYTES_MAX + 1)[..HEADER_BYTES_MAX]), Refusal::HeadersTooLarge);
    assert_eq!(
        parse(&fill(HEADER_BYTES_MAX + 1)[..HEADER_BYTES_MAX - 1]).map(|found| found.is_some()),
        Ok(false)
    );
    let mut lines = LINES.to_vec();
    lines.resize(1 + HEADER_COUNT_MAX, "X: a");
    taken(&request(&lines));
    lines.push("X: a");
    assert_eq!(refused(&request(&lines)), Refusal::HeadersTooLarge);
}
