//! What operators write: command line over `roost.toml` over defaults. What follows from it is in `limits`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    thread,
};

use clap::{Parser, ValueEnum};
use serde::Deserialize;

use crate::{
    capacity::{Capacity, Machine},
    limits,
    rates::Limits,
};

/// What stands behind the WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// The message router with its store.
    #[default]
    Router,
    /// Every message comes back; for conformance suites and comparisons.
    Echo,
}

/// Where the listening sockets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketsFrom {
    /// They are bound.
    Anew,
    /// From the gateway that runs with the same data folder, if one does.
    Running,
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthKind {
    /// A JSON Web Token, in `Authorization: Bearer` or `?access_token=`.
    #[default]
    Token,
    /// Whoever says `?user=42&device=1` is believed. For tests on a machine of one's own.
    None,
}

/// For how long conversations are kept for clients that ask for them: `forever`, or a number of days, 0 for not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct HistoryDays(pub u32);

impl FromStr for HistoryDays {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let days = if text == "forever" { Some(u32::MAX) } else { text.parse().ok() };
        let days = days.filter(|days| *days == u32::MAX || *days <= limits::DAYS_MAX).map(Self);
        days.ok_or_else(|| format!("a number of days up to {}, or forever, is needed", limits::DAYS_MAX))
    }
}

impl TryFrom<toml::Value> for HistoryDays {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(text) => text.parse(),
            other => other.to_string().parse(),
        }
    }
}

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
    /// Take over the sockets of the gateway that runs with the same data folder, if one does, without refusing a client
    #[arg(long, num_args = 0, default_missing_value = "true")]
    #[serde(skip)]
    takeover: Option<bool>,
    /// After SIGTERM sessions are sent away for so long at most, and cut after it [default: 30]
    #[arg(long, value_name = "N")]
    drain_s: Option<u64>,
    /// After SIGTERM so many sessions are sent away in a second, more only where --drain-s is too short for it [default: 5000]
    #[arg(long, value_name = "N")]
    drain_closes_per_s: Option<u32>,
    /// A shard without work looks for some so many microseconds before it sleeps: lower latency, at the price of the processor
    /// [default: 0]
    #[arg(long, value_name = "N")]
    busy_poll_us: Option<u32>,
    #[arg(skip)]
    limits: Option<Limits>,
}

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

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an IP address and a port are needed, like 127.0.0.1:9000 or [::]:9000".to_owned())
}

fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError(format!("{key} = {value}: must be between {least} and {most}")))
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
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        files_max: 20_000,
        system_files_left: None,
        lockable: None,
        memory_left: 24 << 30,
        in_memory_group: false,
    };

    fn resolve(arguments: &[&str]) -> Result<Config, String> {
        let all = std::iter::once("roost-gateway").chain(arguments.iter().copied());
        Options::try_parse_from(all)
            .map_err(|error| error.to_string())?
            .resolve(&MACHINE)
            .map_err(|error| error.to_string())
    }

    fn with_file(text: &str, arguments: &[&str]) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), text).expect("written");
        let path = file.path().to_str().expect("UTF-8").to_owned();
        resolve(&[&["--config", &path], arguments].concat())
            .map_err(|error| error.replace(&path, "roost.toml"))
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = resolve(&[]).expect("defaults");
        assert_eq!(config.listen.to_string(), "127.0.0.1:9000");
        assert_eq!(config.http.to_string(), "127.0.0.1:9080");
        assert_eq!(config.data, Path::new("./roost-data"));
        assert_eq!((config.backend, config.auth), (BackendKind::Router, AuthKind::Token));
    }

    #[test]
    fn the_command_line_stands_over_the_file() {
        let config = with_file("shards = 3\nheartbeat_s = 30\n", &["--shards", "5"]).expect("both are right");
        assert_eq!((config.shards, config.heartbeat_s), (5, 30));
    }

    #[test]
    fn history_is_kept_for_days_or_forever() {
        assert_eq!(resolve(&[]).expect("defaults").history_days, HistoryDays(0));
        for (text, days) in [("30", 30), ("\"forever\"", u32::MAX)] {
            let config = with_file(&format!("history_days = {text}\n"), &[]).expect("right");
            assert_eq!(config.history_days, HistoryDays(days));
        }
        assert_eq!(
            resolve(&["--history-days", "forever"]).expect("right").history_days,
            HistoryDays(u32::MAX)
        );
        let error = with_file("history_days = \"always\"\n", &[]).expect_err("no number");
        assert!(error.starts_with("roost.toml:1: history_days = \"always\": a number of days"), "{error}");
    }

    #[test]
    fn more_connections_than_the_machine_holds_are_refused_with_the_reason_and_what_lifts_it() {
        let room = resolve(&[]).expect("defaults").max_connections;
        assert!(room > 5_000_000, "five million on 24 GiB, not {room}");
        assert_eq!(resolve(&["--max-connections", &room.to_string()]).expect("fits").max_connections, room);
        let error = resolve(&["--max-connections", &(room + 1).to_string()]).expect_err("one too many");
        assert!(
            error.contains(&format!("can hold {room} connections; the lowest limit is memory")),
            "{error}"
        );
        assert!(
            error.contains("24576 MiB available") && error.contains("end what else holds memory"),
            "{error}"
        );
    }

    #[test]
    fn limits_stand_in_the_file_and_can_be_switched_off() {
        let limit = |setting: crate::rates::Setting| setting.0.map(|l| (l.period.as_micros(), l.burst.get()));
        let defaults = resolve(&[]).expect("defaults").limits;
        let text = "[limits]\nsends = { per_s = 0.5, burst = 9 }\nsignals = \"off\"\nconnection_bytes = 0\n";
        let limits = with_file(text, &[]).expect("all are right").limits;
        assert_eq!(limit(limits.sends), Some((2_000_000, 9)));
        assert_eq!((limit(limits.signals), limit(limits.connection_bytes)), (None, None));
        assert_eq!(limits.key_fetches, defaults.key_fetches);
        for (line, part) in [
            ("sends = { per_s = 0, burst = 5 }", "per_s = 0: must be between 0.001 and 100000000"),
            ("sends = { per_s = 2, burst = 18001 }", "burst = 18001: must be between 1 and 18000"),
            ("sends = { per_s = 2, burst = 0 }", "burst = 0: must be between 1 and 18000"),
            ("sends = { per_s = 2 }", "missing field `burst`"),
            ("sends = 5", "expected { per_s = N, burst = N }, or 0 or \"off\" for no limit"),
            ("sends = \"on\"", "expected { per_s = N, burst = N }, or 0 or \"off\" for no limit"),
            ("sents = \"off\"", "unknown field `sents`"),
        ] {
            let error = with_file(&format!("shards = 1\n[limits]\n{line}\n"), &[]).expect_err(line);
            assert!(error.starts_with(&format!("roost.toml:3: {line}: ")) && error.contains(part), "{error}");
        }
    }

    #[test]
    fn errors_name_file_key_and_value() {
        let error = with_file("heartbeat_s = 30\nshards = \"many\"\n", &[]).expect_err("not a number");
        assert!(error.starts_with("roost.toml:2: shards = \"many\": ") && !error.contains('\n'), "{error}");
        let error = with_file("sharts = 3\n", &[]).expect_err("unknown key");
        assert!(error.contains("roost.toml:1: sharts = 3: ") && error.contains("unknown field"), "{error}");
        let error = resolve(&["--config", "/nonexistent/roost.toml"]).expect_err("no file");
        assert!(error.contains("/nonexistent/roost.toml: cannot be read"), "{error}");
        for (arguments, part) in [
            (["--shards", "0"], "shards = 0: must be between 1 and 256"),
            (["--heartbeat-s", "999999"], "heartbeat_s = 999999"),
            (["--max-message-bytes", "0"], "max_message_bytes = 0"),
            (["--max-connections", "99999999999"], "max_connections = 99999999999: "),
        ] {
            let error = resolve(&arguments).expect_err("out of range");
            assert!(error.contains(part), "{error}");
        }
    }
}
