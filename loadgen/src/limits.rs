//! Every bound of the load generator, with its owner and what happens when it is reached.

use std::time::Duration;

/// Messages of one run's schedule. Owner: [`crate::schedule::Plan`], 16 to 20 bytes a message, and each worker's ledger, 28 to 52.
/// Full: the run is refused as bad usage, before anything is sent.
pub const MESSAGES_MAX: u64 = 10_000_000;

/// Deliveries of one run with groups: a bit each. Owner: the ledger. Full: bad usage.
pub const DELIVERIES_MAX: u64 = 1 << 32;
/// Clients of a group at least and at most (--group-size). Fewer could leave one alone; more are refused by the contract's default.
pub const GROUP_SIZE: (i64, i64) = (3, 1024);

/// Groups of one mix. Owner: the plan. Full: bad usage.
pub const MIX_GROUPS_MAX: u32 = 1 << 22;
/// Members of all groups of one mix together, 8 bytes each. Owner: the plan. Full: bad usage.
pub const MIX_MEMBERSHIPS_MAX: u64 = 1 << 24;
/// Times offline of all clients of one mix together, 16 bytes each. Owner: the plan. Full: bad usage.
pub const MIX_WINDOWS_MAX: u64 = 1 << 24;
/// Tables of one kind in a mix, and parts of its curve. Full: bad usage.
pub const MIX_KINDS_MAX: usize = 256;
/// Answers in a row in a mix. Full: bad usage.
pub const MIX_REPLIES_MAX: u32 = 1000;
/// The longest time that a mix can name, in seconds: a year. Full: bad usage.
pub const MIX_SPAN_S_MAX: f64 = 366.0 * 86_400.0;
/// The shortest mean time online or offline that is played, in microseconds: clients look at the plan twice a second. Shorter: both
/// times are stretched alike.
pub const MIX_STAY_US_MIN: u64 = 2_000_000;
/// Steps of a mix's intensity: its curve and both ends of each peak. Full: never, by the bounds above.
pub const INTENSITY_STEPS_MAX: usize = 3 * MIX_KINDS_MAX + 1;

/// Clients with kernel sockets of one run. Owner: the workers. Full: bad usage. The file limit is usually lower.
pub const CLIENTS_MAX: u32 = 1_000_000;

/// Phantom clients of one run. Owner: the phantom engine. Full: bad usage. Memory is usually lower.
pub const PHANTOMS_MAX: u32 = 20_000_000;

/// What a client with a kernel socket takes of memory, its socket and the generator's own part (docs/LOADGEN.md).
pub const CLIENT_BYTES: u64 = 16_000;

/// Share of a server's open files above which it is said to have used them up: the last few are not for connections.
pub const FILES_FULL_SHARE: f64 = 0.98;

/// Descriptors kept for everything that is no client socket: rings, timers, epoll, the report.
pub const FILES_RESERVED: u64 = 64;

/// Runtime threads. Full: bad usage.
pub const THREADS_MAX: u32 = 64;

/// Their name begins so, and their number follows.
pub const WORKER_NAME: &str = "loadgen-";

/// Share of the measured part that the generator's busiest thread may work. Above: the generator, not the server, may be what held
/// the figures down.
pub const CPU_SHARE_MAX: f64 = 0.9;
/// Share of the measured part that a thread of the generator may wait for a CPU. Above: something else wants the same CPUs.
pub const CPU_WAIT_SHARE_MAX: f64 = 0.2;

/// Payload of one message. Full: bad usage.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Length of the measured part. Full: bad usage.
pub const DURATION_S_MAX: u64 = 7 * 24 * 3600;

/// Source addresses on loopback. Full: bad usage.
pub const SOURCE_ADDRESSES_MAX: u32 = 60_000;

/// One read of one client. Owner: the link, one such buffer a client. A longer message takes several reads.
pub const READ_BUFFER_BYTES: usize = 4 * 1024;

/// tungstenite's read buffer of a client, allocated at once; its default of 128 KiB is too much for thousands.
pub const WS_READ_BUFFER_BYTES: usize = 1024;

/// The longest WebSocket message a client takes. Full: the connection ends with a protocol error.
pub const WS_MESSAGE_BYTES_MAX: usize = 2 << 20;

/// Bytes waiting for the socket of one client. Full: its next messages wait in its queue of indices.
pub const OUT_BYTES_MAX: usize = 256 * 1024;

/// Messages of one client sent and not yet answered. Full: the next ones wait in its queue of indices, which the
/// schedule bounds.
pub const UNANSWERED_MAX: usize = 1024;

/// Connections of one worker in the making. Full: the next ones wait their turn, in order.
pub const CONNECTING_MAX: usize = 256;

/// How often a --secret-file that is not there is looked for; --ready-s bounds the wait.
pub const SECRET_LOOK_EVERY: Duration = Duration::from_millis(50);

/// From the SYN to the end of the handshake. Reached: the attempt counts as failed and is made again.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// From the handshake to Welcome. Reached: the connection is given up and made again.
pub const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

/// The first pause before a reconnect; doubled each time up to [`BACKOFF_MAX`], each with half of it at random.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest pause before a reconnect.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Attempts in a row that fail. Reached: the client is counted as failed.
pub const CONNECT_ATTEMPTS_MAX: u32 = 60;
/// The longest pause that a server's `GoAway` or retry hint may ask for.
pub const SERVER_PAUSE_MAX: Duration = Duration::from_mins(1);

/// Times one message is sent again because the server refused it for now. Reached: it counts as refused.
pub const RETRIES_MAX: u8 = 100;

/// The longest that events wait for their acknowledgement, unless --ack-delay-ms says otherwise; the next tick sends it.
pub const ACK_DELAY_MS: u64 = 20;
/// The longest --ack-delay-ms. Full: bad usage.
pub const ACK_DELAY_MS_MAX: u64 = 10_000;
/// Unacknowledged events after which an acknowledgement leaves at once.
pub const ACK_EVENTS_MAX: u32 = 64;

/// Message numbers in one Read frame; the rest follows in the next.
pub const READ_MESSAGES_MAX: usize = 256;

/// Receipts whose message number is not known yet. Owner: the ledger, per worker. Full: counted as unknown.
pub const ORPHAN_RECEIPTS_MAX: usize = 1 << 20;

/// Different error texts that the report keeps. Full: counted, not kept.
pub const ERROR_TEXTS_MAX: usize = 16;
/// Length of one kept error text.
pub const ERROR_TEXT_BYTES_MAX: usize = 300;

/// A worker's tick: acknowledgements, windows, retries.
pub const TICK: Duration = Duration::from_millis(20);
/// Ticks in which all clients of a worker are looked at once (heartbeats, missing Welcome).
pub const SWEEP_TICKS: usize = 25;

/// Messages a pacer hands over in a row before it lets the readers run.
pub const PACER_BATCH: u32 = 128;

/// A message counts as late when the generator hands it to the socket this much after its time.
pub const LAG_US_MAX: u64 = 10_000;
/// Share of late messages above which the generator counts as saturated.
pub const LAG_SHARE_MAX: f64 = 0.01;

/// Submission entries of a worker's ring; tokio-uring submits when the thread parks or when these are full.
pub const RING_ENTRIES: u32 = 1024;
/// Completion entries of a worker's ring. Full: the kernel keeps the rest and the next enter fetches it.
pub const RING_COMPLETIONS: u32 = 16 * 1024;

/// The receive buffer of a kernel client that will stop reading; the kernel doubles it (socket(7), `SO_RCVBUF`). Full: the server's
/// sends wait, which is what such a client is there for.
pub const SLOW_RECEIVE_BYTES: usize = 4 * 1024;
/// The longest --drip-ms. Full: bad usage.
pub const DRIP_MS_MAX: u64 = 600_000;
/// The beginning of an answer to a handshake that was dripped: its status line.
pub const DRIP_ANSWER_BYTES: usize = 512;

/// Attacks of one siege. Full: bad usage.
pub const SIEGE_ATTACKS_MAX: usize = 64;
/// Attackers of one attack (--attackers). Full: bad usage. The file limit is usually lower.
pub const ATTACKERS_MAX: u32 = 1_000_000;
/// Connections that the attackers of one attack begin a second when it begins.
pub const ATTACK_CONNECTS_PER_S: f64 = 5_000.0;
/// From the end of an attacker's connection to its next.
pub const ATTACK_PAUSE: Duration = Duration::from_millis(200);
/// Bytes of an attacker's write.
pub const ATTACK_CHUNK_BYTES: usize = 16 * 1024;
/// Bytes of an attacker's read. Owner: the attacker, where it reads at all.
pub const ATTACK_READ_BYTES: usize = 16 * 1024;
/// An attacker whose write waits longer than this when the attack is over counts as not read.
pub const ATTACK_UNREAD_AFTER: Duration = Duration::from_millis(200);
/// The beginning of an answer to an attacker's upgrade request. Longer: what follows is taken for it.
pub const UPGRADE_ANSWER_BYTES_MAX: usize = 2048;
/// Between two bytes of a request head without end.
pub const HEAD_DRIP_PAUSE: Duration = Duration::from_millis(50);
/// Between two bytes of messages that come bytewise.
pub const BYTEWISE_PAUSE: Duration = Duration::from_millis(4);
/// Payload of the messages whose answers zero-window does not read.
pub const ZERO_WINDOW_MESSAGE_BYTES: usize = 4 * 1024;
/// The receive buffer of zero-window; the kernel doubles it.
pub const ZERO_WINDOW_RECEIVE_BYTES: usize = 2 * 1024;
/// How often a siege looks at the server's memory.
pub const SIEGE_LOOK_EVERY: Duration = Duration::from_millis(100);

/// Rounds of `churn`. Full: bad usage.
pub const ROUNDS_MAX: u32 = 1000;
/// Servers of one `compare`. Full: bad usage.
pub const SERVERS_MAX: usize = 16;
/// From the end of a run of `compare` to the beginning of the next, unless --rest-s says otherwise: the kernel frees sockets behind
/// grace periods.
pub const COMPARE_REST_S: u64 = 2;
/// Clients below which memory by connection is mostly noise: a slab page or an allocator's chunk more changes it.
pub const MEMORY_CLIENTS_MIN: u32 = 1000;
/// From the end of a round of `churn` to the reading of its memory.
pub const ROUND_REST: Duration = Duration::from_secs(3);

/// How long a gateway's resident set has to stay the same before the run begins: longer than its allocator keeps what is free.
pub const REST: Duration = Duration::from_millis(1500);
/// The longest wait for that.
pub const REST_MAX: Duration = Duration::from_secs(6);
/// How often it is looked at.
pub const REST_LOOK_EVERY: Duration = Duration::from_millis(100);

/// The quiet time at the end of a drain in which a late doubled message would still be seen.
pub const DRAIN_QUIET: Duration = Duration::from_millis(300);
/// How long the workers may take to hand in their results at the end.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// Packets that a queue of the TUN device holds, 8 bytes each until one comes. Full: the kernel drops, and TCP sends again.
pub const QUEUE_PACKETS: u32 = 65_536;

/// Buckets of a namespace's TCP hash table, 8 bytes each: a small one costs nothing, the largest is the kernel's bound.
pub const HASH_BUCKETS_MIN: u64 = 4096;
/// The kernel's bound on `tcp_child_ehash_entries`.
pub const HASH_BUCKETS_MAX: u64 = 16 << 20;

/// Lines kept of what a gateway of ours says on stderr. Full: the oldest goes.
pub const GATEWAY_LINES_KEPT: usize = 40;
/// Length of a line of it. Longer: it counts as several.
pub const GATEWAY_LINE_BYTES_MAX: u64 = 4096;
/// How often a gateway of ours is looked at while it is waited for.
pub const GATEWAY_LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a gateway of ours may take to drain after SIGTERM, and again after the second. Reached: SIGKILL.
pub const GATEWAY_STOP_MAX: Duration = Duration::from_mins(1);
/// How long the kernel may take to end a process with millions of sockets. Reached: an error, and the process is left to it.
pub const GATEWAY_REAP_MAX: Duration = Duration::from_mins(2);

/// How often memory is looked at. A ramp of 50,000 clients a second takes about 20 MB meanwhile.
pub const WATCH_EVERY: Duration = Duration::from_millis(100);
/// Packets that --pcap may be asked to keep. Full: bad usage.
pub const PCAP_PACKETS_MAX: u64 = 10_000_000;

/// Slab caches that the report names. Full: the largest growths stay.
pub const SLAB_CACHES_MAX: usize = 32;

/// How long the last lines of a gateway that has ended may take to arrive.
pub const GATEWAY_LAST_LINES_MAX: Duration = Duration::from_secs(1);

/// Packets other than IPv4 that one look into a TUN queue passes over. Reached: the caller looks again.
pub const FOREIGN_PACKETS_MAX: u32 = 64;

/// The longest latency a histogram holds, in microseconds (an hour). Above: counted as this.
pub const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Length of a report that `diff` reads. Full: bad usage.
pub const REPORT_BYTES_MAX: u64 = 64 << 20;

/// Length of one argument of the command line in the report. Longer: cut.
pub const COMMAND_BYTES_MAX: usize = 4096;

/// Intervals that the screen's plots show. Full: the oldest goes.
pub const SCREEN_POINTS_MAX: usize = 240;

/// The longest that one connection of a scraper may take; one is served at a time, and the others wait in the accept queue.
pub const SCRAPE_MAX: Duration = Duration::from_secs(2);
/// Bytes of a scraper's request head and of hyper's buffer for it. Full: the connection ends.
pub const SCRAPE_BYTES_MAX: usize = 16 * 1024;

/// Samples of a run's timeline, one a second. Owner: [`crate::timeline::Timeline`], some 5 KB each at most rates. Full: neighbours
/// are merged and the interval doubles.
pub const TIMELINE_SAMPLES_MAX: u32 = 600;

/// Buckets of the report's latency histogram: four a doubling up to [`LATENCY_US_MAX`].
pub const HISTOGRAM_BUCKETS_MAX: u32 = 128;

const _: () = assert!(1 << (HISTOGRAM_BUCKETS_MAX / 4) > LATENCY_US_MAX, "each latency has its bucket");
const _: () = assert!(WS_MESSAGE_BYTES_MAX > PAYLOAD_BYTES_MAX, "an echoed payload must fit a message");
const _: () = assert!(RING_COMPLETIONS >= 2 * RING_ENTRIES, "a submission's completion must have a place");
