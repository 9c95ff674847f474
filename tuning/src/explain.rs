//! `roost-tune explain`: what is known of a setting, or why a piece of advice is refused.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    check,
    demand::Demand,
    machine::Machine,
    setting::{Finding, Setting},
    table::{
        self,
        folklore::{self, Folklore},
    },
};

/// How alike two names must be to be offered (Jaro-Winkler).
const ALIKE: f64 = 0.8;

/// The answer to a name.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Entries of the table, as they stand on this machine, and advice about them that is refused.
    Known {
        /// The entries.
        settings: Vec<Finding>,
        /// The requirement of each in words.
        needs: Vec<&'static str>,
        /// Advice under the same name.
        refused: Vec<Advice>,
    },
    /// Nothing of that name; names like it.
    Unknown {
        /// Names like it, the most alike first.
        alike: Vec<String>,
    },
}

/// Advice that is refused.
#[derive(Debug, Serialize)]
pub struct Advice {
    name: &'static str,
    says: &'static str,
    why_not: &'static str,
    instead: &'static str,
    source: &'static str,
}

/// Looks a name up: in full, with slashes, or by its last part.
pub fn explain(machine: &Machine, demand: &Demand, name: &str) -> Answer {
    let name = name.trim().trim_start_matches("/proc/sys/").replace('/', ".");
    let settings: Vec<&Setting> = table::all().filter(|setting| is_called(setting.name, &name)).collect();
    let refused: Vec<Advice> = folklore::find(&name).into_iter().map(advice).collect();
    if settings.is_empty() && refused.is_empty() {
        return Answer::Unknown { alike: alike(&name) };
    }
    Answer::Known {
        needs: settings.iter().map(|setting| setting.needs).collect(),
        settings: settings.into_iter().map(|setting| check::finding(setting, machine, demand)).collect(),
        refused,
    }
}

/// The answer for a terminal.
pub fn text(answer: &Answer) -> String {
    let mut text = String::new();
    match answer {
        Answer::Unknown { alike } => {
            let like =
                if alike.is_empty() { String::new() } else { format!("; like it: {}", alike.join(", ")) };
            text = format!(
                "no setting and no folklore of that name{like}; roost-tune check lists the settings\n"
            );
        }
        Answer::Known { settings, needs, refused } => {
            for (finding, needs) in settings.iter().zip(needs) {
                let Finding { setting, current, required, why, cost, source, lift, scope, status, .. } =
                    finding;
                write!(
                    text,
                    "{setting}\n  now:      {current}\n  required: {required} ({needs})\n  status:   {status:?}\n  scope:    {scope:?}\n  \
                     why:      {why}\n  cost:     {cost}\n  source:   {source}\n"
                )
                .expect("a String takes all");
                if let Some(lift) = lift {
                    writeln!(text, "  lift:     {lift}").expect("a String takes all");
                }
            }
            for Advice { name, says, why_not, instead, source } in refused {
                write!(
                    text,
                    "{name}: refused\n  said:     {says}\n  why not:  {why_not}\n  instead:  {instead}\n  source:   {source}\n"
                )
                .expect("a String takes all");
            }
        }
    }
    text
}

fn advice(folklore: &Folklore) -> Advice {
    let Folklore { name, says, why_not, instead, source, .. } = *folklore;
    Advice { name, says, why_not, instead, source }
}

fn is_called(setting: &str, name: &str) -> bool {
    setting.eq_ignore_ascii_case(name) || setting.rsplit('.').next().is_some_and(|last| last == name)
}

fn alike(name: &str) -> Vec<String> {
    let settings = table::all().map(|setting| setting.name);
    let advice = folklore::FOLKLORE
        .iter()
        .flat_map(|folklore| folklore.aliases.iter().copied().chain([folklore.name]));
    let likeness = |known: &str| {
        let last = known.rsplit('.').next().unwrap_or(known);
        strsim::jaro_winkler(known, name).max(strsim::jaro_winkler(last, name))
    };
    let mut alike: Vec<(f64, &str)> = settings.chain(advice).map(|known| (likeness(known), known)).collect();
    alike.retain(|(likeness, _)| *likeness >= ALIKE);
    alike.sort_by(|one, other| other.0.total_cmp(&one.0));
    alike.into_iter().take(3).map(|(_, known)| known.to_owned()).collect()
}
