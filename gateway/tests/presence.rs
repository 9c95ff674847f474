//! Presence and typing through a real gateway process, in both encodings and between router threads.

use roost_client::{Client, harness::Gateway};
use roost_proto::{
    codec::Encoding,
    v1::{self, Code, address::To, server_frame},
};

/// Pairs of users, so many that their homes are spread over both router threads.
const PAIRS: u64 = 6;

fn gateway() -> Gateway {
    Gateway::start(&["--router-threads", "2"]).expect("the gateway starts")
}

fn encoding(pair: u64) -> Encoding {
    if pair.is_multiple_of(2) { Encoding::Proto } else { Encoding::Json }
}

fn connect(gateway: &Gateway, user: u64, pair: u64) -> Client {
    gateway.connect(user, 1, encoding(pair)).expect("a session").0
}

/// The next notice of presence: user, online, last seen.
fn presence(client: &mut Client) -> (u64, bool, u64) {
    loop {
        if let Some(server_frame::Body::Presence(p)) = client.receive().expect("a notice").body {
            return (p.user, p.online, p.last_seen_ms);
        }
    }
}

/// The next notice of typing. The answer to a Watch may come after what it brings: another thread gives it.
fn typing_notice(client: &mut Client) -> v1::TypingNotice {
    loop {
        if let Some(server_frame::Body::Typing(notice)) = client.receive().expect("a notice").body {
            return *notice;
        }
    }
}

fn typing(to: u64, active: bool) -> v1::Typing {
    v1::Typing { to: v1::Address { to: Some(To::User(to)) }.into(), active }
}

fn is_done(client: &mut Client, id: u32) {
    let answer = client.answer(id).expect("answered");
    assert!(answer.body.is_none(), "{answer:?}");
}

#[test]
fn who_talks_with_a_user_is_told_when_he_comes_and_goes() {
    let gateway = gateway();
    let (alice, bob) = (|pair| 1_000 + pair, |pair| 2_000 + pair);
    let mut alices: Vec<_> = (0..PAIRS).map(|pair| connect(&gateway, alice(pair), pair)).collect();
    let mut bobs: Vec<_> = (0..PAIRS).map(|pair| connect(&gateway, bob(pair), pair)).collect();
    for pair in 0..PAIRS {
        let (one, other) = (&mut alices[pair as usize], &mut bobs[pair as usize]);
        // As long as nothing was said, nothing is told.
        let id = one.ask(v1::Watch { user: vec![bob(pair)] }).expect("sent");
        is_done(one, id);
        other.say(alice(pair), b"a", b"hello").expect("sent");
        one.message().expect("delivered");
        one.ask(v1::Watch { user: vec![bob(pair)] }).expect("sent");
        assert_eq!(presence(one).0, bob(pair));
        let id = other.ask(typing(alice(pair), true)).expect("sent");
        is_done(other, id);
        let notice = typing_notice(one);
        assert_eq!((notice.user, notice.active), (bob(pair), true));
        assert_eq!(notice.to.as_option().and_then(|to| to.to.clone()), Some(To::User(alice(pair))));
    }
    drop(bobs);
    let mut gone = Vec::new();
    for (pair, one) in (0..PAIRS).zip(&mut alices) {
        let (user, online, last_seen_ms) = presence(one);
        assert_eq!((user, online), (bob(pair), false));
        gone.push(last_seen_ms);
    }
    assert!(gone.iter().all(|seen| *seen > 0));
    let _bobs: Vec<_> = (0..PAIRS).map(|pair| connect(&gateway, bob(pair), pair)).collect();
    for ((pair, one), gone) in (0..PAIRS).zip(&mut alices).zip(gone) {
        let (user, online, last_seen_ms) = presence(one);
        assert_eq!((user, online), (bob(pair), true));
        assert!(last_seen_ms >= gone);
    }
}

#[test]
fn watches_end_with_their_session_and_are_bounded() {
    let gateway = gateway();
    let mut bob = connect(&gateway, 42, 0);
    for user in 1..=4 {
        let mut alice = connect(&gateway, user, user);
        alice.say(42, b"a", b"hello").expect("sent");
        bob.message().expect("delivered");
        let long = alice.ask(v1::Watch { user: (1..=257).collect() }).expect("sent");
        let answer = alice.answer(long).expect("answered").body;
        assert!(
            matches!(&answer, Some(server_frame::Body::Error(error)) if error.code == Code::MALFORMED),
            "{answer:?}"
        );
        alice.ask(v1::Watch { user: vec![42] }).expect("sent");
        assert_eq!(presence(&mut alice).0, 42);
        assert_eq!(followers(&gateway, 1), 1);
        drop(alice);
        assert_eq!(followers(&gateway, 0), 0);
    }
}

/// The gateway's count of followers, once it is as expected, or what it still is after many looks.
fn followers(gateway: &Gateway, expected: u64) -> u64 {
    const LOOKS: usize = 2_000;
    let look = || {
        let (_, metrics) = gateway.request("GET", "/metrics", "").expect("metrics");
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("roost_router_followers ")).expect("a gauge");
        line.parse().expect("a number")
    };
    (0..LOOKS).map(|_| look()).find(|followers| *followers == expected).unwrap_or_else(look)
}
