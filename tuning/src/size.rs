//! `roost-tune size`: what a messenger of a given size needs. The formulae stand in docs/CAPACITY.md, each under the name it has here.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

/// Seconds of a day.
const DAY_S: f64 = 86_400.0;

/// Kernel and gateway memory of an idle session (docs/MEMORY.md: slabs + RSS at five million).
const SESSION_BYTES: f64 = 4_291.0;
/// Kept for traffic and for the rest of the system, 1 GiB each (docs/MEMORY.md, "For ten million").
const RESERVE_BYTES: f64 = 2.0 * 1024.0 * 1024.0 * 1024.0;
/// Places of a ring's table of direct descriptors: the gateway's `RING_PLACES_MAX`.
const RING_PLACES: f64 = 16_384.0;
/// Messages that a core of gateway and router passes a second, end to end: 22,622/s for 8.58 s of CPU in 8 s (docs/FIGURES.md, the message
/// and group tier), rounded down.
const CORE_MESSAGES_PER_S: f64 = 20_000.0;
/// CPU of an idle session, heartbeat each 240 s, in seconds a second (docs/FIGURES.md, many sessions).
const IDLE_CPU_S_PER_S: f64 = 0.034e-6;
/// CPU of a full connect, TCP to Welcome, both ends together: an upper bound for the server (docs/MEMORY.md, "For ten million").
const CONNECT_CPU_S: f64 = 61e-6;
/// The store's record around a payload, at most: 16 bytes of `client_id`, identifiers, times and keys (reckoned from the records).
const RECORD_BYTES: f64 = 128.0;
/// The contract's envelope around a payload, at most, each way (reckoned from roost.proto).
const ENVELOPE_BYTES: f64 = 64.0;
/// A packet's headers on an Ethernet: 38 with preamble and gap, 20 of IPv4, 32 of TCP with timestamps (RFC 791, RFC 9293, RFC 7323), and up
/// to 8 of a WebSocket frame (RFC 6455 section 5.2).
const PACKET_BYTES: f64 = 98.0;
/// Packets a message makes in each direction where nothing shares one: Send, Ack and the Ack of the receipt; Sent, Event and receipt.
const PACKETS_EACH_WAY: f64 = 3.0;
/// What a figure may be at most: far beyond everything that is.
const FIGURE_MAX: f64 = 1e18;

/// What is asked for. Numbers may end in k, M, G or T (powers of 1,000).
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Demand {
    /// Users in all
    #[arg(long, default_value = "2G", value_parser = figure)]
    pub users: f64,
    /// Share of the users that are connected at once, 0 to 1
    #[arg(long, default_value = "1", value_parser = share)]
    pub online_share: f64,
    /// Messages a day of all users together
    #[arg(long, default_value = "100G", value_parser = figure)]
    pub messages_per_day: f64,
    /// Bytes of a message's payload
    #[arg(long, default_value = "100", value_parser = figure)]
    pub message_bytes: f64,
    /// Days that messages are kept
    #[arg(long, default_value = "30", value_parser = figure)]
    pub retention_days: f64,
    /// Connections a server holds
    #[arg(long, default_value = "10M", value_parser = figure)]
    pub connections: f64,
    /// Copies of what is stored
    #[arg(long, default_value = "1", value_parser = figure)]
    pub replicas: f64,
    /// The busiest second, by the average one
    #[arg(long, default_value = "1", value_parser = figure)]
    pub peak: f64,
    /// Seconds in which all connections of a server are to be back after they were lost
    #[arg(long, default_value = "600", value_parser = figure)]
    pub reconnect_s: f64,
}

/// What it takes. Every number has its unit in its name; whole things are rounded up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sizing {
    /// Servers that hold the connections.
    pub servers: f64,
    /// Messages a second, on average, of all servers together.
    pub messages_per_s: f64,
    /// Payload that arrives a day.
    pub storage_bytes_per_day: f64,
    /// Payload kept for the retention, all copies.
    pub storage_bytes: f64,
    /// The same with the records around the payloads, at most.
    pub storage_with_records_bytes: f64,
    /// Payload each way, all servers, on average.
    pub bandwidth_bits_per_s: f64,
    /// What the wire carries each way in the busiest second, all servers, where no packet is shared.
    pub wire_bits_per_s: f64,
    /// The same, a server.
    pub server_wire_bits_per_s: f64,
    /// Messages a second of a server, in the busiest second.
    pub server_messages_per_s: f64,
    /// Memory of a server: sessions, traffic and the system.
    pub server_memory_bytes: f64,
    /// Storage of a server, records and copies included.
    pub server_storage_bytes: f64,
    /// Gateway shards of a server, a core each, with what the router needs.
    pub server_shards: f64,
    /// Rings of a shard.
    pub shard_rings: f64,
}

impl Sizing {
    /// Works out what `demand` takes.
    pub fn of(demand: &Demand) -> Self {
        let copies = demand.replicas.max(1.0);
        let servers = (demand.users * demand.online_share / demand.connections).ceil().max(1.0);
        let messages_per_s = demand.messages_per_day / DAY_S;
        let storage_bytes_per_day = demand.messages_per_day * demand.message_bytes;
        let kept = demand.retention_days * copies;
        let records = demand.messages_per_day * (demand.message_bytes + RECORD_BYTES) * kept;
        let on_wire = demand.message_bytes + ENVELOPE_BYTES + PACKETS_EACH_WAY * PACKET_BYTES;
        let wire_bits_per_s = messages_per_s * demand.peak * on_wire * 8.0;
        let server_messages_per_s = messages_per_s * demand.peak / servers;
        let server_shards = (server_messages_per_s / CORE_MESSAGES_PER_S
            + demand.connections * IDLE_CPU_S_PER_S
            + demand.connections / demand.reconnect_s * CONNECT_CPU_S)
            .ceil()
            .max(1.0);
        Self {
            servers,
            messages_per_s,
            storage_bytes_per_day,
            storage_bytes: storage_bytes_per_day * kept,
            storage_with_records_bytes: records,
            bandwidth_bits_per_s: storage_bytes_per_day * 8.0 / DAY_S,
            wire_bits_per_s,
            server_wire_bits_per_s: wire_bits_per_s / servers,
            server_messages_per_s,
            server_memory_bytes: demand.connections * SESSION_BYTES + RESERVE_BYTES,
            server_storage_bytes: records / servers,
            server_shards,
            // One more is open before the last is full.
            shard_rings: (demand.connections / server_shards / RING_PLACES).ceil() + 1.0,
        }
    }

    /// A line for each figure, for people.
    pub fn table(&self) -> String {
        let count = |value: f64| scaled(value, "");
        let rows = [
            ("servers", format!("{:.0}", self.servers)),
            ("messages a second", count(self.messages_per_s)),
            ("storage a day, payload", scaled(self.storage_bytes_per_day, "B")),
            ("storage for the retention, payload", scaled(self.storage_bytes, "B")),
            ("  with the records, at most", scaled(self.storage_with_records_bytes, "B")),
            ("bandwidth in and out, each, payload", scaled(self.bandwidth_bits_per_s, "b/s")),
            ("  on the wire at the peak, at most", scaled(self.wire_bits_per_s, "b/s")),
            ("a server: messages a second", count(self.server_messages_per_s)),
            ("a server: RAM", scaled(self.server_memory_bytes, "B")),
            ("a server: storage, with the records", scaled(self.server_storage_bytes, "B")),
            ("a server: on the wire each way", scaled(self.server_wire_bits_per_s, "b/s")),
            ("a server: shards, a core each", format!("{:.0}", self.server_shards)),
            ("a server: rings a shard", format!("{:.0}", self.shard_rings)),
        ];
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        rows.iter().fold(String::new(), |mut text, (name, value)| {
            let _ = writeln!(text, "{name:<width$}  {value}");
            text
        })
    }
}

/// A number with a prefix of the SI: three digits before it at most, three significant ones at least.
fn scaled(value: f64, unit: &str) -> String {
    let steps = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (by, prefix) = steps.into_iter().find(|(by, _)| value.round() >= *by).unwrap_or((1.0, ""));
    let number = value / by;
    let digits = if number >= 99.95 { 0 } else { usize::from(number < 9.995) + 1 };
    let shown = format!("{number:.digits$}");
    let shown = if digits > 0 { shown.trim_end_matches('0').trim_end_matches('.').to_owned() } else { shown };
    format!("{shown} {prefix}{unit}").trim_end().to_owned()
}

/// Reads a positive number with an optional prefix; `_` may group its digits.
fn figure(text: &str) -> Result<f64, String> {
    let factor = |letter| match letter {
        'k' | 'K' => Some(1e3),
        'M' => Some(1e6),
        'G' => Some(1e9),
        'T' => Some(1e12),
        _ => None,
    };
    let prefix = text.chars().last().and_then(factor);
    let digits = if prefix.is_some() { &text[..text.len() - 1] } else { text };
    let number: f64 = digits
        .replace('_', "")
        .parse()
        .map_err(|_| "not a number; it may end in k, M, G or T, like 10M".to_owned())?;
    let number = number * prefix.unwrap_or(1.0);
    if number > 0.0 && number <= FIGURE_MAX {
        Ok(number)
    } else {
        Err(format!("must be above 0 and at most {FIGURE_MAX:e}"))
    }
}

fn share(text: &str) -> Result<f64, String> {
    figure(text)
        .and_then(|share| if share <= 1.0 { Ok(share) } else { Err("must be above 0 and at most 1".into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Demand {
        Demand {
            users: 2e9,
            online_share: 1.0,
            messages_per_day: 100e9,
            message_bytes: 100.0,
            retention_days: 30.0,
            connections: 10e6,
            replicas: 1.0,
            peak: 1.0,
            reconnect_s: 600.0,
        }
    }

    #[test]
    fn the_worked_example_comes_out_as_told() {
        let told = Sizing::of(&example()).table();
        for (name, value) in [
            ("servers", "200"),
            ("storage a day, payload", "10 TB"),
            ("storage for the retention, payload", "300 TB"),
            ("bandwidth in and out, each, payload", "926 Mb/s"),
            ("a server: rings a shard", "307"),
        ] {
            let line = told.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            assert_eq!(line[name.len()..].trim(), value, "{told}");
        }
    }

    #[test]
    fn the_page_shows_what_the_tool_prints_and_names_every_figure() {
        let page = include_str!("../../docs/CAPACITY.md");
        let sizing = Sizing::of(&example());
        assert!(page.contains(&format!("--replicas 1\n{}```", sizing.table())), "{}", sizing.table());
        let fields = serde_json::to_value(&sizing).unwrap();
        for field in fields.as_object().unwrap().keys() {
            assert!(page.contains(&format!("| `{field}` |")), "{field} has no formula in docs/CAPACITY.md");
        }
    }

    #[test]
    fn what_is_asked_for_twice_is_needed_twice() {
        let once = Sizing::of(&example());
        let twice = Sizing::of(&Demand { users: 4e9, replicas: 2.0, peak: 3.0, ..example() });
        assert_eq!(twice.servers.to_bits(), 400.0_f64.to_bits());
        assert!((twice.storage_bytes / once.storage_bytes - 2.0).abs() < 1e-9);
        assert!((twice.wire_bits_per_s / once.wire_bits_per_s - 3.0).abs() < 1e-9);
        let hasty = Sizing::of(&Demand { reconnect_s: 60.0, ..example() });
        assert!(hasty.server_shards >= 10.0 && hasty.shard_rings < once.shard_rings, "{hasty:?}");
        let few = Sizing::of(&Demand { users: 3.0, messages_per_day: 1.0, ..example() });
        assert_eq!(few.servers.to_bits(), 1.0_f64.to_bits());
    }

    #[test]
    fn numbers_are_read_and_shown_with_their_prefixes() {
        for (text, value) in
            [("10M", 1e7_f64), ("10K", 1e4), ("2G", 2e9), ("1_000", 1e3), ("0.5k", 500.0), ("1e6", 1e6)]
        {
            assert_eq!(figure(text).unwrap().to_bits(), value.to_bits());
        }
        for text in ["", "M", "-1", "0", "many", "NaN", "inf", "1e30", "5Mio", "ä"] {
            assert!(figure(text).is_err(), "{text}");
        }
        assert!(share("1.1").is_err() && share("0").is_err());
        for (value, shown) in [
            (999.7, "1 kB"),
            (1_157_407.4, "1.16 MB"),
            (12.0, "12 B"),
            (44.96e9, "45 GB"),
            (926e6, "926 MB"),
            (0.5, "0.5 B"),
        ] {
            assert_eq!(scaled(value, "B"), shown);
        }
    }
}
