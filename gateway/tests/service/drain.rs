//! A drain of some hundreds under load; `docs/FIGURES.md` has one of 100,000.

use roost_client::{Client, harness::Gateway};
use roost_proto::{
    codec::Encoding,
    v1::{Message, Sent, ServerFrame, server_frame},
};

const SESSIONS: u64 = 300;
const BOB: u64 = 1_000_000;

/// Sends to Bob until told to go: ids of what was answered Sent, and the window to come back in.
fn say_until_sent_away(mut client: Client, user: u64) -> (Vec<u64>, (u32, u32)) {
    let mut sent = Vec::new();
    loop {
        let number = sent.len();
        let client_id = format!("{user}-{number}");
        let send = roost_client::send_to(BOB, client_id.as_bytes(), client_id.as_bytes());
        // After the GoAway nothing is answered, and at its end the connection is gone.
        let asked = client.ask(send);
        match client.receive() {
            Ok(ServerFrame { body: Some(server_frame::Body::Sent(answer)), .. }) => {
                let Sent { id, .. } = *answer;
                sent.push(id);
            }
            // Faster than a user may.
            Ok(ServerFrame { body: Some(server_frame::Body::Error(_)), .. }) => {}
            Ok(ServerFrame { body: Some(server_frame::Body::GoAway(away)), .. }) => {
                let end = loop {
                    if let Err(end) = client.receive() {
                        break end.to_string();
                    }
                };
                assert!(end.contains("1001"), "{end}");
                return (sent, (away.reconnect_min_ms, away.reconnect_max_ms));
            }
            other => panic!("{asked:?}: neither Sent nor GoAway but {other:?}"),
        }
    }
}

/// Waits for the goodbye of one who says nothing.
fn listen(mut client: Client) -> (u32, u32) {
    let away = match client.receive().expect("a goodbye").body {
        Some(server_frame::Body::GoAway(away)) => away,
        other => panic!("not a GoAway but {other:?}"),
    };
    let end = client.receive().expect_err("closed").to_string();
    assert!(end.contains("1001"), "{end}");
    (away.reconnect_min_ms, away.reconnect_max_ms)
}

#[test]
fn hundreds_are_sent_away_one_after_the_other_and_all_that_was_answered_is_there_afterwards() {
    let arguments = ["--shards", "2", "--drain-closes-per-s", "75", "--drain-s", "60"];
    let mut gateway = Gateway::start(&arguments).expect("the gateway starts");
    let connect = |user| gateway.connect(user, 1, Encoding::Proto).expect("a session").0;
    drop(connect(BOB));
    let mut clients: Vec<(u64, Client)> = (1..=SESSIONS).map(|user| (user, connect(user))).collect();
    let quiet = clients.split_off(10);
    let (mut answered, windows) = std::thread::scope(|scope| {
        let speakers: Vec<_> = clients
            .into_iter()
            .map(|(user, client)| scope.spawn(move || say_until_sent_away(client, user)))
            .collect();
        gateway.signal("TERM").expect("signalled");
        let mut windows: Vec<_> = quiet.into_iter().map(|(_, client)| listen(client)).collect();
        let mut answered = Vec::new();
        for speaker in speakers {
            let (sent, window) = speaker.join().expect("no panic");
            answered.extend(sent);
            windows.push(window);
        }
        (answered, windows)
    });
    assert_eq!(gateway.wait().expect("it ends").code(), Some(0));

    // Of those who go later more of the drain is over: nobody's window begins before its end, and they are all as wide.
    let begins: std::collections::BTreeSet<u32> = windows.iter().map(|window| window.0).collect();
    assert!(
        begins.len() > 50 && begins.iter().all(|begin| *begin <= 8_100),
        "four to eight seconds, as the shards share them, in steps: {begins:?}"
    );
    assert!(windows.iter().all(|window| window.1 - window.0 == 5_000), "{windows:?}");

    gateway.restart().expect("it starts again");
    let (mut bob, welcome) = gateway.connect(BOB, 1, Encoding::Proto).expect("a session");
    let mut stored = Vec::new();
    loop {
        let (seq, Message { id, .. }) = bob.message().expect("delivered");
        stored.push(id);
        bob.ask(roost_proto::v1::Ack { up_to: seq }).expect("sent");
        if seq >= welcome.head {
            break;
        }
    }
    assert!(answered.len() > 10, "who waited for their turn was served: {} answers", answered.len());
    answered.sort_unstable();
    stored.sort_unstable();
    let lost: Vec<_> = answered.iter().filter(|id| stored.binary_search(id).is_err()).collect();
    assert!(lost.is_empty(), "{} of {} that were answered are lost", lost.len(), answered.len());
}
