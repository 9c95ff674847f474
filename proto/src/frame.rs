//! The server's side of WebSocket framing, RFC 6455 sections 5 and 7.
//!
//! [`Decoder`] takes the bytes of a client as they come, cut anywhere, and gives back pieces of messages and whole
//! control frames, borrowed from the input wherever a frame lies in it whole. [`encode_header`] and its companions
//! write what a server sends, which is never masked (section 5.1).

mod decoder;
mod header;
mod mask;
mod whole;

pub use decoder::Decoder;
pub use header::{encode, encode_begin, encode_close, encode_header};
pub use mask::unmask;
pub use whole::decode_whole;

/// What a message is, as its first frame says (RFC 6455 section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

impl MessageKind {
    /// The opcode of a message's first frame.
    pub fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// What a frame is (RFC 6455 section 5.2); the discriminant is the value on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// More of a fragmented message.
    Continuation = 0x0,
    /// The first frame of a text message.
    Text = 0x1,
    /// The first frame of a binary message.
    Binary = 0x2,
    /// The closing handshake.
    Close = 0x8,
    /// Answered by a pong with the same payload.
    Ping = 0x9,
    /// The answer to a ping, or a heartbeat nobody asked for.
    Pong = 0xA,
}

impl Opcode {
    /// The opcode of that value, 0 to 15; `None` for the reserved ones.
    pub fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// Close, ping or pong: never fragmented, at most 125 bytes (RFC 6455 section 5.5).
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The body of a close frame (RFC 6455 section 5.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Close code, one of those that may travel (section 7.4).
    pub code: u16,
    /// For the log; at most 123 bytes.
    pub reason: &'a str,
}

/// What the decoder found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A piece of a message, unmasked. The pieces of a message in order are the message; control frames may stand
    /// between them. A piece may be empty.
    Data {
        /// What the message is.
        kind: MessageKind,
        /// Text is valid UTF-8 as a whole; a piece may begin and end inside a character.
        payload: &'a [u8],
        /// The message begins with this piece.
        first: bool,
        /// The message ends with this piece.
        last: bool,
    },
    /// A ping, at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong, at most 125 bytes.
    Pong(&'a [u8]),
    /// A close frame; `None` without a body. Whatever comes after it is dropped (section 1.4).
    Close(Option<CloseFrame<'a>>),
}

/// The rule a client broke. The connection is failed with [`Violation::close_code`] (RFC 6455 section 7.1.7);
/// `Display` says why and fits a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RSV1 to RSV3 belong to extensions, and none is negotiated (section 5.2).
    #[error("a reserved bit is set, but no extension was negotiated")]
    ReservedBits,
    /// Opcodes 3 to 7 and 11 to 15 (section 5.2).
    #[error("opcode {0:#x} is reserved")]
    ReservedOpcode(u8),
    /// A control frame without FIN (section 5.5).
    #[error("a control frame must not be fragmented")]
    FragmentedControl,
    /// A control frame of more than 125 bytes (section 5.5).
    #[error("a control frame holds at most 125 bytes")]
    ControlTooLong,
    /// A continuation where no message was begun (section 5.4).
    #[error("a continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// A new message where the last one is not complete (section 5.4).
    #[error("a new message inside a fragmented one")]
    ExpectedContinuation,
    /// A client masks every frame (section 5.1).
    #[error("a client must mask its frames")]
    Unmasked,
    /// A length in more bytes than it needs (section 5.2).
    #[error("a payload length must use the fewest bytes")]
    LengthNotMinimal,
    /// A 64-bit length with its first bit set (section 5.2).
    #[error("a payload length has at most 63 bits")]
    LengthTooLong,
    /// The message as announced so far is larger than the decoder's limit (section 10.4).
    #[error("the message is too big")]
    MessageTooBig,
    /// Text, or the reason of a close frame, is not UTF-8 (section 8.1).
    #[error("text is not valid UTF-8")]
    InvalidUtf8,
    /// A close payload of one byte (section 5.5.1).
    #[error("a close payload begins with a code of two bytes")]
    CloseTooShort,
    /// A code that must not travel (section 7.4).
    #[error("close code {0} must not be sent")]
    InvalidCloseCode(u16),
}

impl Violation {
    /// The close code that says so (RFC 6455 section 7.4.1): 1002, 1007 or 1009.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::InvalidUtf8 => 1007,
            Self::MessageTooBig => 1009,
            _ => 1002,
        }
    }
}

/// Whether a close frame may bear this code: the assigned ones of 1000 to 1014 (section 7.4.1 and the IANA registry,
/// without 1004 to 1006), and 3000 to 4999 for libraries and applications (section 7.4.2).
pub fn is_close_code_valid(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
