//! What peers send, and how what they received is read.

use rand::{RngExt, rngs::StdRng};
use roost_proto::{
    codec::{Encoding, decode_server_frame, encode_client_frame},
    frame::Opcode,
    v1,
};

use super::{Manners, Peer};

/// A request head for an upgrade.
pub fn head(query: &str, sub_protocol: Option<&str>) -> Vec<u8> {
    let offer = sub_protocol.map_or_else(String::new, |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "GET /v1/ws{query} HTTP/1.1\r\nHost: roost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    )
    .into_bytes()
}

/// A client's frame.
pub fn masked(opcode: Opcode, fin: bool, payload: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mask: [u8; 4] = rng.random();
    let (header, length) = roost_proto::frame::encode_header(opcode, fin, payload.len() as u64);
    let mut bytes = header[..length].to_vec();
    bytes[1] |= 0x80;
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// How a peer leaves.
fn leave(peer: &mut Peer, sends: &mut Vec<u8>, rng: &mut StdRng) {
    let how = rng.random_range(0..12);
    peer.fin_after = true;
    // It goes without a goodbye: what is on its way to it is lost.
    peer.hurt = how >= 6;
    match how {
        0..2 => sends.extend(masked(Opcode::Close, true, b"", rng)),
        2..4 => sends.extend(masked(Opcode::Close, true, b"\x03\xE8bye", rng)),
        4 => sends.extend([0xFF, 0xFF, 0, 0]),
        // A frame that is not masked, and one that never ends.
        5 => sends.extend([0x82, 1, 7]),
        6 => sends.extend([0x82, 0xFE, 1]),
        // Part of all that, and then nothing more: what it sent so far is all there is.
        7 => {
            sends.truncate(rng.random_range(1..=sends.len()));
            peer.fin_after = false;
        }
        8 => peer.manners = Manners::TakesNothing,
        9 => peer.manners = Manners::Lingers,
        _ => peer.reset_at = Some(rng.random_range(1..=sends.len())),
    }
}

/// A peer that sends messages to be echoed, and leaves in one way or another; what an undisturbed one gets back.
pub fn echo(rng: &mut StdRng) -> (Peer, Vec<Vec<u8>>) {
    let mut sends = head("", None);
    let mut expected = Vec::new();
    // A few send so much at once that a read fills its buffer.
    let most = if rng.random_bool(0.1) { 80 } else { 8 };
    for _ in 0..rng.random_range(0..most) {
        let payload: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
        if rng.random_bool(0.1) {
            let (first, rest) = payload.split_at(payload.len() / 2);
            sends.extend(masked(Opcode::Binary, false, first, rng));
            sends.extend(masked(Opcode::Continuation, true, rest, rng));
        } else {
            sends.extend(masked(Opcode::Binary, true, &payload, rng));
        }
        expected.push(payload);
    }
    let mut peer = Peer::default();
    leave(&mut peer, &mut sends, rng);
    peer.sends = sends.into();
    (peer, expected)
}

/// A user's encoding.
pub fn encoding_of(user: u64) -> Encoding {
    if user.is_multiple_of(3) { Encoding::Proto } else { Encoding::Json }
}

/// A user's session; the number of frames for the router, and whether it sends them all and then its FIN.
pub fn chat(user: u64, rng: &mut StdRng) -> (Peer, u32, bool) {
    let encoding = encoding_of(user);
    let mut sends = head(&format!("?user={user}"), Some(encoding.sub_protocol()));
    let opcode = encoding.message_kind().opcode();
    let count = rng.random_range(0..20);
    for id in 1..=count {
        let frame = v1::ClientFrame { id, body: Some(v1::Ack::default().into()) };
        let mut bytes = Vec::new();
        encode_client_frame(encoding, &frame, &mut bytes);
        sends.extend(masked(opcode, true, &bytes, rng));
        match rng.random_range(0..16) {
            0 => sends.extend(masked(Opcode::Ping, true, b"still there?", rng)),
            // No frame; answered by an Error, which is not the router's.
            1 => sends.extend(masked(opcode, true, b"\xC2\xA7", rng)),
            // A heartbeat.
            2 => {
                let heartbeat: &[u8] = if encoding == Encoding::Json { b"{}" } else { b"" };
                sends.extend(masked(opcode, true, heartbeat, rng));
            }
            _ => {}
        }
    }
    let mut peer = Peer::default();
    let whole = rng.random_bool(0.5);
    if whole {
        peer.fin_after = rng.random_bool(0.8);
    } else {
        leave(&mut peer, &mut sends, rng);
    }
    peer.sends = sends.into();
    let whole = whole && peer.fin_after;
    (peer, count, whole)
}

/// A frame of the server, which is never masked: opcode, payload, and the bytes behind it. `None`: there is no whole one.
fn server_frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, length], rest) = bytes.split_first_chunk()?;
    assert!(first & 0xF0 == 0x80, "a server's frames are whole and have no reserved bits");
    let (length, rest) = match length {
        126 => {
            rest.split_first_chunk().map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest))?
        }
        127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
        _ => (u64::from(length), rest),
    };
    let (payload, rest) = rest.split_at_checked(length as usize)?;
    Some((first & 0x0F, payload, rest))
}

/// What is behind the 101, if there was one.
pub fn behind_head(received: &[u8]) -> Option<&[u8]> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n")?;
    received.starts_with(b"HTTP/1.1 101").then_some(&received[end + 4..])
}

/// The whole frames a session received, its Close excepted, after which nothing comes.
pub fn frames_of(encoding: Encoding, received: &[u8]) -> Vec<v1::ServerFrame> {
    let mut frames = Vec::new();
    let mut rest = behind_head(received).unwrap_or_default();
    while let Some((opcode, payload, behind)) = server_frame(rest) {
        rest = behind;
        match Opcode::from_u8(opcode) {
            Some(Opcode::Pong) => {}
            Some(Opcode::Close) => {
                assert!(rest.is_empty(), "nothing follows a Close frame");
            }
            other => {
                assert_eq!(other, Some(encoding.message_kind().opcode()), "the session's kind of message");
                frames.push(decode_server_frame(encoding, payload).expect("a frame of the contract"));
            }
        }
    }
    frames
}
