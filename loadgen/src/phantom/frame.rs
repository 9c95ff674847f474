//! WebSocket frames of phantoms (RFC 6455 section 5), on tungstenite's header codec, which gateway and roost-proto do not
//! use.

use super::limits::INPUT_BYTES_MAX;
use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, OpCode};

/// Payload of a control frame at most (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// A frame of the server, whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its opcode.
    pub opcode: OpCode,
    /// Whether a message ends with it.
    pub fin: bool,
    /// The payload.
    pub payload: &'a [u8],
    /// Its length with the header.
    pub bytes: usize,
}

/// Reads the frame that `input` begins with; `None` where it is not complete.
///
/// # Errors
/// What the server did wrong.
pub fn read(input: &[u8]) -> Result<Option<Frame<'_>>, &'static str> {
    let mut cursor = Cursor::new(input);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| "a frame's header is malformed")?;
    let Some((header, length)) = parsed else { return Ok(None) };
    if header.mask.is_some() {
        return Err("a frame of the server is masked");
    }
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err("a frame has a reserved bit set");
    }
    let control = matches!(header.opcode, OpCode::Control(_));
    if control && (length > CONTROL_BYTES_MAX as u64 || !header.is_final) {
        return Err("a control frame is too long, or a fragment");
    }
    if length > INPUT_BYTES_MAX as u64 {
        return Err("a frame is longer than a phantom takes");
    }
    let begin = cursor.position() as usize;
    let bytes = begin + length as usize;
    let frame = |payload| Frame { opcode: header.opcode, fin: header.is_final, payload, bytes };
    Ok(input.get(begin..bytes).map(frame))
}

/// Appends a frame to `out`, whole and masked (RFC 6455 section 5.3).
pub fn write(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8], mask: [u8; 4]) {
    let header = FrameHeader { is_final: true, opcode, mask: Some(mask), ..FrameHeader::default() };
    // Writing to a Vec never fails.
    let _ = header.format(payload.len() as u64, out);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The opcode of a close frame.
pub const CLOSE: OpCode = OpCode::Control(Control::Close);
/// The opcode of a ping.
pub const PING: OpCode = OpCode::Control(Control::Ping);
/// The opcode of a pong.
pub const PONG: OpCode = OpCode::Control(Control::Pong);
