//! Clients that misbehave, against the real gateway: readers that stop, clients that vanish, handshakes that drip.

mod common;
#[path = "odd/siege.rs"]
mod siege;

use common::{loadgen, report, report_before};
use roost_client::harness::{Gateway, gateway_binary};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

const PATIENT: [&str; 8] =
    ["--lag-us-max", "60000000", "--lag-share-max", "1", "--ready-s", "120", "--drain-s", "60"];

/// A run with kernel sockets and a gateway of its own.
fn kernel(options: &[&str]) -> (i32, Value) {
    let gateway = Gateway::start(&[]).expect("the gateway starts");
    let (url, secret) = (format!("ws://{}/v1/ws", gateway.ws), gateway.data().join("secret"));
    let own = ["--url", &url, "--secret-file", secret.to_str().expect("text")];
    report(&[options, &own, &PATIENT].concat())
}

/// A run with phantoms and a gateway of its own.
fn phantoms(options: &[&str], gateway: &[&str]) -> (i32, Value) {
    let binary = gateway_binary().expect("built");
    let command = [&["--", binary.to_str().expect("text")], gateway].concat();
    report_before(&[options, &["--kind", "phantom"], &PATIENT].concat(), &command)
}

/// The same with both kinds of clients, at the same time: they mostly wait.
fn both(options: &[&str]) -> [(i32, Value); 2] {
    thread::scope(|scope| {
        let phantoms = scope.spawn(|| phantoms(options, &[]));
        [kernel(options), phantoms.join().expect("no panic")]
    })
}

#[test]
fn slow_readers_get_all_of_it_once_they_read_again_and_the_others_do_not_wait() {
    // Bytes enough to fill the small windows many times over.
    let options =
        ["slow", "--clients", "30", "--slow-share", "0.3", "--rate-per-s", "300", "--payload-bytes", "3000"];
    let options = [&options[..], &["--duration-s", "4", "--seed", "5"]].concat();
    for (code, report) in both(&options) {
        assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
        let sent = &report["messages_sent"];
        assert!(sent.as_u64() > Some(900), "{report:#}");
        assert_eq!((&report["messages_received"], &report["receipts_delivered"]), (sent, sent), "{report:#}");
        let slow = &report["slow"];
        let clients = slow["clients"].as_u64().unwrap();
        assert!((3..20).contains(&clients), "{report:#}");
        assert_eq!((&slow["stalled"], &slow["resumed"]), (&json!(clients), &json!(clients)), "{report:#}");
        assert_eq!((&slow["ended"], &report["clients_dropped"]), (&json!(0), &json!(0)), "{report:#}");
        // Of the 3.2 s in which they do not read, what came in the first half waits for more than the other half.
        let (theirs, others) = (&slow["latency_us"], &report["latency_us"]);
        assert!(theirs["p50"].as_u64() > Some(1_000_000), "{report:#}");
        assert!(others["p50"].as_u64() < theirs["p50"].as_u64(), "{report:#}");
        let both = theirs["count"].as_u64().unwrap() + others["count"].as_u64().unwrap();
        assert_eq!(&json!(both), sent, "{report:#}");
    }
}

#[test]
fn clients_that_vanish_are_held_until_the_servers_patience_is_over() {
    let options = ["halfopen", "--clients", "300", "--halfopen-share", "0.4", "--duration-s", "60"];
    // Reaped when they were silent for twice the heartbeat.
    let (code, report) = phantoms(&options, &["--heartbeat-s", "2"]);
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    let halfopen = &report["halfopen"];
    let vanished = halfopen["vanished"].as_u64().unwrap();
    assert!((80..160).contains(&vanished), "{report:#}");
    assert_eq!((&halfopen["ended"], &halfopen["still_held"]), (&json!(vanished), &json!(0)), "{report:#}");
    assert_eq!(halfopen["held_us"]["count"], json!(vanished), "{report:#}");
    assert!(halfopen["held_us"]["max"].as_u64() > Some(2_000_000), "{report:#}");
    let by = halfopen["ended_by"].as_array().unwrap();
    assert_eq!(by.iter().map(|how| how[1].as_u64().unwrap()).sum::<u64>(), vanished, "{report:#}");
    // Those that stayed were not touched, and the run did not wait for its full length.
    assert_eq!((&report["clients_dropped"], &report["reconnects"]), (&json!(0), &json!(0)), "{report:#}");
    assert!(report["duration_s"].as_f64() < Some(59.0), "{report:#}");

    let output = loadgen(&["halfopen", "--url", "ws://127.0.0.1:1/"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("halfopen needs --kind phantom: a kernel that has lost a socket answers"),
        "{told}"
    );
}

#[test]
fn requests_that_drip_too_long_are_ended_and_the_others_connect_beside_them() {
    let options = ["handshake-drip", "--clients", "40", "--drip-ms", "1000", "--duration-s", "40"];
    for (code, report) in both(&options) {
        assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
        let drip = &report["handshake_drip"];
        let dripped = drip["dripped"].as_u64().unwrap();
        assert!((10..30).contains(&dripped), "{report:#}");
        assert_eq!(report["clients_connected"], json!(40 - dripped), "{report:#}");
        assert_eq!((&drip["ended"], &drip["upgraded"]), (&json!(dripped), &json!(0)), "{report:#}");
        // The gateway gives a handshake ten seconds.
        assert!(drip["held_us"]["p50"].as_u64() > Some(8_000_000), "{report:#}");
        let by = drip["ended_by"].as_array().unwrap();
        let named = by.iter().map(|how| how[1].as_u64().unwrap()).sum::<u64>();
        assert_eq!(named, dripped, "{report:#}");
        assert_eq!(report["clients_dropped"], json!(0), "{report:#}");
    }
}

#[test]
fn a_request_that_drips_fast_enough_is_upgraded() {
    let options = ["handshake-drip", "--clients", "20", "--drip-ms", "1", "--duration-s", "30"];
    for (code, report) in both(&options) {
        assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
        let drip = &report["handshake_drip"];
        assert!(drip["dripped"].as_u64() > Some(2), "{report:#}");
        assert_eq!(drip["upgraded"], drip["dripped"], "{report:#}");
        assert_eq!(drip["ended_by"], json!([]), "{report:#}");
    }
}

/// A server that upgrades whole requests and ends others after their tenth byte, as it is told.
fn impatient(answer: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut first = [0; 4096];
                let Ok(read) = stream.read(&mut first) else { return };
                let first = &first[..read];
                // Who does not drip sends all of it at once.
                if !first.ends_with(b"\r\n\r\n") {
                    let _ = stream.write_all(answer);
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    // Bytes that were not read would make the end an RST.
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                } else if let Ok(mut socket) = tungstenite::accept(Prefixed { first: first.to_vec(), stream })
                {
                    while socket.read().is_ok() {}
                }
            });
        }
    });
    address
}

/// A stream of which something was read already.
struct Prefixed {
    first: Vec<u8>,
    stream: std::net::TcpStream,
}

impl Read for Prefixed {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.first.is_empty() {
            return self.stream.read(into);
        }
        let bytes = self.first.len().min(into.len());
        into[..bytes].copy_from_slice(&self.first[..bytes]);
        self.first.drain(..bytes);
        Ok(bytes)
    }
}

impl Write for Prefixed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

#[test]
fn what_a_dripped_request_is_ended_by_is_told_of_any_server() {
    for (answer, how) in [(&b"HTTP/1.1 408 Request Timeout\r\n\r\n"[..], "HTTP 408"), (b"", "FIN")] {
        let url = format!("ws://{}/", impatient(answer));
        let options =
            ["handshake-drip", "--url", &url, "--clients", "10", "--drip-ms", "20", "--duration-s", "30"];
        let (code, report) = report(&[&options[..], &PATIENT].concat());
        assert_eq!(code, 0, "{report:#}");
        let drip = &report["handshake_drip"];
        assert_eq!(drip["ended_by"], json!([[how, drip["dripped"]]]), "{report:#}");
    }
}
