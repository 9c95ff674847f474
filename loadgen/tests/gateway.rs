//! The main job against the real gateway: 2,000 clients, 20 s, 2,000 messages a second, a clean ledger; and again with
//! the gateway killed half-way and started anew.

mod common;

use common::report;
use roost_client::harness::Gateway;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// One run at a time: two would measure each other.
static MACHINE: Mutex<()> = Mutex::new(());

fn chat_arguments(ws: SocketAddr, data: &Path) -> Vec<String> {
    let url = format!("ws://{ws}/v1/ws");
    let secret = data.join("secret");
    let secret = secret.to_str().expect("a temporary folder's name is text");
    let clients =
        ["chat", "--url", &url, "--secret-file", secret, "--clients", "2000", "--rate-per-s", "2000"];
    // The bound on the generator's lag is far off: a busy machine must not hide what the ledger found.
    let times = ["--duration-s", "20", "--lag-us-max", "5000000", "--drain-s", "60"];
    clients.iter().chain(&times).map(ToString::to_string).collect()
}

fn assert_clean(code: i32, report: &Value) {
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    assert_eq!(report["clients_connected"], json!(2000), "{report:#}");
    let sent = report["messages_sent"].as_u64().unwrap_or_default();
    assert!((38_000..42_000).contains(&sent), "{report:#}");
    for field in ["messages_answered", "messages_received"] {
        assert_eq!(report[field], json!(sent), "{field} {report:#}");
    }
    assert_eq!(report["receipts_missing"], json!(0), "{report:#}");
    assert!(report["receipts_read"].as_u64() > Some(sent / 3), "{report:#}");
}

#[test]
fn chat_with_2000_clients_is_clean() {
    let _turn = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let gateway = Gateway::start(&[]).unwrap();
    let pid = gateway.pid().to_string();
    let arguments = chat_arguments(gateway.ws, gateway.data());
    let arguments: Vec<_> = arguments.iter().map(String::as_str).chain(["--gateway-pid", &pid]).collect();
    let (code, report) = report(&arguments);
    assert_clean(code, &report);
    assert!(report["gateway_cpu_s"].as_f64() > Some(0.0), "{report:#}");
}

#[test]
fn groups_are_clean_in_both_encodings_with_clients_offline_meanwhile() {
    for encoding in ["proto", "json"] {
        let of = ["group", "--group-size", "25", "--offline-share", "0.3", "--rate-per-s", "100"];
        let report =
            others(&[&of[..], &["--read-share", "0.2", "--drain-s", "60", "--encoding", encoding]].concat());
        let group = &report["group"];
        assert_eq!((&group["groups"], &group["members_max"]), (&json!(12), &json!(25)), "{report:#}");
        let sent = report["messages_sent"].as_u64().unwrap_or_default();
        assert!(sent > 50 && group["deliveries"] == json!(24 * sent), "{report:#}");
        assert_eq!(report["receipts_delivered"], json!(sent), "{report:#}");
        assert!(report["latency_offline_us"]["count"].as_u64() > Some(0), "{report:#}");
    }
}

#[test]
fn chat_stays_clean_while_the_gateway_is_killed_and_started_anew() {
    let _turn = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut gateway = Gateway::start(&[]).unwrap();
    let told = gateway.data().join("report.json");
    let arguments = chat_arguments(gateway.ws, gateway.data());
    let mut run = Command::new(env!("CARGO_BIN_EXE_roost-loadgen"));
    let run = run.args(&arguments).arg("--json").arg(&told).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut run = run.spawn().expect("roost-loadgen was built with this test");
    let progress = BufReader::new(run.stderr.take().expect("stderr is piped"));
    let mut killed = false;
    // A line every 5 s until the run ends; without a terminal each tells how many messages were answered.
    for line in progress.lines().map_while(Result::ok) {
        let mut words = line.split_whitespace().skip_while(|word| *word != "answered").skip(1);
        let answered = words.next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default();
        if !killed && answered > 10_000 {
            gateway.kill().unwrap();
            gateway.restart().unwrap();
            killed = true;
        }
    }
    let code = run.wait().unwrap().code().expect("not ended by a signal");
    assert!(killed, "the run ended before the gateway was killed");
    let report: Value = serde_json::from_slice(&std::fs::read(&told).unwrap()).unwrap();
    assert_clean(code, &report);
    assert!(report["clients_dropped"].as_u64() >= Some(1000), "killed while they were connected: {report:#}");
}

#[test]
fn echo_and_idle_run_against_the_echo_backend() {
    let _turn = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let gateway = Gateway::start(&["--backend", "echo"]).unwrap();
    let (url, pid) = (format!("ws://{}/any", gateway.ws), gateway.pid().to_string());
    for (scenario, rate) in [("echo", "2000"), ("echo", "0"), ("idle", "0")] {
        let base = [scenario, "--url", &url, "--clients", "200", "--rate-per-s", rate, "--duration-s", "2"];
        let (code, report) =
            report(&[&base[..], &["--gateway-pid", &pid, "--lag-us-max", "5000000"]].concat());
        assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
        assert_eq!(report["clients_connected"], json!(200), "{report:#}");
        assert_eq!(report["messages_received"], report["messages_sent"], "{report:#}");
    }
}

/// A short run of another scenario with kernel sockets against a gateway of its own.
fn others(options: &[&str]) -> Value {
    let _turn = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let gateway = Gateway::start(&[]).expect("the gateway starts");
    let (url, secret) = (format!("ws://{}/v1/ws", gateway.ws), gateway.data().join("secret"));
    let pid = gateway.pid().to_string();
    let own = ["--url", &url, "--secret-file", secret.to_str().expect("text"), "--gateway-pid", &pid];
    let patient =
        ["--clients", "300", "--duration-s", "1", "--lag-us-max", "60000000", "--lag-share-max", "1"];
    let (code, report) = report(&[options, &own, &patient].concat());
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    assert_eq!(report["clients_connected"], json!(300), "{report:#}");
    report
}

#[test]
fn after_a_storm_of_kernel_sockets_all_are_back() {
    let report = others(&["storm"]);
    assert_eq!(
        (&report["storm"]["lost"], &report["storm"]["back"]),
        (&json!(300), &json!(300)),
        "{report:#}"
    );
    assert_eq!(report["reconnects"], json!(300), "{report:#}");
}

#[test]
fn kernel_sockets_come_and_leave_in_each_round_of_churn() {
    let report = others(&["churn", "--rounds", "2"]);
    let rounds = report["rounds"].as_array().expect("rounds");
    assert_eq!(rounds.len(), 2, "{report:#}");
    for round in rounds {
        assert_eq!((&round["connected"], &round["left_behind"]), (&json!(300), &json!(0)), "{report:#}");
    }
}
