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
    wait_until(gateway, name, |now| now == value);
}

/// Waits until a sample is as it should be.
pub fn wait_until(gateway: &Gateway, name: &str, is_right: impl Fn(u64) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(ANSWER_S_MAX);
    loop {
        let now = sample(gateway, name);
        if is_right(now) {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is still {now}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The key that every masked frame here is masked with.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A client's frame: `first` is FIN, reserved bits and opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key);
    [header(first, 0x80, payload.len()), MASK.to_vec(), masked.collect()].concat()
}

/// The same without a mask, as no client may send it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [header(first, 0, payload.len()), payload.to_vec()].concat()
}

fn header(first: u8, mask: u8, length: usize) -> Vec<u8> {
    match length {
        0..126 => vec![first, mask + length as u8],
        126..=0xFFFF => [&[first, mask + 126], &(length as u16).to_be_bytes()[..]].concat(),
        _ => [&[first, mask + 127], &(length as u64).to_be_bytes()[..]].concat(),
    }
}

/// A connection that was upgraded at `target`.
pub fn upgraded(gateway: &Gateway, target: &str, more: &str) -> TcpStream {
    let mut stream = connect(gateway.ws);
    stream.write_all(upgrade(target, more).as_bytes()).expect("written");
    let answer = head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    stream
}

/// The server's next frame, its first byte and its payload; `None` at the end of the stream.
pub fn next(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut start = [0; 2];
    if stream.read(&mut start[..1]).expect("a frame, or the end") == 0 {
        return None;
    }
    stream.read_exact(&mut start[1..]).expect("a length");
    assert!(start[1] < 0x80, "a server does not mask (RFC 6455 section 5.1)");
    let extended = match start[1] {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mut length = [0; 8];
    stream.read_exact(&mut length[8 - extended..]).expect("a longer length");
    let length = if extended == 0 { u64::from(start[1]) } else { u64::from_be_bytes(length) };
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).expect("a payload");
    Some((start[0], payload))
}

/// All frames up to the end.
pub fn rest(stream: &mut TcpStream) -> Vec<(u8, Vec<u8>)> {
    std::iter::from_fn(|| next(stream)).collect()
}

/// The code of a Close frame; 1005 where it has none.
pub fn close_code((first, payload): &(u8, Vec<u8>)) -> u16 {
    assert_eq!(*first, 0x88, "a Close frame, not {payload:?}");
    payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
}
