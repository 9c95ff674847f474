//! The preflight: the first limit is named with its end and what lifts it, before anything starts; what fails later is looked for
//! at the right end.

mod common;

use common::{Fault, echo_server, loadgen, report};
use nix::sys::resource::{Resource, getrlimit};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A process that may open few files and does nothing else; a stand-in for a server with such a limit. Killed when dropped.
struct Poor(Child);

impl Poor {
    fn start(files: u32) -> Self {
        let script = format!("ulimit -n {files}; echo ready; read line");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("readable");
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Poor {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = loadgen(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_run_that_fits_shows_both_ends_and_starts_nothing() {
    let pid = std::process::id().to_string();
    // Nothing listens there: a run would fail.
    let arguments =
        ["idle", "--url", "ws://127.0.0.1:1/", "--clients", "5", "--preflight-only", "--gateway-pid", &pid];
    let (code, table, told) = run(&arguments);
    assert_eq!(code, Some(0), "{table} {told}");
    for part in
        ["generator  RLIMIT_NOFILE", "server     RLIMIT_NOFILE", "net.core.somaxconn", "memory available"]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(table.contains("no limit that is known stops this run"), "{table}");
}

#[test]
fn what_cannot_be_read_is_unknown_and_not_guessed() {
    let (code, table, _) = run(&["idle", "--url", "ws://192.0.2.1:1/", "--clients", "5", "--preflight-only"]);
    assert_eq!(code, Some(0), "{table}");
    let server: Vec<&str> = table.lines().filter(|line| line.starts_with("server ")).collect();
    assert_eq!(server.len(), 1, "{table}");
    assert!(server[0].ends_with("unknown") && table.contains("--gateway-pid"), "{table}");
}

#[test]
fn the_end_that_is_short_first_is_named_before_anything_starts() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let poor = Poor::start(200);
    let url = format!("ws://{}/", echo_server(Fault::None));
    // More than the server may open, fewer than the generator may.
    let (code, out, told) = run(&["idle", "--url", &url, "--clients", "500", "--gateway-pid", &poor.pid()]);
    assert_eq!(code, Some(2), "{out} {told}");
    for part in ["RLIMIT_NOFILE at the server's end", "it is 200", &format!("prlimit --pid {}", poor.pid())] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(out.is_empty());
    // More than either may: the server's is met first all the same.
    let clients = (hard + 1).min(1_000_000).to_string();
    let arguments =
        ["idle", "--url", &url, "--clients", &clients, "--gateway-pid", &poor.pid(), "--preflight-only"];
    let (code, table, _) = run(&arguments);
    assert_eq!(code, Some(1), "{table}");
    assert!(table.contains("the first limit is RLIMIT_NOFILE at the server's end"), "{table}");
}

#[test]
fn ports_of_one_address_are_the_generators_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let arguments = ["idle", "--url", "ws://192.0.2.1:1/", "--clients", "900000", "--preflight-only"];
    let (code, table, _) = run(&arguments);
    assert_eq!(code, Some(1), "{table}");
    assert!(table.contains("generator  source addresses") && table.contains("--source-addresses"), "{table}");
    assert!(
        hard > 64_512 || table.contains("the first limit is RLIMIT_NOFILE at the generator's end"),
        "{table}"
    );
}

#[test]
fn a_run_may_be_started_all_the_same_and_its_report_has_what_was_found() {
    let poor = Poor::start(40);
    let url = format!("ws://{}/", echo_server(Fault::None));
    let pid = poor.pid();
    let arguments = ["idle", "--url", &url, "--clients", "50", "--duration-s", "1", "--gateway-pid", &pid];
    let (code, report) = report(&[&arguments[..], &["--ignore-preflight"]].concat());
    // The stand-in is not what is connected to.
    assert_eq!(code, 0, "{report:#}");
    let found = report["preflight"].as_array().expect("a list");
    let files =
        found.iter().find(|finding| finding["end"] == "server" && finding["limit"] == "RLIMIT_NOFILE");
    let files = files.expect("the server's files");
    assert_eq!((&files["status"], &files["stops"]), (&json!("short"), &json!(true)), "{files:#}");
    assert!(files["clients_max"].as_u64() < Some(50) && files["lift"].is_string(), "{files:#}");
}

#[test]
fn ports_that_run_out_are_told_before_the_run() {
    // One port for each of two source addresses, in a namespace of its own, for four clients.
    let script = "echo '40000 40000' > /proc/sys/net/ipv4/ip_local_port_range && exec \"$@\"";
    let arguments = ["idle", "--url", "ws://127.0.0.1:1/", "--clients", "4", "--source-addresses", "2"];
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_roost-loadgen")])
        .args(arguments)
        .output()
        .expect("util-linux is there");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("net.ipv4.ip_local_port_range at the generator's end"), "{told}");
    assert!(told.contains("enough for 2 clients") && told.contains("sysctl -w"), "{told}");
}

#[test]
fn a_failed_connection_is_looked_for_at_the_right_end() {
    let nobody = ["idle", "--url", "ws://127.0.0.1:1/", "--clients", "1", "--ready-s", "1", "--quiet"];
    let (code, _, told) = run(&nobody);
    assert_eq!(code, Some(1));
    assert!(
        told.contains("Connection refused") && told.contains("the server's end: nothing listens"),
        "{told}"
    );
    // The generator's own files run out half-way.
    let url = format!("ws://{}/", echo_server(Fault::None));
    let arguments =
        ["idle", "--url", &url, "--clients", "150", "--ready-s", "1", "--duration-s", "1", "--quiet"];
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 100; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_roost-loadgen")])
        .args(arguments)
        .args(["--ignore-preflight"])
        .output()
        .expect("a shell");
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let error = told.lines().find(|line| line.contains("Too many open files")).expect("the error");
    assert!(error.contains("the generator's end: this process has no open file left"), "{told}");
}
