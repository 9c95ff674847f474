//! What operators write: command line over `roost.toml` over defaults. What follows from it is in `limits`.

mod choices;
mod options;

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    capacity::{Capacity, Machine},
    limits,
    rates::Limits,
};

pub use choices::{AuthKind, BackendKind, HistoryDays, SocketsFrom};
pub use options::Options;

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address of the WebSocket service.
    pub listen: SocketAddr,
    /// Address of the HTTP service.
    pub http: SocketAddr,
    /// Folder of the store and the secret.
    pub data: PathBuf,
    /// Gateway threads.
    pub shards: u16,
    /// What stands behind.
    pub backend: BackendKind,
    /// Connections of the process.
    pub max_connections: u64,
    /// Bytes of a message.
    pub max_message_bytes: u64,
    /// Seconds.
    pub heartbeat_s: u32,
    /// Seconds.
    pub handshake_s: u16,
    /// Connections of the process in their handshake.
    pub handshakes_max: u32,
    /// How clients prove who they are.
    pub auth: AuthKind,
    /// More keys for tokens.
    pub jwt_key_file: Option<PathBuf>,
    /// The operators' token, where it is not in the data folder.
    pub operator_token_file: Option<PathBuf>,
    /// Where a proxy serves the WebSocket.
    pub public_url: Option<String>,
    /// Days.
    pub retention_days: u32,
    /// Days.
    pub history_days: HistoryDays,
    /// Members of a group.
    pub group_members_max: u32,
    /// Router threads.
    pub router_threads: u16,
    /// Nobody is refused for short memory or long queues.
    pub always_admit: bool,
    /// A proxy's header comes first on each connection of the WebSocket service.
    pub proxy_protocol: bool,
    /// The same of the HTTP service.
    pub http_proxy_protocol: bool,
    /// Where proc and sys lie.
    pub system_root: PathBuf,
    /// Where the sockets come from that systemd does not give.
    pub sockets: SocketsFrom,
    /// Seconds.
    pub drain_s: u64,
    /// Sessions.
    pub drain_closes_per_s: u32,
    /// Microseconds.
    pub busy_poll_us: u32,
    /// How often users and connections may do what they do; only in the file.
    pub limits: Limits,
    /// Places in each ring's table of direct descriptors.
    pub ring_places: u32,
    /// What this machine can hold.
    pub capacity: Capacity,
}

/// One line: what is wrong with the configuration and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl Config {
    /// The same on the machine as it is now: where nobody has chosen `max_connections`, it is what the machine can hold.
    #[must_use]
    pub fn recounted(&self, machine: &Machine) -> Self {
        let capacity = Capacity::of(machine, self.shards);
        let chosen = self.max_connections != self.capacity.connections();
        let max_connections = if chosen { self.max_connections } else { capacity.connections().max(1) };
        let chosen = self.handshakes_max != handshakes_of(self.max_connections);
        let handshakes_max = if chosen { self.handshakes_max } else { handshakes_of(max_connections) };
        Self { max_connections, handshakes_max, capacity, ..self.clone() }
    }

    fn check(&self) -> Result<(), ConfigError> {
        within("shards", self.shards.into(), 1, limits::SHARDS_MAX.into())?;
        within("router_threads", self.router_threads.into(), 1, limits::SHARDS_MAX.into())?;
        within("retention_days", self.retention_days.into(), 1, limits::DAYS_MAX.into())?;
        within("group_members_max", self.group_members_max.into(), 1, limits::GROUP_MEMBERS_CEILING.into())?;
        within("heartbeat_s", self.heartbeat_s.into(), 1, limits::HEARTBEAT_S_MAX.into())?;
        within("handshake_s", self.handshake_s.into(), 1, limits::HANDSHAKE_S_CEILING.into())?;
        within("handshakes_max", self.handshakes_max.into(), 1, u32::MAX.into())?;
        within("drain_s", self.drain_s, limits::DRAIN_S_MIN, limits::DRAIN_S_MAX)?;
        within(
            "drain_closes_per_s",
            self.drain_closes_per_s.into(),
            1,
            limits::DRAIN_CLOSES_PER_S_MAX.into(),
        )?;
        within("busy_poll_us", self.busy_poll_us.into(), 0, limits::BUSY_POLL_US_MAX.into())?;
        within("max_message_bytes", self.max_message_bytes, 1, limits::MESSAGE_BYTES_CEILING)?;
        let (room, lowest) = (self.capacity.connections(), self.capacity.lowest());
        if room == 0 {
            return Err(ConfigError(format!("{}. {}", self.capacity, lowest.mend)));
        }
        if self.max_connections > room {
            return Err(ConfigError(format!(
                "max_connections = {}: {}. Lower it, or: {}",
                self.max_connections, self.capacity, lowest.mend
            )));
        }
        within("max_connections", self.max_connections, 1, room)
    }
}

/// Connections in their handshake, of so many in all.
fn handshakes_of(connections: u64) -> u32 {
    let share = (connections / limits::HANDSHAKES_SHARE).max(limits::HANDSHAKES_MIN).min(connections);
    share.min(limits::HANDSHAKES_MAX.into()) as u32
}

fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError(format!("{key} = {value}: must be between {least} and {most}")))
}
