//! Bad usage ends with 2 and one line that names the flag; what this version does not have is said so.

mod common;

use common::{Fault, echo_server, loadgen};
use roost_loadgen::payload::HEADER_BYTES;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::thread;

const URL: [&str; 2] = ["--url", "ws://127.0.0.1:1/"];

fn refused(arguments: &[&str], reason: &str) {
    let output = loadgen(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(told.contains(reason), "{arguments:?}: {told}");
    assert!(output.stdout.is_empty());
}

#[test]
fn what_this_version_does_not_have_is_refused_in_one_line() {
    refused(
        &[&["chat", "--mix", "x.toml"], &URL[..]].concat(),
        "--mix is for the scenario mix, not for chat",
    );
    refused(&[&["halfopen"], &URL[..]].concat(), "halfopen needs --kind phantom");
    for (scenario, flag) in [("slow", "--slow-share"), ("handshake-drip", "--drip-share")] {
        refused(
            &[&[scenario, flag, "0.95"], &URL[..]].concat(),
            &format!("{flag} must be 0 to 0.9, not 0.95"),
        );
    }
}

#[test]
fn bad_usage_is_refused_before_anything_starts() {
    for (arguments, reason) in [
        (&["echo", "--clients", "0"][..], "--clients"),
        (&["echo", "--clients", "900000"], "hard limit"),
        (&["echo", "--rate-per-s", "-1"], "--rate-per-s"),
        (&["echo", "--rate-per-s", "1e8", "--duration-s", "1000"], "lower --rate-per-s"),
        (&["echo", "--payload-bytes", "3"], "--payload-bytes"),
        (&["echo", "--fail-if", "latency.p99 > 1"], "no field 'latency.p99'"),
        (&["echo", "--fail-if", "messages_lost"], "comparison is missing"),
        (&["echo", "--gateway-pid", "999999999"], "no such process"),
        (&["echo", "--html", "/no/such/folder/x.html"], "--html /no/such/folder/x.html: there is no folder"),
        (&["echo", "--json", "/no/such/folder/x.json"], "--json /no/such/folder/x.json: there is no folder"),
        (&["echo", "--metrics", "192.0.2.1:0"], "--metrics 192.0.2.1:0: "),
        (&["chat"], "--secret-file"),
        (
            &["chat", "--quiet", "--ready-s", "1", "--secret-file", "/nonexistent"],
            "/nonexistent is not there",
        ),
        (&["chat", "--secret-file", "/"], "cannot read --secret-file /"),
        (&["chat", "--auth", "none", "--clients", "1"], "--clients"),
        (&["chat", "--auth", "none", "--offline-share", "2"], "--offline-share"),
        (&["chat", "--auth", "none", "--rate-per-s", "0"], "closed loop"),
        (&["idle", "--frobnicate"], "--frobnicate"),
    ] {
        refused(&[arguments, &URL[..]].concat(), reason);
    }
    refused(&["echo", "--url", "wss://127.0.0.1/"], "TLS");
    refused(&["dance", "--url", "ws://127.0.0.1/"], "dance");
    refused(&["idle"], "--url");
}

#[test]
fn what_belongs_to_the_other_kind_of_clients_is_refused() {
    let phantom = ["idle", "--kind", "phantom"];
    for (arguments, reason) in [
        (&["idle", "--", "roost-gateway"][..], "--kind phantom"),
        (&["idle", "--url", "ws://127.0.0.1:1/", "--pcap", "x.pcap"], "--pcap"),
        (&["idle", "--url", "ws://127.0.0.1:1/", "--clients", "1000001"], "--kind kernel"),
        (&phantom, "-- roost-gateway"),
        (&["idle", "--kind", "phantom", "--url", "ws://198.18.0.1:1/"], "--gateway-pid"),
        (&["idle", "--kind", "phantom", "--gateway-pid", "1"], "--url"),
        (&["idle", "--kind", "phantom", "--gateway-pid", "1", "--", "roost-gateway"], "not both"),
    ] {
        refused(arguments, reason);
    }
}

#[test]
fn help_names_the_exit_codes() {
    let output = loadgen(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for text in ["97", "98", "99", "--fail-if", "--secret-file"] {
        assert!(help.contains(text), "{text}");
    }
    assert!(!help.contains("(not in this version)"), "{help}");
    assert!(help.contains(&format!("at least {HEADER_BYTES}")), "{help}");
}

/// The gateway makes its secret when it starts for the first time, and both may be started at once.
#[test]
fn a_secret_file_that_comes_later_is_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (draft, secret) = (folder.path().join("draft"), folder.path().join("secret"));
    let url = format!("ws://{}/", echo_server(Fault::None));
    let path = secret.to_str().expect("text");
    let mut run = Command::new(env!("CARGO_BIN_EXE_roost-loadgen"))
        .args(["echo", "--url", &url, "--clients", "2", "--duration-s", "1", "--secret-file", path])
        .args(["--lag-us-max", "5000000", "--ready-s", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("roost-loadgen was built with this test");
    let mut told = BufReader::new(run.stderr.take().expect("piped"));
    let writer = thread::spawn(move || {
        let mut line = String::new();
        told.read_line(&mut line).expect("readable");
        fs::write(&draft, "a secret of thirty-two characters\n").expect("written");
        fs::rename(&draft, &secret).expect("renamed");
        told.read_to_string(&mut String::new()).expect("readable");
        line
    });
    let code = run.wait().expect("waited for").code();
    let line = writer.join().expect("no panic");
    assert!(line.contains("waiting for --secret-file"), "{line}");
    assert_eq!(code, Some(0));
}

#[test]
fn two_reports_are_compared_and_what_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("a.json"), r#"{"scenario": "echo", "latency_us": {"p99": 200}, "messages_sent": 10}"#)
        .unwrap();
    fs::write(path("b.json"), r#"{"scenario": "echo", "latency_us": {"p99": 300}, "violations": 1}"#)
        .unwrap();
    fs::write(path("c.json"), "[]").unwrap();
    let output = loadgen(&["diff", &path("a.json"), &path("b.json")]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let line = |name: &str| told.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(line("latency_us.p99").ends_with("1.500  worse"), "{told}");
    assert!(line("messages_sent").contains(" 10 ") && line("violations").contains(" 1"), "{told}");
    refused(&["diff", &path("a.json"), &path("c.json")], "not a report");
    refused(&["diff", &path("a.json"), &path("none.json")], "none.json");
    refused(&["diff", &path("a.json")], "B.json");
}
