//! A mix: the TOML file of `mix`, with populations of users, what they send and when they are there. The schedule is computed from it
//! (`schedule/mixed.rs`); what each key means stands in docs/MIX.md, and loadgen/scenarios/ has examples.

mod check;
mod distribution;

pub use distribution::{Bounds, Bucket, Distribution, Exponential, Lognormal};

use serde::Deserialize;
use std::path::Path;

/// A mix as it was written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// What the run's length stands for, and how busy its parts are.
    #[serde(default)]
    pub time: Time,
    /// Answers.
    #[serde(default)]
    pub conversation: Conversation,
    /// The users.
    pub population: Vec<Population>,
    /// Kinds of groups.
    #[serde(default)]
    pub groups: Vec<GroupKind>,
    /// Times at which many lose their connection at once.
    #[serde(default)]
    pub outage: Vec<Outage>,
    /// The whole text, for other machines that take part in the run.
    #[serde(skip)]
    pub text: String,
}

/// The time of a mix.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Time {
    /// Seconds that the measured part stands for, however long it is.
    pub span_s: Option<f64>,
    /// How many seconds pass in each of the run's; 1 where neither is given.
    pub compression: Option<f64>,
    /// The relative activity in equal parts of the run. The mean stays what the rates say.
    pub curve: Vec<f64>,
    /// Parts of the run in which all are busier than that.
    pub peak: Vec<PeakTime>,
}

/// A part of the run with more messages.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeakTime {
    /// Seconds of the span at which it begins.
    pub at_s: f64,
    /// Its length, in seconds of the span.
    pub lasts_s: f64,
    /// How many times as many messages.
    pub factor: f64,
}

/// How messages are answered.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conversation {
    /// Share of the messages that are answered, answers included.
    pub reply_share: f64,
    /// Seconds of the span until the answer.
    pub think_s: Distribution,
    /// Answers in a row at most.
    pub replies_max: u32,
    /// Share of the received messages that are marked as read.
    pub read_share: f64,
}

impl Default for Conversation {
    fn default() -> Self {
        Self { reply_share: 0.0, think_s: Distribution::Constant(0.0), replies_max: 8, read_share: 0.5 }
    }
}

/// Users who are alike.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// What it is called in the report, and by groups and outages.
    pub name: String,
    /// How many there are.
    pub users: Option<u32>,
    /// Its part of the clients that no population names by number, relative to the others'.
    pub share: Option<f64>,
    /// Messages in 86,400 s of the span of conversations that each of its users begins: the user's own and the answers to them, whoever gives those.
    pub messages_per_day: Option<f64>,
    /// Messages in a second of the span of conversations that each of its users begins: the user's own and the answers to them, whoever gives those.
    pub messages_per_s: Option<f64>,
    /// Bytes of a message.
    pub bytes: Distribution,
    /// Share of its messages that go to a group the sender is in.
    #[serde(default)]
    pub group_share: f64,
    /// When its users are there; always, where it is not given.
    pub presence: Option<Presence>,
}

/// Times online and times offline, by turns.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// Seconds of the span that a user stays.
    pub online_s: Distribution,
    /// Seconds of the span that a user stays away.
    pub offline_s: Option<Distribution>,
    /// Share of the users that are there at any time; times away are then exponential, with the mean that makes it so.
    pub share_online: Option<f64>,
}

/// Groups that are alike.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupKind {
    /// What it is called in errors.
    pub name: String,
    /// The population its members are of; any, where it is not given.
    pub of: Option<String>,
    /// The population whose users write to it, to be read by all and answered by nobody; all members write, where it is not given.
    pub written_by: Option<String>,
    /// How many there are.
    pub count: Option<u32>,
    /// How many of them a user is in, on average.
    pub per_user: Option<f64>,
    /// Members of each.
    pub members: Distribution,
}

/// Many lose their connection at once.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Seconds of the span at which it begins.
    pub at_s: f64,
    /// Its length, in seconds of the span.
    pub lasts_s: f64,
    /// Share of the users that it strikes.
    pub share: f64,
    /// The population it strikes; all, where it is not given.
    pub of: Option<String>,
}

impl Mix {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// One line for the user that names the file, the key and its value.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read --mix {}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("--mix {}: {error}", path.display()))
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// One line that names the key and its value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|error| check::syntax(text, &error))?;
        let mut mix: Self = serde_path_to_error::deserialize(toml::Value::Table(table.clone()))
            .map_err(|error| check::misread(&table, &error))?;
        if let Some((key, reason)) = mix.fault() {
            return Err(check::about(&table, &key, &reason));
        }
        text.clone_into(&mut mix.text);
        Ok(mix)
    }

    /// Seconds that pass in each second of a run of that length.
    pub fn compression(&self, duration_s: f64) -> f64 {
        self.time.span_s.map_or_else(|| self.time.compression.unwrap_or(1.0), |span_s| span_s / duration_s)
    }

    /// How many messages come of each that is nobody's answer.
    pub fn messages_per_start(&self) -> f64 {
        (0..=self.conversation.replies_max).map(|turn| self.conversation.reply_share.powi(turn as i32)).sum()
    }
}

impl Population {
    /// Messages that each of its users sends in a second of the span.
    pub fn rate_per_s(&self) -> f64 {
        self.messages_per_s.unwrap_or_default() + self.messages_per_day.unwrap_or_default() / 86_400.0
    }
}
