//! What operators write, and how it becomes the configuration in force.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
};

use clap::Parser;
use serde::Deserialize;

use super::{AuthKind, BackendKind, Config, ConfigError, HistoryDays, SocketsFrom, handshakes_of};
use crate::{
    capacity::{Capacity, Machine},
    limits,
    rates::Limits,
};

/// Holds millions of WebSocket sessions and passes their messages on.
#[derive(Debug, Default, Parser, Deserialize)]
#[command(name = "roost-gateway", version, about, max_term_width = 100)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Address of the WebSocket service; port 0 picks a free one, [::] serves IPv4 and IPv6 [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Address of the HTTP service: accounts, metrics, the web page [default: 127.0.0.1:9080]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    http: Option<SocketAddr>,
    /// Folder of the store and the token secret [default: ./roost-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Gateway threads, each with its own rings [default: one a core]
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// What stands behind the WebSocket [default: router]
    #[arg(long, value_name = "KIND")]
    backend: Option<BackendKind>,
    /// Connections beyond this are refused with 503 [default: what this machine can hold]
    #[arg(long, value_name = "N")]
    max_connections: Option<u64>,
    /// Larger messages end their connection with close code 1009 [default: 131072]
    #[arg(long, value_name = "N")]
    max_message_bytes: Option<u64>,
    /// Clients send something at least this often; after twice the time in silence they are reaped [default: 240]
    #[arg(long, value_name = "N")]
    heartbeat_s: Option<u32>,
    /// A client has so long for its opening handshake [default: 10]
    #[arg(long, value_name = "N")]
    handshake_s: Option<u16>,
    /// Connections in their opening handshake; the oldest is ended for one too many [default: 65536, or a quarter of
    /// --max-connections]
    #[arg(long, value_name = "N")]
    handshakes_max: Option<u32>,
    /// How clients prove who they are [default: token]
    #[arg(long, value_name = "KIND")]
    auth: Option<AuthKind>,
    /// A TOML file with the same settings, names with underscores
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Public key (PEM: Ed25519 or RSA) or JWKS file that tokens may be signed with, besides the secret
    #[arg(long, value_name = "FILE")]
    jwt_key_file: Option<PathBuf>,
    /// File with the token that operators show at /admin and /debug [default: operator-token in the data folder, made there]
    #[arg(long, value_name = "FILE")]
    operator_token_file: Option<PathBuf>,
    /// Where a proxy serves the WebSocket, for the web page, like <wss://chat.example.org/v1/ws> [default: --listen]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Messages that were not delivered go after so many days [default: 30]
    #[arg(long, value_name = "N")]
    retention_days: Option<u32>,
    /// Conversations are kept for so many days for clients that ask for them; or: forever [default: 0, not at all]
    #[arg(long, value_name = "N")]
    history_days: Option<HistoryDays>,
    /// A group has at most so many members [default: 1024]
    #[arg(long, value_name = "N")]
    group_members_max: Option<u32>,
    /// Router threads [default: one for two cores]
    #[arg(long, value_name = "N")]
    router_threads: Option<u16>,
    /// Folder in which proc and sys lie, to see when memory is short; containers mount the host's elsewhere [default: /]
    #[arg(long, value_name = "DIR")]
    system_root: Option<PathBuf>,
    /// Lets new clients in however short memory is and however long queues are, up to --max-connections; for measurements
    #[arg(long)]
    #[serde(default)]
    always_admit: bool,
    /// Every connection to --listen begins with the PROXY header of a proxy, version 2 or 1, which tells the client's address
    #[arg(long)]
    #[serde(default)]
    proxy_protocol: bool,
    /// The same of --http
    #[arg(long)]
    #[serde(default)]
    http_proxy_protocol: bool,
    /// Take over the sockets of the gateway that runs with the same data folder, if one does, without refusing a client; same
    /// addresses and backend, and at least as many shards
    #[arg(long, num_args = 0, default_missing_value = "true")]
    #[serde(skip)]
    takeover: Option<bool>,
    /// After SIGTERM, or when it is taken over, sessions are sent away for so long at most, and cut after it; 2 to 3600
    /// [default: 30]
    #[arg(long, value_name = "N")]
    drain_s: Option<u64>,
    /// So many sessions are sent away in a second then, more only where --drain-s is too short for it [default: 5000]
    #[arg(long, value_name = "N")]
    drain_closes_per_s: Option<u32>,
    /// Before a shard sleeps it looks for work for so many microseconds, 0 to 1000: lower latency where messages come one by one,
    /// for up to a whole processor while they come [default: 0]
    #[arg(long, value_name = "N")]
    busy_poll_us: Option<u32>,
    #[arg(skip)]
    limits: Option<Limits>,
}

impl Options {
    /// Puts the file named by `--config` under the command line, fills in defaults and checks.
    ///
    /// `machine` is what `max_connections` is checked against.
    ///
    /// # Errors
    /// Names file, key and value, or flag and value; a `max_connections` that this machine cannot hold, with the limit
    /// that forbids it and what lifts that.
    pub fn resolve(self, machine: &Machine) -> Result<Config, ConfigError> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => Options::default(),
        };
        let cores = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(usize::from(limits::SHARDS_MAX)) as u16;
        let shards = self.shards.or(file.shards).unwrap_or(cores);
        let capacity = Capacity::of(machine, shards);
        let max_connections = self.max_connections.or(file.max_connections).unwrap_or(capacity.connections());
        let config = Config {
            listen: self.listen.or(file.listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9000))),
            http: self.http.or(file.http).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9080))),
            data: self.data.or(file.data).unwrap_or_else(|| PathBuf::from("./roost-data")),
            shards,
            backend: self.backend.or(file.backend).unwrap_or_default(),
            max_connections,
            max_message_bytes: self.max_message_bytes.or(file.max_message_bytes).unwrap_or(128 * 1024),
            heartbeat_s: self.heartbeat_s.or(file.heartbeat_s).unwrap_or(240),
            handshake_s: self.handshake_s.or(file.handshake_s).unwrap_or(limits::HANDSHAKE_S_MAX),
            handshakes_max: self
                .handshakes_max
                .or(file.handshakes_max)
                .unwrap_or(handshakes_of(max_connections)),
            auth: self.auth.or(file.auth).unwrap_or_default(),
            jwt_key_file: self.jwt_key_file.or(file.jwt_key_file),
            operator_token_file: self.operator_token_file.or(file.operator_token_file),
            public_url: self.public_url.or(file.public_url),
            retention_days: self.retention_days.or(file.retention_days).unwrap_or(30),
            history_days: self.history_days.or(file.history_days).unwrap_or_default(),
            group_members_max: self.group_members_max.or(file.group_members_max).unwrap_or(1024),
            router_threads: self.router_threads.or(file.router_threads).unwrap_or((cores / 2).max(1)),
            always_admit: self.always_admit || file.always_admit,
            proxy_protocol: self.proxy_protocol || file.proxy_protocol,
            http_proxy_protocol: self.http_proxy_protocol || file.http_proxy_protocol,
            system_root: self.system_root.or(file.system_root).unwrap_or_else(|| PathBuf::from("/")),
            sockets: if self.takeover == Some(true) { SocketsFrom::Running } else { SocketsFrom::Anew },
            drain_s: self.drain_s.or(file.drain_s).unwrap_or(limits::DRAIN_S),
            drain_closes_per_s: self
                .drain_closes_per_s
                .or(file.drain_closes_per_s)
                .unwrap_or(limits::DRAIN_CLOSES_PER_S),
            busy_poll_us: self.busy_poll_us.or(file.busy_poll_us).unwrap_or(0),
            limits: self.limits.or(file.limits).unwrap_or_default(),
            ring_places: machine.files_max.min(limits::RING_PLACES_MAX.into()) as u32,
            capacity,
        };
        config.check()?;
        Ok(config)
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an IP address and a port are needed, like 127.0.0.1:9000 or [::]:9000".to_owned())
}

fn read(path: &Path) -> Result<Options, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("{}: cannot be read: {error}", path.display())))?;
    toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text[..at].matches('\n').count();
        let source = text.lines().nth(line).unwrap_or_default().trim();
        let message = error.message().replace('\n', " ");
        ConfigError(format!("{}:{}: {source}: {message}", path.display(), line + 1))
    })
}

#[cfg(test)]
#[path = "options_test.rs"]
mod tests;
