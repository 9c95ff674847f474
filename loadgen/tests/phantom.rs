//! Phantom clients against the real gateway in a network namespace. Needs root.

mod common;

use roost_client::harness::gateway_binary;
use serde_json::{Value, json};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One run at a time: two would measure each other.
static MACHINE: Mutex<()> = Mutex::new(());

/// The bounds on lateness are far off: a busy machine must not hide what was found.
const PATIENT: [&str; 8] =
    ["--lag-us-max", "60000000", "--ready-s", "120", "--drain-s", "60", "--lag-share-max", "1"];

/// A run with phantoms and a gateway of its own.
fn phantoms(options: &[&str], gateway: &[&str]) -> (i32, Value) {
    let _turn = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let binary = gateway_binary().expect("built");
    let command = [&["--", binary.to_str().expect("text")], gateway].concat();
    // --json has to come before the gateway's command.
    let options = [options, &["--kind", "phantom"], &PATIENT].concat();
    common::report_before(&options, &command)
}

fn assert_all(report: &Value, fields: &[(&str, u64)]) {
    for (field, value) in fields {
        assert_eq!(report[field], json!(value), "{field} {report:#}");
    }
}

#[test]
fn two_thousand_idle_phantoms_are_all_welcomed_and_none_is_lost() {
    // Heartbeats each second: a phantom that is silent for two is reaped.
    let options =
        ["idle", "--clients", "2000", "--ramp-per-s", "4000", "--threads", "2", "--duration-s", "6"];
    let (code, report) = phantoms(&options, &["--heartbeat-s", "2"]);
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    let zero = ["clients_failed", "clients_dropped", "accept_wrong", "upgrades_refused", "reconnects"];
    assert_all(&report, &[("clients_connected", 2000)]);
    assert_all(&report, &zero.map(|field| (field, 0)));
    let tcp = &report["tcp"];
    assert_all(tcp, &[("malformed", 0), ("strangers", 0)]);
    // The kernel verified every checksum of ours.
    assert_all(
        &report["network"],
        &[("segments_in_error", 0), ("checksum_errors", 0), ("listen_overflows", 0)],
    );
    assert!(tcp["packets_out"].as_u64() > Some(2000 * 3 + 2000 * 4), "five heartbeats each: {report:#}");
    assert_eq!(report["connect_latency_us"]["count"], json!(2000));
    assert!(report["note"].as_str().is_some_and(|note| note.contains("kernel sockets prove CPU")));
}

#[test]
fn phantoms_whose_heartbeat_is_due_too_late_are_reaped_by_the_gateway() {
    // The counterpart of the test above: heartbeats are what keeps them.
    let options =
        ["idle", "--clients", "50", "--threads", "1", "--duration-s", "14", "--heartbeat-s", "3600"];
    let (_, report) = phantoms(&options, &["--backend", "echo", "--heartbeat-s", "2"]);
    assert_eq!(report["clients_connected"], json!(50), "{report:#}");
    assert!(report["clients_dropped"].as_u64() >= Some(50), "{report:#}");
}

#[test]
fn a_wrong_accept_value_is_caught_for_each_and_fails_the_client() {
    let _turn = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let fake = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_gateway.py");
    let options = ["echo", "--clients", "40", "--kind", "phantom", "--threads", "1", "--duration-s", "1"];
    // Hardly a message: the fake echoes none.
    let options = [&options[..], &["--rate-per-s", "0.001", "--ramp-per-s", "400"]].concat();
    let (code, report) = common::report_before(&options, &["--", "python3", fake]);
    assert_eq!((code, &report["verdict"]), (1, &json!("incomplete")), "{report:#}");
    assert_all(&report, &[("accept_wrong", 20), ("clients_connected", 20), ("clients_failed", 20)]);
    assert_eq!(report["errors"][0][0], json!("the server's Sec-WebSocket-Accept does not fit the key"));
}

#[test]
fn echoes_come_back_once_and_in_order() {
    let options = ["echo", "--clients", "100", "--threads", "2", "--duration-s", "3", "--rate-per-s", "1000"];
    for size in ["64", "20000"] {
        let sized = [&options[..], &["--payload-bytes", size]].concat();
        let (code, report) = phantoms(&sized, &["--backend", "echo"]);
        assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
        assert!(report["messages_received"].as_u64() > Some(2500), "{report:#}");
        assert_eq!(report["messages_received"], report["messages_sent"], "{report:#}");
    }
}

#[test]
fn chat_is_clean_although_packets_are_lost_reordered_and_doubled() {
    let clients = ["chat", "--clients", "300", "--threads", "2", "--duration-s", "6", "--rate-per-s", "600"];
    let way = ["--loss", "0.01", "--reorder", "0.01", "--duplicate", "0.01", "--payload-bytes", "2000"];
    let (code, report) = phantoms(&[&clients[..], &way].concat(), &[]);
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    let sent = report["messages_sent"].as_u64().unwrap_or_default();
    assert!(sent > 3000, "{report:#}");
    assert_all(
        &report,
        &[
            ("messages_answered", sent),
            ("messages_received", sent),
            ("receipts_missing", 0),
            ("violations", 0),
        ],
    );
    let tcp = &report["tcp"];
    for field in ["retransmits", "out_of_order"] {
        assert!(tcp[field].as_u64() > Some(20), "{field}: the way was not bad: {report:#}");
    }
    assert!(report["network"]["segments_retransmitted"].as_u64() > Some(20), "{report:#}");
    assert!(report["reconnects"].as_u64() > Some(10), "some were offline meanwhile: {report:#}");
}

#[test]
fn after_a_storm_all_are_back() {
    let options =
        ["storm", "--clients", "1500", "--ramp-per-s", "3000", "--threads", "2", "--duration-s", "1"];
    let (code, report) = phantoms(&options, &[]);
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    assert_all(&report["storm"], &[("lost", 1500), ("back", 1500)]);
    assert_all(&report["storm"]["network"], &[("passive_opens", 1500), ("listen_overflows", 0)]);
    assert_all(&report, &[("clients_connected", 1500), ("reconnects", 1500), ("clients_dropped", 0)]);
    assert!(
        report["storm"]["back_s"].as_f64() >= Some(0.4),
        "as fast as the ramp, and no faster: {report:#}"
    );
}

#[test]
fn in_each_round_of_churn_all_come_and_all_leave() {
    let options =
        ["churn", "--rounds", "2", "--clients", "1000", "--ramp-per-s", "4000", "--duration-s", "1"];
    let (code, report) = phantoms(&options, &[]);
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    let rounds = report["rounds"].as_array().expect("rounds");
    assert_eq!(rounds.len(), 2, "{report:#}");
    for round in rounds {
        assert_all(round, &[("connected", 1000), ("left_behind", 0)]);
        for moment in ["held_bytes", "empty_bytes"] {
            assert!(round[moment]["gateway_rss"].as_u64() > Some(0), "{report:#}");
        }
    }
    // They left by close frame and FIN: nothing was reset before the run's end.
    assert_all(&report, &[("reconnects", 1000), ("clients_dropped", 0)]);
    assert_all(&report["network"], &[("established_resets", 0)]);
}

#[test]
fn tshark_finds_nothing_malformed_in_what_phantoms_send() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let pcap = folder.path().join("phantoms.pcap");
    let pcap = pcap.to_str().expect("text");
    let clients = ["chat", "--clients", "300", "--threads", "1", "--duration-s", "4", "--rate-per-s", "300"];
    let way = ["--loss", "0.01", "--reorder", "0.01", "--duplicate", "0.01", "--payload-bytes", "1800"];
    let kept = ["--pcap", pcap, "--pcap-packets", "100000"];
    let (code, report) = phantoms(&[&clients[..], &way, &kept].concat(), &[]);
    assert_eq!(code, 0, "{report:#}");
    let sent = "ip.dst == 198.18.0.1";
    let count = |filter: &str| tshark(pcap, &format!("{sent} && {filter}"));
    // First that there is something to find: each kind of packet.
    for filter in [
        "tcp.flags.syn == 1",
        "tcp.flags.fin == 1",
        "tcp.flags.reset == 1",
        "http.upgrade",
        "websocket.payload",
        "websocket.opcode == 8",
        "tcp.analysis.retransmission",
        "tcp.len == 1460",
    ] {
        assert!(count(filter) > 0, "{filter}: nothing of it was recorded");
    }
    assert!(count("tcp.checksum.status == \"Good\" && ip.checksum.status == \"Good\"") > 1000);
    for filter in [
        "_ws.malformed",
        "tcp.checksum.status != \"Good\"",
        "ip.checksum.status != \"Good\"",
        "_ws.expert.severity == error",
        "tcp.options.mss_val < 500",
        "tcp.analysis.ack_lost_segment && !tcp.analysis.retransmission && tcp.seq == 0",
        "websocket.mask == 0",
    ] {
        assert_eq!(count(filter), 0, "{filter}");
    }
}

/// How many packets a display filter finds, with all checksums verified.
fn tshark(pcap: &str, filter: &str) -> usize {
    // Without the last, what comes behind a hole is taken for the beginning of a frame.
    let verify = [
        "-o",
        "tcp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "tcp.reassemble_out_of_order:TRUE",
    ];
    // The port is the gateway's of phantom runs.
    let decode = ["-d", "tcp.port==9000,http"];
    let mut command = Command::new("tshark");
    let output = command.args(["-r", pcap]).args(verify).args(decode).args(["-Y", filter]).output();
    let output = output.expect("tshark is installed: the README names the packages the tests need");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{filter}: {told}");
    String::from_utf8_lossy(&output.stdout).lines().count()
}
