//! A WebSocket client by hand, for what no library sends, and a few words about the gateway's metrics.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use roost_client::harness::Gateway;

/// So long an answer is waited for.
pub const ANSWER_S_MAX: u64 = 20;

/// Connected, and never waiting for ever.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_S_MAX))).expect("set");
    stream.set_nodelay(true).expect("set");
    stream
}

/// A valid request for an upgrade at `target`, with more header lines, each ended by CR LF.
pub fn upgrade(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: roost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// Reads an HTTP head up to its empty line, or what there is before the end.
pub fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("an answer, or the end") == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("ASCII")
}

/// What one request is answered, up to the end of the head.
pub fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("written");
    head(&mut stream)
}

/// The value of a sample, named with its labels.
pub fn sample(gateway: &Gateway, name: &str) -> u64 {
    let (_, metrics) = gateway.request("GET", "/metrics", "").expect("metrics");
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

/// Waits until a sample has a value.
pub fn wait_for(gateway: &Gateway, name: &str, value: u64) {
    let deadline = Instant::now() + Duration::from_secs(ANSWER_S_MAX);
    while sample(gateway, name) != value {
        assert!(Instant::now() < deadline, "{name} is {}, not {value}", sample(gateway, name));
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
