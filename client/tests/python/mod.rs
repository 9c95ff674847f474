//! The page's Python program, with Debian's Python, against a real gateway that is killed now and then.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use roost_client::harness::Gateway;
use tempfile::TempDir;

use crate::page;

const PYTHON: &str = "/usr/bin/python3";
/// A reconnecting program may pause a few times before it finds a gateway that was started anew.
const LINE_S_MAX: u64 = 60;

const ALICE: &str = "1001";
const BOB: &str = "1002";

/// A run of the program; killed when dropped.
struct Program {
    child: Child,
    lines: Receiver<String>,
    folder: TempDir,
}

impl Program {
    fn start(gateway: &Gateway, arguments: &[&str]) -> Self {
        require_websockets();
        let folder = TempDir::new().expect("a folder");
        let script = folder.path().join("roost.py");
        fs::write(&script, page::program()).expect("written");
        let mut child = Command::new(PYTHON)
            .args(["-W", "error"])
            .arg(&script)
            .args(arguments)
            .env("ROOST_HTTP", format!("http://{}", gateway.http))
            .env("ROOST_WS", format!("ws://{}/v1/ws", gateway.ws))
            .env("ROOST_PASSWORD", "correct horse")
            .env_remove("http_proxy")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("stderr")).expect("a file"))
            .spawn()
            .expect("Python runs");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // Ends with the program, or when nobody listens any more.
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, folder }
    }

    /// The next line it prints is this.
    fn expect(&self, line: &str) {
        match self.lines.recv_timeout(Duration::from_secs(LINE_S_MAX)) {
            Ok(got) => assert_eq!(got, line, "{}", self.stderr()),
            Err(error) => panic!("{line:?} was expected: {error}; it said on stderr: {}", self.stderr()),
        }
    }

    /// It ends by itself, content, and prints nothing more.
    fn expect_end(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(LINE_S_MAX);
        match self.lines.recv_timeout(Duration::from_secs(LINE_S_MAX)) {
            Ok(line) => panic!("one line too many: {line}"),
            Err(error) => assert!(Instant::now() < deadline, "it does not end: {error}"),
        }
        let status = self.child.wait().expect("it ended");
        assert!(status.success(), "{status}: {}", self.stderr());
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already; nothing is to be done about a failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn require_websockets() {
    let output = Command::new(PYTHON).args(["-c", "import websockets"]).output();
    let output = output
        .unwrap_or_else(|error| panic!("{PYTHON}: {error}; run: apt-get install python3 python3-websockets"));
    assert!(
        output.status.success(),
        "Python's websockets is missing; run: apt-get install python3-websockets\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The user has an account without having been connected.
fn sign_up(gateway: &Gateway, user: &str) {
    let body = format!("{{\"user\":\"{user}\",\"password\":\"correct horse\"}}");
    assert_eq!(gateway.request("POST", "/v1/users", &body).expect("answered").0, 201);
}

#[test]
fn the_program_logs_in_sends_and_receives() {
    let gateway = Gateway::start(&[]).expect("the gateway starts");
    sign_up(&gateway, BOB);
    let bob = Program::start(&gateway, &[BOB]);
    let mut alice = Program::start(&gateway, &[ALICE, BOB, "hello, Bob \u{1F44B}"]);
    bob.expect("1001: hello, Bob \u{1F44B}");
    for line in ["sent", "delivered by 1002", "read by 1002"] {
        alice.expect(line);
    }
    alice.expect_end();
}

#[test]
fn what_one_run_leaves_the_next_finds_although_the_gateway_was_killed() {
    let mut gateway = Gateway::start(&[]).expect("the gateway starts");
    sign_up(&gateway, BOB);
    let alice = Program::start(&gateway, &[ALICE, BOB, "keep this"]);
    alice.expect("sent");
    drop(alice);
    gateway.kill().expect("killed");
    gateway.restart().expect("started again");

    let bob = Program::start(&gateway, &[BOB]);
    bob.expect("1001: keep this");
    let alice = Program::start(&gateway, &[ALICE]);
    alice.expect("delivered by 1002");
    alice.expect("read by 1002");
}

#[test]
fn a_run_outlives_a_killed_gateway_by_reconnecting() {
    let mut gateway = Gateway::start(&[]).expect("the gateway starts");
    sign_up(&gateway, BOB);
    let mut alice = Program::start(&gateway, &[ALICE, BOB, "through thick and thin"]);
    alice.expect("sent");
    gateway.kill().expect("killed");
    gateway.restart().expect("started again");
    let bob = Program::start(&gateway, &[BOB]);
    bob.expect("1001: through thick and thin");
    alice.expect("delivered by 1002");
    alice.expect("read by 1002");
    alice.expect_end();
}

#[test]
fn an_unknown_receiver_is_said_in_one_line() {
    let gateway = Gateway::start(&[]).expect("the gateway starts");
    let mut alice = Program::start(&gateway, &[ALICE, "1003", "anybody?"]);
    assert_eq!(alice.child.wait().expect("it ended").code(), Some(1));
    assert_eq!(alice.stderr(), "refused: there is no user 1003\n");
}
