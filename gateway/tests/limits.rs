//! Limits of users and of connections, through a real gateway process and in both encodings.

use std::fs;

use roost_client::{Client, harness::Gateway, send_to};
use roost_proto::{
    codec::Encoding,
    v1::{self, Code, client_frame, server_frame},
};
use tempfile::TempDir;

const ENCODINGS: [Encoding; 2] = [Encoding::Proto, Encoding::Json];
/// So few tokens come back that none does during a test.
const SLOW: &str = "per_s = 0.001, burst";

/// Round trips in the time of one token, and many more.
const TRIES_MAX: usize = 1_000_000;

/// A gateway with these lines under `[limits]`.
fn gateway(limits: &str) -> (Gateway, TempDir) {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("roost.toml");
    fs::write(&file, format!("[limits]\n{limits}\n")).expect("written");
    let file = file.to_str().expect("UTF-8");
    (Gateway::start(&["--config", file]).expect("the gateway starts"), folder)
}

/// The answers to the same question asked so often at once: their errors, in order.
fn ask(
    client: &mut Client,
    times: usize,
    body: impl Fn(usize) -> client_frame::Body,
) -> Vec<Option<v1::Error>> {
    let ids: Vec<_> = (0..times).map(|n| client.ask(body(n)).expect("sent")).collect();
    let error = |frame: v1::ServerFrame| match frame.body {
        Some(server_frame::Body::Error(error)) => Some(*error),
        _ => None,
    };
    // Refusals of the connection come before answers of the router.
    let mut answers: Vec<_> = (0..times).map(|_| client.receive().expect("answered")).collect();
    answers.sort_by_key(|frame| frame.reply_to);
    assert_eq!(answers.iter().map(|frame| frame.reply_to).collect::<Vec<_>>(), ids);
    answers.into_iter().map(error).collect()
}

fn is_limited(error: &v1::Error) -> bool {
    error.code == Code::RATE_LIMITED && (1..=1_000_000).contains(&error.retry_after_ms)
}

fn counted(gateway: &Gateway, line: &str) -> u64 {
    let (_, metrics) = gateway.request("GET", "/metrics", "").expect("metrics");
    let value = metrics.lines().find_map(|text| text.strip_prefix(line));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {line} in {metrics}"))
}

#[test]
fn a_user_beyond_a_limit_is_told_when_to_try_again_and_others_are_not() {
    let limits = format!("sends = {{ {SLOW} = 3 }}\nkey_fetches = {{ {SLOW} = 2 }}\n");
    let (gateway, _folder) = gateway(&limits);
    for (user, encoding) in (1..).step_by(10).zip(ENCODINGS) {
        let (mut alice, _) = gateway.connect(user, 1, encoding).expect("a session");
        let (mut laptop, _) = gateway.connect(user, 2, encoding).expect("a session");
        let (mut bob, _) = gateway.connect(user + 1, 1, encoding).expect("a session");
        let say = |n: usize| send_to(user, &[n as u8 + 1], b"x").into();
        let answers = ask(&mut alice, 5, say);
        assert!(answers[..3].iter().all(Option::is_none), "{answers:?}");
        assert!(answers[3..].iter().all(|error| error.as_ref().is_some_and(is_limited)), "{answers:?}");
        // All devices of a user share a limit; other users and other requests have their own.
        drop(alice);
        for _ in 0..3 {
            laptop.message().expect("what alice sent to herself");
        }
        assert!(ask(&mut laptop, 1, say)[0].as_ref().is_some_and(is_limited));
        assert!(ask(&mut bob, 1, |_| send_to(user + 1, &[1], b"x").into())[0].is_none());
        let fetches = ask(&mut laptop, 3, |_| v1::KeysFetch { user }.into());
        assert_eq!(
            fetches.iter().map(|error| error.as_ref().is_some_and(is_limited)).collect::<Vec<_>>(),
            [false, false, true]
        );
    }
    assert_eq!(counted(&gateway, "roost_router_rate_limited_total{kind=\"sends\"}"), 6);
    assert_eq!(counted(&gateway, "roost_router_rate_limited_total{kind=\"key_fetches\"}"), 2);
}

#[test]
fn a_refused_send_is_not_stored_and_passes_later_with_the_same_client_id() {
    let (gateway, _folder) = gateway("sends = { per_s = 20, burst = 1 }");
    let (mut alice, _) = gateway.connect(1, 1, Encoding::Proto).expect("a session");
    let (mut bob, _) = gateway.connect(2, 1, Encoding::Proto).expect("a session");
    let say = |n: usize| send_to(2, &[n as u8 + 1], &[n as u8]).into();
    let refused = ask(&mut alice, 2, say)[1].clone().expect("one too many");
    assert!((1..=50).contains(&refused.retry_after_ms), "{refused:?}");
    // What is refused costs nothing, so asking again and again does not put it off.
    assert!((0..TRIES_MAX).any(|_| ask(&mut alice, 1, |_| say(1))[0].is_none()));
    assert_eq!([0, 1].map(|_| bob.message().expect("delivered").1.payload[0]), [0, 1]);
}

#[test]
fn a_connection_beyond_its_frames_is_answered_and_goes_on() {
    let (gateway, _folder) = gateway(&format!("connection_frames = {{ {SLOW} = 4 }}"));
    for (user, encoding) in (1..).zip(ENCODINGS) {
        let (mut alice, _) = gateway.connect(user, 1, encoding).expect("a session");
        // Heartbeats count, with an id or without.
        alice.send(&v1::ClientFrame::default()).expect("sent");
        let heartbeat = v1::ClientFrame { id: 77, body: None };
        alice.send(&heartbeat).expect("sent");
        assert_eq!(alice.receive().expect("answered").reply_to, 77);
        let answers = ask(&mut alice, 4, |n| send_to(user, &[n as u8 + 1], b"x").into());
        assert!(answers[..2].iter().all(Option::is_none), "{answers:?}");
        assert!(answers[2..].iter().all(|error| error.as_ref().is_some_and(is_limited)), "{answers:?}");
        // A frame without an id is answered too, without one.
        alice.send(&v1::ClientFrame { id: 0, body: Some(v1::Ack { up_to: 1 }.into()) }).expect("sent");
        let answer = alice.receive().expect("answered");
        assert_eq!(answer.reply_to, 0);
        assert!(
            matches!(&answer.body, Some(server_frame::Body::Error(error)) if is_limited(error)),
            "{answer:?}"
        );
        // Another connection of the same user has its own.
        let (mut laptop, _) = gateway.connect(user, 2, encoding).expect("a session");
        assert!(ask(&mut laptop, 1, |_| send_to(user, b"z", b"x").into())[0].is_none());
    }
    assert_eq!(counted(&gateway, "roost_rate_limited_total{kind=\"frames\"}"), 6);
    assert_eq!(counted(&gateway, "roost_rate_limited_total{kind=\"bytes\"}"), 0);
}

#[test]
fn a_connection_beyond_its_bytes_is_answered() {
    let (gateway, _folder) = gateway("connection_bytes = { per_s = 10, burst = 50000 }");
    for (user, encoding) in (1..).zip(ENCODINGS) {
        let (mut alice, _) = gateway.connect(user, 1, encoding).expect("a session");
        let large = |n: usize| send_to(user, &[n as u8 + 1], &vec![7; 30_000]).into();
        let answers = ask(&mut alice, 2, large);
        assert!(answers[0].is_none(), "{answers:?}");
        let error = answers[1].as_ref().expect("too large together");
        assert!(error.code == Code::RATE_LIMITED && error.retry_after_ms > 100_000, "{error:?}");
        // There is still room for a small one.
        assert!(ask(&mut alice, 1, |_| send_to(user, b"z", b"x").into())[0].is_none());
    }
    assert_eq!(counted(&gateway, "roost_rate_limited_total{kind=\"bytes\"}"), 2);
}

#[test]
fn limits_that_are_off_refuse_nothing() {
    let (gateway, _folder) = gateway("sends = \"off\"\nconnection_frames = 0\nconnection_bytes = \"off\"");
    let (mut alice, _) = gateway.connect(1, 1, Encoding::Proto).expect("a session");
    // More than the default bursts of sends.
    for round in 0..15_u16 {
        let say =
            |n: usize| send_to(1, &[round.to_be_bytes(), (n as u16).to_be_bytes()].concat(), b"x").into();
        assert!(ask(&mut alice, 100, say).iter().all(Option::is_none));
    }
}
