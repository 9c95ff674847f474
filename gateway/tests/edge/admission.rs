//! A machine near its limits: nobody new is let in, those inside live on.

use std::{fs, path::Path};

use roost_client::{harness::Gateway, send_to};
use roost_gateway::limits;
use roost_proto::codec::Encoding;

use super::raw;

const ALICE: u64 = 1001;
const BOB: u64 = 1002;
const CLOSED: &str = "roost_admission_closed{reason=\"memory_stall\"}";

/// As the kernel writes `/proc/pressure/memory`; put in its place whole, because it is read at any time.
pub fn pressure(root: &Path, percent: u32) {
    let folder = root.join("proc/pressure");
    fs::create_dir_all(&folder).expect("a folder");
    let text = format!(
        "some avg10={percent}.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
    );
    fs::write(folder.join("new"), text).expect("written");
    fs::rename(folder.join("new"), folder.join("memory")).expect("renamed");
}

#[test]
fn whoever_measures_can_have_everybody_let_in() {
    let root = tempfile::tempdir().expect("a folder");
    pressure(root.path(), 100);
    let root = root.path().to_str().expect("UTF-8");
    let echo = ["--backend", "echo", "--system-root", root];
    let always = Gateway::start(&[&echo[..], &["--always-admit"]].concat()).expect("it starts");
    // One that looks has looked by the time another has closed.
    let other = Gateway::start(&echo).expect("it starts");
    raw::wait_for(&other, CLOSED, 1);
    assert_eq!(raw::sample(&always, CLOSED), 0);
    raw::upgraded(&always, "/any", "");
}

#[test]
fn under_pressure_new_clients_get_503_and_those_inside_live_on() {
    let root = tempfile::tempdir().expect("a folder");
    pressure(root.path(), 0);
    let gateway =
        Gateway::start(&["--system-root", root.path().to_str().expect("UTF-8")]).expect("it starts");
    let (mut alice, _) = gateway.connect(ALICE, 1, Encoding::Proto).expect("a session");
    let (mut bob, _) = gateway.connect(BOB, 1, Encoding::Json).expect("a session");
    let bearer = format!("Authorization: Bearer {}\r\n", gateway.token(BOB, 2).expect("a token"));
    let request = raw::upgrade("/v1/ws", &bearer);

    let most = fs::read_to_string("/proc/sys/net/core/somaxconn").expect("a sysctl");
    let most = most.trim().parse::<u64>().expect("a number").min(limits::LISTEN_BACKLOG as u64);
    raw::wait_for(&gateway, "roost_listen_backlog_max{shard=\"0\"}", most);

    pressure(root.path(), limits::ADMISSION_STALL_PERCENT.0);
    raw::wait_for(&gateway, CLOSED, 1);
    for _ in 0..3 {
        let refused = raw::ask(gateway.ws, &request);
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        let seconds = refused.lines().find_map(|line| line.strip_prefix("Retry-After: ")).expect("a time");
        let (least, most) = limits::REFUSED_RETRY_S;
        assert!((least..=most).contains(&seconds.parse().expect("seconds")), "{refused}");
    }
    assert_eq!(raw::sample(&gateway, "roost_not_admitted_total{reason=\"memory_stall\"}"), 3);
    assert_eq!(raw::sample(&gateway, "roost_not_admitted_total{reason=\"connections_max\"}"), 0);
    for n in 0..10 {
        let id = alice.ask(send_to(BOB, &[n + 1], b"still here")).expect("sent");
        alice.answer(id).expect("answered");
        assert_eq!(bob.message().expect("delivered").1.payload, b"still here"[..]);
    }

    pressure(root.path(), limits::ADMISSION_STALL_PERCENT.1 - 1);
    raw::wait_for(&gateway, CLOSED, 0);
    let taken = raw::ask(gateway.ws, &request);
    assert!(taken.starts_with("HTTP/1.1 101 "), "{taken}");
    let said = gateway.said().expect("a log");
    assert_eq!(
        said.matches("new upgrades are refused with 503 because of memory_stall").count(),
        1,
        "{said}"
    );
    assert_eq!(said.matches("; 3 were refused").count(), 1, "{said}");
}
