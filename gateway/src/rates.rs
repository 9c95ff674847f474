//! How often users and connections may do what they do: the `[limits]` table of `roost.toml`.
//!
//! ```toml
//! [limits]
//! sends = { per_s = 100, burst = 1000 }
//! key_fetches = "off"
//! ```

use std::{fmt, num::NonZeroU32, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Unexpected, Visitor},
};

use crate::limits::RATE_BURST_S_MAX;

/// A token bucket: `burst` at once, one each `period` for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The time in which one token comes back.
    pub period: Duration,
    /// Tokens there are at most.
    pub burst: NonZeroU32,
}

/// The slowest rate: about four an hour.
const PER_S_MIN: f64 = 0.001;
/// The fastest: ten nanoseconds each, below which their rounding would show.
const PER_S_MAX: f64 = 1e8;

/// A limit, or none ("off" or 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting(pub Option<Limit>);

/// Each limit, with a default that a telephone never meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Messages, and publications of keys, of a user. All devices together, as in all limits of users.
    pub sends: Setting,
    /// Commands of a user to groups. One that adds users counts once more for each 64 of them.
    pub group_operations: Setting,
    /// A user's fetches of others' keys. The burst is one fetch for each member of a large group.
    pub key_fetches: Setting,
    /// A user's fetches of history.
    pub history_fetches: Setting,
    /// Typing notices of a user, and changes of whose presence is followed.
    pub signals: Setting,
    /// Messages that a user says to have read. They are as many as what others say, so there is much room.
    pub reads: Setting,
    /// A user's calls over HTTP, whatever they ask. What they ask is limited besides, as it is in a session.
    pub http_calls: Setting,
    /// Frames of a connection, heartbeats and pings included. A device that acknowledges each event of a busy group
    /// sends this many.
    pub connection_frames: Setting,
    /// Payload bytes of these frames.
    pub connection_bytes: Setting,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sends: Setting::of(100.0, 1_000),
            group_operations: Setting::of(5.0, 200),
            key_fetches: Setting::of(10.0, 1_024),
            history_fetches: Setting::of(10.0, 100),
            signals: Setting::of(20.0, 200),
            reads: Setting::of(10_000.0, 100_000),
            http_calls: Setting::of(200.0, 2_000),
            connection_frames: Setting::of(2_000.0, 10_000),
            connection_bytes: Setting::of(4_194_304.0, 16 << 20),
        }
    }
}

impl Setting {
    fn of(per_s: f64, burst: u32) -> Self {
        let period = Duration::from_secs_f64(1.0 / per_s);
        Self(NonZeroU32::new(burst).map(|burst| Limit { period, burst }))
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SettingVisitor)
    }
}

struct SettingVisitor;

/// The table form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    per_s: f64,
    burst: u32,
}

impl<'de> Visitor<'de> for SettingVisitor {
    type Value = Setting;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("{ per_s = N, burst = N }, or 0 or \"off\" for no limit")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Setting, E> {
        if number == 0 { Ok(Setting(None)) } else { Err(E::invalid_value(Unexpected::Signed(number), &self)) }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Setting, E> {
        if text == "off" { Ok(Setting(None)) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Setting, A::Error> {
        let Table { per_s, burst } = Table::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        if !(PER_S_MIN..=PER_S_MAX).contains(&per_s) {
            return Err(A::Error::custom(format_args!(
                "per_s = {per_s}: must be between {PER_S_MIN} and {PER_S_MAX}; write \"off\" for no limit"
            )));
        }
        let most = (per_s * RATE_BURST_S_MAX as f64) as u32;
        if !(1..=most).contains(&burst) {
            return Err(A::Error::custom(format_args!(
                "burst = {burst}: must be between 1 and {most}, which is what comes back in {RATE_BURST_S_MAX} s"
            )));
        }
        Ok(Setting::of(per_s, burst))
    }
}
