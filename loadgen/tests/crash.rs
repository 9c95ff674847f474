//! `chat` and `group` against the real gateway, which is killed with SIGKILL ten times in each run, at random moments under load, and
//! started anew on its data and port: in the end nothing is lost, doubled or out of order.
//!
//! `ROOST_CRASH_SEED` gives other moments, `ROOST_CRASH_KILLS` another number of them a run.

mod common;

use common::OwnedRun;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use roost_client::harness::Gateway;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// One run at a time: two would only slow each other.
static MACHINE: Mutex<()> = Mutex::new(());

/// Messages that a gateway accepts before it is killed, at most: the moment is as random as how fast they come.
const ACCEPTED_MAX: u64 = 400;
/// How often the gateway is asked how many it has accepted.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// The longest wait for that many.
const KILL_MAX: Duration = Duration::from_mins(1);

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(otherwise)
}

/// Messages accepted since the gateway was started; `None` where it does not answer yet.
fn accepted(gateway: &Gateway) -> Option<u64> {
    let (_, metrics) = gateway.request("GET", "/metrics", "").ok()?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("roost_router_messages_total "))?;
    line.trim().parse().ok()
}

/// Kills the gateway each time it has accepted a random number of messages since it was started; returns how many times.
fn kill_again_and_again(gateway: &mut Gateway, run: &mut OwnedRun, kills: u64, seed: u64) -> u64 {
    let mut rng = StdRng::seed_from_u64(seed);
    for done in 0..kills {
        let after = rng.random_range(1..ACCEPTED_MAX);
        let deadline = Instant::now() + KILL_MAX;
        while accepted(gateway).is_none_or(|accepted| accepted < after) {
            if run.has_ended() || Instant::now() > deadline {
                return done;
            }
            thread::park_timeout(LOOK_EVERY);
        }
        gateway.kill().expect("the gateway runs");
        gateway.restart().expect("a killed gateway starts on its data");
    }
    kills
}

fn survives(scenario: &[&str]) -> Value {
    let _turn = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let (kills, seed) = (from_environment("ROOST_CRASH_KILLS", 10), from_environment("ROOST_CRASH_SEED", 1));
    let mut gateway = Gateway::start(&[]).expect("the gateway starts");
    let (url, secret) = (format!("ws://{}/v1/ws", gateway.ws), gateway.data().join("secret"));
    let told = gateway.data().join("report.json");
    let text = |path: &Path| path.to_str().expect("a temporary folder's name is text").to_owned();
    let (secret, told_to) = (text(&secret), text(&told));
    let target = ["--url", &url, "--secret-file", &secret, "--json", &told_to, "--quiet"];
    // What matters is the ledger: a busy machine may be late.
    let patient =
        ["--lag-us-max", "60000000", "--lag-share-max", "1", "--drain-s", "120", "--ready-s", "120"];
    let mut run = OwnedRun::start(&[scenario, &target, &patient].concat());
    let killed = kill_again_and_again(&mut gateway, &mut run, kills, seed);
    let code = run.wait();
    let report = std::fs::read(&told).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let report = report.unwrap_or_else(|| panic!("no report, exit {code}"));
    assert_eq!(killed, kills, "seed {seed}: the run was over before: {report:#}");
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "seed {seed}: {report:#}");
    assert_eq!(report["messages_answered"], report["messages_sent"], "seed {seed}: {report:#}");
    assert!(report["clients_dropped"].as_u64() >= Some(kills), "seed {seed}: {report:#}");
    report
}

#[test]
fn chat_survives_ten_kills_with_a_clean_ledger() {
    let report = survives(&["chat", "--clients", "200", "--rate-per-s", "400", "--duration-s", "30"]);
    assert_eq!(report["messages_received"], report["messages_sent"], "{report:#}");
    assert_eq!(report["receipts_missing"], json!(0), "{report:#}");
}

#[test]
fn groups_survive_ten_kills_with_a_clean_ledger() {
    let size = ["--group-size", "12", "--clients", "120"];
    let report = survives(&[&["group", "--rate-per-s", "300", "--duration-s", "30"], &size[..]].concat());
    assert_eq!(report["group"]["deliveries"], report["group"]["deliveries_planned"], "{report:#}");
    assert_eq!(report["group"]["groups"], json!(10), "{report:#}");
}
