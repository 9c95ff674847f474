//! Which fields of a report say how a server did, in the order in which they are read, and which way is better.

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    /// Less.
    Less,
    /// More.
    More,
    /// Something that should not happen at all: any more of it is worse.
    None,
}

use Better::{Less, More, None};

/// Differences of a figure below this share are what two runs of the same differ by.
pub(super) const NOISE_SHARE: f64 = 0.05;

/// The fields that matter.
pub(super) const FIELDS: [(&str, Better); 40] = [
    ("clients_connected", More),
    ("clients_failed", None),
    ("clients_dropped", None),
    ("connect_per_s", More),
    ("connect_latency_us.p99", Less),
    ("messages_sent", More),
    ("send_rate_per_s", More),
    ("group.deliveries_per_s", More),
    ("messages_lost", None),
    ("messages_duplicated", None),
    ("messages_out_of_order", None),
    ("violations", None),
    ("receipts_wrong", None),
    ("receipts_missing", None),
    ("messages_refused", None),
    ("messages_unanswered", None),
    ("latency_us.p50", Less),
    ("latency_us.p90", Less),
    ("latency_us.p99", Less),
    ("latency_us.p999", Less),
    ("latency_us.max", Less),
    ("latency_sent_us.p50", Less),
    ("latency_sent_us.p99", Less),
    ("latency_sent_us.p999", Less),
    ("latency_sent_us.max", Less),
    ("latency_offline_us.p99", Less),
    ("storm.back_s", Less),
    ("storm.back_per_s", More),
    ("memory_bytes_per_client.kernel", Less),
    ("memory_bytes_per_client.gateway", Less),
    ("memory_bytes_per_client.total", Less),
    ("memory_bytes_per_client.server", Less),
    ("gateway_cpu_s", Less),
    ("gateway_cpu_user_s", Less),
    ("gateway_cpu_system_s", Less),
    ("network.segments_retransmitted", Less),
    ("network.listen_overflows", None),
    ("generator_cpu_s", Less),
    ("generator_lag_us.p99", Less),
    ("generator_late_share", Less),
];

/// What has to be the same for two reports to be comparable. A latency of another rate, or memory on another kernel, says nothing.
pub(super) const CONDITIONS: [&str; 9] = [
    "scenario",
    "kind",
    "seed",
    "version",
    "clients_target",
    "closed_loop",
    "host.kernel",
    "host.cpus",
    "host.memory_bytes",
];

/// Options of the command line that say where a run goes and not what it is.
pub(super) const ELSEWHERE: [&str; 10] = [
    "--url",
    "--json",
    "--html",
    "--metrics",
    "--quiet",
    "--secret-file",
    "--gateway-pid",
    "--fail-if",
    "--pcap",
    "--seed",
];
