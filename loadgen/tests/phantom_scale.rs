//! A hundred thousand sessions, authenticated and welcomed, held on one machine: counts, bytes a session, none lost. Needs
//! root. It stands alone in its binary, because other tests beside it would be in the kernel's memory it measures.

mod common;

use roost_client::harness::gateway_binary;
use serde_json::json;

const SESSIONS: u64 = 100_000;
/// Of the kernel, the gateway and the router together, what does not grow with sessions included: some 12 MB, 120 bytes a session.
const BYTES_A_SESSION_MAX: f64 = 4_400.0;

#[test]
fn a_hundred_thousand_sessions_are_held_within_their_bytes() {
    let gateway = gateway_binary().expect("built");
    let options = [
        "idle",
        "--kind",
        "phantom",
        "--clients",
        "100000",
        "--ramp-per-s",
        "10000",
        "--ready-s",
        "180",
        "--duration-s",
        "20",
        // A busy machine may hold the ramp up; what is asserted here are counts and bytes.
        "--lag-us-max",
        "60000000",
        "--lag-share-max",
        "1",
    ];
    // Each speaks five times while it is held.
    let drain = ["--drain-closes-per-s", "100000"];
    let command = [&["--", gateway.to_str().expect("text"), "--heartbeat-s", "8"][..], &drain].concat();
    let (code, report) = common::report_before(&options, &command);
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    assert_eq!(report["clients_connected"], json!(SESSIONS), "{report:#}");
    for none in ["clients_failed", "clients_dropped", "reconnects", "accept_wrong", "upgrades_refused"] {
        assert_eq!(report[none], json!(0), "{none} {report:#}");
    }
    for none in ["listen_overflows", "listen_drops", "checksum_errors", "aborts_on_memory"] {
        assert_eq!(report["network"][none], json!(0), "{none} {report:#}");
    }
    let bytes = report["memory_bytes_per_client"]["total"].as_f64().expect("measured");
    println!("{bytes:.0} bytes a session: {:#}", report["memory_bytes_per_client"]);
    assert!(bytes > 3_000.0 && bytes <= BYTES_A_SESSION_MAX, "{bytes:.0} bytes a session: {report:#}");
}
