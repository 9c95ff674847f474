//! Every bound of the gateway: its size, what it bounds, and what happens when it is reached.
//!
//! What operators choose stands in `config`; what follows from the design stands here, and relations between
//! limits are asserted at compile time.

use roost_proto::handshake;

/// Entries of a ring's submission queue. Full: it is submitted early, nothing is lost.
pub const RING_SUBMISSIONS: u32 = 256;
/// Entries of a ring's completion queue. Full: the kernel keeps the rest (`IORING_FEAT_NODROP`) and we drain it next turn.
/// The kernel also sizes its table of cancellable operations by it: one bucket for 32 entries, at most 256 buckets.
pub const RING_COMPLETIONS: u32 = 8_192;
/// Places in one ring's table of direct descriptors. The kernel allows min(`RLIMIT_NOFILE`, 2^20)
/// (`io_uring_register(2)`, `IORING_REGISTER_FILES2`); more than this makes no connection cheaper and the chains of
/// the 256 buckets longer, which each cancellation walks. Full: the next ring is opened.
pub const RING_PLACES_MAX: u32 = 16_384;
/// Rings of a shard: the ring number of a [`crate::ring::Descriptor`] has 12 bits. All full: clients wait in the backlog.
pub const RINGS_MAX: usize = 1 << 12;
/// A ring that is not the lowest is accepted into again when this part of its places is free: one in so many.
pub const RING_REUSED_SHARE: u32 = 8;
/// Empty rings kept open, so that a connection that comes and goes does not open and close a ring each time.
pub const RINGS_SPARE: usize = 1;
/// Rings closed in one tick. More wait for the next: closing one is work for the kernel.
pub const RINGS_CLOSED_PER_TICK_MAX: usize = 16;
/// Descriptors of the process that are not for rings: files of the store, HTTP connections, the rest of the process. Of a
/// limit that is lower than twice as many it is half.
pub const PROCESS_FILES_RESERVED: u64 = 1_024;
/// Accepts in flight on one shard; never more than clients in the backlog, nor than places free in the ring.
pub const ACCEPTS_IN_FLIGHT_MAX: u32 = 256;
/// Connections of a shard beyond `--max-connections` that are on their way to their 503. So many: nobody is accepted until
/// one of them is gone, clients wait in the listen backlog; the accepts in flight by then still complete.
pub const REFUSING_MAX: u32 = 1_024;
/// Completions a shard takes in one turn. The rest stays in the rings, and the next turn does not sleep.
pub const COMPLETIONS_PER_TURN_MAX: usize = 4_096;

/// Bytes the kernel charges for one ring against `RLIMIT_MEMLOCK` of a process without `CAP_IPC_LOCK` (since Linux 6.14): 37 pages
/// for the ring (55 fit 8 MiB and the 56th fails, measured on 6.18), rounded up for its buffers. Full: the start says so.
pub const RING_LOCKED_BYTES: u64 = 40 * 4_096;

/// The `fs.file-max` that a gateway short of system-wide files advises: ten million connections and room beside them.
pub const FILE_MAX_ADVISED: u64 = 12_000_000;

/// Bytes of kernel memory an idle connection is reckoned with (docs/MEMORY.md).
pub const CONNECTION_KERNEL_BYTES: u64 = 4_190;
/// Bytes of the gateway's and the router's memory a session is reckoned with (docs/MEMORY.md).
pub const CONNECTION_USER_BYTES: u64 = 160;
/// Both together, by which `--max-connections` is checked against the machine's memory.
pub const CONNECTION_BYTES: u64 = CONNECTION_KERNEL_BYTES + CONNECTION_USER_BYTES;
/// Memory that is not given to idle connections: buffers of busy ones, the store, the system. Never more than one part in
/// [`MEMORY_RESERVE_SHARE`] of what there is, so that a small machine can hold some.
pub const MEMORY_RESERVE_BYTES: u64 = 1 << 30;
/// See [`MEMORY_RESERVE_BYTES`].
pub const MEMORY_RESERVE_SHARE: u64 = 4;

/// Bytes of one receive buffer, of either kind: a typical message with its frame, several heartbeats.
pub const RECEIVE_BUFFER_BYTES: u32 = 4_096;
/// Buffers a shard reads into when a poll has fired. None free: the connection waits in a list in which each stands at
/// most once, and reads when one comes back, which is in the next turn.
pub const READ_BUFFERS: u16 = 256;
/// Read buffers whose memory is kept while the shard is at rest.
pub const READ_BUFFERS_KEPT: u16 = 16;
/// Reads that a turn begins of connections whose last read filled its buffer. More: they wait for the next turn, in order, so that a
/// turn is no longer than so many buffers of the smallest frames take.
pub const GREEDY_READS_PER_TURN: u32 = 4;
/// Messages for which a turn begins such reads, by what was in the last that filled their buffers; and messages in the buffers that
/// multishot receives fill in a turn. More: the turn begins one read; the connection that received them goes back to the poll.
pub const GREEDY_MESSAGES_PER_TURN: u64 = 512;
/// Buffers that multishot receives may fill in one turn. More: the connection that filled it goes back to the poll.
pub const GREEDY_RECEIVES_PER_TURN: u32 = 8;
/// Buffers a ring provides for the multishot receives of its busy connections, while it has any. None left: the
/// receive ends with `ENOBUFS` and its connection goes back to the poll.
pub const PROVIDED_BUFFERS: u16 = 64;
/// Provided buffers of all rings of a shard together. Used up: connections of further rings stay with the poll.
pub const PROVIDED_BUFFERS_MAX: usize = 1_024;
/// Largest `--busy-poll-us`. More: refused at start.
pub const BUSY_POLL_US_MAX: u32 = 1_000;
/// Connections of a shard that may be busy (multishot receive) at a time. More stay with the poll.
pub const BUSY_MAX: usize = 256;
/// A connection that is read so often within one tick becomes busy.
pub const BUSY_READS: u8 = 8;
/// A busy connection that received less often than this in a full tick goes back to the poll.
pub const BUSY_KEPT_RECEIVES: u8 = 2;

/// Items a shard's list keeps room for while at rest; what a storm made it grow to beyond that is given back.
pub const KEPT_LIST_ITEMS: usize = 1_024;

/// Effects of the router waiting for one shard. Full: the router keeps them, retries, and stops taking requests.
pub const MAILBOX_EFFECTS_MAX: usize = 16_384;
/// Effects a shard takes from its mailbox in one turn, so that sockets are served in between.
/// More: the rest waits in the mailbox for the next turn.
pub const EFFECTS_PER_TURN_MAX: usize = 1_024;
/// Requests a shard holds while the router's queue is full; the connections they came from are not read meanwhile. Full: no session is
/// read until the router has taken them all. That sessions begin and end is always held.
pub const BACKLOG_REQUESTS_MAX: usize = 65_536;
/// Bytes of memory that these requests may take. Full: as above; the buffer, or the message, that reaches the bound is still taken.
pub const BACKLOG_BYTES_MAX: usize = 64 * 1_024 * 1_024;

/// Milliseconds that a receipt may wait in its connection's outbox for another frame to go with.
pub const RECEIPT_WAIT_MS: u64 = 250;
/// Milliseconds that any other event may wait so while the shard is crowded.
pub const EVENT_WAIT_MS: u64 = 100;
/// Waits end at multiples of this many milliseconds, so that a shard wakes for many of them at once.
pub const WAIT_GRID_MS: u64 = 10;
/// A shard that takes so many effects in a tick is crowded in the next.
pub const CROWDED_EFFECTS: u32 = 20_000;
/// Bytes of an outbox that do not wait for company any more. More: they leave at once.
pub const WAITING_BYTES_MAX: usize = 16 * 1_024;

/// Connections of a user that a shard names to an operator who asks for them. More: the answer says so. Each takes a file descriptor of
/// the process for the moment in which its address is looked up.
pub const INQUIRY_FOUND_MAX: usize = 64;
/// Milliseconds in which all shards have to answer an operator. Longer: 503.
pub const INQUIRY_MS_MAX: u64 = 5_000;

/// Seconds that the one Send of a shard whose latency is measured may wait for its Sent. Longer: it is given up, and the next is
/// measured.
pub const SEND_MEASURED_S_MAX: u64 = 60;

/// Bytes waiting to be sent to one connection before it is no longer read (it sends faster than it reads).
pub const OUTBOX_PAUSE_BYTES: usize = 512 * 1_024;
/// A paused connection is read again when no more than this waits.
pub const OUTBOX_RESUME_BYTES: usize = 64 * 1_024;
/// Bytes that may wait for one connection beyond one message. More: it is closed, the rest stays in the store.
pub const OUTBOX_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// Bytes that wait, or are on their way, for all connections of a shard, from which a connection is paused as soon as
/// [`OUTBOX_RESUME_BYTES`] wait for it.
pub const OUTBOXES_PRESSED_BYTES: usize = 64 * 1_024 * 1_024;
/// The same for which no shard has room. More: connections for which more than [`OUTBOX_RESUME_BYTES`] wait are ended when they are next
/// looked at, until there is room again; what the router had for them stays in the store.
pub const OUTBOXES_BYTES_MAX: usize = 256 * 1_024 * 1_024;

/// Bytes of partial messages and handshakes one shard holds. Full: the connection that asks for more is closed with 1013.
pub const ASSEMBLY_BYTES_MAX: usize = 256 * 1_024 * 1_024;
/// Slots a turn looks at for large partial messages while these take more than half of [`ASSEMBLY_BYTES_MAX`]. More: the next turn goes on.
pub const RELIEF_SLOTS_PER_TURN_MAX: u32 = 128;
/// Milliseconds between two such turns while nothing else happens.
pub const RELIEF_RETRY_MS: u64 = 10;
/// Bytes of a partial message, or of input of a paused connection, for which nobody is closed, unless there is little room for some
/// seconds: see [`RELIEF_ROUNDS_MAX`].
pub const RELIEF_SPARED_BYTES: usize = 16 * 1_024;
/// The same of a request's head: who behaves sends it whole.
pub const RELIEF_SPARED_HEAD_BYTES: usize = 1_024;
/// Seconds without a byte after which a session that holds more of a message is closed, while partial messages take more than half of
/// [`ASSEMBLY_BYTES_MAX`]. From three quarters on nobody is waited for.
pub const RELIEF_SILENT_S: u16 = 2;
/// Looks through the slab, one in a tick at most, that end with more than three quarters taken: from the second on, every two of them
/// halve what is spared, for the silent first. More: nothing is left to be halved.
pub const RELIEF_ROUNDS_MAX: u8 = 2 * RELIEF_SPARED_BYTES.ilog2() as u8 + 1;
/// A buffer larger than this is given back to the allocator after use instead of being kept for the next connection.
/// Larger: its memory is freed.
pub const KEPT_BUFFER_BYTES_MAX: usize = 16 * 1_024;
/// Send buffers one shard keeps for reuse: one for each effect of a turn. More are given back to the allocator.
pub const KEPT_BUFFERS_MAX: usize = 1_024;
/// Send buffers it keeps from tick to tick, whatever the traffic.
pub const KEPT_BUFFERS_AT_REST: usize = 16;

/// Seconds in which the tokens of a connection's limit (frames, bytes) may all come back. Longer: such a burst is refused at start by `rates`.
pub const RATE_BURST_S_MAX: u64 = 9_000;

/// Seconds a client has for its opening handshake, unless `--handshake-s` says otherwise. Longer: the connection is closed.
pub const HANDSHAKE_S_MAX: u16 = 10;
/// Bytes of a PROXY header, TLVs included; its senders keep to 536 (section 2.2). Larger: the connection is closed without an answer.
pub const PROXY_HEADER_BYTES_MAX: usize = 1_024;
/// Connections of a shard of whose PROXY header only a part has come. More: they are closed without an answer; a header comes in one
/// piece, unless it comes from somebody who means no good.
pub const PROXY_PARTIAL_MAX: usize = 1_024;
/// Largest `--handshake-s`. More: refused at start.
pub const HANDSHAKE_S_CEILING: u16 = 600;
/// Connections of a process in their opening handshake, unless `--handshakes-max` says otherwise; by default never more than a
/// quarter of `--max-connections`. Full: the oldest is ended for each that comes.
pub const HANDSHAKES_MAX: u32 = 65_536;
/// Part of `--max-connections` that connections in their handshake may take by default: one in so many. See [`HANDSHAKES_MAX`].
pub const HANDSHAKES_SHARE: u64 = 4;
/// They may take so many places all the same. See [`HANDSHAKES_MAX`].
pub const HANDSHAKES_MIN: u64 = 256;
/// Seconds in which a session that is not read, because it takes too little, may take no send as a whole. Longer: it is ended.
pub const STALLED_S_MAX: u16 = 60;
/// Seconds a client has to answer our Close frame and to take what is still to be sent. Longer: the connection is reset.
pub const CLOSE_S_MAX: u16 = 5;
/// Bytes that are read and thrown away of a connection after our Close frame or refusal: what our socket takes (6 MiB) and what the
/// peer's had taken already (4 MiB) by the defaults of Linux, `tcp_rmem` and `tcp_wmem` of tcp(7), and the rest of a message of 16 MiB that
/// it is in the middle of writing. More: the connection is reset.
pub const DISCARDED_BYTES_MAX: usize = 26 * 1_024 * 1_024;
/// A session is reaped when nothing came for this many heartbeat periods.
pub const SILENT_HEARTBEATS: u16 = 2;
/// Seconds between two ticks of the coarse clock that heartbeats are counted in.
pub const TICK_S: u64 = 1;
/// A sweep looks at every slot once in this many ticks.
pub const SWEEP_TICKS: u64 = 2;
/// Slots a sweep (or a drain) looks at in one turn. A sweep that is due for more goes on in the next turn.
/// More: the next turn goes on.
pub const SWEEP_SLOTS_PER_TURN_MAX: u32 = 4_096;
/// Milliseconds between two offers of held requests to a router whose queue is full.
pub const BACKLOG_RETRY_MS: u64 = 1;
/// Seconds a drain may take unless `--drain-s` says otherwise. Longer: who is still connected is cut, and counted in the log.
pub const DRAIN_S: u64 = 30;
/// Least `--drain-s`: half of it is for sending away, half for leaving. Less: refused at start.
pub const DRAIN_S_MIN: u64 = 2;
/// Largest `--drain-s`. More: refused at start.
pub const DRAIN_S_MAX: u64 = 3_600;
/// Sessions that a drain sends away in a second unless `--drain-closes-per-s` says otherwise, over all shards. More sessions than
/// that in the time of a drain: as many as are needed to be done in it, evenly.
pub const DRAIN_CLOSES_PER_S: u32 = 5_000;
/// Largest `--drain-closes-per-s`. More: refused at start.
pub const DRAIN_CLOSES_PER_S_MAX: u32 = 10_000_000;
/// Milliseconds of a step of a drain: within a step a shard sends away its share of the rate, and no more. The rest waits for the next.
pub const DRAIN_STEP_MS: u64 = 20;
/// Steps of a drain that a turn may miss and make up for. More: it was a stall, and the drain goes faster from there on.
pub const DRAIN_STEPS_MISSED_MAX: u64 = 4;
/// Seconds of a drain in which nobody is sent away any more, for the last to answer our Close frame and to go; never more than half of it.
/// Longer: they are cut.
pub const DRAIN_CLOSING_S: u64 = 10;
/// Milliseconds from the beginning of a drain in which clients that were accepted before may end their handshakes. Longer: they are
/// answered 503.
pub const DRAIN_HANDSHAKE_MS: u64 = 1_000;
/// Clients that should come back in a second after a drain: their windows of reconnect times grow with the number of connections.
/// More connections than fit the longest window: it is not made longer.
pub const RECONNECTS_PER_S: u32 = 5_000;
/// Milliseconds of the longest window. More connections: they come back faster than [`RECONNECTS_PER_S`].
pub const GO_AWAY_SPREAD_MS_MAX: u32 = 300_000;
/// The least window of reconnect times a draining gateway tells its clients, in milliseconds, and the one of a gateway that is short of memory.
pub const GO_AWAY_RECONNECT_MS: (u32, u32) = (0, 5_000);

/// Seconds in which a process that takes over, and the gateway it takes over from, must answer each other. Longer: nobody takes over.
pub const TAKEOVER_ANSWER_S: u64 = 10;
/// Seconds beyond its drain in which the old gateway must have closed its store. Longer: the new one exits 2.
pub const TAKEOVER_CLOSE_S: u64 = 60;
/// Seconds in which a store is to be opened. Longer: the service manager is asked for no more time, and the gateway that was taken over
/// from, which would serve again if the new one failed, ends.
pub const STORE_OPENING_S_MAX: u64 = 600;
/// Bytes of a line that they say to each other. Longer: nobody takes over.
pub const TAKEOVER_LINE_BYTES_MAX: usize = 256;
/// Milliseconds between two reports to the service manager while the gateway drains or waits.
pub const MANAGER_TOLD_MS: u64 = 1_000;
/// Seconds that the service manager's time-out is moved on by each report. Longer without one: it kills the process.
pub const MANAGER_EXTENSION_S: u64 = 30;
/// The window for a session that was replaced or broke a rule: a client that comes back all the same does not do so
/// in a storm.
pub const GO_AWAY_POLICY_MS: (u32, u32) = (60_000, 300_000);
/// The window from which a client refused with 503 is told its time to come back, in seconds: those refused together do not come
/// back together.
pub const REFUSED_RETRY_S: (u32, u32) = (5, 30);

/// Milliseconds between two looks at what may close the gateway to new sessions.
pub const ADMISSION_SAMPLE_MS: u64 = 250;
/// Percent of the last ten seconds in which some task of our control group, or of the machine, waited for memory
/// (`proc_pressure_memory(5)`): new upgrades are refused from the first on and let in again below the second.
pub const ADMISSION_STALL_PERCENT: (u32, u32) = (20, 5);
/// The same of the memory that a limited control group of ours uses, page cache not counted.
pub const ADMISSION_MEMORY_PERCENT: (u32, u32) = (95, 90);
/// The same of the places of a listener's backlog that are taken, for [`ADMISSION_FULL_MS`].
pub const ADMISSION_BACKLOG_PERCENT: (u32, u32) = (75, 25);
/// The same of the requests that a shard holds because the router's queue is full, for [`ADMISSION_FULL_MS`].
pub const ADMISSION_HELD_REQUESTS: (u32, u32) = (1, 1);
/// Milliseconds for which a queue has to be full without a pause before new upgrades are refused: one that is full for a moment
/// is what it is there for.
pub const ADMISSION_FULL_MS: u64 = 5_000;
/// Milliseconds of calm after which they are let in again.
pub const ADMISSION_CALM_MS: u64 = 2_000;

/// Connections waiting to be accepted, for each shard's listener; the kernel caps it at `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 65_535;

/// Seconds a starting gateway waits for an address that is still taken. Longer: exit 2.
pub const ADDRESS_S_MAX: u64 = 5;
/// Milliseconds between two tries for it.
pub const ADDRESS_RETRY_MS: u64 = 20;

/// Largest `--max-message-bytes`: a length the frame decoder, the pools and a `u32` all hold. Larger: refused at start.
pub const MESSAGE_BYTES_CEILING: u64 = 64 * 1_024 * 1_024;
/// Bytes of a Send in JSON around its payload: field names, numbers of full length, spaces of a kind printer.
/// Longer: a Send with the largest payload is closed with 1009.
pub const SEND_ENVELOPE_BYTES_MAX: u64 = 512;

/// The largest payload that fits a message of `message_bytes` in either encoding; JSON writes it as base64, four
/// characters for three bytes. Welcome must promise no more, or a client that keeps to it is closed with 1009.
pub const fn payload_bytes_max(message_bytes: u64) -> u32 {
    let bytes = message_bytes.saturating_sub(SEND_ENVELOPE_BYTES_MAX) / 4 * 3;
    if bytes < u32::MAX as u64 { bytes as u32 } else { u32::MAX }
}

/// Days for which anything can be kept by number: a century. More: refused at start.
pub const DAYS_MAX: u32 = 36_500;
/// Largest `--group-members-max`: what the router has room for (`GROUP_MEMBERS_CONFIG_MAX` there). More: refused at start.
pub const GROUP_MEMBERS_CEILING: u32 = 4096;
/// Largest `--heartbeat-s`: the coarse clock is 16 bits of seconds and must not wrap within the silence we measure.
/// More: refused at start.
pub const HEARTBEAT_S_MAX: u32 = 3_600;
/// Largest `--shards`: a shard number is 16 bits in a session's address; more threads than this help no machine.
/// More: refused at start.
pub const SHARDS_MAX: u16 = 256;

const _: () = assert!(
    HEARTBEAT_S_MAX * (SILENT_HEARTBEATS as u32) + (SWEEP_TICKS as u32) < u16::MAX as u32 / 2,
    "the silence that reaps a session must be over long before the 16-bit tick wraps, or it looks short again"
);
const _: () =
    assert!(handshake::HEADER_BYTES_MAX < KEPT_BUFFER_BYTES_MAX, "a whole request head fits a pooled buffer");
const _: () = assert!(KEPT_BUFFERS_MAX >= EFFECTS_PER_TURN_MAX, "a turn's sends must not allocate each time");
const _: () =
    assert!(PROVIDED_BUFFERS.is_power_of_two(), "io_uring wants a power of two (io_uring_register(2))");
const _: () = assert!(
    RING_PLACES_MAX <= 1 << 20 && RINGS_MAX <= 1 << 12,
    "a descriptor is 12 bits of ring number and 20 bits of place"
);
const _: () = assert!(READ_BUFFERS.is_multiple_of(64), "the pool's map of free buffers has 64 in a word");
const _: () = assert!(
    BUSY_KEPT_RECEIVES < BUSY_READS,
    "a connection that has just become busy would go back to the poll at once"
);
const _: () = assert!(REFUSED_RETRY_S.0 < REFUSED_RETRY_S.1, "a window");
const _: () = assert!(
    ADMISSION_STALL_PERCENT.0 > ADMISSION_STALL_PERCENT.1
        && ADMISSION_MEMORY_PERCENT.0 > ADMISSION_MEMORY_PERCENT.1
        && ADMISSION_BACKLOG_PERCENT.0 > ADMISSION_BACKLOG_PERCENT.1
        && ADMISSION_HELD_REQUESTS.0 >= ADMISSION_HELD_REQUESTS.1,
    "what closes the gateway must be worse than what opens it, or it flaps"
);
const _: () =
    assert!(OUTBOXES_PRESSED_BYTES < OUTBOXES_BYTES_MAX, "connections are paused before any is ended");
const _: () = assert!(OUTBOX_RESUME_BYTES < OUTBOX_PAUSE_BYTES, "a paused connection must be able to resume");
const _: () = assert!(
    WAITING_BYTES_MAX <= OUTBOX_RESUME_BYTES,
    "a connection must not be paused for what waits by our own choice"
);
const _: () = assert!(
    DRAIN_CLOSING_S > CLOSE_S_MAX as u64 + SWEEP_TICKS * TICK_S + TICK_S,
    "who is sent away last must be reset by the sweep before the process cuts it"
);
const _: () = assert!(
    DRAIN_HANDSHAKE_MS <= DRAIN_S_MIN * 1_000 / 2,
    "who ended a handshake in time must be sent away within the shortest drain"
);
const _: () = assert!(
    MANAGER_EXTENSION_S * 1_000 > 10 * MANAGER_TOLD_MS,
    "a report that comes late must not have the process killed"
);
