//! What a peer's bytes may cost. Each limit has a name, a unit and the error of whoever goes past it.

/// Levels of nested messages in a protobuf frame. The contract needs five
/// (`ServerFrame.history.message.to.user`); past the limit: `codec::DecodeError`. JSON needs
/// none: what it knows nests no deeper than the contract, and what it does not know is skipped without recursion.
pub const MESSAGE_DEPTH_MAX: u32 = 16;

/// Memory, in bytes, of the elements of repeated fields of one frame, apart from the content they carry.
///
/// An empty element takes 2 bytes on the wire (3 in JSON) and up to [`ELEMENT_BYTES`] in memory, so the size of a
/// message alone does not bound what it decodes into. 1 MiB leaves room for `Sealed` to twenty devices of each of the
/// 1,024 members of a group. Past the limit: `codec::DecodeError`.
pub const ELEMENT_MEMORY_BYTES_MAX: usize = 1 << 20;

/// The largest element of a repeated field that a client may send, bytes.
pub const ELEMENT_BYTES: usize = size_of::<crate::v1::Sealed>();

/// Elements and fields of one JSON frame, counted by its commas before it is parsed. Past the limit:
/// `codec::DecodeError`.
pub const JSON_ELEMENT_COUNT_MAX: usize = ELEMENT_MEMORY_BYTES_MAX / ELEMENT_BYTES;

/// Length of the reason for a refused frame, bytes: it travels in `Error.message` and must not echo a whole payload.
/// Longer: it is cut short.
pub const REASON_BYTES_MAX: usize = 160;

/// Payload of a control frame, bytes (RFC 6455 section 5.5). Longer: close code 1002.
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// Reason of a close frame, bytes: a control payload less the code (RFC 6455 section 5.5.1). Longer: it is cut short.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

/// Size of an upgrade request up to and with its empty line, bytes. Past the limit: 431.
pub const HEADER_BYTES_MAX: usize = 8192;

/// Header lines of an upgrade request. Past the limit: 431.
pub const HEADER_COUNT_MAX: usize = 64;

// A group of 1,024 members with four devices each must fit, or an encrypted message to it could not be sent: three
// fields for each.
const _: () = assert!(JSON_ELEMENT_COUNT_MAX > 3 * 4 * 1024);
