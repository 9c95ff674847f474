//! `compare`: two servers in turn, a table with ratios, and what a server does wrong is told with exit code 1.

mod common;

use common::{Fault, echo_server, loadgen};
use serde_json::{Value, json};

/// What both need: short, without pauses, and few clients.
const SHORT: [&str; 12] = [
    "compare",
    "--clients",
    "4",
    "--duration-s",
    "1",
    "--warm-up-s",
    "0",
    "--rest-s",
    "0",
    "--ready-s",
    "1",
    "--quiet",
];

fn server(name: &str, fault: Fault, pid: Option<u32>) -> String {
    let pid = pid.map_or(String::new(), |pid| format!(",{pid}"));
    format!("--server={name}=ws://{}/{pid}", echo_server(fault))
}

fn compare(arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = loadgen(&[&SHORT, arguments, &["--json", "-"]].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    (output.status.code(), json, told)
}

#[test]
fn two_servers_are_compared_in_turn_and_the_first_is_the_measure() {
    let pid = Some(std::process::id());
    let (one, two) = (server("one", Fault::None, pid), server("two", Fault::None, None));
    let (code, json, table) = compare(&["--rounds", "2", &one, &two]);
    assert_eq!(code, Some(0), "{table}");
    assert_eq!((&json["closed_loop"], &json["rounds"]), (&json!(true), &json!(2)));
    let places = |server: usize| -> Vec<Value> {
        (0..2).map(|round| json["servers"][server]["rounds"][round]["place"].clone()).collect()
    };
    assert_eq!((places(0), places(1)), (vec![json!(1), json!(2)], vec![json!(2), json!(1)]), "in turn");
    let figures = |server: usize| &json["servers"][server]["figures"];
    for field in
        ["messages_per_s", "messages_per_server_cpu_s", "latency_p99_us", "total_bytes_per_connection"]
    {
        assert_eq!(figures(0)[field]["ratio"], json!(1.0), "{field}: {json:#}");
    }
    let rate =
        |server: usize, part: &str| figures(server)["messages_per_s"][part].as_f64().expect("a number");
    let ratio = rate(1, "median") / rate(0, "median");
    assert!((rate(1, "ratio") - ratio).abs() < 1e-9, "{json:#}");
    assert!(
        rate(0, "min") > 0.0 && rate(0, "min") <= rate(0, "median") && rate(0, "median") <= rate(0, "max")
    );
    // The second has no process to look at.
    assert!(figures(1).get("server_cpus").is_none() && figures(0).get("server_cpus").is_some());
    for text in ["| messages a second ", "| latency p99, us ", "| one", "| two", "closed loop"] {
        assert!(table.contains(text), "{text}: {table}");
    }
}

#[test]
fn a_server_that_loses_messages_fails_its_rounds_and_the_other_is_told_all_the_same() {
    let (good, bad) = (server("good", Fault::None, None), server("bad", Fault::Drop, None));
    let (code, json, table) = compare(&[&good, &bad, "--rounds", "1"]);
    assert_eq!(code, Some(1), "{table}");
    assert!(table.contains("FAILED bad: 1 of 1 rounds") && table.contains("were lost"), "{table}");
    assert!(json["servers"][0]["figures"]["messages_per_s"]["median"].as_f64() > Some(0.0));
    assert_eq!(json["servers"][1]["figures"], json!({}));
}

#[test]
fn idle_tells_memory_and_a_server_that_is_not_there_fails() {
    let pid = Some(std::process::id());
    let one = server("one", Fault::None, pid);
    let (code, json, table) =
        compare(&["--scenario", "idle", "--rounds", "1", &one, "--server=gone=ws://127.0.0.1:1/"]);
    assert_eq!(code, Some(1), "{table}");
    let figures = &json["servers"][0]["figures"];
    assert!(figures["process_bytes_per_connection"]["median"].is_number(), "{json:#}");
    assert!(figures.get("messages_per_s").is_none(), "{json:#}");
    assert!(table.contains("Bytes a connection are left out") && !table.contains("| total bytes"), "{table}");
    let reason = &json["servers"][1]["rounds"][0]["failure"];
    assert!(reason.as_str().is_some_and(|reason| reason.contains("no client could connect")), "{reason}");
}

#[test]
fn bad_usage_is_refused_before_the_first_run() {
    for (arguments, reason) in [
        (&["compare"][..], "--server"),
        (&["compare", "--server", "ws://127.0.0.1:1/"], "NAME=URL,PID"),
        (&["compare", "--server=a=ws://127.0.0.1:1/,999999999"], "no process 999999999"),
        (&["compare", "--server=a=ws://127.0.0.1:1/", "--server=a=ws://127.0.0.1:2/"], "two are called 'a'"),
        (&["compare", "--server=a=wss://127.0.0.1:1/"], "TLS"),
        (&["compare", "--server=a=ws://127.0.0.1:1/", "--payload-bytes", "3"], "--payload-bytes"),
        (&["compare", "--server=a=ws://127.0.0.1:1/", "--clients", "0"], "--clients"),
    ] {
        let output = loadgen(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(reason) && output.stdout.is_empty(), "{arguments:?}: {told}");
    }
}
