//! `chat` against a small chat server of the test's own: clean where the server is right, in both encodings, across its
//! death and with clients that go offline; and each fault of the server turns the run red.

#[path = "common/chat_server.rs"]
mod chat_server;
mod common;

use chat_server::{ChatFault, ChatServer, PAYLOAD_BYTES_MAX};
use common::{loadgen, report};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

fn chat(server: &ChatServer, more: &[&str]) -> (i32, Value) {
    let url = format!("ws://{}/v1/ws", server.address);
    let base = ["chat", "--url", &url, "--auth", "none", "--duration-s", "3", "--lag-us-max", "5000000"];
    report(&[&base, more].concat())
}

#[test]
fn a_right_server_is_clean_in_both_encodings_with_clients_offline_meanwhile() {
    for encoding in ["proto", "json"] {
        let server = ChatServer::start(ChatFault::None);
        let more =
            ["--clients", "30", "--rate-per-s", "200", "--offline-share", "0.4", "--encoding", encoding];
        let (code, report) = chat(&server, &more);
        assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
        let sent = report["messages_sent"].as_u64().unwrap();
        assert!(sent > 400, "{sent}");
        for field in ["messages_answered", "messages_received", "receipts_delivered"] {
            assert_eq!(report[field], json!(sent), "{field} {report:#}");
        }
        assert!(report["receipts_read"].as_u64() > Some(100), "{report:#}");
        assert!(report["reconnects"].as_u64() > Some(0), "{report:#}");
        assert!(report["latency_offline_us"]["count"].as_u64() > Some(0), "{report:#}");
        assert_eq!(report["clients_dropped"], json!(0), "{report:#}");
        // A second run on the same store, same seed: its messages are told apart from the first one's.
        let (code, report) = chat(&server, &more);
        assert_eq!((code, &report["messages_lost"]), (0, &json!(0)), "{report:#}");
    }
}

#[test]
fn the_servers_death_and_return_lose_nothing_and_are_seen() {
    let server = ChatServer::start(ChatFault::None);
    let (code, report) = thread::scope(|scope| {
        let run =
            scope.spawn(|| chat(&server, &["--clients", "20", "--rate-per-s", "300", "--threads", "2"]));
        let deadline = Instant::now() + Duration::from_mins(1);
        while server.accepted() < 300 && Instant::now() < deadline {
            thread::yield_now();
        }
        server.kill();
        // The clients' first attempts find nobody.
        while server.turned_away() < 20 && Instant::now() < deadline {
            thread::yield_now();
        }
        server.revive();
        run.join().unwrap()
    });
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    assert!(report["clients_dropped"].as_u64() > Some(0), "{report:#}");
    assert_eq!(report["messages_received"], report["messages_sent"], "{report:#}");
}

#[test]
fn each_fault_of_the_server_turns_the_run_red() {
    for (fault, field) in [
        (ChatFault::Lose, "messages_lost"),
        (ChatFault::Double, "messages_duplicated"),
        (ChatFault::Disorder, "messages_out_of_order"),
        (ChatFault::FalseReceipt, "receipts_wrong"),
    ] {
        let server = ChatServer::start(fault);
        let more = ["--clients", "2", "--rate-per-s", "100", "--offline-share", "0", "--drain-s", "2"];
        let (code, report) = chat(&server, &more);
        assert_eq!((code, &report["verdict"]), (97, &json!("unclean")), "{fault:?} {report:#}");
        assert!(report[field].as_u64() > Some(0), "{fault:?} {report:#}");
    }
}

#[test]
fn a_payload_larger_than_the_server_takes_is_bad_usage() {
    let server = ChatServer::start(ChatFault::None);
    let url = format!("ws://{}/v1/ws", server.address);
    let asked = (PAYLOAD_BYTES_MAX + 1).to_string();
    let output = loadgen(&["chat", "--url", &url, "--auth", "none", "--quiet", "--payload-bytes", &asked]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("--payload-bytes 129") && told.contains("payload_bytes_max 128"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(output.stdout.is_empty());
    assert_eq!(server.accepted(), 0);
}
