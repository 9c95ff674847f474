//! Attacks on the real gateway, each beside clients that behave: none of these loses a message, and each attack is ended or slowed by the
//! limit that is there for it, which the gateway counts.

use crate::PATIENT;
use crate::common::{loadgen, report};
use roost_client::harness::Gateway;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// `ASSEMBLY_BYTES_MAX` and `OUTBOXES_BYTES_MAX` of the gateway's limits, and what a turn adds before it looks.
const HELD_BYTES_MAX: u64 = (256 + 32) << 20;
/// `--handshakes-max` of the gateway that has one here; the other attacks have fewer attackers.
const HANDSHAKES_MAX: u64 = 60;

/// The sum of a family's samples.
fn counted(gateway: &Gateway, name: &str) -> u64 {
    let (_, metrics) = gateway.request("GET", "/metrics", "").expect("metrics");
    let samples = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with('{') || rest.starts_with(' ')).then_some(rest.rsplit_once(' ')?.1)
    });
    let values: Vec<u64> = samples.map(|value| value.parse().expect("a number")).collect();
    assert!(!values.is_empty(), "no {name} in {metrics}");
    values.iter().sum()
}

/// A siege of a gateway with these options; the report, and the gateway for its counters.
fn besiege(gateway: &[&str], options: &str) -> (Value, Gateway) {
    let gateway = Gateway::start(&[&["--shards", "1"], gateway].concat()).expect("it starts");
    let (url, pid) = (format!("ws://{}/v1/ws", gateway.ws), gateway.pid().to_string());
    // On a machine that is busy with other tests, attackers of a lower priority would come to nothing.
    let own = "--clients 50 --ramp-per-s 200 --attack-nice 0".split(' ').chain(options.split(' '));
    let own: Vec<&str> = ["siege", "--url", &url, "--gateway-pid", &pid].into_iter().chain(own).collect();
    let over = AtomicBool::new(false);
    let (code, report) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let names = ["roost_assembly_bytes", "roost_outbox_bytes", "roost_handshakes"];
            let mut most = names.map(|name| (name, 0));
            while !over.load(Ordering::Relaxed) {
                most = most.map(|(name, value)| (name, value.max(counted(&gateway, name))));
                thread::park_timeout(Duration::from_millis(50));
            }
            most
        });
        let found = report(&[&own, &PATIENT[..]].concat());
        over.store(true, Ordering::Relaxed);
        let most = watch.join().expect("metrics are served while it is attacked");
        assert!(most[0].1 < HELD_BYTES_MAX && most[1].1 < HELD_BYTES_MAX, "{most:?}");
        assert!(most[2].1 <= HANDSHAKES_MAX, "{most:?}");
        found
    });
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    assert_eq!(report["clients_connected"], json!(50), "{report:#}");
    assert_eq!((&report["clients_dropped"], &report["messages_lost"]), (&json!(0), &json!(0)), "{report:#}");
    assert_eq!(report["messages_received"], report["messages_sent"], "{report:#}");
    (report, gateway)
}

fn attack<'a>(report: &'a Value, name: &str) -> &'a Value {
    let attacks = report["siege"]["attacks"].as_array().expect("a siege");
    attacks.iter().find(|attack| attack["attack"] == name).unwrap_or_else(|| panic!("no {name}: {report:#}"))
}

fn number(attack: &Value, field: &str) -> u64 {
    attack[field].as_u64().unwrap_or_else(|| panic!("{field}: {attack:#}"))
}

/// Of its endings, those of this kind.
fn ended_by(attack: &Value, how: &str) -> u64 {
    let by = attack["ended_by"].as_array().expect("a list");
    by.iter().filter(|end| end[0] == how).map(|end| end[1].as_u64().expect("a number")).sum()
}

#[test]
fn handshakes_that_never_end_are_ended_by_their_time_or_by_their_number() {
    thread::scope(|scope| {
        scope.spawn(|| {
            let options = "--attack slowloris,drip,silent --attackers 90 --duration-s 21";
            let (report, gateway) = besiege(&["--backend", "echo", "--handshakes-max", "60"], options);
            for name in ["slowloris", "drip", "silent"] {
                let attack = attack(&report, name);
                assert!(number(attack, "ended") > 0, "{attack:#}");
            }
            assert!(counted(&gateway, "roost_handshakes_crowded_out_total") > 30);
        });
        let options = "--attack slowloris --attackers 30 --duration-s 24";
        let (report, gateway) = besiege(&["--backend", "echo", "--handshake-s", "1"], options);
        let attack = attack(&report, "slowloris");
        assert!(number(attack, "ended") > 0, "{attack:#}");
        assert!(counted(&gateway, "roost_handshakes_timed_out_total") >= 30);
        assert_eq!(counted(&gateway, "roost_handshakes_crowded_out_total"), 0);
    });
}

#[test]
fn floods_are_slowed_or_ended_and_what_waits_for_them_is_bounded() {
    let kinds = "bytewise,zero-window,flood,flood-unread,ping-flood,fragments";
    let options = format!("--attack {kinds} --attackers 20 --duration-s 26");
    let (report, gateway) = besiege(&["--backend", "echo", "--max-message-bytes", "8192"], &options);
    for name in ["zero-window", "flood-unread", "flood", "ping-flood", "fragments"] {
        let attack = attack(&report, name);
        assert!(number(attack, "sent_bytes") > 100_000, "{attack:#}");
    }
    assert!(number(attack(&report, "zero-window"), "unread") > 0, "{report:#}");
    for name in ["flood", "ping-flood", "bytewise"] {
        let attack = attack(&report, name);
        assert!(number(attack, "received_bytes") > 0 && number(attack, "ended") == 0, "{attack:#}");
    }
    // They are put off for those who send less.
    assert!(counted(&gateway, "roost_reads_put_off_total") > 0);
    let fragments = attack(&report, "fragments");
    assert!(ended_by(fragments, "close 1009") + ended_by(fragments, "RST") > 0, "{fragments:#}");
    assert!(counted(&gateway, "roost_closed_total{code=\"1009\"}") > 0);
}

#[test]
fn those_who_hold_on_to_large_messages_are_closed_before_there_is_no_room() {
    let options = "--attack buffer-hog --attackers 40 --hog-bytes 6000000 --duration-s 20";
    let (report, gateway) = besiege(&["--backend", "echo", "--max-message-bytes", "8000000"], options);
    let attack = attack(&report, "buffer-hog");
    assert!(number(attack, "ended") > 0, "{attack:#}");
    assert!(counted(&gateway, "roost_relieved_total") > 0);
}

#[test]
fn answers_that_are_longer_than_what_they_answer_fill_no_outbox() {
    // What cannot be read, or is too much, is answered with many times its bytes, and nobody reads the answers. Few attackers and a long
    // phase, for each has megabytes of the kernel's buffers to fill first, on a machine that may be slow.
    let options = "--attack flood-unread --attackers 2 --duration-s 30 --auth none";
    let (report, gateway) = besiege(&["--auth", "none"], options);
    let attack = attack(&report, "flood-unread");
    assert_eq!((number(attack, "connections"), number(attack, "ended")), (2, 0), "{attack:#}");
    assert!(counted(&gateway, "roost_paused_total") > 0);
    assert!(counted(&gateway, "roost_rate_limited_total") > 0);
}

#[test]
fn a_siege_that_cannot_be_is_refused_with_its_reason() {
    for (options, reason) in [
        (&["siege", "--duration-s", "5"][..], "a siege with so many attacks has 21 phases"),
        (&["echo", "--attack", "flood"], "--attack and --attackers are for siege, not for echo"),
        (&["siege", "--kind", "phantom", "--gateway-pid", "1"], "siege attacks with kernel sockets"),
        (&["siege", "--attack", "kindness"], "invalid value 'kindness'"),
    ] {
        let output = loadgen(&[options, &["--url", "ws://127.0.0.1:1/"]].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(reason), "{told}");
    }
}
