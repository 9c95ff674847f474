//! What peers and operators get wrong: each gets the answer the contract names, and the rest lives on.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use roost_client::{
    Client, Credentials,
    harness::{Gateway, gateway_binary},
    send_to,
};
use roost_proto::{
    codec::Encoding,
    v1::{self, Code, client_frame, server_frame},
};
use tungstenite::Message;

const ALICE: u64 = 1001;
const BOB: u64 = 1002;

fn gateway(arguments: &[&str]) -> Gateway {
    Gateway::start(arguments).expect("the gateway starts")
}

/// A heartbeat is answered: the session lives.
fn assert_alive(client: &mut Client) {
    client.send(&v1::ClientFrame { id: 4_000_000, ..Default::default() }).expect("sent");
    client.answer(4_000_000).expect("the session lives");
}

fn error_of(frame: &v1::ServerFrame) -> (Code, &str) {
    match &frame.body {
        Some(server_frame::Body::Error(error)) => {
            (error.code.as_known().expect("a known code"), &error.message)
        }
        other => panic!("not an Error but {other:?}"),
    }
}

#[test]
fn broken_frames_end_their_connection_with_the_close_code_of_the_rfc() {
    let gateway = gateway(&[]);
    let mask = [0; 4];
    let with_mask = |head: &[u8], payload: &[u8]| [head, &mask, payload].concat();
    let cases: &[(&str, Vec<u8>, Encoding, &str)] = &[
        ("unmasked", vec![0x81, 1, b'a'], Encoding::Json, "1002"),
        ("reserved bit", with_mask(&[0xC1, 0x80], b""), Encoding::Json, "1002"),
        ("reserved opcode", with_mask(&[0x83, 0x80], b""), Encoding::Json, "1002"),
        ("ping of 126 bytes", with_mask(&[0x89, 0xFE, 0, 126], &[0; 126]), Encoding::Json, "1002"),
        ("fragmented ping", with_mask(&[0x09, 0x80], b""), Encoding::Json, "1002"),
        ("length not minimal", with_mask(&[0x81, 0xFE, 0, 2], b"hi"), Encoding::Json, "1002"),
        ("continuation of nothing", with_mask(&[0x80, 0x80], b""), Encoding::Json, "1002"),
        ("close of one byte", with_mask(&[0x88, 0x81], b"x"), Encoding::Json, "1002"),
        ("close code 1005", with_mask(&[0x88, 0x82], &1005_u16.to_be_bytes()), Encoding::Json, "1002"),
        ("text that is not UTF-8", with_mask(&[0x81, 0x81], &[0xFF]), Encoding::Json, "1007"),
        ("binary where JSON is spoken", with_mask(&[0x82, 0x82], b"{}"), Encoding::Json, "1003"),
        ("text where protobuf is spoken", with_mask(&[0x81, 0x82], b"{}"), Encoding::Proto, "1003"),
        ("too large", with_mask(&[0x82, 0xFF, 0, 0, 0, 0, 0, 2, 0, 1], b""), Encoding::Proto, "1009"),
    ];
    for (number, (name, bytes, encoding, code)) in (1..).zip(cases) {
        let (mut client, _) = gateway.connect(ALICE, number, *encoding).expect("a session");
        client.socket().get_mut().write_all(bytes).expect("written");
        let end = client.receive().expect_err("closed").to_string();
        assert!(end.contains(code), "{name}: {end}");
    }
    let (mut client, _) = gateway.connect(BOB, 1, Encoding::Proto).expect("others are served");
    assert_alive(&mut client);
}

#[test]
fn a_message_that_cannot_be_read_is_answered_and_the_session_lives() {
    let gateway = gateway(&[]);
    let (mut json, _) = gateway.connect(ALICE, 1, Encoding::Json).expect("a session");
    for text in ["", "{", "[]", "null", "{\"send\":7}", "{\"ack\":{\"upTo\":\"-1\"}}", &"[".repeat(5_000)] {
        json.socket().send(Message::text(text)).expect("sent");
        let answer = json.receive().expect("answered");
        assert_eq!(error_of(&answer).0, Code::MALFORMED, "{text:.20}: {answer:?}");
    }
    json.socket().send(Message::text("{\"id\":7,\"send\":{\"kind\":\"NOPE\"}}")).expect("sent");
    assert_eq!(error_of(&json.answer(7).expect("the id could be read")).0, Code::MALFORMED);
    assert_alive(&mut json);
    let (mut proto, _) = gateway.connect(BOB, 1, Encoding::Proto).expect("a session");
    for bytes in [&[0xFF][..], &[0x12, 0x7F, 1], &[0x08], &[0x12, 0x80, 0x80, 0x80, 0x80, 0x10]] {
        proto.socket().send(Message::binary(bytes.to_vec())).expect("sent");
        let answer = proto.receive().expect("answered");
        assert_eq!(error_of(&answer).0, Code::MALFORMED, "{bytes:?}: {answer:?}");
    }
    proto.socket().send(Message::binary(vec![0x08, 7, 0x12, 0x7F])).expect("sent");
    assert_eq!(error_of(&proto.answer(7).expect("the id could be read")).0, Code::MALFORMED);
    assert_alive(&mut proto);
}

#[test]
fn sends_that_cannot_be_are_answered_with_their_code() {
    let gateway = gateway(&[]);
    let (mut alice, welcome) = gateway.connect(ALICE, 1, Encoding::Json).expect("a session");
    drop(gateway.connect(BOB, 1, Encoding::Json).expect("a session"));
    let large = vec![7; welcome.payload_bytes_max as usize + 1];
    let cases = [
        ("an unknown user", send_to(999_999, b"1", b"x"), Code::NOT_FOUND),
        ("nobody", send_to(0, b"2", b"x"), Code::MALFORMED),
        ("a number too large", send_to(u64::MAX, b"3", b"x"), Code::MALFORMED),
        ("no address", v1::Send { client_id: b"4".to_vec().into(), ..Default::default() }, Code::MALFORMED),
        ("no client_id", send_to(BOB, b"", b"x"), Code::MALFORMED),
        ("a client_id of 17 bytes", send_to(BOB, &[5; 17], b"x"), Code::MALFORMED),
        ("a payload too large", send_to(BOB, b"6", &large), Code::TOO_LARGE),
    ];
    for (name, send, code) in cases {
        let body: client_frame::Body = send.into();
        let id = alice.ask(body).expect("sent");
        let answer = alice.answer(id).expect("answered");
        assert_eq!(error_of(&answer).0, code, "{name}");
    }
    let largest = vec![7; welcome.payload_bytes_max as usize];
    alice.say(BOB, b"7", &largest).expect("the largest payload is sent");
    let (mut bob, welcome) = gateway.connect(BOB, 1, Encoding::Proto).expect("a session");
    let (seq, message) = bob.message().expect("delivered");
    assert_eq!((seq, message.payload), (welcome.head, largest.into()), "nothing refused was stored");
}

#[test]
fn the_payload_that_welcome_promises_fits_a_message() {
    for (bytes, promised) in [("4000", 2_616), ("131072", 65_536)] {
        let gateway = gateway(&["--max-message-bytes", bytes]);
        drop(gateway.connect(BOB, 1, Encoding::Proto).expect("a session"));
        let (mut alice, welcome) = gateway.connect(ALICE, 1, Encoding::Json).expect("a session");
        assert_eq!(welcome.payload_bytes_max, promised);
        let largest = vec![7; promised as usize];
        alice.say(BOB, &[0xFF; 16], &largest).expect("the largest payload is sent");
    }
}

#[test]
fn upgrades_that_cannot_be_are_refused_with_their_status() {
    let gateway = gateway(&[]);
    let token = gateway.token(ALICE, 1).expect("a token");
    let head = |line: &str, more: &str| {
        format!(
            "{line}\r\nHost: roost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
        )
    };
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let get = "GET /v1/ws HTTP/1.1";
    let cases = [
        (head(get, &bearer), "101"),
        (head(&format!("GET /v1/ws?access_token={token} HTTP/1.1"), ""), "101"),
        (head(get, &format!("{bearer}Sec-WebSocket-Protocol: chat, roost.v1.json\r\n")), "101"),
        (head(get, &format!("{bearer}Sec-WebSocket-Protocol: chat\r\n")), "400"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (head(get, &bearer).replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), "400"),
        (head(get, ""), "401"),
        (head(get, "Authorization: Bearer x.y.z\r\n"), "401"),
        (head(get, &format!("Authorization: Bearer {token}x\r\n")), "401"),
        (head("GET /v1/ws?user=1&device=1 HTTP/1.1", ""), "401"),
        (head("GET /elsewhere HTTP/1.1", &bearer), "404"),
        (head("POST /v1/ws HTTP/1.1", &bearer), "405"),
        (head(get, &bearer).replace("Version: 13", "Version: 8"), "426"),
        (head(get, &format!("{bearer}X: {}\r\n", "x".repeat(9_000))), "431"),
        (head(get, &format!("{bearer}{}", "X: x\r\n".repeat(100))), "431"),
    ];
    for (request, status) in cases {
        let answer = raw(&gateway, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60}: {answer:.200}");
        if status != "101" {
            let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
            assert!(body.trim().len() > 10, "{status} says why: {answer}");
            assert!(!answer.contains(&token), "the token is not repeated");
        }
    }
}

/// Sends bytes, and reads until the end or until a whole head of a 101 came.
fn raw(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.ws).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    stream.write_all(bytes).expect("written");
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    while !(answer.starts_with(b"HTTP/1.1 101") && answer.windows(4).any(|four| four == b"\r\n\r\n")) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => answer.extend_from_slice(&buffer[..bytes]),
            Err(error) => panic!("neither answer nor end: {error}"),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn auth_none_wants_numbers() {
    let gateway = gateway(&["--auth", "none"]);
    let (_, welcome) = Client::connect(gateway.ws, Encoding::Json, &Credentials::Claimed(42, 7))
        .expect("claims are believed");
    assert_eq!((welcome.user, welcome.device), (42, 7));
    for (user, device) in [(0, 1), (u64::MAX, 1), (1, 0), (1, u32::MAX)] {
        let error = Client::connect(gateway.ws, Encoding::Json, &Credentials::Claimed(user, device));
        assert!(format!("{:#}", error.expect_err("refused")).contains("401"), "{user} {device}");
    }
    let said = fs::read_to_string(gateway.data().join("stderr.log")).expect("a log");
    assert!(said.contains("NOBODY IS ASKED"), "{said}");
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    Command::new(gateway_binary().expect("built"))
        .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"])
        .arg(data)
        .args(arguments)
        .env("RUST_LOG", "warn")
        .output()
        .expect("it runs")
}

/// Exit 2 and one line on stderr with each of `parts`.
fn assert_refused(output: &Output, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    for part in parts {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(output.stdout.is_empty(), "no ready line");
}

#[test]
fn what_keeps_a_gateway_from_starting_is_said_in_one_line() {
    let data = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let twice = |flag: &str| {
        let mut command = Command::new(gateway_binary().expect("built"));
        let (ws, http) =
            if flag == "--listen" { (&address[..], "127.0.0.1:0") } else { ("127.0.0.1:0", &address[..]) };
        command.args(["--listen", ws, "--http", http, "--data"]).arg(data.path()).output().expect("it runs")
    };
    assert_refused(&twice("--listen"), &["cannot listen on", &address]);
    assert_refused(&twice("--http"), &["cannot listen on", &address]);

    let config = data.path().join("roost.toml");
    let path = config.to_str().expect("UTF-8");
    assert_refused(&run(data.path(), &["--config", path]), &[path, "cannot be read"]);
    fs::write(&config, "shards = \"two\"\n").expect("written");
    assert_refused(&run(data.path(), &["--config", path]), &[path, ":1:", "shards = \"two\""]);
    fs::write(&config, [0xFF, 0xFE]).expect("written");
    assert_refused(&run(data.path(), &["--config", path]), &[path, "cannot be read"]);

    let secret = data.path().join("secret");
    fs::write(&secret, "a secret that everybody can read").expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("set");
    assert_refused(&run(data.path(), &[]), &["secret"]);
    fs::remove_file(&secret).expect("removed");

    assert_refused(&run(data.path(), &["--shards", "many"]), &["'many'", "--shards", "--help"]);
    assert_refused(&run(data.path(), &["--sharts", "2"]), &["--sharts"]);
    let name = Command::new(gateway_binary().expect("built")).args(["--listen", "localhost:9000"]).output();
    assert_refused(&name.expect("it runs"), &["'localhost:9000'", "like 127.0.0.1:9000"]);
    assert_refused(&run(data.path(), &["--public-url", "chat.example.org"]), &["public_url", "wss://"]);
}

#[test]
fn a_store_in_use_or_damaged_is_said_in_one_line_and_left_alone() {
    let mut gateway = gateway(&[]);
    drop(gateway.connect(ALICE, 1, Encoding::Proto).expect("a session"));
    let store = gateway.data().join("store");
    assert_refused(&run(gateway.data(), &[]), &["in use by another process"]);
    assert_eq!(gateway.terminate().expect("it ends").code(), Some(0));

    let files = files_below(&store);
    assert!(!files.is_empty(), "a store has files");
    for file in &files {
        let bytes = fs::read(file).expect("read");
        fs::write(file, vec![0xA5; bytes.len()]).expect("written");
    }
    assert_refused(&run(gateway.data(), &[]), &[store.to_str().expect("UTF-8"), "damaged"]);
    for file in &files {
        assert!(fs::read(file).expect("still there").iter().all(|byte| *byte == 0xA5), "{}", file.display());
    }
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.file_name().is_some_and(|name| name != "lock") {
            files.push(path);
        }
    }
    files
}
