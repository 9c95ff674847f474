//! One WebSocket message to and from one frame of the contract, in both encodings.
//!
//! `roost.v1.proto` is protobuf in binary messages, `roost.v1.json` the canonical proto3 JSON mapping in text messages
//! (<https://protobuf.dev/programming-guides/json/>).

mod direct;

use std::fmt;

use buffa::{DecodeOptions, Message};
use serde::Deserialize;

use crate::{
    frame::MessageKind,
    limits::{ELEMENT_MEMORY_BYTES_MAX, JSON_ELEMENT_COUNT_MAX, MESSAGE_DEPTH_MAX, REASON_BYTES_MAX},
    v1::{self, ClientFrame, ServerFrame},
};

/// Tag of `ClientFrame.id`: field 1, varint.
const ID_TAG: u8 = 1 << 3;
/// `Event.seq`, a varint.
const SEQ_TAG: u8 = 1 << 3;
/// `Event.receipt`, with its length.
const RECEIPT_TAG: u8 = 3 << 3 | 2;
/// Tag of `ServerFrame.event`: field 3, length-delimited.
const EVENT_TAG: u8 = 3 << 3 | 2;

/// How the frames of a session are encoded; the WebSocket sub-protocol names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Protobuf in binary messages.
    Proto,
    /// Canonical proto3 JSON in text messages.
    Json,
}

impl Encoding {
    /// The name in `Sec-WebSocket-Protocol`.
    pub fn sub_protocol(self) -> &'static str {
        match self {
            Self::Proto => "roost.v1.proto",
            Self::Json => "roost.v1.json",
        }
    }

    /// The encoding of that sub-protocol; `None` where it is not ours. Names are compared byte for byte
    /// (RFC 6455 section 4.2.2, `/subprotocol/`).
    pub fn from_sub_protocol(name: &str) -> Option<Self> {
        [Self::Proto, Self::Json].into_iter().find(|encoding| encoding.sub_protocol() == name)
    }

    /// The kind of WebSocket message that carries a frame.
    pub fn message_kind(self) -> MessageKind {
        match self {
            Self::Proto => MessageKind::Binary,
            Self::Json => MessageKind::Text,
        }
    }
}

/// Why bytes are not a frame. `Display` is at most [`REASON_BYTES_MAX`] bytes of printable text, fit for the peer
/// whose bytes they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Not the protobuf encoding of the expected message.
    Protobuf(buffa::DecodeError),
    /// Not the JSON mapping of the expected message.
    Json(Box<str>),
    /// More commas than the elements of any frame need ([`JSON_ELEMENT_COUNT_MAX`]).
    TooManyElements,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protobuf(error) => write!(f, "not a protobuf frame: {error}"),
            Self::Json(reason) => write!(f, "not a JSON frame: {reason}"),
            Self::TooManyElements => {
                write!(f, "more than {JSON_ELEMENT_COUNT_MAX} elements in one JSON frame")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads one message of a client.
///
/// # Errors
/// [`DecodeError`] where the bytes are not a `ClientFrame`, nest deeper than [`MESSAGE_DEPTH_MAX`], or hold
/// more elements than [`ELEMENT_MEMORY_BYTES_MAX`] pays for.
pub fn decode_client_frame(encoding: Encoding, bytes: &[u8]) -> Result<ClientFrame, DecodeError> {
    let direct = if encoding == Encoding::Proto { direct::decode_client_frame(bytes) } else { None };
    direct.map_or_else(|| decode(encoding, bytes), Ok)
}

/// `ClientFrame.id` of bytes that are no frame, as far as it can be read, so that an Error can say which frame it is
/// about: in protobuf where it comes first, in JSON where the text is JSON. 0 otherwise.
pub fn client_frame_id(encoding: Encoding, bytes: &[u8]) -> u32 {
    match (encoding, bytes) {
        (Encoding::Proto, [ID_TAG, rest @ ..]) => {
            let id = buffa::encoding::decode_varint(&mut &*rest);
            id.ok().and_then(|id| u32::try_from(id).ok()).unwrap_or(0)
        }
        (Encoding::Proto, _) => 0,
        (Encoding::Json, _) => serde_json::from_slice::<OnlyId>(bytes).map_or(0, |only| only.id),
    }
}

#[derive(Deserialize)]
struct OnlyId {
    #[serde(default, with = "buffa::json_helpers::uint32")]
    id: u32,
}

/// Whether an encoded `roost.v1.Event` is a receipt, told by its first two tags: fields are written in the order of their numbers.
pub fn holds_receipt(event: &[u8]) -> bool {
    let [SEQ_TAG, rest @ ..] = event else { return false };
    let mut rest = rest;
    buffa::encoding::decode_varint(&mut rest).is_ok() && rest.first() == Some(&RECEIPT_TAG)
}

/// Reads one message of a server.
///
/// # Errors
/// As [`decode_client_frame`].
pub fn decode_server_frame(encoding: Encoding, bytes: &[u8]) -> Result<ServerFrame, DecodeError> {
    decode(encoding, bytes)
}

/// Appends the client's frame to `out`.
///
/// # Panics
/// Where the frame would be larger than 2 GiB, which no protobuf reader takes.
pub fn encode_client_frame(encoding: Encoding, frame: &ClientFrame, out: &mut Vec<u8>) {
    encode(encoding, frame, out);
}

/// Appends the server's frame to `out`.
///
/// # Panics
/// Where the frame would be larger than 2 GiB, which no protobuf reader takes.
pub fn encode_server_frame(encoding: Encoding, frame: &ServerFrame, out: &mut Vec<u8>) {
    if encoding == Encoding::Json || !direct::encode_server_frame(frame, out) {
        encode(encoding, frame, out);
    }
}

/// Appends `ServerFrame { event }` to `out`, where `event` is an encoded `roost.v1.Event`.
///
/// In protobuf that is a tag, a length and a copy, so an event that goes to many sessions is encoded once. JSON has to
/// read the event.
///
/// # Errors
/// [`DecodeError`] in JSON where `event` is corrupt; `out` is as it was. Never in protobuf.
pub fn encode_event_frame(encoding: Encoding, event: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    match encoding {
        Encoding::Proto => {
            out.reserve(event_frame_bytes(event));
            out.push(EVENT_TAG);
            buffa::encoding::encode_varint(event.len() as u64, out);
            out.extend_from_slice(event);
        }
        Encoding::Json => {
            let event = decode_event(event)?;
            let frame = ServerFrame { body: Some(event.into()), ..ServerFrame::default() };
            encode(encoding, &frame, out);
        }
    }
    Ok(())
}

/// Bytes that [`encode_event_frame`] appends in protobuf for an event.
pub fn event_frame_bytes(event: &[u8]) -> usize {
    1 + buffa::encoding::varint_len(event.len() as u64) + event.len()
}

/// Reads an encoded `roost.v1.Event`.
///
/// # Errors
/// [`DecodeError::Protobuf`] where it is none.
pub fn decode_event(event: &[u8]) -> Result<v1::Event, DecodeError> {
    decode_options().decode_from_slice(event).map_err(DecodeError::Protobuf)
}

fn decode_options() -> DecodeOptions {
    DecodeOptions::new()
        .with_recursion_limit(MESSAGE_DEPTH_MAX)
        .with_element_memory_limit(ELEMENT_MEMORY_BYTES_MAX)
}

fn decode<M>(encoding: Encoding, bytes: &[u8]) -> Result<M, DecodeError>
where
    M: Message + serde::de::DeserializeOwned,
{
    match encoding {
        Encoding::Proto => decode_options().decode_from_slice(bytes).map_err(DecodeError::Protobuf),
        Encoding::Json => decode_json(bytes),
    }
}

/// Reads one message of the contract in the canonical JSON mapping, a whole frame or not.
///
/// # Errors
/// As [`decode_client_frame`]; the reason names the field.
pub fn decode_json<M: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<M, DecodeError> {
    // Counted in strings too: a comma there costs nothing, but the limit is far above what a frame holds.
    if memchr::memchr_iter(b',', bytes).count() >= JSON_ELEMENT_COUNT_MAX {
        return Err(DecodeError::TooManyElements);
    }
    // serde would take an array for an object, field after field.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(DecodeError::Json("an object is needed".into()));
    }
    serde_json::from_slice(bytes).map_err(|error| DecodeError::Json(printable(&explain::<M>(bytes, &error))))
}

/// The error and the path of the field it is about. Only what cannot be read is read a second time for it.
fn explain<M: serde::de::DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> String {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, M>(&mut reader) {
        Err(error) if error.path().iter().next().is_some() => error.to_string(),
        _ => error.to_string(),
    }
}

fn encode<M: Message + serde::Serialize>(encoding: Encoding, frame: &M, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Proto => frame.encode(out),
        Encoding::Json => serde_json::to_writer(out, frame)
            .expect("writing to a Vec does not fail, and the generated types have only string keys"),
    }
}

/// The beginning of a reason that may quote the peer's bytes, its control characters replaced.
fn printable(reason: &str) -> Box<str> {
    const PREFIX_BYTES: usize = "not a JSON frame: ".len();
    let mut text = String::with_capacity(reason.len().min(REASON_BYTES_MAX));
    for char in reason.chars().map(|char| if char.is_control() { ' ' } else { char }) {
        if PREFIX_BYTES + text.len() + char.len_utf8() > REASON_BYTES_MAX {
            break;
        }
        text.push(char);
    }
    text.into()
}
