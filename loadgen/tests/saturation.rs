//! Who was late: a server that stalls is not taken for a generator at its limit, and a generator that is held up is not taken
//! for a slow server. Latency counts from the scheduled time in both.

mod common;

use common::report;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use tungstenite::accept;

/// Longer than a busy machine lets a message wait, shorter than [`STALL`].
const PATIENT: [&str; 4] = ["--lag-us-max", "500000", "--lag-share-max", "0.2"];
const STALL: Duration = Duration::from_millis(1500);

/// An echo server, a thread a connection, that does something before it echoes each message.
fn server(before: impl Fn(u64) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let before = Arc::new(before);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let before = before.clone();
            thread::spawn(move || {
                let Ok(mut socket) = accept(stream) else { return };
                for number in 0_u64.. {
                    let Ok(message) = socket.read() else { return };
                    before(number);
                    if message.is_binary() && socket.send(message).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn arguments<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base = ["echo", "--url", url, "--clients", "4", "--rate-per-s", "200"];
    [&base[..], &PATIENT, more].concat()
}

fn is_late(report: &Value) -> bool {
    report["latency_us"]["max"].as_u64() > Some(STALL.as_micros() as u64 / 2)
}

#[test]
fn a_server_that_stalls_is_late_and_the_generator_is_not_saturated() {
    // The second has so much on its way that the sockets fill and writes wait.
    for more in [&["--in-flight", "1"][..], &["--in-flight", "64", "--payload-bytes", "262144"]] {
        let stalls = |number| {
            if number == 9 {
                thread::sleep(STALL);
            }
        };
        let url = format!("ws://{}/", server(stalls));
        let (code, report) = report(&arguments(&url, &[&["--duration-s", "2"], more].concat()));
        assert_eq!((code, &report["generator_saturated"]), (0, &json!(false)), "{more:?} {report:#}");
        assert!(report["saturation"]["late_by_server"].as_u64() > Some(0), "{more:?} {report:#}");
        assert!(is_late(&report), "{more:?} {report:#}");
    }
}

#[test]
fn a_generator_that_is_held_up_is_saturated_and_the_server_is_not_blamed() {
    let (arrived, first) = mpsc::channel();
    // Nobody listens any more after the first.
    let url = format!("ws://{}/", server(move |_| _ = arrived.send(())));
    let run = Command::new(env!("CARGO_BIN_EXE_roost-loadgen"))
        .args(arguments(&url, &["--duration-s", "3", "--json", "-", "--quiet"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("roost-loadgen was built with this test");
    first.recv().expect("a message");
    let process = Pid::from_raw(run.id() as i32);
    kill(process, Signal::SIGSTOP).expect("it is a child of ours");
    thread::sleep(STALL);
    kill(process, Signal::SIGCONT).expect("it is a child of ours");
    let output = run.wait_with_output().expect("it is a child of ours");
    let told = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    assert_eq!((output.status.code(), &report["verdict"]), (Some(98), &json!("saturated")), "{report:#}");
    let saturation = &report["saturation"];
    assert!(saturation["late_share"].as_f64() > Some(0.2), "{report:#}");
    // Where the machine is busy besides, that is told first.
    assert!(["held_up", "cpu_taken"].map(Value::from).contains(&saturation["reason"]), "{report:#}");
    let (late, blamed) = (report["generator_late_share"].as_f64(), saturation["late_by_server"].as_u64());
    let late = late.expect("a share") * report["messages_sent"].as_f64().expect("a count");
    assert!((blamed.expect("a count") as f64) < late / 2.0, "{report:#}");
    assert!(told.contains("does not count") && is_late(&report), "{told}");
}
