//! The flags of a run, as clap reads them.

use crate::agent::AgentArgs;
use crate::fail_if::Condition;
use crate::limits::{
    ACK_DELAY_MS, ACK_DELAY_MS_MAX, DURATION_S_MAX, GROUP_SIZE, LAG_SHARE_MAX, LAG_US_MAX, PCAP_PACKETS_MAX,
    PHANTOMS_MAX, ROUNDS_MAX, SOURCE_ADDRESSES_MAX, THREADS_MAX,
};
use crate::odd::OddArgs;
use crate::outputs::Outputs;
use crate::preflight::PreflightOptions;
use crate::schedule::Arrivals;
use crate::siege::SiegeArgs;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// The options of a run.
#[derive(Args, Debug, Clone)]
pub struct Cli {
    /// What the clients do
    #[arg(value_enum)]
    pub scenario: Scenario,
    /// The server's WebSocket address; may be left out where a gateway is started
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Number of clients
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(PHANTOMS_MAX)))]
    pub clients: u32,
    /// How the clients reach the network
    #[arg(long, value_enum, default_value_t = Kind::Kernel)]
    pub kind: Kind,
    /// Connections begun a second while the clients come up
    #[arg(long, allow_negative_numbers = true, default_value_t = 2000.0)]
    pub ramp_per_s: f64,
    /// Messages a second of all clients together; with echo, 0 sends as fast as answers come (closed loop)
    #[arg(long, allow_negative_numbers = true, default_value_t = 100.0)]
    pub rate_per_s: f64,
    /// Bytes of each message's payload, at least 28: number, time and checksum; at most what the server takes
    #[arg(long, default_value_t = 128)]
    pub payload_bytes: usize,
    /// Length of the measured part in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=DURATION_S_MAX))]
    pub duration_s: u64,
    /// The same seed gives the same schedule, payloads and users
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Gaps between arrivals
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub arrivals: Arrivals,
    /// The gateway's <data>/secret: tokens are minted with it (HS256). chat needs this or --auth none, and so does idle
    /// where the server is a Roost gateway; echo needs neither. A file that is not there yet is waited for (--ready-s)
    #[arg(long, value_name = "FILE", conflicts_with = "auth")]
    pub secret_file: Option<PathBuf>,
    /// none: the gateway runs with --auth none and takes the user from the query
    #[arg(long, value_enum)]
    pub auth: Option<Auth>,
    /// Encoding of chat frames
    #[arg(long, value_enum, default_value_t = Encoding::Proto)]
    pub encoding: Encoding,
    /// The first user number (chat, idle)
    #[arg(long, default_value_t = 1_000_000_000)]
    pub user_base: u64,
    /// Clients of a group at most (group); they are spread evenly
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(GROUP_SIZE.0..=GROUP_SIZE.1))]
    pub group_size: u32,
    /// Share of the clients that disconnect once and come back (chat, group)
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.1)]
    pub offline_share: f64,
    /// Share of the received messages that are marked as read; 0.5 in chat and 0 in group, unless given
    #[arg(long, allow_negative_numbers = true)]
    pub read_share: Option<f64>,
    /// The longest that a client waits with the acknowledgement of an event (chat, group): it acknowledges all it has with its next message,
    /// or after this, or after 64 events, whichever comes first
    #[arg(long, value_name = "MS", default_value_t = ACK_DELAY_MS, value_parser = clap::value_parser!(u64).range(0..=ACK_DELAY_MS_MAX))]
    pub ack_delay_ms: u64,
    /// Unanswered messages a client may have (echo)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub in_flight: u32,
    /// Seconds between heartbeats where no Welcome names them
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub heartbeat_s: u64,
    /// What mix plays: see docs/MIX.md and loadgen/scenarios/. --clients and --duration-s scale it; it has rates, sizes and times away of
    /// its own, so that --rate-per-s, --payload-bytes, --offline-share and --read-share do not count
    #[arg(long, value_name = "FILE", required_if_eq("scenario", "mix"))]
    pub mix: Option<PathBuf>,
    /// What that file says, where another machine has read it.
    #[arg(skip)]
    pub mix_text: Option<String>,
    /// Who misbehaves
    #[command(flatten)]
    pub odd: OddArgs,
    /// Who attacks
    #[command(flatten)]
    pub siege: SiegeArgs,
    /// Times that all clients connect, stay for --duration-s and leave (churn)
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROUNDS_MAX)))]
    pub rounds: u32,
    /// The pause between two heartbeats of a client, as a share of the server's own interval
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.5)]
    pub heartbeat_share: f64,
    /// The longest wait after the measured part for what is still on its way
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub drain_s: u64,
    /// The longest wait for all clients to be connected and welcomed, beyond the ramp's own length, for --secret-file, and
    /// for a gateway that is started
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub ready_s: u64,
    /// Runtime threads, each with a ring, or with a queue of the TUN device
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(THREADS_MAX)))]
    pub threads: u32,
    /// Source addresses in 127.0.0.0/8, where the target is on loopback
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=i64::from(SOURCE_ADDRESSES_MAX)))]
    pub source_addresses: u32,
    /// The gateway's process: its memory and CPU go into the report, and phantoms join its network namespace
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub gateway_pid: Option<i32>,
    /// Records what passes through the TUN device, for tcpdump and tshark (phantom)
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Packets that --pcap keeps, the first ones
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=PCAP_PACKETS_MAX))]
    pub pcap_packets: u64,
    /// Share of the packets that are lost, each way (phantom)
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.0)]
    pub loss: f64,
    /// Share of the packets that others overtake, each way (phantom)
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.0)]
    pub reorder: f64,
    /// Share of the packets that come twice, each way (phantom)
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.0)]
    pub duplicate: f64,
    /// The run ends in order when less memory than this is available (phantom)
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(0..=1 << 40))]
    pub memory_floor_mb: u64,
    /// Where the JSON report goes; - is stdout, and the summary then goes to stderr
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The look at both ends before the start
    #[command(flatten)]
    pub preflight: PreflightOptions,
    /// Where else it goes.
    #[command(flatten)]
    pub outputs: Outputs,
    /// No screen and no progress
    #[arg(long)]
    pub quiet: bool,
    /// A condition on a field of the report that makes the run fail, like `latency_us.p99 > 20000`; may be repeated
    #[arg(long, value_name = "EXPR")]
    pub fail_if: Vec<Condition>,
    /// A message is late when the generator itself is this late with it
    #[arg(long, default_value_t = LAG_US_MAX)]
    pub lag_us_max: u64,
    /// The share of late messages above which the run does not count (exit 98)
    #[arg(long, allow_negative_numbers = true, default_value_t = LAG_SHARE_MAX)]
    pub lag_share_max: f64,
    /// Agents.
    #[command(flatten)]
    pub agents: AgentArgs,
    /// The gateway to start in the phantoms' network namespace, with its options; --listen, --http and --data are added
    #[arg(last = true, value_name = "GATEWAY")]
    pub command: Vec<OsString>,
}

/// Where a gateway that we start serves, before it has told its address.
pub(super) const GATEWAY_URL: &str = "ws://198.18.0.1:9000/v1/ws";

/// What --help ends with.
pub const EXIT_CODES: &str = "Exit codes, the first that applies:
  2   usage
  97  the ledger found a lost, doubled or disordered message, or one against the contract
  98  the generator itself was saturated: the run does not count
  99  a --fail-if held
  1   the run did not come to its end: clients failed to connect, messages were refused or never answered
  0   all well";

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Connect, heartbeat, hold
    Idle,
    /// Send to any echo server and check what comes back
    Echo,
    /// 1:1 messages with receipts, some clients offline
    Chat,
    /// Messages to groups of --group-size, made at the start; some clients offline
    Group,
    /// Connect and hold for --duration-s; then all lose their connection at once (phantoms by RST), and all come back
    Storm,
    /// All connect, hold for --duration-s, leave: --rounds times
    Churn,
    /// Like chat, but --slow-share of the clients stop reading for a while
    Slow,
    /// Clients that vanish without a FIN: how long does the server hold them? (phantoms)
    Halfopen,
    /// Upgrade requests that come a byte at a time, beside clients that connect as usual
    HandshakeDrip,
    /// Echo, or chat where the users are known, while others attack the server beside it: undisturbed, attacked, recovering
    Siege,
    /// What a TOML file says (--mix): populations of users, with rates, sizes, groups, answers and times away
    Mix,
}

/// How the clients reach the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Real sockets
    Kernel,
    /// TCP in user space over a TUN device, in a network namespace; needs root
    Phantom,
}

/// How clients prove who they are, where no secret is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// `?user=..&device=1`
    None,
}

/// How chat frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// Binary messages, protobuf
    Proto,
    /// Text messages, JSON
    Json,
}

impl Scenario {
    /// Whether its clients send messages to each other.
    pub fn talks(self) -> bool {
        matches!(self, Self::Chat | Self::Group | Self::Slow | Self::Mix)
    }

    /// The name in the report and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Echo => "echo",
            Self::Chat => "chat",
            Self::Group => "group",
            Self::Storm => "storm",
            Self::Churn => "churn",
            Self::Slow => "slow",
            Self::Halfopen => "halfopen",
            Self::HandshakeDrip => "handshake-drip",
            Self::Siege => "siege",
            Self::Mix => "mix",
        }
    }
}

impl Kind {
    /// The name in the report and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Phantom => "phantom",
        }
    }
}
