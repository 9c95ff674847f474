//! The log at its most talkative: the steps of a session are in it, and nothing that is anybody's secret or message.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use roost_client::{Client, Credentials, harness::Gateway};
use roost_proto::codec::Encoding;
use serde_json::{Value, json};
use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

const PASSWORD: &str = "lapwing&turnstone";
const PAYLOAD: &[u8] = b"the wren sings at 5";
const HTTP_PAYLOAD: &[u8] = b"curlews over the dyke";
const REASON: &str = "off to the estuary";

/// The forms in which bytes come into a log: as they are, in base64 of either alphabet, in hex, as a list of numbers.
fn forms(bytes: &[u8]) -> Vec<String> {
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let spaced = |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    // Base64 within a longer text begins at any of three places; the middle is the same in each.
    let shifted = (0..3).flat_map(|shift| {
        let padded = [&b"xxx"[..shift], bytes].concat();
        let (standard, safe) =
            (BASE64_STANDARD_NO_PAD.encode(&padded), BASE64_URL_SAFE_NO_PAD.encode(&padded));
        [standard, safe].map(|text| text[4..text.len() - 2].to_owned())
    });
    [String::from_utf8_lossy(bytes).into_owned(), hex.to_uppercase(), hex, spaced(bytes)]
        .into_iter()
        .chain(shifted)
        .collect()
}

fn login(gateway: &Gateway, user: u64) -> String {
    let account = json!({ "user": user.to_string(), "password": PASSWORD });
    let (status, body) = gateway.request("POST", "/v1/users", &account.to_string()).expect("answered");
    assert_eq!(status, 201, "{body}");
    let wrong = json!({ "user": user.to_string(), "password": format!("{PASSWORD}!") });
    assert_eq!(gateway.request("POST", "/v1/login", &wrong.to_string()).expect("answered").0, 401);
    let (_, body) = gateway.request("POST", "/v1/login", &account.to_string()).expect("answered");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    body["token"].as_str().expect("a token").to_owned()
}

/// Everything a session does, in both encodings, and what goes wrong with one. Returns the tokens that were shown.
fn live(gateway: &Gateway) -> Vec<String> {
    let tokens = [login(gateway, 1001), login(gateway, 1002)];
    let bearer = Credentials::Bearer(tokens[0].clone());
    let (mut alice, _) = Client::connect(gateway.ws, Encoding::Proto, &bearer).expect("a session");
    let query = Credentials::Query(tokens[1].clone());
    let (mut bob, _) = Client::connect(gateway.ws, Encoding::Json, &query).expect("a session");
    alice.say(1002, b"wren", PAYLOAD).expect("sent");
    assert_eq!(bob.message().expect("delivered").1.payload.as_ref(), PAYLOAD);
    bob.say(1001, b"back", PAYLOAD).expect("sent");
    alice.message().expect("delivered");
    let forged = format!("{}A", tokens[0]);
    assert!(Client::connect(gateway.ws, Encoding::Proto, &Credentials::Bearer(forged.clone())).is_err());
    let leave = CloseFrame { code: CloseCode::Normal, reason: REASON.into() };
    alice.socket().close(Some(leave)).expect("closed");
    while alice.receive().is_ok() {}
    drop(bob);
    let send = json!({
        "to": { "user": "1001" }, "clientId": "YQ==",
        "payload": base64::prelude::BASE64_STANDARD.encode(HTTP_PAYLOAD),
    });
    let headers = format!("Authorization: Bearer {}\r\n", tokens[1]);
    let (status, body) =
        gateway.request_with("POST", "/v1/messages", &headers, &send.to_string()).expect("answered");
    assert_eq!(status, 201, "{body}");
    tokens.into_iter().chain([forged]).collect()
}

#[test]
fn no_secret_and_no_payload_is_in_the_log_at_any_level() {
    let mut gateway = Gateway::start_logging("trace", &["--shards", "1"]).expect("started");
    let tokens = live(&gateway);
    let secrets: Vec<String> = ["secret", "operator-token"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(gateway.data().join(name)).ok())
        .map(|text| text.trim_end().to_owned())
        .collect();
    assert!(!secrets.is_empty() && secrets.iter().all(|secret| secret.len() >= 32));
    assert!(gateway.terminate().expect("ended").success());
    let said = gateway.said().expect("a log");
    assert!(said.contains("TRACE") && said.contains("DEBUG"), "the log is at trace");

    let mut needles: Vec<(String, &str)> = Vec::new();
    for token in &tokens {
        // Its claims are no secret in themselves; the signature makes it one.
        let signature = token.rsplit('.').next().unwrap_or_default();
        needles.push((signature[..16].to_owned(), "a token's signature"));
        needles.push((token[..token.len() - signature.len()].to_owned(), "a token"));
    }
    for secret in &secrets {
        needles.extend(forms(secret.as_bytes()).into_iter().map(|form| (form, "a secret")));
    }
    for (bytes, what) in [
        (PASSWORD.as_bytes(), "a password"),
        (PAYLOAD, "a payload"),
        (HTTP_PAYLOAD, "a payload sent over HTTP"),
        (REASON.as_bytes(), "the reason of a client's Close frame"),
    ] {
        needles.extend(forms(bytes).into_iter().map(|form| (form, what)));
        // What is cut short is told from its beginning.
        needles.extend(forms(&bytes[..10]).into_iter().map(|form| (form, what)));
    }
    for (needle, what) in needles {
        let line = said.lines().find(|line| line.contains(&needle));
        assert!(line.is_none(), "{what} is in the log as {needle:?}: {line:?}");
    }
}

#[test]
fn the_steps_of_a_session_are_in_the_log_at_debug() {
    let mut gateway = Gateway::start_logging("roost_gateway=debug", &["--shards", "1"]).expect("started");
    live(&gateway);
    let (mut rude, _) = gateway.connect(1003, 7, Encoding::Json).expect("a session");
    // A text frame without a mask, which no client may send.
    std::io::Write::write_all(rude.socket().get_mut(), &[0x81, 1, b'x']).expect("sent");
    while rude.receive().is_ok() {}
    let (_idle, _) = gateway.connect(1004, 1, Encoding::Json).expect("a session");
    assert!(gateway.terminate().expect("ended").success());
    let said = gateway.said().expect("a log");
    let of = |user: u64, device: u32| -> Vec<&str> {
        let who = format!("user={user} device={device}}}: ");
        let lines = said.lines().filter(|line| line.contains("session{shard=0 slot="));
        lines
            .filter_map(|line| line.split_once(&who))
            .map(|(_, rest)| rest.rsplit("trace: ").next().unwrap_or(rest))
            .collect()
    };
    assert_eq!(of(1001, 1), ["upgraded", "attaching", "welcomed", "closed by its client code=1000", "gone"]);
    assert_eq!(of(1002, 1), ["upgraded", "attaching", "welcomed", "its peer is gone", "gone"]);
    let steps = of(1003, 7);
    assert_eq!(
        steps[3..5],
        ["against the protocol violation=a client must mask its frames", "closed by the gateway code=1002"]
    );
    assert!(
        of(1004, 1).contains(&"closing code=1001 reason=\"the gateway is going away\""),
        "{:?}",
        of(1004, 1)
    );
    assert!(said.contains("accepted admitted=true") && said.contains("upgrade refused status=401"), "{said}");
}

#[test]
fn without_debug_a_session_leaves_no_line() {
    let mut gateway = Gateway::start_logging("info", &["--shards", "1"]).expect("started");
    live(&gateway);
    assert!(gateway.terminate().expect("ended").success());
    let said = gateway.said().expect("a log");
    assert!(!said.contains("session{") && !said.contains("user=1001"), "{said}");
}
