//! What a mix may say, and how its mistakes are told: by key and value.

use super::{Distribution, Mix, Population, Presence};
use crate::limits::{
    GROUP_SIZE, MIX_GROUPS_MAX, MIX_KINDS_MAX, MIX_REPLIES_MAX, MIX_SPAN_S_MAX, PAYLOAD_BYTES_MAX,
};
use crate::payload::HEADER_BYTES;
use std::ops::Range;

/// Characters of a bad value that are shown.
const VALUE_CHARS_MAX: usize = 60;

/// Keys whose value is a distribution.
const DISTRIBUTIONS: [&str; 5] = ["bytes", "think_s", "online_s", "offline_s", "members"];

/// What such a key may be.
const FORMS: &str = "expected one of { constant = 5 }, { uniform = { min = 3, max = 10 } }, { exponential = { mean = 5, max = 50 } }, { lognormal = \
    { median = 5, sigma = 0.6, min = 1, max = 50 } }, { buckets = [{ weight = 1, min = 3, max = 8 }] }";

/// The key that is wrong, and why.
type Fault = (String, String);

impl Mix {
    /// The first thing in it that makes no sense.
    pub(super) fn fault(&self) -> Option<Fault> {
        let populations = self.population.iter().enumerate();
        let kinds = [self.population.len(), self.groups.len(), self.outage.len(), self.time.peak.len()];
        if kinds.into_iter().max() > Some(MIX_KINDS_MAX) {
            return Some(fault(
                "population",
                format!("a mix has at most {MIX_KINDS_MAX} of each kind of table"),
            ));
        }
        if self.population.is_empty() {
            return Some(fault("population", "at least one [[population]] is needed"));
        }
        if self.population.iter().all(Population::is_empty) {
            let key = if self.population[0].users.is_some() { "users" } else { "share" };
            return Some(fault(&format!("population[0].{key}"), "a mix needs a population with users"));
        }
        self.time_fault()
            .or_else(|| self.conversation_fault())
            .or_else(|| populations.map(|(number, one)| (number, one.fault())).find_map(at("population")))
            .or_else(|| self.name_fault())
            .or_else(|| self.groups_fault())
            .or_else(|| self.outage_fault())
    }

    fn time_fault(&self) -> Option<Fault> {
        let time = &self.time;
        if time.span_s.is_some() && time.compression.is_some() {
            return Some(fault("time.compression", "give either this or span_s"));
        }
        let curve = &time.curve;
        if curve.len() > MIX_KINDS_MAX || !curve.is_empty() && curve.iter().sum::<f64>() <= 0.0 {
            return Some(fault(
                "time.curve",
                format!("needs 1 to {MIX_KINDS_MAX} numbers, one of them above 0"),
            ));
        }
        number("time.span_s", time.span_s, 1.0..MIX_SPAN_S_MAX)
            .or_else(|| number("time.compression", time.compression, 0.001..1e6))
            .or_else(|| {
                let mut parts = curve.iter().enumerate();
                parts.find_map(|(part, &value)| number(&format!("time.curve[{part}]"), Some(value), 0.0..1e6))
            })
            .or_else(|| {
                time.peak.iter().enumerate().find_map(|(place, peak)| {
                    let key = |name| format!("time.peak[{place}].{name}");
                    number(&key("at_s"), Some(peak.at_s), 0.0..MIX_SPAN_S_MAX)
                        .or_else(|| number(&key("lasts_s"), Some(peak.lasts_s), 0.0..MIX_SPAN_S_MAX))
                        .or_else(|| number(&key("factor"), Some(peak.factor), 0.0..1e4))
                })
            })
    }

    fn conversation_fault(&self) -> Option<Fault> {
        let talk = &self.conversation;
        number("conversation.reply_share", Some(talk.reply_share), 0.0..0.95)
            .or_else(|| number("conversation.read_share", Some(talk.read_share), 0.0..1.0))
            .or_else(|| {
                let most = f64::from(MIX_REPLIES_MAX);
                number("conversation.replies_max", Some(f64::from(talk.replies_max)), 0.0..most)
            })
            .or_else(|| drawn("conversation.think_s", &talk.think_s, 0.0..MIX_SPAN_S_MAX))
    }

    /// Names that are twice, or nobody's.
    fn name_fault(&self) -> Option<Fault> {
        for (place, population) in self.population.iter().enumerate() {
            if self.population[..place].iter().any(|before| before.name == population.name) {
                return Some(fault(&format!("population[{place}].name"), "another population has this name"));
            }
        }
        let groups = self.groups.iter().enumerate().map(|(place, kind)| ("groups", "of", place, &kind.of));
        let outages =
            self.outage.iter().enumerate().map(|(place, outage)| ("outage", "of", place, &outage.of));
        let writers = self
            .groups
            .iter()
            .enumerate()
            .map(|(place, kind)| ("groups", "written_by", place, &kind.written_by));
        groups.chain(outages).chain(writers).find_map(|(table, key, place, of)| {
            let stranger = of.as_ref().filter(|&of| self.population_named(of).is_none());
            stranger.map(|_| fault(&format!("{table}[{place}].{key}"), "no population has this name"))
        })
    }

    fn groups_fault(&self) -> Option<Fault> {
        self.groups.iter().enumerate().find_map(|(place, kind)| {
            let key = |name| format!("groups[{place}].{name}");
            let (least, most) = (GROUP_SIZE.0 as f64, GROUP_SIZE.1 as f64);
            if kind.count.is_some() == kind.per_user.is_some() {
                return Some(fault(&key("count"), "give either this or per_user"));
            }
            let named = |name: &Option<String>| name.as_ref().and_then(|name| self.population_named(name));
            let (of, writers) = (named(&kind.of), named(&kind.written_by));
            for (name, place) in [("of", of), ("written_by", writers)] {
                if place.is_some_and(|place| self.population[place].is_empty()) {
                    return Some(fault(&key(name), "this population has no users"));
                }
            }
            // Only members write: a group with other writers would have none.
            if of.is_some() && writers.is_some() && of != writers {
                return Some(fault(
                    &key("written_by"),
                    "this population is not among the members, who are of another",
                ));
            }
            number(&key("count"), kind.count.map(f64::from), 1.0..f64::from(MIX_GROUPS_MAX))
                .or_else(|| number(&key("per_user"), kind.per_user, 0.0..1000.0))
                .or_else(|| drawn(&key("members"), &kind.members, least..most))
        })
    }

    fn outage_fault(&self) -> Option<Fault> {
        self.outage.iter().enumerate().find_map(|(place, outage)| {
            let key = |name| format!("outage[{place}].{name}");
            number(&key("at_s"), Some(outage.at_s), 0.0..MIX_SPAN_S_MAX)
                .or_else(|| number(&key("lasts_s"), Some(outage.lasts_s), 0.0..MIX_SPAN_S_MAX))
                .or_else(|| number(&key("share"), Some(outage.share), 0.0..1.0))
        })
    }

    /// The place of the population of that name.
    pub fn population_named(&self, name: &str) -> Option<usize> {
        self.population.iter().position(|population| population.name == name)
    }
}

impl Population {
    /// Whether it has no users, however many clients there are.
    fn is_empty(&self) -> bool {
        self.users.map_or(self.share == Some(0.0), |users| users == 0)
    }

    fn fault(&self) -> Option<Fault> {
        if self.users.is_some() == self.share.is_some() {
            return Some(fault("share", "give either this or users"));
        }
        if self.messages_per_day.is_some() == self.messages_per_s.is_some() {
            return Some(fault("messages_per_day", "give either this or messages_per_s"));
        }
        number("share", self.share, 0.0..1e9)
            .or_else(|| number("messages_per_day", self.messages_per_day, 0.0..1e9))
            .or_else(|| number("messages_per_s", self.messages_per_s, 0.0..1e6))
            .or_else(|| number("group_share", Some(self.group_share), 0.0..1.0))
            .or_else(|| drawn("bytes", &self.bytes, HEADER_BYTES as f64..PAYLOAD_BYTES_MAX as f64))
            .or_else(|| self.presence.as_ref().and_then(Presence::fault))
    }
}

impl Presence {
    fn fault(&self) -> Option<Fault> {
        if self.offline_s.is_some() == self.share_online.is_some() {
            return Some(fault("presence.share_online", "give either this or offline_s"));
        }
        let times = 0.001..MIX_SPAN_S_MAX;
        drawn("presence.online_s", &self.online_s, times.clone())
            .or_else(|| self.offline_s.as_ref().and_then(|away| drawn("presence.offline_s", away, times)))
            .or_else(|| number("presence.share_online", self.share_online, 0.01..1.0))
    }
}

/// Puts the table's name and place before the key.
fn at(table: &str) -> impl Fn((usize, Option<Fault>)) -> Option<Fault> {
    move |(place, fault)| fault.map(|(key, reason)| (format!("{table}[{place}].{key}"), reason))
}

fn fault(key: &str, reason: impl Into<String>) -> Fault {
    (key.to_owned(), reason.into())
}

fn number(key: &str, value: Option<f64>, bounds: Range<f64>) -> Option<Fault> {
    let value = value?;
    let Range { start, end } = bounds;
    (!(start..=end).contains(&value)).then(|| fault(key, format!("must be {start} to {end}")))
}

fn drawn(key: &str, distribution: &Distribution, bounds: Range<f64>) -> Option<Fault> {
    let (part, reason) = distribution.fault(bounds.start, bounds.end)?;
    Some((format!("{key}.{part}"), reason))
}

/// A text that is no TOML, in a line.
pub(super) fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    format!("line {line}: {}", one_line(error.message()))
}

/// A key that is not known, is missing, or has a value of another type, in a line.
pub(super) fn misread(table: &toml::Table, error: &serde_path_to_error::Error<toml::de::Error>) -> String {
    let (path, told) = (error.path().to_string(), one_line(error.inner().message()));
    // It has the value or the key in it.
    let reason = told.rfind(", expected").map_or_else(|| cut(&told), |end| cut(&told[..end]) + &told[end..]);
    // At the top, the path is a dot: the reason names the key.
    if path == "." {
        return reason;
    }
    // Where a text names a form, the path goes on into it.
    let mut ends = path.match_indices('.').map(|(end, _)| &path[..end]).chain([path.as_str()]);
    let formless = ends.find(|end| {
        let last = end.rsplit('.').next().unwrap_or_default();
        DISTRIBUTIONS.contains(&last) && value(table, end).is_some_and(|value| !value.is_table())
    });
    if let Some(key) = formless {
        return about(table, key, FORMS);
    }
    about(table, &path, &reason)
}

/// A key, its value where it has one, and what is wrong with it.
pub(super) fn about(table: &toml::Table, path: &str, reason: &str) -> String {
    let key = cut(path);
    match value(table, path) {
        Some(value @ (toml::Value::Table(_) | toml::Value::Array(_))) => {
            format!("{key} ({}): {reason}", value.type_str())
        }
        Some(value) => format!("{key} = {}: {reason}", cut(&value.to_string())),
        None => format!("{key}: {reason}"),
    }
}

fn value<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    let mut parts = key.split(['.', '[']).map(|part| part.trim_end_matches(']'));
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| match value {
        toml::Value::Array(all) => all.get(part.parse::<usize>().ok()?),
        value => value.get(part),
    })
}

/// What of a value is shown: [`VALUE_CHARS_MAX`] of it.
fn cut(text: &str) -> String {
    let mut shown = one_line(text);
    if let Some((end, _)) = shown.char_indices().nth(VALUE_CHARS_MAX) {
        shown.truncate(end);
        shown.push_str("...");
    }
    shown
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
