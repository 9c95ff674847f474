//! Every bound of the gateway: its size, what it bounds, and what happens when it is reached.
//!
//! What operators choose stands in `config`; what follows from the design stands here, and relations between
//! limits are asserted at compile time.

use roost_proto::handshake;

/// Entries of a ring's submission queue. Full: it is submitted early, nothing is lost.
pub const RING_SUBMISSIONS: u32 = 1_024;
/// Entries of a ring's completion queue. Full: the kernel keeps the rest (`IORING_FEAT_NODROP`) and we drain it next turn.
pub const RING_COMPLETIONS: u32 = 8_192;
/// A ring's table of direct descriptors holds at most this many (`io_uring_register(2)`, `IORING_REGISTER_FILES2`).
pub const RING_DESCRIPTORS_MAX: u64 = 1 << 20;
/// Descriptors of the table kept for connections that are being refused with 503 or still closing.
/// Used up: the shard stops accepting until one is free, and clients wait in the listen backlog.
pub const DESCRIPTOR_HEADROOM: u32 = 256;

/// Rings of one shard: a descriptor's number has 12 bits for its ring. All in use: the shard stops accepting.
pub const RINGS_MAX: u32 = 1 << 12;
/// Open files kept for what is no connection: the store, the HTTP service, listeners, wake-ups.
pub const FILES_RESERVE: u64 = 2_048;

/// The `fs.file-max` that a gateway short of system-wide files advises: ten million connections and room beside them.
pub const FILE_MAX_ADVISED: u64 = 12_000_000;

/// Bytes of kernel memory an idle connection is reckoned with (docs/MEMORY.md).
pub const CONNECTION_KERNEL_BYTES: u64 = 4_190;
/// Bytes of the gateway's and the router's memory a session is reckoned with (docs/MEMORY.md).
pub const CONNECTION_USER_BYTES: u64 = 160;
/// Both together, by which `--max-connections` is checked against the machine's memory.
pub const CONNECTION_BYTES: u64 = CONNECTION_KERNEL_BYTES + CONNECTION_USER_BYTES;
/// Memory that is not given to idle connections: buffers of busy ones, the store, the system.
pub const MEMORY_RESERVE_BYTES: u64 = 1 << 30;

/// Receive buffers a shard offers the kernel. None left: receives end with `ENOBUFS` and are armed again in the next turn,
/// because a turn gives every buffer back.
pub const RECEIVE_BUFFERS: u16 = 1_024;
/// Bytes of one receive buffer: a typical message with its frame, several heartbeats.
pub const RECEIVE_BUFFER_BYTES: u32 = 4_096;

/// Effects of the router waiting for one shard. Full: the router keeps them, retries, and stops taking requests.
pub const MAILBOX_EFFECTS_MAX: usize = 16_384;
/// Effects a shard takes from its mailbox in one turn, so that sockets are served in between.
pub const EFFECTS_PER_TURN_MAX: usize = 1_024;
/// Requests a shard holds while the router's queue is full. The connections they came from are not read meanwhile;
/// full: a connection that adds to it is closed with 1013 (try again later).
pub const BACKLOG_REQUESTS_MAX: usize = 65_536;

/// Bytes waiting to be sent to one connection before it is no longer read (it sends faster than it reads).
pub const OUTBOX_PAUSE_BYTES: usize = 512 * 1_024;
/// A paused connection is read again when no more than this waits.
pub const OUTBOX_RESUME_BYTES: usize = 64 * 1_024;
/// Bytes that may wait for one connection beyond one message. More: it is closed, the rest stays in the store.
pub const OUTBOX_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// Bytes of partial messages and handshakes one shard holds. Full: the connection that asks for more is closed with 1013.
pub const ASSEMBLY_BYTES_MAX: usize = 256 * 1_024 * 1_024;
/// A buffer larger than this is given back to the allocator after use instead of being kept for the next connection.
pub const KEPT_BUFFER_BYTES_MAX: usize = 64 * 1_024;
/// Send buffers one shard keeps for reuse. More are given back to the allocator.
pub const KEPT_BUFFERS_MAX: usize = 256;

/// Seconds a client has for its opening handshake. Longer: the connection is closed.
pub const HANDSHAKE_S_MAX: u16 = 10;
/// Seconds a client has to answer our Close frame and to take what is still to be sent. Longer: the connection is reset.
pub const CLOSE_S_MAX: u16 = 5;
/// A session is reaped when nothing came for this many heartbeat periods.
pub const SILENT_HEARTBEATS: u16 = 2;
/// Seconds between two ticks of the coarse clock that heartbeats are counted in.
pub const TICK_S: u64 = 1;
/// A sweep looks at every slot once in this many ticks, a slice of the slab at each tick.
pub const SWEEP_TICKS: usize = 2;
/// Milliseconds between two offers of held requests to a router whose queue is full.
pub const BACKLOG_RETRY_MS: u64 = 1;
/// Seconds a drain may take before the process exits with connections still open.
pub const DRAIN_S_MAX: u64 = 10;
/// The window of reconnect times a draining gateway tells its clients, in milliseconds.
pub const GO_AWAY_RECONNECT_MS: (u32, u32) = (0, 5_000);
/// The window for a session that was replaced or broke a rule: a client that comes back all the same does not do so
/// in a storm.
pub const GO_AWAY_POLICY_MS: (u32, u32) = (60_000, 300_000);
/// Seconds after which a client refused with 503 may try again.
pub const REFUSED_RETRY_S: u32 = 5;

/// Connections waiting to be accepted, for each shard's listener; the kernel caps it at `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 65_535;

/// Seconds a starting gateway waits for an address that is still taken. Longer: exit 2.
pub const ADDRESS_S_MAX: u64 = 5;
/// Milliseconds between two tries for it.
pub const ADDRESS_RETRY_MS: u64 = 20;

/// Largest `--max-message-bytes`: a length the frame decoder, the pools and a `u32` all hold.
pub const MESSAGE_BYTES_CEILING: u64 = 64 * 1_024 * 1_024;
/// Bytes of a Send in JSON around its payload: field names, numbers of full length, spaces of a kind printer.
pub const SEND_ENVELOPE_BYTES_MAX: u64 = 512;

/// The largest payload that fits a message of `message_bytes` in either encoding; JSON writes it as base64, four
/// characters for three bytes. Welcome must promise no more, or a client that keeps to it is closed with 1009.
pub const fn payload_bytes_max(message_bytes: u64) -> u32 {
    let bytes = message_bytes.saturating_sub(SEND_ENVELOPE_BYTES_MAX) / 4 * 3;
    if bytes < u32::MAX as u64 { bytes as u32 } else { u32::MAX }
}

/// Largest `--heartbeat-s`: the coarse clock is 16 bits of seconds and must not wrap within the silence we measure.
pub const HEARTBEAT_S_MAX: u32 = 3_600;
/// Largest `--shards`: a shard number is 16 bits in a session's address; more threads than this help no machine.
pub const SHARDS_MAX: u16 = 256;

const _: () = assert!(
    HEARTBEAT_S_MAX * (SILENT_HEARTBEATS as u32) + (SWEEP_TICKS as u32) < u16::MAX as u32 / 2,
    "the silence that reaps a session must fit half of the 16-bit tick, or it looks like the future"
);
const _: () =
    assert!(handshake::HEADER_BYTES_MAX < KEPT_BUFFER_BYTES_MAX, "a whole request head fits a pooled buffer");
const _: () =
    assert!(RECEIVE_BUFFERS.is_power_of_two(), "io_uring wants a power of two (io_uring_register(2))");
const _: () = assert!(OUTBOX_RESUME_BYTES < OUTBOX_PAUSE_BYTES, "a paused connection must be able to resume");
