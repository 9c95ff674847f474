//! Bad usage ends with 2 and one line that names the flag; what this version does not have is said so.

mod common;

use common::loadgen;

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
    for scenario in ["group", "storm", "churn", "slow", "mix"] {
        refused(&[&[scenario], &URL[..]].concat(), &format!("does not have the scenario '{scenario}'"));
    }
    refused(&[&["echo", "--kind", "phantom"], &URL[..]].concat(), "does not have --kind phantom");
    refused(&[&["echo", "--html", "x.html"], &URL[..]].concat(), "does not have --html");
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
        (&["chat"], "--secret-file"),
        (&["chat", "--secret-file", "/nonexistent"], "/nonexistent"),
        (&["chat", "--auth", "none", "--clients", "1"], "--clients"),
        (&["chat", "--auth", "none", "--offline-share", "2"], "--offline-share"),
        (&["chat", "--auth", "none", "--rate-per-s", "0"], "closed loop"),
        (&["idle", "--frobnicate"], "--frobnicate"),
    ] {
        refused(&[arguments, &URL[..]].concat(), reason);
    }
    refused(&["echo", "--url", "wss://127.0.0.1/"], "TLS");
    refused(&["dance", "--url", "ws://127.0.0.1/"], "dance");
    refused(&[], "--url");
}

#[test]
fn help_names_the_exit_codes() {
    let output = loadgen(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for text in ["97", "98", "99", "--fail-if", "--secret-file"] {
        assert!(help.contains(text), "{text}");
    }
}
