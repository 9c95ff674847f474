//! The handshake against tungstenite's server side: the same requests are taken, with the same key in the answer.
//!
//! Where the two differ on purpose, [`differs_on_purpose`] names the rule; `handshake_rules.rs` tests each by hand.

use std::{cell::Cell, fmt};

use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestRunner};
use roost_proto::handshake::{Refusal, accept_key, parse};
use tungstenite::handshake::{
    derive_accept_key,
    machine::TryParse,
    server::{Request, create_response},
};

#[derive(Clone)]
struct Bytes(Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Incomplete,
    Taken { bytes: usize, accept: String },
    Refused,
}

fn theirs(bytes: &[u8]) -> Verdict {
    match Request::try_parse(bytes) {
        Ok(None) => Verdict::Incomplete,
        Err(_) => Verdict::Refused,
        Ok(Some((bytes, request))) => create_response(&request).map_or(Verdict::Refused, |response| {
            let accept = response.headers()["Sec-WebSocket-Accept"].to_str().expect("base64").to_owned();
            Verdict::Taken { bytes, accept }
        }),
    }
}

/// The rules where tungstenite 0.30 decides otherwise.
fn differs_on_purpose(
    bytes: &[u8],
    ours: Result<&Verdict, Refusal>,
    theirs: &Verdict,
) -> Option<&'static str> {
    match (ours, theirs) {
        // RFC 6455 section 4.2.1 takes "an |Upgrade| header field containing the value 'websocket'", and field names
        // may stand on several lines; tungstenite wants the value alone, on the first line.
        (Ok(Verdict::Taken { .. }), Verdict::Refused) => {
            let text = String::from_utf8_lossy(bytes).to_lowercase();
            let lists = ["upgrade:", "connection:"].map(|name| text.matches(&format!("\n{name}")).count());
            let has_list = text.lines().any(|line| line.starts_with("upgrade:") && line.contains(','));
            (lists.iter().any(|&count| count > 1) || has_list).then_some("tungstenite wants a list of one")
        }
        // Tungstenite's base64 takes two padded texts in a row for one.
        (Err(Refusal::BadRequest("Sec-WebSocket-Key must be 16 bytes in base64")), Verdict::Taken { .. }) => {
            let text = String::from_utf8_lossy(bytes).to_lowercase();
            let (_, key) = text.lines().find_map(|line| line.split_once("sec-websocket-key:"))?;
            key.trim_end_matches([' ', '\t', '=']).contains('=').then_some("padding inside the key")
        }
        (Err(Refusal::BadRequest(reason)), Verdict::Taken { .. }) => [
            "Host is missing",
            "a header that may stand once stands twice",
            "an upgrade has no body",
            "every line must end with CR LF",
            "Sec-WebSocket-Protocol is not a list of tokens",
            "the target must begin with /",
            "the target has a character that must be percent-encoded",
            "a header of the handshake is not ASCII",
            // Tungstenite also splits at spaces.
            "Connection must name Upgrade",
        ]
        .into_iter()
        .find(|&rule| rule == reason),
        (Err(Refusal::HeadersTooLarge), _) => Some("tungstenite has other limits"),
        _ => None,
    }
}

fn compare(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let parsed = parse(bytes);
    let ours = match &parsed {
        Ok(None) => Ok(Verdict::Incomplete),
        Ok(Some((upgrade, bytes))) => Ok(Verdict::Taken { bytes: *bytes, accept: accept_key(upgrade.key) }),
        Err(refusal) => Err(*refusal),
    };
    let theirs = theirs(bytes);
    if differs_on_purpose(bytes, ours.as_ref().map_err(|&refusal| refusal), &theirs).is_none() {
        prop_assert_eq!(ours.clone().unwrap_or(Verdict::Refused), theirs, "{:?}", ours);
    }
    Ok(matches!(ours, Ok(Verdict::Taken { .. })))
}

/// One line of choices, the first of which is the usual one.
fn line(choices: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![9 => Just(choices[0]), 1 => prop::sample::select(choices)]
}

fn lines() -> impl Strategy<Value = Vec<&'static str>> {
    let fields = (
        line(&["Host: localhost", "", "Host: a\r\nHost: b", "Host:"]),
        line(&["Upgrade: websocket", "", "upgrade: WebSocket", "Upgrade: h2c, websocket", "Upgrade: h2c"]),
        line(&[
            "Connection: Upgrade",
            "",
            "connection: keep-alive, upgrade",
            "Connection: close",
            "Connection: a upgrade",
        ]),
        line(&[
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==",
            "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=",
        ]),
        line(&["Sec-WebSocket-Version: 13", "", "Sec-WebSocket-Version: 8", "sec-websocket-version:13"]),
        line(&[
            "",
            "Content-Length: 0",
            "Content-Length: 9",
            "Transfer-Encoding: chunked",
            "X: \u{e9}",
            "X Y: a",
        ]),
        line(&["", "Sec-WebSocket-Protocol: roost.v1.json", "Sec-WebSocket-Protocol: a b", "Cookie: a=b"]),
    )
        .prop_map(|(a, b, c, d, e, f, g)| [a, b, c, d, e, f, g].to_vec())
        .prop_shuffle();
    let first = line(&[
        "GET / HTTP/1.1",
        "GET /v1/ws?a=b HTTP/1.1",
        "POST / HTTP/1.1",
        "GET / HTTP/1.0",
        "GET http://localhost/ HTTP/1.1",
        "GET x HTTP/1.1",
        "GET  / HTTP/1.1",
    ]);
    (first, fields).prop_map(|(first, fields)| {
        let fields = fields.into_iter().filter(|field| !field.is_empty());
        std::iter::once(first).chain(fields).collect()
    })
}

fn request() -> impl Strategy<Value = Bytes> {
    lines().prop_map(|lines| Bytes(format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()))
}

fn mutated_request() -> impl Strategy<Value = Bytes> {
    (request(), vec((any::<Index>(), any::<u8>(), 0..4), 1..3)).prop_map(|(Bytes(mut bytes), mutations)| {
        for (at, value, kind) in mutations {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = value,
                1 => bytes.insert(at, value),
                2 => bytes[at] ^= 0x20,
                _ => drop(bytes.remove(at)),
            }
        }
        Bytes(bytes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn mutated_requests_are_judged_alike(bytes in mutated_request(), end in any::<Index>()) {
        compare(&bytes.0)?;
        compare(&bytes.0[..end.index(bytes.0.len())])?;
    }

    #[test]
    fn keys_are_accepted_alike(key in any::<[u8; 16]>()) {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let key = STANDARD.encode(key);
        prop_assert_eq!(accept_key(&key), derive_accept_key(key.as_bytes()));
    }
}

#[test]
fn requests_are_judged_alike() {
    let (taken, refused) = (Cell::new(0), Cell::new(0));
    TestRunner::new(ProptestConfig { cases: 5000, failure_persistence: None, ..Default::default() })
        .run(&request(), |bytes| {
            let count = if compare(&bytes.0)? { &taken } else { &refused };
            count.set(count.get() + 1);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(taken.get() > 500 && refused.get() > 500, "{} taken, {} refused", taken.get(), refused.get());
}
