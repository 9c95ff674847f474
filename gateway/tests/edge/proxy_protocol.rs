//! `--proxy-protocol`: each connection begins with a proxy's header, which tells whose it is.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use roost_client::harness::Gateway;

use super::raw;

const ALICE: u64 = 1001;
const CLIENT: &str = "203.0.113.7:40000";

/// A version 2 header by hand, as the specification draws it.
fn header(command: u8, client: &str) -> Vec<u8> {
    let client: SocketAddr = client.parse().expect("an address");
    let (family, addresses) = match client.ip() {
        std::net::IpAddr::V4(ip) => (0x11, [ip.octets(), [192, 0, 2, 1]].concat()),
        std::net::IpAddr::V6(ip) => (0x21, [ip.octets(), [9; 16]].concat()),
    };
    let ports = [client.port().to_be_bytes(), 9_000_u16.to_be_bytes()].concat();
    let length = ((addresses.len() + ports.len()) as u16).to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, &addresses, &ports].concat()
}

fn gateway(arguments: &[&str]) -> Gateway {
    let arguments = [&["--proxy-protocol", "--shards", "1"], arguments].concat();
    Gateway::start_logging("roost_gateway=debug", &arguments).expect("it starts")
}

fn request(gateway: &Gateway, device: u32) -> Vec<u8> {
    let token = gateway.token(ALICE, device).expect("a token");
    raw::upgrade("/v1/ws", &format!("Authorization: Bearer {token}\r\n")).into_bytes()
}

/// What operators are told of Alice's connections.
fn connections(gateway: &Gateway) -> String {
    let token = fs::read_to_string(gateway.data().join("operator-token")).expect("a token");
    let headers = format!("Authorization: Bearer {}\r\n", token.trim());
    let (status, body) = gateway
        .request_with("GET", &format!("/debug/connections?user={ALICE}"), &headers, "")
        .expect("an answer");
    assert_eq!(status, 200, "{body}");
    body
}

/// Sends `pieces` one by one, and reads the head of the answer.
fn upgraded(gateway: &Gateway, pieces: &[&[u8]]) -> TcpStream {
    let mut stream = raw::connect(gateway.ws);
    for piece in pieces {
        stream.write_all(piece).expect("written");
    }
    let answer = raw::head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    stream
}

#[test]
fn the_client_that_a_proxy_names_is_shown_to_operators_and_forgotten_when_it_goes() {
    let gateway = gateway(&[]);
    let (v4, v6) = (header(0x21, CLIENT), header(0x21, "[2001:db8::7]:443"));
    let heads: Vec<Vec<u8>> = (1..=4).map(|device| request(&gateway, device)).collect();
    let whole = [&v4[..], &heads[0]].concat();
    let bytes: Vec<&[u8]> = v6.chunks(1).chain([&heads[1][..]]).collect();
    let version_1 = b"PROXY TCP4 198.51.100.9 192.0.2.1 5000 9000\r\n";
    let mut streams = vec![
        upgraded(&gateway, &[&whole]),
        upgraded(&gateway, &bytes),
        upgraded(&gateway, &[&version_1[..20], &version_1[20..], &heads[2]]),
        upgraded(&gateway, &[&header(0x20, CLIENT), &heads[3]]),
    ];
    let own = streams[3].local_addr().expect("bound").to_string();
    let told = connections(&gateway);
    for address in [CLIENT, "[2001:db8::7]:443", "198.51.100.9:5000", &own] {
        assert!(told.contains(&format!("\"{address}\"")), "{address} is not in {told}");
    }
    assert_eq!(raw::sample(&gateway, "roost_proxied{shard=\"0\"}"), 3);
    assert!(gateway.said().expect("a log").contains("client=203.0.113.7:40000"));
    streams.clear();
    raw::wait_for(&gateway, "roost_connections{shard=\"0\"}", 0);
    assert_eq!(raw::sample(&gateway, "roost_proxied{shard=\"0\"}"), 0);
}

#[test]
fn whoever_sends_no_valid_header_is_closed_without_an_answer() {
    let gateway = gateway(&[]);
    let upgrade = request(&gateway, 1);
    let mut invalid = header(0x21, CLIENT);
    invalid[12] = 0x31;
    let too_large = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &[0xFF, 0xFF]].concat();
    let bad = [&upgrade[..], &invalid, &too_large, b"PROXY TCP9 203.0.113.7", b"\x16\x03\x01\x02\x00"];
    for (number, bytes) in (1..).zip(bad) {
        let mut stream = raw::connect(gateway.ws);
        stream.write_all(bytes).expect("written");
        let mut answer = Vec::new();
        // What it did not read makes the end a reset.
        let end = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{end:?}: {}", answer.escape_ascii());
        assert_eq!(raw::sample(&gateway, "roost_proxy_headers_refused_total{shard=\"0\"}"), number);
    }
    // A header is taken once: what follows the first belongs to the client.
    let twice = [header(0x21, CLIENT), header(0x21, CLIENT), upgrade].concat();
    let mut stream = raw::connect(gateway.ws);
    stream.write_all(&twice).expect("written");
    assert!(raw::head(&mut stream).starts_with("HTTP/1.1 400 "));
}

/// The header belongs to the handshake, and so does its time.
#[test]
fn a_header_that_never_ends_has_the_time_of_the_handshake() {
    let gateway = gateway(&[]);
    let mut stream = raw::connect(gateway.ws);
    stream.write_all(&header(0x21, CLIENT)[..20]).expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the end, before this test gives up");
    assert!(answer.is_empty(), "{}", answer.escape_ascii());
    assert_eq!(raw::sample(&gateway, "roost_handshakes_timed_out_total{shard=\"0\"}"), 1);
}

#[test]
fn a_client_that_is_turned_away_hears_so_behind_a_proxy_too() {
    let gateway = gateway(&["--max-connections", "1"]);
    let _inside = upgraded(&gateway, &[&header(0x21, CLIENT), &request(&gateway, 1)]);
    let mut stream = raw::connect(gateway.ws);
    stream.write_all(&header(0x21, CLIENT)).expect("written");
    stream.write_all(&request(&gateway, 2)).expect("written");
    assert!(raw::head(&mut stream).starts_with("HTTP/1.1 503 "));
}

#[test]
fn the_http_service_takes_the_header_where_it_is_told_to() {
    let gateway = Gateway::start(&["--http-proxy-protocol"]).expect("it starts");
    let get = b"GET /healthz HTTP/1.1\r\nHost: roost\r\nConnection: close\r\n\r\n";
    let mut stream = raw::connect(gateway.http);
    stream.write_all(&[&header(0x21, CLIENT)[..], get].concat()).expect("written");
    assert!(raw::head(&mut stream).starts_with("HTTP/1.1 200 "));
    let mut stream = raw::connect(gateway.http);
    stream.write_all(get).expect("written");
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{end:?}: {}", answer.escape_ascii());
}
