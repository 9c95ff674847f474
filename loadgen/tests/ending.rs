//! Metrics while a run goes on, and runs that are ended before their time: both reports are whole, and judged on what was done.

mod common;

use common::{Fault, echo_server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use roost_client::harness::Gateway;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const WAIT_MAX: Duration = Duration::from_mins(1);

/// A run that tells its metrics; killed when dropped.
struct Watched {
    child: Child,
    metrics: String,
    folder: TempDir,
}

impl Watched {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_roost-loadgen"));
        let patient = ["--lag-us-max", "60000000", "--quiet", "--metrics", "127.0.0.1:0"];
        command.args(arguments).args(patient).arg("--json").arg(folder.path().join("report.json"));
        command.arg("--html").arg(folder.path().join("report.html"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("built");
        let mut line = String::new();
        BufReader::new(child.stderr.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("roost-loadgen: metrics at http://");
        let metrics = address.and_then(|address| address.strip_suffix("/metrics")).expect(&line).to_owned();
        Self { child, metrics, folder }
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.metrics).ok()?;
        stream.set_read_timeout(Some(WAIT_MAX)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.metrics).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics")?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    fn wait_for(&mut self, name: &str, least: f64) {
        let end = Instant::now() + WAIT_MAX;
        while self.metric(name).is_none_or(|value| value < least) {
            assert!(
                Instant::now() < end && self.child.try_wait().expect("a child").is_none(),
                "{name} < {least}"
            );
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Sends the signal and waits; the exit code and the report.
    fn end(mut self, signal: Signal) -> (i32, Value) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
        let code = self.child.wait().expect("a child").code().expect("not ended by a signal");
        let file = |name: &str| -> PathBuf { self.folder.path().join(name) };
        let report =
            std::fs::read(file("report.json")).unwrap_or_else(|error| panic!("{error}, exit {code}"));
        let page = std::fs::read_to_string(file("report.html")).expect("a page");
        assert!(page.contains("Ended early by SIG") && page.ends_with("</html>"), "{page}");
        (code, serde_json::from_slice(&report).expect("JSON"))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn latency_count(report: &Value) -> u64 {
    let buckets = report["latency_histogram"].as_array().expect("an array");
    buckets.iter().filter_map(|bucket| bucket["count"].as_u64()).sum()
}

#[test]
fn a_scrape_tells_the_run_and_sigterm_ends_it_with_a_whole_report() {
    let url = format!("ws://{}/", echo_server(Fault::None));
    let pid = std::process::id().to_string();
    let base = ["echo", "--url", &url, "--clients", "10", "--rate-per-s", "300", "--duration-s", "600"];
    let mut run = Watched::start(&[&base[..], &["--gateway-pid", &pid]].concat());
    run.wait_for("roost_loadgen_messages_received_total", 200.0);
    run.wait_for("roost_loadgen_latency_seconds_count", 50.0);
    run.wait_for("roost_loadgen_gateway_cpu_cpus", 0.0);
    let text = run.get("/metrics").expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("application/openmetrics-text"), "{text}");
    for (name, kind) in [
        ("roost_loadgen_clients_target", "gauge"),
        ("roost_loadgen_connections_open", "gauge"),
        ("roost_loadgen_messages_sent", "counter"),
        ("roost_loadgen_latency_seconds", "histogram"),
        ("roost_loadgen_generator_lag_seconds", "histogram"),
        ("roost_loadgen_gateway_resident_bytes", "gauge"),
        ("roost_loadgen_gateway_cpu_cpus", "gauge"),
        ("roost_loadgen_client_memory_bytes", "gauge"),
    ] {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} {kind}\n{text}");
    }
    assert!(text.contains("roost_loadgen_clients_connected_total 10\n") && text.contains("# EOF"), "{text}");
    assert!(text.contains("roost_loadgen_latency_seconds_bucket{le=\"+Inf\"} "), "{text}");
    assert!(run.get("/").expect("an answer").starts_with("HTTP/1.1 404"));

    let (code, report) = run.end(Signal::SIGTERM);
    assert_eq!(
        (code, &report["verdict"], &report["ended_early"]["by"]),
        (0, &json!("clean"), &json!("SIGTERM")),
        "{report:#}"
    );
    assert_eq!(report["messages_unanswered"], json!(0));
    assert_eq!(report["messages_received"], report["messages_sent"]);
    assert_eq!(json!(latency_count(&report)), report["latency_us"]["count"]);
    let points = report["timeline"].as_array().expect("an array");
    let counted: u64 = points.iter().filter_map(|point| point["latency_us"]["count"].as_u64()).sum();
    assert_eq!(
        json!(counted),
        report["latency_us"]["count"],
        "each latency stands in one second of the timeline"
    );
    assert!(points.iter().any(|point| point["sent_per_s"].as_f64() > Some(0.0)), "{points:#?}");
    assert!(points.iter().any(|point| point["gateway_cpus"].is_number() && point["phase"] == json!("run")));
    assert!(points.windows(2).all(|pair| pair[0]["at_s"].as_f64() < pair[1]["at_s"].as_f64()));
    assert!(report["command"].as_array().is_some_and(|command| command.contains(&json!("--rate-per-s"))));
}

#[test]
fn a_ramp_that_is_cut_short_fails_nobody() {
    let url = format!("ws://{}/", echo_server(Fault::None));
    let mut run = Watched::start(&["idle", "--url", &url, "--clients", "500", "--ramp-per-s", "20"]);
    run.wait_for("roost_loadgen_clients_connected_total", 5.0);
    let (code, report) = run.end(Signal::SIGINT);
    assert_eq!(
        (code, &report["verdict"], &report["clients_failed"]),
        (0, &json!("clean"), &json!(0)),
        "{report:#}"
    );
    assert_eq!(
        (&report["ended_early"]["phase"], &report["send_rate_per_s"]),
        (&json!("ramp"), &json!(0.0)),
        "{report:#}"
    );
    assert!(
        report["clients_connected"].as_u64() >= Some(5) && report["clients_connected"].as_u64() < Some(500)
    );
}

#[test]
fn chat_that_is_ended_early_still_waits_for_what_is_on_its_way() {
    let gateway = Gateway::start(&[]).expect("the gateway starts");
    let (url, secret) = (format!("ws://{}/v1/ws", gateway.ws), gateway.data().join("secret"));
    let secret = secret.to_str().expect("a temporary folder's name is text");
    let base = ["chat", "--url", &url, "--secret-file", secret, "--clients", "30", "--rate-per-s", "200"];
    let mut run =
        Watched::start(&[&base[..], &["--duration-s", "600", "--drain-s", "60", "--threads", "2"]].concat());
    run.wait_for("roost_loadgen_messages_received_total", 100.0);
    let (code, report) = run.end(Signal::SIGINT);
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    assert_eq!(
        (&report["messages_unanswered"], &report["receipts_missing"]),
        (&json!(0), &json!(0)),
        "{report:#}"
    );
    assert_eq!(report["messages_received"], report["messages_sent"], "{report:#}");
    assert!(report["duration_s"].as_f64() < Some(500.0));
}
