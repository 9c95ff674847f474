//! `roost-loadgen diff`: what changed, what is better, what speaks against comparing, and reports of other versions.

mod common;

use common::loadgen;
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

/// Reports in a folder, and the answer of `diff` to two of them.
struct Reports(TempDir);

impl Reports {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("written");
        path.to_str().expect("text").to_owned()
    }

    fn diff(&self, before: &Value, after: &Value, more: &[&str]) -> String {
        let files = [self.file("a.json", &before.to_string()), self.file("b.json", &after.to_string())];
        let output = loadgen(&[&["diff", &files[0], &files[1]], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

fn report() -> Value {
    json!({
        "scenario": "echo", "kind": "kernel", "seed": 1, "version": "0.1.0", "clients_target": 100, "closed_loop": false,
        "verdict": "clean", "messages_sent": 1000, "send_rate_per_s": 100.0, "messages_lost": 0, "generator_saturated": false,
        "latency_us": {"p50": 200, "p99": 1000, "max": 5000}, "gateway_cpu_s": null, "ended_early": null,
        "memory_bytes_per_client": {"total": 5000.5},
        "command": ["roost-loadgen", "echo", "--url", "ws://a/", "--clients", "100", "--quiet", "--rate-per-s=100"],
        "host": {"kernel": "6.18", "cpus": 2, "memory_bytes": 1000}, "sockets": {"strange": 4}
    })
}

fn line<'a>(told: &'a str, name: &str) -> &'a str {
    told.lines().find(|line| line.starts_with(name)).unwrap_or_default()
}

#[test]
fn each_field_that_matters_has_a_ratio_and_says_which_is_better() {
    let mut after = report();
    after["latency_us"] = json!({"p50": 201, "p99": 1500, "max": 2500});
    (after["messages_lost"], after["send_rate_per_s"]) = (json!(1), json!(120.5));
    (after["gateway_cpu_s"], after["messages_sent"]) = (json!(2.5), json!(1205));
    let told = Reports::new().diff(&report(), &after, &[]);
    for (name, expected) in [
        ("latency_us.p50", vec!["200", "201", "1.005"]),
        ("latency_us.p99", vec!["1000", "1500", "1.500", "worse"]),
        ("latency_us.max", vec!["5000", "2500", "0.500", "better"]),
        ("send_rate_per_s", vec!["100", "120.500", "1.205", "better"]),
        ("messages_lost", vec!["0", "1", "worse"]),
        ("gateway_cpu_s", vec!["-", "2.500"]),
        ("memory_bytes_per_client.total", vec!["5000", "5000", "1.000"]),
    ] {
        let words: Vec<_> = line(&told, name).split_whitespace().skip(1).collect();
        assert_eq!(words, expected, "{name}\n{told}");
    }
    assert!(!told.contains("not the same") && !told.contains("does not have"), "{told}");
    assert!(!told.contains("strange"), "{told}");
    let all = Reports::new().diff(&report(), &after, &["--all"]);
    assert_eq!(line(&all, "sockets.strange").split_whitespace().last(), Some("1.000"), "{all}");
    let widths: Vec<_> =
        all.lines().filter(|line| line.contains("latency_us.p")).map(|line| line.find("1.")).collect();
    assert!(widths.len() == 2, "{all}");
}

#[test]
fn what_speaks_against_comparing_is_told() {
    let mut after = report();
    (after["seed"], after["host"]["cpus"], after["generator_saturated"]) = (json!(2), json!(64), json!(true));
    after["ended_early"] = json!({"by": "q"});
    after["command"] =
        json!(["roost-loadgen", "echo", "--url", "ws://b/", "--clients", "200", "--rate-per-s", "100"]);
    let told = Reports::new().diff(&report(), &after, &[]);
    for warning in [
        "not the same: seed is 1 in A and 2 in B",
        "not the same: host.cpus is 2 in A and 64 in B",
        "not the same: only A ran with --clients 100\n",
        "not the same: only B ran with --clients 200\n",
        "not the same: the generator of B was saturated",
        "not the same: B was ended early",
    ] {
        assert!(told.contains(warning), "{warning}\n{told}");
    }
    assert_eq!(told.matches("not the same").count(), 6, "{told}");
}

#[test]
fn reports_of_another_version_are_compared_as_far_as_they_go() {
    let old = json!({"scenario": "echo", "version": "0.0.9", "latency_us": {"p99": 900}, "seed": 1});
    let told = Reports::new().diff(&old, &report(), &[]);
    assert!(
        told.contains("version is 0.0.9 in A and 0.1.0 in B") && told.contains("kind is not told in A"),
        "{told}"
    );
    assert!(
        line(&told, "A does not have").contains("messages_lost, latency_us.p50, latency_us.max"),
        "{told}"
    );
    assert!(line(&told, "latency_us.p99").contains("1.111  worse"), "{told}");
    let strange = json!({"scenario": 7, "latency_us": [], "command": {"x": 1}, "host": "no"});
    assert!(Reports::new().diff(&strange, &strange, &[]).contains("neither has a figure"));
}

#[test]
fn what_is_no_report_is_refused() {
    let reports = Reports::new();
    let good = reports.file("good.json", &report().to_string());
    for (name, content, reason) in [
        ("list.json", "[]", "no field 'scenario'"),
        ("broken.json", "{", "not a report"),
        ("deep.json", &"[".repeat(100_000), "not a report"),
    ] {
        let output = loadgen(&["diff", &good, &reports.file(name, content)]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(reason) && told.contains(name), "{told}");
    }
    assert_eq!(loadgen(&["diff", &good]).status.code(), Some(2));
    assert_eq!(loadgen(&["diff", &good, "/no/such/file"]).status.code(), Some(2));
}
