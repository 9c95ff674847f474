//! The bytes of a client, cut anywhere, to the pieces of its messages.

use super::{
    CloseFrame, Item, MessageKind, Opcode, Violation,
    header::{self, Context, HEADER_BYTES_MAX, Header},
    is_close_code_valid, unmask,
};
use crate::limits::CONTROL_PAYLOAD_BYTES_MAX;

/// Reads what a client sends, resumable at every byte. A plain value without heap: a connection that is
/// [idle](Self::is_idle) need not keep one.
#[derive(Clone, Debug)]
pub struct Decoder {
    message_bytes_max: u64,
    /// Payload bytes the headers of the current message have announced so far; at most `message_bytes_max`.
    message_bytes: u64,
    state: State,
    /// The message that is not complete yet.
    message: Option<MessageKind>,
    /// No piece of the current message was given out yet.
    first: bool,
    text: Utf8,
    /// `held[..held_bytes]` is the beginning of a header, or of a control frame's payload, unmasked.
    held: [u8; CONTROL_PAYLOAD_BYTES_MAX],
    held_bytes: u8,
}

// It lives on the stack of each read, and in the buffer of a connection with half a frame.
const _: () = assert!(size_of::<Decoder>() <= 192);
const _: () = assert!(HEADER_BYTES_MAX <= CONTROL_PAYLOAD_BYTES_MAX);

#[derive(Clone, Copy, Debug)]
enum State {
    /// A header is due, or half there.
    Header,
    /// Inside the payload of a frame.
    Payload(Payload),
    /// A close frame was read: what follows is dropped.
    Closed,
    /// A rule was broken: nothing is read any more.
    Failed(Violation),
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    opcode: Opcode,
    fin: bool,
    /// The mask as it stands at the next byte.
    mask: [u8; 4],
    /// Bytes still to come; more than 0 except right after the header.
    remaining: u64,
}

/// What one step over the input found; where its bytes lie is told by numbers, not yet borrowed.
enum Step {
    /// The input is used up.
    Starved,
    /// `input[start..end]` is a piece of a message.
    Data { kind: MessageKind, start: usize, end: usize, first: bool, last: bool },
    /// `input[start..end]` is the whole payload of a control frame.
    Control { opcode: Opcode, start: usize, end: usize },
    /// `held[..bytes]` is the whole payload of a control frame that ends at `end` of the input.
    ControlHeld { opcode: Opcode, bytes: usize, end: usize },
}

impl Decoder {
    /// A decoder at the beginning of a frame. A message of more than `message_bytes_max` payload bytes, over all its
    /// fragments, is refused at the header that announces it.
    pub fn new(message_bytes_max: u64) -> Self {
        Self {
            message_bytes_max,
            message_bytes: 0,
            state: State::Header,
            message: None,
            first: true,
            text: Utf8::default(),
            held: [0; CONTROL_PAYLOAD_BYTES_MAX],
            held_bytes: 0,
        }
    }

    /// Reads from the beginning of `input`, unmasking in place. Returns how many bytes were consumed and at most one
    /// item; without an item all of `input` was consumed. Call it again with the rest until then.
    ///
    /// # Errors
    /// The [`Violation`] of RFC 6455; every later call returns it again.
    pub fn decode<'a>(&'a mut self, input: &'a mut [u8]) -> Result<(usize, Option<Item<'a>>), Violation> {
        let step = match self.state {
            State::Closed => Ok(Step::Starved),
            State::Failed(violation) => Err(violation),
            State::Header | State::Payload(_) => self.step(input),
        };
        let (end, item) = match step {
            Ok(Step::Starved) => return Ok((input.len(), None)),
            Ok(Step::Data { kind, start, end, first, last }) => {
                (end, Ok(Item::Data { kind, payload: &input[start..end], first, last }))
            }
            Ok(Step::Control { opcode, start, end }) => (end, control_item(opcode, &input[start..end])),
            Ok(Step::ControlHeld { opcode, bytes, end }) => (end, control_item(opcode, &self.held[..bytes])),
            Err(violation) => (0, Err(violation)),
        };
        match &item {
            Ok(Item::Close(_)) => self.state = State::Closed,
            Ok(_) => {}
            Err(violation) => self.state = State::Failed(*violation),
        }
        Ok((end, Some(item?)))
    }

    /// Whether the stream is between two messages with nothing held: the decoder may be dropped, and a new one made
    /// when more bytes come. Never again after a close frame or a violation.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Header) && self.held_bytes == 0 && self.message.is_none()
    }

    fn step(&mut self, input: &mut [u8]) -> Result<Step, Violation> {
        let (payload, start) = match self.state {
            State::Payload(payload) => (payload, 0),
            _ => match self.header(input)? {
                Some(found) => found,
                None => return Ok(Step::Starved),
            },
        };
        if payload.opcode.is_control() {
            Ok(self.control(payload, input, start))
        } else {
            self.data(payload, input, start)
        }
    }

    /// Completes a header, with what is held of it; also returns where its payload begins in `input`.
    fn header(&mut self, input: &[u8]) -> Result<Option<(Payload, usize)>, Violation> {
        let context =
            Context { message: self.message, payload_bytes_max: self.message_bytes_max - self.message_bytes };
        let held = usize::from(self.held_bytes);
        // `parse` wants at most HEADER_BYTES_MAX bytes, so what it leaves incomplete always fits.
        let taken = input.len().min(HEADER_BYTES_MAX - held);
        let parsed = if held == 0 {
            header::parse(input, context)?
        } else {
            self.held[held..held + taken].copy_from_slice(&input[..taken]);
            header::parse(&self.held[..held + taken], context)?
        };
        let Some(header) = parsed else {
            self.held[held..held + taken].copy_from_slice(&input[..taken]);
            self.held_bytes = (held + taken) as u8;
            return Ok(None);
        };
        self.held_bytes = 0;
        Ok(Some((self.begin(header), header.size - held)))
    }

    fn begin(&mut self, header: Header) -> Payload {
        let Header { fin, opcode, mask, payload_bytes, .. } = header;
        match opcode {
            Opcode::Text => self.message = Some(MessageKind::Text),
            Opcode::Binary => self.message = Some(MessageKind::Binary),
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {}
        }
        if !opcode.is_control() {
            self.message_bytes += payload_bytes;
        }
        let payload = Payload { opcode, fin, mask, remaining: payload_bytes };
        self.state = State::Payload(payload);
        payload
    }

    fn data(&mut self, mut payload: Payload, input: &mut [u8], start: usize) -> Result<Step, Violation> {
        // `begin` has set it, and it is cleared only with the message's last byte.
        let Some(kind) = self.message else { return Err(Violation::UnexpectedContinuation) };
        let available = (input.len() - start) as u64;
        let bytes = payload.remaining.min(available);
        if bytes == 0 && payload.remaining > 0 {
            return Ok(Step::Starved);
        }
        let end = start + bytes as usize;
        payload.mask = unmask(&mut input[start..end], payload.mask);
        payload.remaining -= bytes;
        let frame_ends = payload.remaining == 0;
        let last = frame_ends && payload.fin;
        if kind == MessageKind::Text {
            self.text.check(&input[start..end], last)?;
        }
        let first = std::mem::replace(&mut self.first, false);
        self.state = if frame_ends { State::Header } else { State::Payload(payload) };
        if last {
            self.message = None;
            self.message_bytes = 0;
            self.first = true;
        }
        Ok(Step::Data { kind, start, end, first, last })
    }

    fn control(&mut self, mut payload: Payload, input: &mut [u8], start: usize) -> Step {
        let Payload { opcode, remaining, mask, .. } = payload;
        let available = input.len() - start;
        let held = usize::from(self.held_bytes);
        // A control payload has at most 125 bytes: `header::parse` saw to it.
        let bytes = available.min(remaining as usize);
        let end = start + bytes;
        let next_mask = unmask(&mut input[start..end], mask);
        let is_whole = bytes as u64 == remaining;
        if is_whole && held == 0 {
            self.state = State::Header;
            return Step::Control { opcode, start, end };
        }
        self.held[held..held + bytes].copy_from_slice(&input[start..end]);
        if is_whole {
            self.held_bytes = 0;
            self.state = State::Header;
            return Step::ControlHeld { opcode, bytes: held + bytes, end };
        }
        self.held_bytes = (held + bytes) as u8;
        payload.remaining -= bytes as u64;
        payload.mask = next_mask;
        self.state = State::Payload(payload);
        Step::Starved
    }
}

fn control_item(opcode: Opcode, payload: &[u8]) -> Result<Item<'_>, Violation> {
    match opcode {
        Opcode::Ping => Ok(Item::Ping(payload)),
        Opcode::Pong => Ok(Item::Pong(payload)),
        _ => close_frame(payload).map(Item::Close),
    }
}

fn close_frame(payload: &[u8]) -> Result<Option<CloseFrame<'_>>, Violation> {
    if payload.is_empty() {
        return Ok(None);
    }
    let (code, reason) = payload.split_first_chunk().ok_or(Violation::CloseTooShort)?;
    let code = u16::from_be_bytes(*code);
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Violation::InvalidUtf8)?;
    if is_close_code_valid(code) {
        Ok(Some(CloseFrame { code, reason }))
    } else {
        Err(Violation::InvalidCloseCode(code))
    }
}

/// The validity of a text that comes in pieces. `bytes[..len]` is a character whose end is still to come.
#[derive(Clone, Copy, Debug, Default)]
struct Utf8 {
    bytes: [u8; 4],
    len: u8,
}

impl Utf8 {
    /// Refuses a byte as soon as no text can have it there; at the `last` piece also half a character.
    fn check(&mut self, mut piece: &[u8], last: bool) -> Result<(), Violation> {
        while self.len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { break };
            piece = rest;
            // At most three bytes are held: four that are half a character do not exist.
            let len = usize::from(self.len);
            self.bytes[len] = byte;
            match std::str::from_utf8(&self.bytes[..=len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_none() => self.len += 1,
                Err(_) => return Err(Violation::InvalidUtf8),
            }
        }
        if let Err(error) = simdutf8::compat::from_utf8(piece) {
            let half = &piece[error.valid_up_to()..];
            if error.error_len().is_some() {
                return Err(Violation::InvalidUtf8);
            }
            self.bytes[..half.len()].copy_from_slice(half);
            self.len = half.len() as u8;
        }
        if last && self.len > 0 {
            return Err(Violation::InvalidUtf8);
        }
        Ok(())
    }
}
