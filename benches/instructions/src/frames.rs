//! What clients and the router say in what is counted: the sizes of an everyday chat.

use buffa::Message as _;
use bytes::Bytes;
use roost_proto::{
    codec::{self, Encoding},
    frame::{Opcode, encode_header, unmask},
    tier::Action,
    v1,
};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Bytes of a chat message's payload.
pub const PAYLOAD_BYTES: usize = 128;

/// An opening handshake as a browser sends it.
pub fn head(encoding: Option<Encoding>) -> Vec<u8> {
    let protocol = encoding
        .map(|encoding| format!("Sec-WebSocket-Protocol: {}\r\n", encoding.sub_protocol()))
        .unwrap_or_default();
    format!(
        "GET /v1/ws HTTP/1.1\r\nHost: chat.example.org\r\nConnection: Upgrade\r\nPragma: no-cache\r\n\
         Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0 Safari/537.36\r\n\
         Upgrade: websocket\r\nOrigin: https://chat.example.org\r\nSec-WebSocket-Version: 13\r\n\
         Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n{protocol}\r\n"
    )
    .into_bytes()
}

/// A client's frame on the wire.
pub fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let (mut header, header_bytes) = encode_header(opcode, true, payload.len() as u64);
    header[1] |= 0x80;
    let mut payload = payload.to_vec();
    unmask(&mut payload, MASK);
    [&header[..header_bytes], &MASK, &payload].concat()
}

/// A Send, encoded.
pub fn send(encoding: Encoding) -> Vec<u8> {
    let send = v1::Send {
        to: v1::Address { to: Some(v1::address::To::User(123_456_789)) }.into(),
        client_id: Bytes::from_static(&[0xA5; 16]),
        payload: vec![b'x'; PAYLOAD_BYTES].into(),
        ..Default::default()
    };
    let mut bytes = Vec::new();
    codec::encode_client_frame(encoding, &v1::ClientFrame { id: 1_000, body: Some(send.into()) }, &mut bytes);
    bytes
}

/// The same as a client's frame on the wire.
pub fn send_frame(encoding: Encoding) -> Vec<u8> {
    masked(encoding.message_kind().opcode(), &send(encoding))
}

/// What the sender of a message is answered with.
pub fn sent() -> v1::ServerFrame {
    let sent = v1::Sent {
        id: 1 << 50,
        client_id: Bytes::from_static(&[0xA5; 16]),
        sent_at_ms: 1_790_000_000_000,
        ..Default::default()
    };
    v1::ServerFrame { reply_to: 1_000, body: Some(sent.into()) }
}

/// What its receiver is told.
pub fn event() -> Bytes {
    let message = v1::Message {
        id: 1 << 50,
        from: 987_654_321,
        from_device: 1,
        to: v1::Address { to: Some(v1::address::To::User(123_456_789)) }.into(),
        client_id: Bytes::from_static(&[0xA5; 16]),
        payload: vec![b'x'; PAYLOAD_BYTES].into(),
        sent_at_ms: 1_790_000_000_000,
        ..Default::default()
    };
    v1::Event { seq: 7 << 40, body: Some(message.into()) }.encode_to_bytes()
}

/// The answer as an effect of the router.
pub fn answer() -> Action {
    Action::Frame(Box::new(sent()))
}

/// The event as an effect of the router, in memory of its own: it is no other session's.
pub fn delivery() -> Action {
    Action::Event(event())
}
