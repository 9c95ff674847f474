//! Frame headers: read from a client, written by a server (RFC 6455 section 5.2).

use super::{MessageKind, Opcode, Violation, is_close_code_valid};
use crate::limits::{CLOSE_REASON_BYTES_MAX, CONTROL_PAYLOAD_BYTES_MAX};

/// The longest header of a client: two bytes, a 64-bit length, a mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// The values of the short length that announce a longer one.
const LENGTH_U16: u8 = 126;
const LENGTH_U64: u8 = 127;

/// A client's frame header that broke no rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub fin: bool,
    pub opcode: Opcode,
    pub mask: [u8; 4],
    pub payload_bytes: u64,
    /// Size of the header itself, bytes.
    pub size: usize,
}

/// What the frames before say about the one to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// The message that waits for a continuation.
    pub message: Option<MessageKind>,
    /// How many payload bytes its next frame may have.
    pub payload_bytes_max: u64,
}

/// Reads a header from the beginning of `bytes`; `None` where it is not complete. A byte that breaks a rule is refused
/// as soon as it is there, so that the verdict does not depend on where the stream was cut.
pub(super) fn parse(bytes: &[u8], context: Context) -> Result<Option<Header>, Violation> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let opcode = check_first(first, context)?;
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    if second & MASKED == 0 {
        return Err(Violation::Unmasked);
    }
    let short = second & LENGTH;
    let rest = &bytes[2..];
    let (payload_bytes, rest) = match short {
        LENGTH_U16 => {
            let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u64::from(u16::from_be_bytes(*length));
            if length < u64::from(LENGTH_U16) {
                return Err(Violation::LengthNotMinimal);
            }
            (length, rest)
        }
        LENGTH_U64 => {
            let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u64::from_be_bytes(*length);
            if length >> 63 != 0 {
                return Err(Violation::LengthTooLong);
            }
            if u16::try_from(length).is_ok() {
                return Err(Violation::LengthNotMinimal);
            }
            (length, rest)
        }
        short => (u64::from(short), rest),
    };
    match opcode.is_control() {
        true if payload_bytes > CONTROL_PAYLOAD_BYTES_MAX as u64 => return Err(Violation::ControlTooLong),
        false if payload_bytes > context.payload_bytes_max => return Err(Violation::MessageTooBig),
        _ => {}
    }
    let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
    Ok(Some(Header { fin: first & FIN != 0, opcode, mask, payload_bytes, size: bytes.len() - rest.len() }))
}

/// The header of a server's frame: ten bytes of which the returned number counts.
pub fn encode_header(opcode: Opcode, fin: bool, payload_bytes: u64) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = opcode as u8 | if fin { FIN } else { 0 };
    if payload_bytes < u64::from(LENGTH_U16) {
        header[1] = payload_bytes as u8;
        (header, 2)
    } else if let Ok(short) = u16::try_from(payload_bytes) {
        header[1] = LENGTH_U16;
        header[2..4].copy_from_slice(&short.to_be_bytes());
        (header, 4)
    } else {
        debug_assert!(payload_bytes >> 63 == 0, "a length has at most 63 bits");
        header[1] = LENGTH_U64;
        header[2..].copy_from_slice(&payload_bytes.to_be_bytes());
        (header, 10)
    }
}

/// Appends the header of a server's frame to `out`, whose `payload_bytes` the caller appends behind it; there is room for them.
#[inline]
pub fn encode_begin(opcode: Opcode, payload_bytes: usize, out: &mut Vec<u8>) {
    // Ten bytes are always room enough for it, and copying ten costs less than copying two, four or ten.
    out.reserve(10 + payload_bytes);
    let (header, header_bytes) = encode_header(opcode, true, payload_bytes as u64);
    let end = out.len() + header_bytes;
    out.extend_from_slice(&header);
    out.truncate(end);
}

/// Appends a whole frame of a server to `out`.
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(
        !opcode.is_control() || payload.len() <= CONTROL_PAYLOAD_BYTES_MAX,
        "a control frame is short"
    );
    encode_begin(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends a close frame to `out`. A reason over 123 bytes is cut at the last character that fits.
pub fn encode_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    debug_assert!(is_close_code_valid(code), "close code {code} must not be sent");
    let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    let (header, header_bytes) = encode_header(Opcode::Close, true, 2 + reason.len() as u64);
    out.extend_from_slice(&header[..header_bytes]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

fn check_first(first: u8, context: Context) -> Result<Opcode, Violation> {
    if first & RESERVED != 0 {
        return Err(Violation::ReservedBits);
    }
    let opcode = Opcode::from_u8(first & OPCODE).ok_or(Violation::ReservedOpcode(first & OPCODE))?;
    match (opcode, context.message) {
        (Opcode::Close | Opcode::Ping | Opcode::Pong, _) if first & FIN == 0 => {
            Err(Violation::FragmentedControl)
        }
        (Opcode::Continuation, None) => Err(Violation::UnexpectedContinuation),
        (Opcode::Text | Opcode::Binary, Some(_)) => Err(Violation::ExpectedContinuation),
        _ => Ok(opcode),
    }
}
