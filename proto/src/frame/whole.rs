//! The everyday frame: a whole unfragmented message that lies in the input from its first byte to its last.

use super::{
    MessageKind, Opcode,
    header::{self, Context},
    unmask,
};

/// The message at the beginning of `input`, unmasked in place, with its kind and the size of its frame. It is what a fresh
/// [`Decoder`](super::Decoder) would find there, at a third of its cost.
///
/// `None` for everything else: a frame that is cut, fragmented, of control, or against a rule. `input` is as it was then, and a decoder
/// says what it is.
pub fn decode_whole(input: &mut [u8], message_bytes_max: u64) -> Option<(usize, MessageKind, &[u8])> {
    let context = Context { message: None, payload_bytes_max: message_bytes_max };
    let header = header::parse(input, context).ok()??;
    let kind = match header.opcode {
        Opcode::Text => MessageKind::Text,
        Opcode::Binary => MessageKind::Binary,
        _ => return None,
    };
    let end = usize::try_from(header.payload_bytes).ok()?.checked_add(header.size)?;
    if !header.fin || end > input.len() {
        return None;
    }
    let payload = &mut input[header.size..end];
    unmask(payload, header.mask);
    if kind == MessageKind::Text && simdutf8::basic::from_utf8(payload).is_err() {
        // Masking twice changes nothing: the decoder sees what came.
        unmask(payload, header.mask);
        return None;
    }
    Some((end, kind, payload))
}
