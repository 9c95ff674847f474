//! A run spread over agents in network namespaces of their own, against the real gateway and against servers that err.

#[path = "common/agents.rs"]
mod agents;
#[path = "common/chat_server.rs"]
#[allow(dead_code, reason = "not all of its faults are of interest here")]
mod chat_server;
mod common;

use agents::{Agent, SECRET, enter_new_namespace, secret, wait_for};
use chat_server::{ChatFault, ChatServer};
use common::{OwnedRun, loadgen, report};
use roost_client::harness::Gateway;
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Output;

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's name is text")
}

/// The coordinator's options.
fn coordinator<'a>(agents: &'a str, secret: &'a Path) -> [&'a str; 4] {
    ["--agents", agents, "--agent-secret-file", text(secret)]
}

fn addresses(agents: &[Agent]) -> String {
    agents.iter().map(|agent| agent.address.to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn two_agents_in_namespaces_of_their_own_are_one_clean_run_after_the_other() {
    enter_new_namespace();
    let (_folder, secret) = secret(SECRET);
    let agents = [Agent::start_apart(1, &secret, &["--threads", "2"]), Agent::start_apart(2, &secret, &[])];
    let gateway = Gateway::start_on("0.0.0.0:0", &[]).expect("the gateway starts");
    let url = format!("ws://10.77.1.1:{}/v1/ws", gateway.ws.port());
    let (key, at) = (gateway.data().join("secret"), addresses(&agents));
    let of = ["--url", &url, "--secret-file", text(&key), "--clients", "100"];
    // A busy machine must not hide what the ledger found.
    let patient = ["--duration-s", "2", "--lag-us-max", "60000000", "--drain-s", "60"];
    for scenario in [
        &["chat", "--rate-per-s", "300", "--offline-share", "0.2"][..],
        &["group", "--group-size", "10", "--rate-per-s", "50"],
    ] {
        let (code, report) = report(&[scenario, &of, &patient, &coordinator(&at, &secret)].concat());
        assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
        assert_eq!(report["clients_connected"], json!(100), "{report:#}");
        let sent = report["messages_sent"].as_u64().expect("a count");
        assert!(sent > 100 && report["messages_answered"] == json!(sent), "{report:#}");
        let times = if scenario[0] == "group" { 9 } else { 1 };
        assert_eq!(report["messages_received"], json!(times * sent), "{report:#}");
        assert_eq!(report["receipts_delivered"], json!(sent), "{report:#}");
        // Every value is in the merged histograms.
        let count = |field: &str| report[field]["count"].as_u64().expect("a count");
        assert!(count("latency_us") + count("latency_offline_us") >= times * sent, "{report:#}");
        assert_spread_over_both(&report);
    }
    // Phases beyond the measured part reach them, too: all connections of both are lost and come back.
    let (code, report) = report(&[&["storm"][..], &of, &patient, &coordinator(&at, &secret)].concat());
    assert_eq!(
        (code, &report["storm"]["lost"], &report["storm"]["back"]),
        (0, &json!(100), &json!(100)),
        "{report:#}"
    );
    assert_eq!(report["reconnects"], json!(100), "{report:#}");
}

/// Three workers had the clients, two of them on the first agent; and what agents tell adds up.
fn assert_spread_over_both(report: &Value) {
    let agents = report["agents"].as_array().expect("agents");
    let of =
        |field: &str| agents.iter().map(|agent| agent[field].as_u64().expect("a count")).collect::<Vec<_>>();
    assert_eq!((of("threads"), of("clients")), (vec![2, 1], vec![67, 33]), "{report:#}");
    assert!(report["clock_error_us"].as_u64() > Some(0), "{report:#}");
    let lags = |agent: &Value| agent["generator_lag_us"]["count"].as_u64();
    assert!(agents.iter().all(|agent| lags(agent) > Some(0)), "{report:#}");
    let sum: u64 = agents.iter().filter_map(lags).sum();
    assert_eq!(report["generator_lag_us"]["count"], json!(sum), "{report:#}");
    // Each namespace has counters of its own.
    assert!(agents.iter().all(|agent| agent["network"]["segments_in_error"] == json!(0)), "{report:#}");
}

/// Two agents of this machine, in the test's namespace.
fn pair(secret: &Path) -> [Agent; 2] {
    [(); 2].map(|()| Agent::start("127.0.0.1:0", secret, &[]))
}

/// A chat against a server of the test's own, led over these agents.
fn chat<'a>(url: &'a str, at: &'a str, secret: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let base = ["chat", "--url", url, "--auth", "none", "--lag-us-max", "60000000", "--offline-share", "0"];
    [&base[..], &coordinator(at, secret), more].concat()
}

#[test]
fn each_fault_of_the_server_is_found_where_sender_and_receiver_are_on_different_agents() {
    let (_folder, secret) = secret(SECRET);
    let agents = pair(&secret);
    let at = addresses(&agents);
    for (fault, field) in [
        (ChatFault::Lose, "messages_lost"),
        (ChatFault::Double, "messages_duplicated"),
        (ChatFault::FalseReceipt, "receipts_wrong"),
    ] {
        let server = ChatServer::start(fault);
        let url = format!("ws://{}/v1/ws", server.address);
        // Two clients, one on each agent: all messages go from one to the other.
        let more = ["--clients", "2", "--rate-per-s", "100", "--duration-s", "2", "--drain-s", "2"];
        let (code, report) = report(&chat(&url, &at, &secret, &more));
        assert_eq!((code, &report["verdict"]), (97, &json!("unclean")), "{fault:?} {report:#}");
        assert!(report[field].as_u64() > Some(0), "{fault:?} {report:#}");
    }
}

#[test]
fn agents_play_a_mix_whose_file_only_the_coordinator_has_and_their_odd_clients_add_up() {
    let (_folder, secret) = secret(SECRET);
    let agents = pair(&secret);
    let at = addresses(&agents);
    let gateway = Gateway::start(&[]).expect("the gateway starts");
    let (url, key) = (format!("ws://{}/v1/ws", gateway.ws), gateway.data().join("secret"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mine.toml");
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/reconnect-storm.toml");
    std::fs::copy(example, &file).expect("copied");
    let of = ["--url", &url, "--secret-file", text(&key), "--clients", "60", "--duration-s", "4"];
    let patient = ["--lag-us-max", "60000000", "--drain-s", "60"];
    let led = coordinator(&at, &secret);
    let (code, played) = report(&[&["mix", "--mix", text(&file)][..], &of, &patient, &led].concat());
    assert_eq!((code, &played["verdict"]), (0, &json!("clean")), "{played:#}");
    let (mix, group) = (&played["mix"], &played["group"]);
    assert_eq!(group["deliveries"], group["deliveries_planned"], "{played:#}");
    let count = |value: &Value| value.as_u64().expect("a count");
    let received = count(&mix["messages_direct"]) + count(&group["deliveries"]);
    assert!(received > 100 && played["messages_received"] == json!(received), "{played:#}");

    let slow = ["slow", "--slow-share", "0.3", "--rate-per-s", "100"];
    let (code, slow) = report(&[&slow[..], &of, &patient, &led].concat());
    assert_eq!((code, &slow["verdict"]), (0, &json!("clean")), "{slow:#}");
    let (stalled, resumed) = (&slow["slow"]["stalled"], &slow["slow"]["resumed"]);
    assert!(count(stalled) > 5 && stalled == resumed, "{slow:#}");
    assert!(count(&slow["slow"]["latency_us"]["count"]) > 20, "{slow:#}");
}

#[test]
fn an_agent_that_is_killed_ends_the_run_with_its_name_and_the_others_in_order() {
    let (_folder, secret) = secret(SECRET);
    let [mut killed, other] = pair(&secret);
    let at = format!("{},{}", killed.address, other.address);
    let server = ChatServer::start(ChatFault::None);
    let url = format!("ws://{}/v1/ws", server.address);
    let arguments =
        chat(&url, &at, &secret, &["--clients", "20", "--rate-per-s", "50", "--duration-s", "600"]);
    let (told, mut run) = OwnedRun::start_heard(&arguments);
    wait_for("messages", || (server.accepted() > 20).then_some(()));
    killed.kill();
    assert_eq!(run.wait(), 1);
    let told = told.join().expect("its stderr");
    let sentence = format!("the run ended before its time: agent {} is lost", killed.address);
    assert!(told.contains(&sentence), "{told}");
    // The other one ended in order, and takes the next run.
    let more = ["--clients", "4", "--rate-per-s", "20", "--duration-s", "1"];
    let (code, report) = report(&chat(&url, &other.address.to_string(), &secret, &more));
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
}

#[test]
fn an_agent_whose_coordinator_vanishes_closes_its_clients_and_takes_the_next_run() {
    let (_folder, secret) = secret(SECRET);
    let agents = [Agent::start("127.0.0.1:0", &secret, &[])];
    let at = addresses(&agents);
    let server = ChatServer::start(ChatFault::None);
    let url = format!("ws://{}/v1/ws", server.address);
    let mut run = OwnedRun::start(&chat(
        &url,
        &at,
        &secret,
        &["--clients", "20", "--rate-per-s", "50", "--duration-s", "600"],
    ));
    wait_for("messages", || (server.accepted() > 20).then_some(()));
    // While it is busy another coordinator is told so.
    let more = ["--clients", "4", "--rate-per-s", "20", "--duration-s", "1"];
    let second = loadgen(&chat(&url, &at, &secret, &more));
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        second.status.code() == Some(1) && told.contains("it is busy with a run for 127.0.0.1:"),
        "{told}"
    );
    run.kill();
    agents[0].wait_until_said("ended before its time: the coordinator is gone");
    // What it listens with is left.
    wait_for("the end of its clients", || (agents[0].sockets() == 1).then_some(()));
    let (code, report) = report(&chat(&url, &at, &secret, &more));
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
}

#[test]
fn a_wrong_secret_is_refused_and_told_on_both_sides() {
    let (_folder, right) = secret(SECRET);
    let (_other_folder, wrong) = secret("another secret, which is as long\n");
    let agent = [Agent::start("127.0.0.1:0", &right, &[])];
    let at = addresses(&agent);
    let Output { status, stderr, .. } = loadgen(&chat("ws://127.0.0.1:1/", &at, &wrong, &[]));
    let told = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains(&at) && told.contains("it has another secret"), "{told}");
    agent[0].wait_until_said("it has another secret, or is no roost-loadgen coordinator");
    let (_short_folder, short) = secret("short\n");
    let Output { status, stderr, .. } = loadgen(&chat("ws://127.0.0.1:1/", &at, &short, &[]));
    let told = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.code() == Some(2) && told.contains("16 to 4096 bytes"), "{told}");
}

#[test]
fn any_bytes_may_come_to_an_agents_port() {
    let (_folder, secret) = secret(SECRET);
    let mut agent = [Agent::start("127.0.0.1:0", &secret, &["--once"])];
    let mut state = 1_u64;
    for length in [0, 1, 47, 48, 49, 50, 100, 1000, 70_000].repeat(4) {
        let noise: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let mut stream = TcpStream::connect(agent[0].address).expect("it listens");
        // It may hang up in the middle.
        let _ = stream.write_all(&noise);
    }
    assert!(agent[0].is_running() && !agent[0].said().contains("panicked"), "{}", agent[0].said());
    let server = ChatServer::start(ChatFault::None);
    let url = format!("ws://{}/v1/ws", server.address);
    let at = addresses(&agent);
    // Strangers hold their places for a moment.
    let (code, report) = wait_for("a free place", || {
        let output = loadgen(
            &[&chat(&url, &at, &secret, &["--clients", "2", "--duration-s", "1", "--json", "-"])[..]]
                .concat(),
        );
        let report = serde_json::from_slice::<Value>(&output.stdout).ok()?;
        Some((output.status.code(), report))
    });
    assert_eq!((code, &report["verdict"]), (Some(0), &json!("clean")), "{report:#}");
    // --once: that was it.
    assert_eq!(agent[0].wait(), Some(0));
}
