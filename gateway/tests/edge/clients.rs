//! Other people's clients: each upgrades, names a sub-protocol, sends text, binary, fragments, pings and large messages, closes and is
//! closed, against `--backend echo`; and two of them chat. Chromium's is in `web_page.rs`.

use std::{net::TcpStream, path::Path, process::Command};

use roost_client::harness::Gateway;
use tungstenite::{
    Error, Message, WebSocket,
    client::IntoClientRequest as _,
    http::HeaderValue,
    protocol::{
        CloseFrame,
        frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

use super::raw;

const ALICE: u64 = 1001;
const BOB: u64 = 1002;
/// Less than the largest message that the scripts send.
const ECHO: [&str; 4] = ["--backend", "echo", "--max-message-bytes", "1048576"];

/// Runs a script with the addresses and tokens it takes.
fn run(program: &str, arguments: &[&str], script: &str, install: &str) {
    let echo = Gateway::start(&ECHO).expect("it starts");
    let product = Gateway::start(&[]).expect("it starts");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/edge/clients").join(script);
    let output = Command::new(program)
        .args(arguments)
        .arg(script)
        .args([format!("ws://{}/any", echo.ws), format!("ws://{}/v1/ws", product.ws)])
        .args([ALICE, BOB].map(|user| product.token(user, 1).expect("a token")))
        // Where Debian puts the packages of Node.
        .env("NODE_PATH", "/usr/share/nodejs")
        .env_remove("http_proxy")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; {install}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && output.stdout == b"ok\n",
        "{program}: {said}; if it is missing: {install}"
    );
}

#[test]
fn nodes_ws() {
    run("node", &[], "node.cjs", "apt-get install -y node-ws");
}

#[test]
fn pythons_websockets() {
    run("/usr/bin/python3", &["-W", "error"], "client.py", "apt-get install -y python3-websockets");
}

fn tungstenite(
    gateway: &Gateway,
    protocols: &str,
) -> (WebSocket<TcpStream>, tungstenite::handshake::client::Response) {
    let mut request = format!("ws://{}/any", gateway.ws).into_client_request().expect("a request");
    let header = HeaderValue::from_str(protocols).expect("a header");
    request.headers_mut().insert("Sec-WebSocket-Protocol", header);
    tungstenite::client(request, raw::connect(gateway.ws)).expect("upgraded")
}

#[test]
fn rusts_tungstenite() {
    let gateway = Gateway::start(&ECHO).expect("it starts");
    let (mut socket, response) = tungstenite(&gateway, "first.example, second.example");
    assert_eq!(response.headers()["sec-websocket-protocol"], "first.example");
    let messages = [
        Message::text("text"),
        Message::text(""),
        Message::text("ünïcödé 🐦"),
        Message::binary(vec![0, 1, 255]),
        Message::binary(vec![7; 1_000_000]),
    ];
    for message in messages {
        socket.send(message.clone()).expect("sent");
        assert_eq!(socket.read().expect("echoed"), message);
    }
    let pieces =
        [("in ", Data::Text, false), ("three ", Data::Continue, false), ("pieces", Data::Continue, true)];
    for (text, opcode, last) in pieces {
        let frame = Frame::message(text.as_bytes().to_vec(), OpCode::Data(opcode), last);
        socket.send(Message::Frame(frame)).expect("sent");
        socket.send(Message::Ping(text.as_bytes().to_vec().into())).expect("sent");
    }
    let answers: Vec<Message> = (0..4).map(|_| socket.read().expect("answered")).collect();
    let pong = |text: &str| Message::Pong(text.as_bytes().to_vec().into());
    // Pongs do not wait for the message that the pings stand in.
    assert_eq!(answers, [pong("in "), pong("three "), Message::text("in three pieces"), pong("pieces")]);

    let code = 4321.into();
    socket.close(Some(CloseFrame { code, reason: "done".into() })).expect("sent");
    match socket.read() {
        Ok(Message::Close(Some(frame))) => assert_eq!(frame.code, code),
        other => panic!("{other:?}"),
    }
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)), "the server ends TCP first");

    let (mut socket, _) = tungstenite(&gateway, "one");
    socket.send(Message::binary(vec![0; 2_000_000])).expect("sent");
    match socket.read() {
        Ok(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), 1009),
        other => panic!("{other:?}"),
    }
    assert!(
        matches!(socket.read(), Err(Error::ConnectionClosed)),
        "tungstenite has answered, and the end came"
    );
}
