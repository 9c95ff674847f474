//! What systemd hears (`NOTIFY_SOCKET`) and gives (`LISTEN_FDS`).

use std::{os::unix::net::UnixDatagram, process::Command, time::Duration};

use roost_client::harness::{Gateway, gateway_binary};
use roost_proto::codec::Encoding;

const HEARD_S_MAX: u64 = 60;
const MESSAGES_MAX: usize = 10_000;

/// Hears until a message has this line; all lines that came, in order.
fn hear_until(socket: &UnixDatagram, line: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..MESSAGES_MAX {
        let mut message = [0; 1_024];
        let bytes =
            socket.recv(&mut message).unwrap_or_else(|error| panic!("no {line} but {lines:?}: {error}"));
        let text = String::from_utf8_lossy(&message[..bytes]).into_owned();
        lines.extend(text.lines().map(str::to_owned));
        if text.lines().any(|said| said.starts_with(line)) {
            return lines;
        }
    }
    panic!("no {line} among {MESSAGES_MAX} messages");
}

#[test]
fn systemd_hears_that_it_is_ready_lives_stops_and_takes_its_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(HEARD_S_MAX))).expect("set");
    let mut program = Command::new(gateway_binary().expect("built"));
    program.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
    let mut gateway = Gateway::start_by(program, &["--shards", "2"]).expect("it starts");
    let said = hear_until(&socket, "READY=1");
    // Opening a large store may take longer than the manager waits.
    assert_eq!(said[..2], ["STATUS=opening the store", "EXTEND_TIMEOUT_USEC=30000000"], "{said:?}");
    let serves = hear_until(&socket, "WATCHDOG=1");
    assert!(said.iter().chain(&serves).any(|line| line.starts_with("STATUS=serves ws=127.0.0.1:")));
    hear_until(&socket, "WATCHDOG=1");
    // Half of a request head keeps the drain from being over at once.
    let mut slow = std::net::TcpStream::connect(gateway.ws).expect("connected");
    std::io::Write::write_all(&mut slow, b"GET /v1/ws HT").expect("written");
    gateway.connect(1, 1, Encoding::Json).expect("a session, so the one before it was accepted");
    gateway.signal("TERM").expect("signalled");
    hear_until(&socket, "STOPPING=1");
    let more = hear_until(&socket, "EXTEND_TIMEOUT_USEC=30000000");
    assert!(more.iter().any(|line| line.starts_with("STATUS=draining: ")), "{more:?}");
    drop(slow);
    let last = hear_until(&socket, "STATUS=drained");
    assert!(!last.iter().any(|line| line == "READY=1"), "{last:?}");
    assert_eq!(gateway.wait().expect("it ends").code(), Some(0));
}

/// Opens sockets as systemd would, by name and address, and becomes the gateway.
const ACTIVATE: &str = "
import os, socket, sys
gateway, names = sys.argv[1], sys.argv[2].split(':')
sockets, ports = [], {}
for name in names:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(('127.0.0.2', ports.get(name, 0)))
    ports[name] = s.getsockname()[1]
    s.listen()
    sockets.append(s)
high = [os.dup2(s.fileno(), 100 + at) for at, s in enumerate(sockets)]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
os.closerange(3 + len(high), 200)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=sys.argv[2])
os.execv(gateway, [gateway] + sys.argv[3:])
";

fn activated(names: &str) -> Command {
    let mut program = Command::new("python3");
    program.args(["-c", ACTIVATE]).arg(gateway_binary().expect("built")).arg(names);
    program
}

#[test]
fn sockets_of_systemd_are_served_by_all_shards() {
    // A socket for each shard, one for several, and one whose HTTP is our own.
    for (names, shards, http) in
        [("ws:ws:http", "2", "127.0.0.2"), ("ws:http", "3", "127.0.0.2"), ("ws", "1", "127.0.0.1")]
    {
        let mut gateway = Gateway::start_by(activated(names), &["--shards", shards]).expect("it starts");
        assert_eq!(
            (gateway.ws.ip().to_string(), gateway.http.ip().to_string()),
            ("127.0.0.2".into(), http.into())
        );
        let sessions: Vec<_> =
            (1..=20).map(|user| gateway.connect(user, 1, Encoding::Proto).expect("a session")).collect();
        assert_eq!(gateway.request("GET", "/readyz", "").expect("answered").0, 200);
        drop(sessions);
        assert_eq!(gateway.terminate().expect("it ends").code(), Some(0), "{names}");
    }
}

#[test]
fn sockets_of_systemd_that_do_not_fit_are_refused_with_what_to_change() {
    for (names, shards, said) in [
        ("ws:chat", "2", "FileDescriptorName= must be ws or http"),
        ("ws:ws:ws", "2", "--shards 3 is needed"),
        ("ws:http:http", "2", "one is needed"),
    ] {
        let error =
            Gateway::start_by(activated(names), &["--shards", shards]).expect_err("refused").to_string();
        assert!(error.contains(said) && error.contains("exit status: 2"), "{names}: {error}");
    }
}
