//! What calls over HTTP are refused, and how.

use super::{
    messages::{ALICE, BOB, gateway, session},
    rest::{self, Rest},
};
use roost_client::{harness::Gateway, send_to};
use roost_proto::v1::server_frame;

#[test]
fn calls_without_a_good_token_are_401_and_do_nothing() {
    let gateway = gateway();
    let mut bob = session(&gateway, BOB, 1);
    for (method, path) in rest::CALLS {
        for token in ["", "Basic YTpi", "Bearer ", "Bearer not.a.token"] {
            let answer = Rest::nobody(&gateway).with(&[("Authorization", token)]).request(method, path, "{}");
            assert_eq!(
                (answer.status, answer.code()),
                (401, "UNAUTHENTICATED".to_owned()),
                "{method} {path} {token}"
            );
            assert_eq!(answer.header("www-authenticate").as_deref(), Some("Bearer"));
        }
    }
    let id = bob.ask(send_to(BOB, b"1", b"still alone")).expect("asked");
    assert!(matches!(bob.answer(id).expect("answered").body, Some(server_frame::Body::Sent(_))));
}

#[test]
fn bad_requests_are_400_with_the_field_and_the_value() {
    let gateway = gateway();
    let alice = Rest::new(&gateway, ALICE, 1);
    for (path, body, named) in [
        ("/v1/messages", r#"{"to":{"user":"bob"}}"#, "to.user: invalid value: string \"bob\""),
        ("/v1/messages", r#"{"to":{"user":"1002"},"kind":"LOUD"}"#, "kind: invalid value: string \"LOUD\""),
        ("/v1/messages", r#"{"to":{"user":"1002"},"payload":"*"}"#, "payload: "),
        ("/v1/messages", r#"{"payload":"aGk="}"#, "to is missing"),
        (
            "/v1/messages",
            r#"{"to":{"user":"1002"},"clientId":"MDEyMzQ1Njc4OWFiY2RlZjA="}"#,
            "client_id has 17 bytes",
        ),
        ("/v1/messages", "[1]", "an object is needed"),
        ("/v1/messages", "", "an object is needed"),
        ("/v1/ack", r#"{"upTo":-1}"#, "upTo: invalid value: integer `-1`"),
        ("/v1/read", r#"{"message":["x"]}"#, "message"),
        ("/v1/groups", r#"{"name":7}"#, "name: invalid type: integer `7`"),
    ] {
        let answer = alice.request("POST", path, body);
        assert_eq!(
            (answer.status, answer.code()),
            (400, "MALFORMED".to_owned()),
            "{path} {body}: {}",
            answer.body
        );
        assert!(answer.error().contains(named), "{path} {body}: {}", answer.body);
    }
    for (path, named) in [
        ("/v1/messages?after=x", "\"after\" is \"x\""),
        ("/v1/messages?limit=-1", "\"limit\" is \"-1\""),
        ("/v1/messages?after=1&after=2", "each parameter once"),
        ("/v1/history", "One of \"user\" and \"group\""),
        ("/v1/history?user=1&group=2", "One of \"user\" and \"group\""),
        ("/v1/history?user=0", "\"user\" is \"0\""),
        ("/v1/users/bob/keys", "\"user\" is \"bob\""),
        ("/v1/groups/%20", "\"group\" is \" \""),
    ] {
        let answer = alice.get(path);
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        assert!(answer.error().contains(named), "{path}: {}", answer.body);
    }
    assert_eq!(alice.delete("/v1/devices/0").status, 400);
}

#[test]
fn a_message_to_nobody_is_404() {
    let gateway = gateway();
    let answer = Rest::new(&gateway, ALICE, 1).say(4_711, "hello?");
    assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND".to_owned()));
    assert!(answer.error().contains("there is no user 4711"), "{}", answer.body);
}

#[test]
fn one_device_too_many_is_403() {
    let gateway = gateway();
    for device in 1..=32 {
        assert_eq!(Rest::new(&gateway, ALICE, device).get("/v1/messages").status, 200, "device {device}");
    }
    let refused = Rest::new(&gateway, ALICE, 33).get("/v1/messages");
    assert_eq!((refused.status, refused.code()), (403, "FORBIDDEN".to_owned()), "{}", refused.body);
    assert_eq!(
        Rest::new(&gateway, ALICE, 33).get("/v1/devices").json()["devices"].as_array().map(Vec::len),
        Some(32)
    );
}

#[test]
fn the_echo_backend_has_no_messages() {
    let gateway = Gateway::start(&["--backend", "echo"]).expect("the gateway starts");
    let answer = Rest::new(&gateway, ALICE, 1).get("/v1/messages");
    assert_eq!(answer.status, 404);
    assert!(answer.error().contains("without messages"), "{}", answer.body);
}

#[test]
fn a_user_who_calls_too_often_is_429_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("roost.toml");
    std::fs::write(&config, "[limits]\nhttp_calls = { per_s = 0.01, burst = 3 }\n").expect("written");
    let gateway = Gateway::start(&["--config", config.to_str().expect("UTF-8")]).expect("the gateway starts");
    let alice = Rest::new(&gateway, ALICE, 1);
    let statuses: Vec<_> = (0..4).map(|_| alice.get("/v1/devices").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    let refused = Rest::new(&gateway, ALICE, 2).get("/v1/devices");
    assert_eq!((refused.status, refused.code()), (429, "RATE_LIMITED".to_owned()), "all devices together");
    let wait_s: u64 = refused.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=100).contains(&wait_s), "{wait_s}");
    assert_eq!(Rest::new(&gateway, BOB, 1).get("/v1/devices").status, 200);
}

#[test]
fn sends_over_http_and_websocket_share_one_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("roost.toml");
    std::fs::write(&config, "[limits]\nsends = { per_s = 0.01, burst = 2 }\n").expect("written");
    let gateway = Gateway::start(&["--config", config.to_str().expect("UTF-8")]).expect("the gateway starts");
    let mut alice = session(&gateway, ALICE, 1);
    alice.say(ALICE, b"1", b"one").expect("sent");
    let rest = Rest::new(&gateway, ALICE, 1);
    assert_eq!(rest.say(ALICE, "two").status, 201);
    let refused = rest.say(ALICE, "three");
    assert_eq!((refused.status, refused.code()), (429, "RATE_LIMITED".to_owned()));
    let wait_s: u64 = refused.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=100).contains(&wait_s), "{wait_s}");
    assert!(alice.say(ALICE, b"4", b"four").is_err());
}
