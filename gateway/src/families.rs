//! Every metric family of `GET /metrics`: its name, type, unit, labels and meaning. The collectors take them from here, and so does
//! docs/METRICS.md, so that neither can say what the other does not.

/// What kind of number a family holds, in the words of `OpenMetrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size; its samples end in `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl Kind {
    /// As the `# TYPE` line writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The part of the gateway it tells of: a heading of docs/METRICS.md.
    pub part: &'static str,
    /// With its prefix, without the suffix that its kind adds.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// `bytes`, `seconds`, `microseconds`, or empty where things are counted.
    pub unit: &'static str,
    /// The labels of each of its samples, `le` of histograms not among them.
    pub labels: &'static [&'static str],
    /// What it means, without a full stop.
    pub help: &'static str,
}

macro_rules! families {
    ($($part:literal { $($constant:ident = $kind:ident $name:literal [$($label:literal)*] $unit:literal $help:literal;)* })*) => {
        $($(
            #[doc = concat!("Of `", $name, "`.")]
            pub const $constant: Family = Family {
                part: $part,
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                labels: &[$($label),*],
                help: $help,
            };
        )*)*
        /// All of them, in the order of docs/METRICS.md.
        pub const ALL: &[Family] = &[$($($constant,)*)*];
    };
}

families! {
    "Connections" {
        CONNECTIONS = Gauge "roost_connections" ["shard"] "" "Connections now, those on their way in or out included";
        CONNECTIONS_MAX = Gauge "roost_connections_max" [] "" "Connections there may be (--max-connections)";
        ACCEPTED = Counter "roost_accepted" ["shard"] "" "Connections accepted";
        ACCEPT_ERRORS = Counter "roost_accept_errors" ["shard"] "" "Accepts that failed: the table or the machine was full";
        UPGRADED = Counter "roost_upgraded" ["shard"] "" "Upgrades answered with 101";
        REFUSED = Counter "roost_refused" ["status"] "" "Upgrades refused, by HTTP status";
        NOT_ADMITTED = Counter "roost_not_admitted" ["reason"] "" "Connections that were not let in and whose upgrade is answered 503, by reason";
        ADMISSION_CLOSED = Gauge "roost_admission_closed" ["reason"] "" "1 while new connections are not let in for this reason";
        TOKENS_REFUSED = Counter "roost_tokens_refused" ["reason"] "" "Upgrades refused with 401, by what is wrong with their token";
        REFUSING = Gauge "roost_refusing" ["shard"] "" "Connections that were not let in, on their way out";
        HANDSHAKES_TIMED_OUT = Counter "roost_handshakes_timed_out" ["shard"] "" "Connections whose handshake took too long";
        LISTEN_BACKLOG = Gauge "roost_listen_backlog" ["shard"] "" "Clients that waited to be accepted, looked at once a second";
        LISTEN_BACKLOG_MAX = Gauge "roost_listen_backlog_max" ["shard"] "" "Clients that may wait to be accepted; beyond them the kernel drops handshakes (net.core.somaxconn)";
        PROXIED = Gauge "roost_proxied" ["shard"] "" "Connections whose client's address a proxy has told (--proxy-protocol)";
        PROXY_HEADERS_REFUSED = Counter "roost_proxy_headers_refused" ["shard"] "" "Connections closed without an answer because no valid PROXY header came first";
        HANDSHAKES_CROWDED_OUT = Counter "roost_handshakes_crowded_out" ["shard"] "" "Connections ended in their handshake, the oldest first, because there were too many of them (--handshakes-max)";
        HANDSHAKES = Gauge "roost_handshakes" ["shard"] "" "Connections in their handshake";
        ENDED = Counter "roost_ended" ["shard"] "" "Connections that are gone";
        CLOSED = Counter "roost_closed" ["code"] "" "Sessions closed by the gateway, by close code";
        CLOSED_BY_PEER = Counter "roost_closed_by_peer" ["code"] "" "Sessions closed by their client, by close code; none: a Close frame without one";
        LOST = Counter "roost_lost" ["shard"] "" "Connections whose peer was gone without a word: a FIN, a reset, or a reader that took too little";
        STALLED = Counter "roost_stalled" ["shard"] "" "Sessions ended because they sent more than they read, and took nothing of what was sent to them for too long";
        OUTBOXES_CROWDED_OUT = Counter "roost_outboxes_crowded_out" ["shard"] "" "Connections ended because too much output waited for all of the shard's together, and much of it for them";
        RELIEVED = Counter "roost_relieved" ["shard"] "" "Sessions closed because partial messages and input kept of paused connections took too much of their bound, and they held much of it";
        CUT_SHORT = Counter "roost_cut_short" ["shard"] "" "Connections reset because they went on sending after our Close frame or refusal";
        REAPED = Counter "roost_reaped" ["shard"] "" "Sessions closed because nothing came from them";
        CONNECTION_KERNEL_BYTES = Gauge "roost_connection_kernel_bytes" [] "bytes" "Growth of the machine's kernel slabs since the start, for each connection";
        CONNECTION_USER_BYTES = Gauge "roost_connection_user_bytes" [] "bytes" "Growth of this process's resident memory since the start, for each connection";
        DRAINING = Gauge "roost_draining" [] "" "1 while the gateway drains, 0 before";
    }
    "Traffic" {
        MESSAGES_RECEIVED = Counter "roost_messages_received" ["shard"] "" "Whole WebSocket messages that came";
        FRAMES_SENT = Counter "roost_frames_sent" ["shard"] "" "Frames of the router that were sent";
        RECEIVED_BYTES = Counter "roost_received_bytes" ["shard"] "bytes" "Bytes that came";
        SENT_BYTES = Counter "roost_sent_bytes" ["shard"] "bytes" "Bytes that were sent";
        RATE_LIMITED = Counter "roost_rate_limited" ["kind"] "" "Frames answered RATE_LIMITED by a connection's limit, by limit";
        PAUSED = Counter "roost_paused" ["shard"] "" "Times that a connection was read no more for a while: its outbox was long, or the router's queue full";
        PARKED = Counter "roost_parked" ["shard"] "" "Receives that came for a connection after it was paused, and were kept as they came";
        OUTBOXES = Gauge "roost_outboxes" ["shard"] "" "Connections with output that waits";
        OUTBOX_BYTES = Gauge "roost_outbox_bytes" ["shard"] "bytes" "Bytes of output on its way to sockets, or waiting behind what is";
        ASSEMBLY_BYTES = Gauge "roost_assembly_bytes" ["shard"] "bytes" "Bytes of partial input held";
        SEND_SECONDS = Histogram "roost_send_seconds" [] "seconds" "From a Send taken from its socket to its Sent in the outbox; one Send of a shard at a time is measured";
        CORRUPT_EVENTS = Counter "roost_corrupt_events" ["shard"] "" "Events of the store that could not be read";
    }
    "Shards, rings and pools" {
        TURNS = Counter "roost_turns" ["shard"] "" "Turns of the shard's loop";
        COMPLETIONS = Counter "roost_completions" ["shard"] "" "Completions of the kernel that were taken";
        ASLEEP_SECONDS = Counter "roost_asleep_seconds" ["shard"] "seconds" "Time spent in io_uring_enter, asleep for the most part, and looking for work (--busy-poll-us): what is missing to a second each second is the shard's load";
        BACKLOG_REQUESTS = Gauge "roost_backlog_requests" ["shard"] "" "Requests held because the router's queue is full";
        BACKLOG_BYTES = Gauge "roost_backlog_bytes" ["shard"] "bytes" "Memory that these requests take";
        MAILBOX_EFFECTS = Gauge "roost_mailbox_effects" ["shard"] "" "Effects waiting for the shard";
        ROUTER_FULL = Counter "roost_router_full" ["shard"] "" "Requests the router's queue had no room for at first";
        RINGS = Gauge "roost_rings" ["shard"] "" "io_urings open";
        RING_DESCRIPTORS = Gauge "roost_ring_descriptors" ["shard"] "" "Direct descriptors in use";
        RING_DESCRIPTORS_MAX = Gauge "roost_ring_descriptors_max" ["shard"] "" "Places for direct descriptors in the rings that are open";
        RING_FAILURES = Counter "roost_ring_failures" ["shard"] "" "Further io_urings that could not be opened";
        BUSY_CONNECTIONS = Gauge "roost_busy_connections" ["shard"] "" "Connections received by multishot receive";
        BECAME_BUSY = Counter "roost_became_busy" ["shard"] "" "Connections that went from the poll to multishot receive";
        READ_BUFFERS = Gauge "roost_read_buffers" ["shard"] "" "Read buffers in use";
        READ_BUFFERS_MAX = Gauge "roost_read_buffers_max" [] "" "Read buffers of all shards";
        READ_BUFFERS_EXHAUSTED = Counter "roost_read_buffers_exhausted" ["shard"] "" "Reads that had to wait for a read buffer";
        READS_PUT_OFF = Counter "roost_reads_put_off" ["shard"] "" "Reads of connections that send more than a read takes, put off to a later turn because the turn had read enough of such";
        READ_WAITING = Gauge "roost_read_waiting" ["shard"] "" "Connections that wait to be read: for a read buffer, or for others that send more than a read takes";
        PROVIDED_BUFFERS = Gauge "roost_provided_buffers" ["shard"] "" "Buffers provided for multishot receives";
        PROVIDED_BUFFERS_MAX = Gauge "roost_provided_buffers_max" [] "" "Buffers that may be provided for multishot receives";
        RECEIVE_BUFFERS_EXHAUSTED = Counter "roost_receive_buffers_exhausted" ["shard"] "" "Multishot receives that found no provided buffer";
        SLAB_BLOCKS = Gauge "roost_slab_blocks" ["shard"] "" "Blocks of the slab that are mapped";
        SLAB_SLOTS = Gauge "roost_slab_slots" ["shard"] "" "Slots in the mapped blocks of the slab";
    }
    "Router" {
        ROUTER_MESSAGES = Counter "roost_router_messages" [] "" "Messages accepted, those answered as duplicates not counted";
        ROUTER_EVENTS = Counter "roost_router_events" [] "" "Events stored in streams";
        ROUTER_BATCHES = Counter "roost_router_batches" [] "" "Batches committed";
        ROUTER_COMMIT_SECONDS = Histogram "roost_router_commit_seconds" [] "seconds" "Time of a commit, all router threads together";
        ROUTER_COMMIT_US = Counter "roost_router_commit_us" [] "microseconds" "Time spent in commits, all router threads together";
        ROUTER_COMMIT_US_MAX = Gauge "roost_router_commit_us_max" [] "microseconds" "The longest commit since the start";
        ROUTER_STORE_ERRORS = Counter "roost_router_store_errors" [] "" "Reads and commits of the store that failed";
        ROUTER_UNAVAILABLE = Counter "roost_router_unavailable" [] "" "Requests answered UNAVAILABLE because they could not be stored";
        ROUTER_RATE_LIMITED = Counter "roost_router_rate_limited" ["kind"] "" "Requests answered RATE_LIMITED by a user's limit, by limit";
        ROUTER_RATE_UNCOUNTED = Counter "roost_router_rate_uncounted" [] "" "Requests let through uncounted because a table of users' limits was full";
        ROUTER_PARTITIONS = Gauge "roost_router_partitions" ["thread"] "" "Partitions of a router thread";
        ROUTER_PARTITION_SESSIONS = Gauge "roost_router_partition_sessions" ["partition"] "" "Sessions attached to a partition";
        ROUTER_QUEUE_REQUESTS = Gauge "roost_router_queue_requests" ["thread"] "" "Requests waiting for a router thread";
        ROUTER_QUEUE_REQUESTS_MAX = Gauge "roost_router_queue_requests_max" [] "" "Requests that may wait for one router thread, those that need no write besides included";
        ROUTER_EFFECTS_HELD = Gauge "roost_router_effects_held" ["thread"] "" "Effects a router thread holds for shards whose mailbox is full";
        ROUTER_SESSIONS = Gauge "roost_router_sessions" [] "" "Sessions attached";
        ROUTER_SESSIONS_BYTES = Gauge "roost_router_sessions_bytes" [] "bytes" "Memory of the router's session tables";
        ROUTER_USERS_CACHED = Gauge "roost_router_users_cached" [] "" "Users' records cached";
        ROUTER_REGISTRATIONS = Gauge "roost_router_registrations" [] "" "Devices whose sessions were welcomed and whose registrations wait to be stored";
        ROUTER_FOLLOWERS = Gauge "roost_router_followers" [] "" "Pairs of a session and a user whose presence it follows";
        ROUTER_PRESENCE_NOTICES = Counter "roost_router_presence_notices" [] "" "Presence notices told because something changed";
        ROUTER_PRESENCE_REFUSED = Counter "roost_router_presence_refused" [] "" "Users that a session wanted to follow and is not told of, because a table was full";
        ROUTER_WHISPERS_DROPPED = Counter "roost_router_whispers_dropped" [] "" "Presence and typing dropped between router threads, because a queue was full";
    }
    "HTTP service" {
        HTTP_REQUESTS = Counter "roost_http_requests" ["status"] "" "Requests answered, by status";
        HTTP_CROWDED_OUT = Counter "roost_http_crowded_out" [] "" "Connections without a request, or whose client took nothing of its answer, that were closed because another waited for their place";
        HTTP_CALLS_WAITING = Gauge "roost_http_calls_waiting" [] "" "Calls that wait for the answer of the message tier";
    }
    "Process and machine" {
        BUILD_INFO = Gauge "roost_build_info" ["version"] "" "Always 1; the label names the version";
        RESIDENT_BYTES = Gauge "roost_resident_bytes" [] "bytes" "Resident memory of this process";
        PROCESS_RESIDENT_BYTES = Gauge "process_resident_memory_bytes" [] "bytes" "The same under the name that all Prometheus clients give it";
        PROCESS_CPU_SECONDS = Counter "process_cpu_seconds" [] "seconds" "Processor time of this process, user and system";
        PROCESS_START_SECONDS = Gauge "process_start_time_seconds" [] "seconds" "When this process started, Unix time";
        PROCESS_THREADS = Gauge "process_threads" [] "" "Threads of this process";
        PROCESS_OPEN_FDS = Gauge "process_open_fds" [] "" "File descriptors of this process; connections are direct descriptors and not among them";
        PROCESS_MAX_FDS = Gauge "process_max_fds" [] "" "File descriptors this process may have (RLIMIT_NOFILE)";
        STORE_FREE_BYTES = Gauge "roost_store_free_bytes" [] "bytes" "Bytes free on the disk of the data folder for an unprivileged process";
        STORE_DISK_BYTES = Gauge "roost_store_disk_bytes" [] "bytes" "Bytes of that disk";
        PRESSURE_SECONDS = Counter "roost_pressure_seconds" ["resource" "stalled"] "seconds" "Time in which some or all tasks of the machine were stalled for a resource (/proc/pressure); no samples where the kernel has no PSI";
    }
}
