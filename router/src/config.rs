//! What operators choose.

use crate::limits;
use std::{num::NonZeroU32, path::PathBuf, time::Duration};

/// How a router is set up. `Config::at(path)` has the defaults; change fields from there.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the store; made if absent. Default: `./roost-data/store`.
    pub data: PathBuf,
    /// Router threads, at least 1. Default: half the cores. May change from start to start.
    pub threads: usize,
    /// Partitions of a store made by this start; an existing store keeps its own number. 1 to 1024, default 16.
    pub partitions: u16,
    /// Told to clients in Welcome. Default: 25 s.
    pub heartbeat_s: u32,
    /// Largest payload of a message; larger ones are answered `TOO_LARGE`. Told to clients in Welcome. Default: 64 KiB.
    pub payload_bytes_max: u32,
    /// Members of a group, 1 to 4,096. Default: 1,024.
    pub group_members_max: usize,
    /// Events in flight to a session. Default: 256.
    pub window_events_max: usize,
    /// Bytes in flight to a session. Default: 256 KiB.
    pub window_bytes_max: usize,
    /// Days after which what was not delivered goes, and with it the keys by which a Send that is sent again is known. At least 1.
    /// Default: 30.
    pub retention_days: u32,
    /// Days for which conversations are kept for `HistoryFetch`: 0 for not at all, `u32::MAX` for ever. Default: 0.
    pub history_days: u32,
    /// Requests of one commit. Default: 2048.
    pub batch_requests_max: usize,
    /// Requests waiting for a router thread. Default: 8192.
    pub queue_requests_max: usize,
    /// Effects a thread holds for full shards before it takes no more requests. Default: 65,536.
    pub effects_held_max: usize,
    /// What one user may ask for. Default: no limits; a gateway sets them.
    pub user_limits: UserLimits,
}

/// How often something may happen: a token bucket of `burst` tokens that gets a new one each `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// For ever. Zero is taken as a nanosecond.
    pub period: Duration,
    /// At once, after a pause.
    pub burst: NonZeroU32,
}

/// Limits of each user, all devices and gateways' shards together. What is beyond one is answered `RATE_LIMITED`. None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Messages, and publications of keys.
    pub sends: Option<Limit>,
    /// Commands to groups; one that adds users takes a token more for each 64 of them.
    pub group_operations: Option<Limit>,
    /// Fetches of users' keys.
    pub key_fetches: Option<Limit>,
    /// Fetches of history.
    pub history_fetches: Option<Limit>,
    /// Typing notices, and changes of whose presence is followed.
    pub signals: Option<Limit>,
    /// Messages that are said to be read.
    pub reads: Option<Limit>,
}

impl Config {
    /// The defaults, with the store in this folder.
    pub fn at(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            threads: std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1)),
            partitions: limits::PARTITIONS,
            heartbeat_s: 25,
            payload_bytes_max: limits::PAYLOAD_BYTES_MAX,
            group_members_max: limits::GROUP_MEMBERS_MAX,
            window_events_max: limits::WINDOW_EVENTS_MAX,
            window_bytes_max: limits::WINDOW_BYTES_MAX,
            retention_days: limits::RETENTION_DAYS,
            history_days: 0,
            batch_requests_max: limits::BATCH_REQUESTS_MAX,
            queue_requests_max: limits::QUEUE_REQUESTS_MAX,
            effects_held_max: limits::EFFECTS_HELD_MAX,
            user_limits: UserLimits::default(),
        }
    }

    /// What partitions decide by.
    pub fn rules(&self) -> Rules {
        Rules {
            heartbeat_s: self.heartbeat_s,
            payload_bytes_max: self.payload_bytes_max,
            group_members_max: self.group_members_max,
            window_events_max: self.window_events_max.max(1),
            window_bytes_max: self.window_bytes_max.max(1),
            retention_ms: u64::from(self.retention_days.max(1)) * limits::DAY_MS,
            history_ms: u64::from(self.history_days) * limits::DAY_MS,
            trim_events_max: limits::TRIM_EVENTS_MAX,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::at("./roost-data/store")
    }
}

/// The part of the configuration that a partition decides by. It belongs to the partition's input: the same log under
/// other rules may give other effects.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Told in Welcome.
    pub heartbeat_s: u32,
    /// Largest payload of a message.
    pub payload_bytes_max: u32,
    /// Members of a group.
    pub group_members_max: usize,
    /// Events in flight to a session.
    pub window_events_max: usize,
    /// Bytes in flight to a session.
    pub window_bytes_max: usize,
    /// What was not delivered and is older goes.
    pub retention_ms: u64,
    /// What was said is kept so long for `HistoryFetch`; 0 for not at all.
    pub history_ms: u64,
    /// Events that are deleted at once where they must be looked for.
    pub trim_events_max: usize,
}
