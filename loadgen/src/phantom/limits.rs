//! Every bound of the phantom clients, with its owner and what happens when it is reached.

use std::time::Duration;

/// Ports of one phantom address, from [`PORT_MIN`] on. Full: the next address.
pub const PORTS: u32 = 60_000;
/// The first port of each phantom address.
pub const PORT_MIN: u16 = 2_000;

/// Flights of one thread: phantoms with bytes that are not acknowledged, not complete, or waiting for Welcome.
/// Owner: [`super::tcp::Stack`]. Full: new connections and heartbeats wait, and a message of the schedule stays queued.
pub const FLIGHTS_MAX: u32 = 64 * 1024;

/// Connections of one thread in the making. Full: the ramp waits, and is late.
pub const CONNECTING_MAX: usize = 4 * 1024;

/// Bytes of one phantom that wait for acknowledgement. Full: its next messages stay queued.
pub const OUT_BYTES_MAX: usize = 64 * 1024;

/// Bytes of one message that has not come whole. Full: a protocol error ends the connection.
pub const INPUT_BYTES_MAX: usize = 96 * 1024;

/// Payload of one message of a phantom: with its frame it has to fit [`OUT_BYTES_MAX`] and, echoed, [`INPUT_BYTES_MAX`].
/// Full: bad usage.
pub const PAYLOAD_BYTES_MAX: usize = 32 * 1024;

/// Header of a server's answer to the upgrade. Full: a protocol error ends the connection.
pub const RESPONSE_BYTES_MAX: usize = 8 * 1024;

/// Header lines of a server's answer to the upgrade. Full: a protocol error ends the connection.
pub const RESPONSE_HEADERS_MAX: usize = 32;

/// Bytes that a buffer of a flight keeps when the flight is given back. Above: the memory is freed.
pub const FLIGHT_BUFFER_KEPT_BYTES: usize = 2 * 1024;

/// The window a phantom offers (RFC 9293 section 3.8.6), without scaling. It bounds what is kept beyond a hole, too.
pub const WINDOW_BYTES: u16 = u16::MAX;

/// The window of a phantom that will stop reading: what it leaves unread fills it. Full: the server's sends wait.
pub const SLOW_WINDOW_BYTES: u16 = 4 * 1024;

/// The largest segment a phantom takes (RFC 9293 section 3.7.1): an MTU of 1,500 without options.
pub const MSS_OFFERED: u16 = 1460;
/// The largest segment to send where the peer names none (RFC 9293 section 3.7.1, MUST-15).
pub const MSS_DEFAULT: u16 = 536;
/// The smallest segment a peer can force on us: below it every byte would cost a packet.
pub const MSS_MIN: u16 = 64;

/// The first congestion window, in segments (RFC 6928).
pub const WINDOW_INITIAL_SEGMENTS: u32 = 10;

/// Retransmission timeout before the first sample (RFC 6298 section 2.1).
pub const RTO_INITIAL: Duration = Duration::from_secs(1);
/// The smallest retransmission timeout: Linux's, below RFC 6298's second, above the peer's delayed acknowledgement.
pub const RTO_MIN: Duration = Duration::from_millis(200);
/// The largest retransmission timeout (RFC 6298 section 2.5 allows a bound of 60 s).
pub const RTO_MAX: Duration = Duration::from_mins(1);
/// Retransmissions of a SYN in a row. Reached: the attempt failed.
pub const SYN_RETRIES_MAX: u8 = 6;
/// Retransmissions in a row without any acknowledgement: about 100 s at the least timeout (RFC 9293 section 3.8.3, R2).
/// Reached: the connection is given up.
pub const RETRIES_MAX: u8 = 9;
/// Duplicate acknowledgements that stand for a loss (RFC 5681 section 3.2).
pub const DUPLICATES_MAX: u8 = 3;

/// How long an acknowledgement may wait for something to go with (RFC 9293 section 3.8.6.3 allows 500 ms).
pub const ACK_DELAY: Duration = Duration::from_millis(25);
/// Acknowledgements of one thread that wait. Full: the next leave at once.
pub const ACKS_WAITING_MAX: usize = 256 * 1024;

/// Challenge acknowledgements of one thread in a second (RFC 5961 section 7). Full: what came is dropped silently.
pub const CHALLENGES_PER_S_MAX: u32 = 10_000;

/// How long a phantom waits for the peer's FIN after its own was acknowledged. Reached: RST.
pub const FIN_WAIT: Duration = Duration::from_secs(20);

/// From the SYN to Welcome. Reached: the attempt failed and is made again after a pause.
pub const UP_TIMEOUT: Duration = Duration::from_mins(1);

/// Slots of the timer wheel, a tick each. A later deadline takes another round.
pub const WHEEL_SLOTS: usize = 1024;
/// Resolution of the timers.
pub const TICK: Duration = Duration::from_millis(10);

/// The largest packet: what a TUN device hands over with segmentation offload.
pub const PACKET_BYTES_MAX: usize = 65_535;

/// Packets taken from the wire before due work has its turn.
pub const PACKETS_BATCH: usize = 256;
/// Batches that leave packets on the wire before timers are looked at all the same: more packets than a queue holds.
pub const BATCHES_BEFORE_TIMERS: usize = 1024;
/// Connections begun, heartbeats sent and messages handed over in one turn, each.
pub const WORK_BATCH: usize = 128;
/// The longest sleep of a thread that has nothing due.
pub const WAIT_MAX: Duration = Duration::from_millis(5);

/// How long a thread takes to reset what is connected at the end of a run. Reached: the rest is left to the server's own
/// timers.
pub const STOP_MAX: Duration = Duration::from_secs(20);

/// A connection counts as late when the generator begins it this much after its time.
pub const CONNECT_LAG_MAX: Duration = Duration::from_secs(1);

/// Packets that an impaired wire holds back for reordering, each way. Full: they go in order.
pub const REORDER_HELD_MAX: usize = 64;

const _: () = assert!(PORT_MIN as u32 + PORTS <= 65_536, "every port of an address must be one");
const _: () = assert!(
    CONNECTING_MAX < FLIGHTS_MAX as usize,
    "connections in the making must leave room for heartbeats"
);
const _: () =
    assert!(PAYLOAD_BYTES_MAX + 1024 <= OUT_BYTES_MAX, "a message with its frame must fit the output");
const _: () =
    assert!(PAYLOAD_BYTES_MAX + 1024 <= INPUT_BYTES_MAX, "a message with its frame must fit the input");
const _: () =
    assert!(2 * SLOW_WINDOW_BYTES as usize <= INPUT_BYTES_MAX, "what is left unread must fit the input");
const _: () = assert!(RESPONSE_BYTES_MAX <= INPUT_BYTES_MAX, "the answer to the upgrade is kept as input");
