//! `echo` and `idle` against an echo server that is tungstenite's: report, exit codes, and each fault is found.

mod common;

use common::{Fault, echo_server, loadgen, report};
use serde_json::{Value, json};
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

fn run(fault: Fault, more: &[&str]) -> (i32, Value) {
    let url = format!("ws://{}/", echo_server(fault));
    let base = ["echo", "--url", &url, "--clients", "4", "--rate-per-s", "200", "--duration-s", "1"];
    report(&[&base, more].concat())
}

/// The bound is far off, so that a busy machine does not turn the run into one that does not count.
const PATIENT: [&str; 2] = ["--lag-us-max", "5000000"];

#[test]
fn an_open_loop_is_clean_and_the_report_has_every_field() {
    let (code, report) = run(Fault::None, &PATIENT);
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    for field in [
        "scenario seed clients_target clients_connected clients_failed connect_per_s duration_s messages_sent",
        "messages_received messages_lost messages_duplicated messages_out_of_order latency_us send_rate_per_s",
        "memory_bytes_per_client gateway_cpu_s generator_saturated verdict host",
    ]
    .join(" ")
    .split(' ')
    {
        assert!(report.get(field).is_some(), "{field}");
    }
    for (object, fields) in [
        ("latency_us", "p50 p90 p99 p999 max"),
        ("memory_bytes_per_client", "kernel gateway total"),
        ("host", "kernel cpus memory_bytes"),
    ] {
        for field in fields.split(' ') {
            assert!(report[object].get(field).is_some(), "{object}.{field}");
        }
    }
    let sent = report["messages_sent"].as_u64().unwrap();
    assert!((120..300).contains(&sent), "{sent}");
    assert_eq!(report["messages_received"], json!(sent));
    assert_eq!(report["latency_us"]["count"], json!(sent));
    assert_eq!((&report["clients_connected"], &report["closed_loop"]), (&json!(4), &json!(false)));
}

#[test]
fn a_closed_loop_says_so_and_uses_two_threads_and_several_in_flight() {
    let more = ["--rate-per-s", "0", "--in-flight", "8", "--threads", "2", "--payload-bytes", "5000"];
    let url = format!("ws://{}/", echo_server(Fault::None));
    let base = ["echo", "--url", &url, "--clients", "4", "--duration-s", "1"];
    let (code, report) = report(&[&base, &more[..]].concat());
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["closed_loop"], json!(true));
    let (sent, received) = (&report["messages_sent"], &report["messages_received"]);
    assert_eq!(sent, received);
    assert!(sent.as_u64() > Some(100), "{sent}");
}

#[test]
fn each_fault_of_the_server_is_found_and_exits_97() {
    for (fault, field) in [
        (Fault::Swallow, "messages_lost"),
        (Fault::Double, "messages_duplicated"),
        (Fault::Swap, "messages_out_of_order"),
        (Fault::Change, "violations"),
        (Fault::Drop, "messages_lost"),
    ] {
        let more = ["--in-flight", "4", "--drain-s", "1", "--lag-us-max", "5000000"];
        let (code, report) = run(fault, &more);
        assert_eq!((code, &report["verdict"]), (97, &json!("unclean")), "{fault:?} {report:#}");
        assert!(report[field].as_u64() > Some(0), "{fault:?} {report:#}");
    }
}

#[test]
fn a_condition_that_holds_exits_99_and_is_named() {
    let (code, report) = run(
        Fault::None,
        &["--fail-if", "messages_sent >= 1", "--fail-if", "messages_lost > 0", "--lag-us-max", "5000000"],
    );
    assert_eq!((code, &report["fail_if_held"]), (99, &json!(["messages_sent >= 1"])), "{report:#}");
}

#[test]
fn a_saturated_generator_exits_98_even_where_a_condition_holds() {
    // Nothing leaves in the very microsecond it was due.
    let more = ["--lag-us-max", "0", "--lag-share-max", "0", "--fail-if", "messages_sent >= 1"];
    let (code, report) = run(Fault::None, &more);
    assert_eq!((code, &report["verdict"]), (98, &json!("saturated")), "{report:#}");
    assert_eq!(report["generator_saturated"], json!(true));
}

#[test]
fn idle_holds_its_clients_and_measures_memory() {
    let url = format!("ws://{}/", echo_server(Fault::None));
    let pid = std::process::id().to_string();
    let more = ["--clients", "50", "--duration-s", "2", "--heartbeat-s", "1", "--gateway-pid", &pid];
    let (code, report) = report(&[&["idle", "--url", &url], &more[..]].concat());
    assert_eq!(code, 0, "{report:#}");
    assert_eq!((&report["clients_connected"], &report["clients_dropped"]), (&json!(50), &json!(0)));
    for part in ["kernel", "gateway", "total"] {
        assert!(report["memory_bytes_per_client"][part].is_number(), "{report:#}");
    }
    assert!(report["gateway_cpu_s"].is_number());
}

#[test]
fn no_server_or_a_server_that_refuses_ends_with_1_and_its_reason() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let forbidden = echo_server(Fault::Forbid);
    let url = format!("ws://{forbidden}/");
    let output = loadgen(&["echo", "--url", &url, "--clients", "2", "--quiet"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("403 Forbidden"), "{told}");

    let url = format!("ws://{closed}/");
    let arguments = ["echo", "--url", &url, "--clients", "1", "--quiet", "--ready-s", "1"];
    let output = loadgen(&arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("Connection refused"), "{told}");
}

/// What one server writes to one client at most before it gives up: far more than sockets hold.
const FLOOD_BYTES_MAX: usize = 64 << 20;

#[test]
fn a_server_that_floods_pings_and_takes_no_answers_is_not_read_without_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = tungstenite::accept(stream).unwrap().get_ref().try_clone().unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let pings = [0x89, 0].repeat(32 * 1024);
        let mut written = 0;
        while written < FLOOD_BYTES_MAX {
            match stream.write(&pings) {
                Ok(bytes) => written += bytes,
                Err(error) => return Some(error.kind()),
            }
        }
        None
    });
    let (_, report) =
        report(&["echo", "--url", &url, "--clients", "1", "--rate-per-s", "1", "--duration-s", "6"]);
    let stuck = server.join().unwrap();
    assert_eq!(stuck, Some(ErrorKind::WouldBlock), "the client read on and on: {report:#}");
}
