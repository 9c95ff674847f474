//! Settings that are one of a few words.

use std::str::FromStr;

use clap::ValueEnum;
use serde::Deserialize;

use crate::limits;

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

impl BackendKind {
    /// As it is given.
    pub fn name(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Echo => "echo",
        }
    }
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
