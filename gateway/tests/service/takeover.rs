//! A second process takes over the listening sockets while clients come all the time.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use roost_client::{
    Client, Credentials,
    harness::{Gateway, gateway_binary},
};
use roost_proto::{codec::Encoding, v1::server_frame};

const ALICE: u64 = 1;
const BOB: u64 = 2;
const MESSAGES: u64 = 20;
/// Those who come one after the other, and all the time.
const COMERS: u64 = 4;
const COME_S_MAX: u64 = 60;

/// One exchange: a connection, a request head, the head of the answer.
fn come(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        let mut buffer = [0; 1_024];
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::Error::other(format!("ended after {answer:?}"))),
            bytes => answer.extend_from_slice(&buffer[..bytes]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Comes until `over`; how often, when each was answered as `expected`.
fn come_until(over: &AtomicBool, address: SocketAddr, request: &str, expected: &str) -> u64 {
    let begun = Instant::now();
    let mut times = 0;
    while !over.load(Ordering::Relaxed) {
        assert!(begun.elapsed() < Duration::from_secs(COME_S_MAX), "it does not end");
        let answer =
            come(address, request).unwrap_or_else(|error| panic!("client {times} of {address}: {error}"));
        assert!(answer.starts_with(expected), "client {times} of {address}: {answer}");
        times += 1;
    }
    times
}

fn upgrade(query: &str) -> String {
    format!(
        "GET /v1/ws{query} HTTP/1.1\r\nHost: roost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

fn session(gateway: &Gateway, user: u64) -> Client {
    Client::connect(gateway.ws, Encoding::Proto, &Credentials::Claimed(user, 1)).expect("a session").0
}

/// Takes over while clients come to both addresses; `before` and `after` see the gateway on either side of it.
fn taken_over(arguments: &[&str], before: impl FnOnce(&Gateway), after: impl FnOnce(&mut Gateway)) {
    let mut gateway = Gateway::start(arguments).expect("the gateway starts");
    let (ws, http, over) = (gateway.ws, gateway.http, AtomicBool::new(false));
    before(&gateway);
    std::thread::scope(|scope| {
        let over = &over;
        let mut comers: Vec<_> = (0..COMERS)
            .map(|number| {
                let request = upgrade(&format!("?user={}&device=1", 100 + number));
                scope.spawn(move || come_until(over, ws, &request, "HTTP/1.1 101 "))
            })
            .collect();
        let healthy = "GET /healthz HTTP/1.1\r\nHost: roost\r\n\r\n";
        comers.push(scope.spawn(move || come_until(over, http, healthy, "HTTP/1.1 200 ")));
        for round in 0..2 {
            let pid = gateway.pid();
            let mut old = gateway.take_over().expect("another process takes over");
            assert_ne!(gateway.pid(), pid);
            assert_eq!(old.wait().expect("it ends").code(), Some(0), "round {round}");
            assert_eq!((gateway.ws, gateway.http), (ws, http));
            // Clients are served by the new one.
            come(ws, &upgrade("?user=99&device=1")).expect("an answer");
        }
        over.store(true, Ordering::Relaxed);
        for comer in comers {
            assert!(comer.join().expect("nobody is refused or reset") > 0);
        }
    });
    after(&mut gateway);
    assert_eq!(gateway.terminate().expect("it ends").code(), Some(0));
}

#[test]
fn nobody_is_refused_while_a_new_process_takes_over_and_what_was_accepted_is_there() {
    let auth = ["--auth", "none", "--shards", "2"];
    taken_over(
        &auth,
        |gateway| {
            drop(session(gateway, BOB));
            let mut alice = session(gateway, ALICE);
            for number in 0..MESSAGES {
                alice.say(BOB, &number.to_be_bytes(), b"before").expect("sent");
            }
        },
        |gateway| {
            let mut alice = session(gateway, ALICE);
            alice.say(BOB, b"after", b"after").expect("sent");
            let mut bob = session(gateway, BOB);
            for number in 0..=MESSAGES {
                let expected = if number == MESSAGES { "after" } else { "before" };
                assert_eq!(bob.message().expect("delivered").1.payload, expected.as_bytes());
            }
        },
    );
}

#[test]
fn the_echo_backend_is_taken_over_too() {
    taken_over(&["--backend", "echo", "--shards", "2"], |_| {}, |_| {});
}

#[test]
fn sessions_are_told_to_go_when_another_process_takes_over() {
    let mut gateway = Gateway::start(&["--auth", "none"]).expect("the gateway starts");
    let mut alice = session(&gateway, ALICE);
    let old = gateway.take_over().expect("another process takes over");
    assert!(matches!(alice.receive().expect("a goodbye").body, Some(server_frame::Body::GoAway(_))));
    let end = alice.receive().expect_err("closed").to_string();
    assert!(end.contains("1001"), "{end}");
    drop(old);
    drop(session(&gateway, ALICE));
}

/// What a start with `--takeover` that fails says.
fn refused(gateway: &Gateway, ws: &str, shards: &str, more: &[&str]) -> String {
    let http = gateway.http.to_string();
    // One that is not refused would serve until then.
    let ran = Command::new("timeout")
        .arg(COME_S_MAX.to_string())
        .arg(gateway_binary().expect("built"))
        .args(["--listen", ws, "--http", &http, "--shards", shards, "--takeover", "--data"])
        .arg(gateway.data())
        .args(more)
        .output()
        .expect("run");
    assert_eq!(ran.status.code(), Some(2));
    String::from_utf8_lossy(&ran.stderr).into_owned()
}

#[test]
fn who_asks_and_does_not_take_over_changes_nothing() {
    let mut gateway = Gateway::start(&["--auth", "none", "--shards", "2"]).expect("the gateway starts");
    drop(session(&gateway, BOB));
    let mut alice = session(&gateway, ALICE);
    assert!(refused(&gateway, &gateway.ws.to_string(), "1", &[]).contains("--shards 2 is needed"));
    assert!(refused(&gateway, "127.0.0.1:1", "2", &[]).contains("listens on"));
    let echo = refused(&gateway, &gateway.ws.to_string(), "2", &["--backend", "echo"]);
    assert!(echo.contains("the running gateway has router"), "{echo}");
    // One who takes the sockets and dies.
    let socket = gateway.data().join("takeover.sock");
    let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(20)\ns.connect(sys.argv[1])\n\
                  print(socket.recv_fds(s, 200, 3))";
    let ran = Command::new("python3").args(["-c", script]).arg(&socket).output().expect("python3 is there");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && said.contains("roost-takeover 2 ws=2"), "{ran:?}");
    alice.say(BOB, b"1", b"still here").expect("sent");
    let mode = std::os::unix::fs::PermissionsExt::mode(&socket.metadata().expect("a socket").permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Another user, who would not even reach it: the folder and the socket are opened for the sake of the test.
    if rustix::process::geteuid().is_root() {
        let open = Command::new("chmod").arg("a+rwx").args([gateway.data(), &socket]).status().expect("run");
        assert!(open.success());
        // Debian's own: others may lie in somebody's home.
        let nobody = ["--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-c", script];
        let ran = Command::new("setpriv").args(nobody).arg(&socket).output().expect("setpriv is there");
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(!said.contains("roost-takeover"), "{ran:?}");
        // It is said after the connection has ended.
        let begun = Instant::now();
        while !gateway.said().expect("a log").contains("it is of user 65534") {
            assert!(begun.elapsed() < Duration::from_secs(COME_S_MAX), "{:?} {ran:?}", gateway.said());
            std::thread::yield_now();
        }
    }
    let mut old = gateway.take_over().expect("a good one takes over");
    assert_eq!(old.wait().expect("it ends").code(), Some(0));
    assert!(!gateway.said().expect("a log").contains("defect"));
}

/// Takes over up to a line that the old one says, tells the test, and waits until its stdin is closed; then it is gone.
const GONE_AFTER: &str = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect(sys.argv[1])
while b'\\n' not in s.recv(1):
    pass
kept = [socket.recv_fds(s, 1, 1) for _ in range(3)]
s.sendall(b'go\\n')
heard = b''
while not heard.endswith(sys.argv[2].encode() + b'\\n'):
    heard += s.recv(1)
print('heard', flush=True)
sys.stdin.read()
";

/// A process that says `go`, goes on until it hears a line, and is gone when it is dropped.
struct Failing(std::process::Child);

impl Failing {
    fn until(gateway: &Gateway, line: &str) -> Self {
        let child = Command::new("python3")
            .args(["-c", GONE_AFTER])
            .arg(gateway.data().join("takeover.sock"))
            .arg(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        Self(child)
    }

    fn has_heard(&mut self) {
        let mut heard = [0; 6];
        self.0.stdout.as_mut().expect("piped").read_exact(&mut heard).expect("it hears the line");
        assert_eq!(&heard, b"heard\n");
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("it ends").success());
    }
}

#[test]
fn a_gateway_serves_again_when_the_process_that_was_to_take_over_is_gone_before_it_serves() {
    let mut gateway = Gateway::start(&["--auth", "none", "--shards", "2"]).expect("the gateway starts");
    let pid = gateway.pid();
    drop(session(&gateway, BOB));
    for (round, line) in ["going", "done"].into_iter().enumerate() {
        let mut alice = session(&gateway, ALICE);
        alice.say(BOB, &[round as u8], b"accepted").expect("sent");
        let mut failing = Failing::until(&gateway, line);
        // Sessions are told to go, as in any takeover.
        assert!(matches!(alice.receive().expect("a goodbye").body, Some(server_frame::Body::GoAway(_))));
        drop(alice);
        failing.has_heard();
        drop(failing);
        // Whoever comes meanwhile waits in the queue of the socket.
        drop(session(&gateway, ALICE));
        assert_eq!(gateway.request("GET", "/readyz", "").expect("answered").0, 200);
        let said = gateway.said().expect("a log");
        assert_eq!(said.matches("is gone before it served").count(), round + 1, "{said}");
    }
    let mut bob = session(&gateway, BOB);
    for _ in 0..2 {
        assert_eq!(bob.message().expect("delivered").1.payload, b"accepted"[..]);
    }
    drop(bob);
    let mut old = gateway.take_over().expect("a good one takes over");
    assert_eq!(old.wait().expect("it ends").code(), Some(0));
    assert_ne!(gateway.pid(), pid);
    drop(session(&gateway, ALICE));
    assert!(!gateway.said().expect("a log").contains("defect"));
}

#[test]
fn what_can_be_told_of_a_store_is_told_before_the_old_process_ends_and_damage_by_both() {
    let mut gateway = Gateway::start(&["--auth", "none", "--shards", "2"]).expect("the gateway starts");
    let (ws, store) = (gateway.ws.to_string(), gateway.data().join("store"));
    drop(session(&gateway, BOB));
    let mut alice = session(&gateway, ALICE);
    let ours = fs::read(store.join("format")).expect("a copy of the format's number");
    fs::write(store.join("format"), "99\n").expect("written");
    assert!(refused(&gateway, &ws, "2", &[]).contains("has format 99"));
    fs::write(store.join("format"), ours).expect("written");
    alice.say(BOB, b"1", b"still here").expect("sent");
    drop(alice);
    // Damage shows only when the store is opened; then neither of them can.
    let damage = store.join("99.jnl");
    fs::create_dir(&damage).expect("made");
    assert!(refused(&gateway, &ws, "2", &[]).contains("is damaged"));
    assert_eq!(gateway.wait().expect("it ends").code(), Some(2));
    let said = gateway.said().expect("a log");
    assert!(said.contains("is gone before it served") && said.contains("is damaged"), "{said}");
    // What was accepted is there.
    fs::remove_dir(damage).expect("removed");
    gateway.restart().expect("it starts");
    let mut bob = session(&gateway, BOB);
    assert_eq!(bob.message().expect("delivered").1.payload, b"still here"[..]);
}

#[test]
fn a_gateway_that_was_told_to_end_does_not_serve_again() {
    let mut gateway = Gateway::start(&["--auth", "none", "--shards", "2"]).expect("the gateway starts");
    let mut failing = Failing::until(&gateway, "done");
    failing.has_heard();
    gateway.signal("TERM").expect("signalled");
    assert_eq!(gateway.wait().expect("it ends").code(), Some(0));
    drop(failing);
    assert!(!gateway.said().expect("a log").contains("serve again"));
    // The store opens again.
    gateway.restart().expect("it starts");
    drop(session(&gateway, ALICE));
}

#[test]
fn takeover_without_a_gateway_is_a_plain_start() {
    let gateway = Gateway::start(&["--auth", "none", "--takeover"]).expect("the gateway starts");
    drop(session(&gateway, ALICE));
}
