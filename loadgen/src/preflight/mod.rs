//! Before a run starts: both ends are looked at for what it asks for, and the first limit that it would meet is named, with the
//! end it stands at and the command that lifts it (docs/decisions/0023-preflight.md).
//!
//! What the table of `roost-tune` knows is taken from there; what only this run knows (how many connect at a time, what is
//! available now, who shares a CPU) is looked at here. What cannot be read is told as unknown, never guessed.

pub mod attribution;
mod generator;
mod server;
mod text;

use crate::options::{Kind, Options};
use crate::run::Usage;
use clap::Args;
use roost_tuning::Finding as Judged;
use roost_tuning::Status as JudgedStatus;
use serde::Serialize;

pub use text::table;

/// The options of the preflight.
#[derive(Args, Clone, Debug)]
pub struct PreflightOptions {
    /// Checks both ends for what is asked for, prints what was found and starts nothing; exit code 0, or 1 where something is short
    #[arg(long)]
    pub preflight_only: bool,
    /// Starts in spite of a limit for which the preflight refuses to
    #[arg(long, conflicts_with = "preflight_only")]
    pub ignore_preflight: bool,
}

/// Which end of the connections a limit stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// This process and its machine.
    Generator,
    /// What it connects to.
    Server,
    /// Both, on one machine.
    Both,
}

/// How a limit stands to what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Enough.
    Ok,
    /// Less than the run needs.
    Short,
    /// It could not be read from here.
    Unknown,
}

/// A limit, held against what the run asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where it stands.
    pub end: End,
    /// Its name, as `roost-tune explain` knows it where that does.
    pub limit: String,
    /// What is there.
    pub current: String,
    /// What the run needs.
    pub required: String,
    /// How that stands.
    pub status: Status,
    /// Whether the run cannot be made beyond it; else it may be disturbed.
    pub stops: bool,
    /// How many clients it allows; `null` where it is not short, or numbers do not decide.
    pub clients_max: Option<u64>,
    /// The command that lifts it, or what to do; `null` where nothing has to be done.
    pub lift: Option<String>,
}

impl Finding {
    fn ok(end: End, limit: &str, current: impl Into<String>, required: impl Into<String>) -> Self {
        Self {
            end,
            limit: limit.to_owned(),
            current: current.into(),
            required: required.into(),
            status: Status::Ok,
            stops: false,
            clients_max: None,
            lift: None,
        }
    }

    /// Less than the run needs: it may be disturbed.
    fn short(self, lift: impl Into<String>) -> Self {
        Self { status: Status::Short, lift: Some(lift.into()), ..self }
    }

    /// The run cannot be made: it is for so many clients.
    fn stopping(self, clients_max: u64) -> Self {
        Self { stops: true, clients_max: Some(clients_max), ..self }
    }

    fn unknown(end: End, limit: &str, required: impl Into<String>, lift: impl Into<String>) -> Self {
        let finding = Self::ok(end, limit, "unknown", required);
        Self { status: Status::Unknown, lift: Some(lift.into()), ..finding }
    }

    /// What the table of `roost-tune` found; `None` where there is nothing that the setting applies to.
    fn judged(end: End, judged: Judged) -> Option<Self> {
        let status = match judged.status {
            JudgedStatus::Absent => return None,
            JudgedStatus::Ok => Status::Ok,
            JudgedStatus::Short | JudgedStatus::Reboot | JudgedStatus::Unsupported => Status::Short,
        };
        let stops = judged.stops && status == Status::Short;
        let (limit, lift) = (judged.setting.to_owned(), judged.lift);
        Some(Self {
            end,
            limit,
            current: judged.current,
            required: judged.required,
            status,
            stops,
            clients_max: judged.allows,
            lift,
        })
    }
}

/// Looks at both ends for the run that is asked for. It starts nothing and changes nothing.
pub fn check(options: &Options) -> Vec<Finding> {
    // Agents look after their own.
    let here = options.cli.agents.agents.is_empty();
    let mut findings = if here { generator::check(options) } else { Vec::new() };
    findings.extend(server::check(options));
    findings
}

/// The limit that the run meets first, of those beyond which it cannot be made.
pub fn first_limit(findings: &[Finding]) -> Option<&Finding> {
    let stopping = findings.iter().filter(|finding| finding.stops && finding.status == Status::Short);
    stopping.min_by_key(|finding| finding.clients_max.unwrap_or(0))
}

/// Refuses the run where it cannot be made, and warns on stderr of what may disturb it. Its findings come back for the report.
///
/// # Errors
/// [`Usage`] with the first limit, its end, how many clients it allows, and what lifts it.
pub fn require(options: &Options) -> Result<Vec<Finding>, Usage> {
    let findings = check(options);
    let refused = first_limit(&findings);
    if let Some(first) = refused.filter(|_| !options.cli.preflight.ignore_preflight) {
        return Err(Usage::new(text::refusal(options.cli.clients, first)));
    }
    if !options.cli.quiet {
        for finding in findings.iter().filter(|finding| finding.status == Status::Short) {
            eprintln!("roost-loadgen: {}", text::warning(finding));
        }
    }
    Ok(findings)
}

/// Refuses an agent's part of a run, of so many clients, where it cannot be made there. What may disturb it comes back, a line each.
///
/// # Errors
/// One line for the user, with the first limit, how many clients it allows, and what lifts it.
pub fn require_of_agent(options: &Options, clients: u32) -> Result<Vec<String>, String> {
    let mut part = options.clone();
    part.cli.clients = clients;
    let findings = generator::check(&part);
    let refused = first_limit(&findings).filter(|_| !options.cli.preflight.ignore_preflight);
    if let Some(first) = refused {
        return Err(text::refusal(clients, first));
    }
    Ok(findings.iter().filter(|finding| finding.status == Status::Short).map(text::warning).collect())
}

/// Clients that connect at the same time at most: what the server's queues have to take at once.
fn connecting(options: &Options) -> u64 {
    let by_thread = match options.cli.kind {
        Kind::Kernel => crate::limits::CONNECTING_MAX,
        Kind::Phantom => crate::phantom::limits::CONNECTING_MAX,
    };
    u64::from(options.cli.clients).min(by_thread as u64 * u64::from(options.cli.threads))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_limit_is_the_one_that_allows_the_fewest_of_those_that_stop() {
        let limit =
            |name: &str, clients| Finding::ok(End::Server, name, "1", "2").short("mend it").stopping(clients);
        let disturbing = Finding::ok(End::Generator, "slow", "1", "2").short("mend it");
        let fitting = Finding { status: Status::Ok, ..limit("enough", 1) };
        let findings = [disturbing, fitting, limit("ports", 28_232), limit("files", 1_000)];
        assert_eq!(first_limit(&findings).map(|first| first.limit.as_str()), Some("files"));
        assert_eq!(first_limit(&findings[..2]), None);
    }

    #[test]
    fn what_the_table_of_settings_says_is_taken_over() {
        let machine = roost_tuning::Machine::at("/nonexistent");
        let demand = roost_tuning::Demand::gateway(10);
        let found: Vec<_> = roost_tuning::check(&machine, &demand)
            .into_iter()
            .filter_map(|judged| Finding::judged(End::Server, judged))
            .collect();
        // Nothing is there: most settings apply to nothing, and what is left is not called short of something.
        assert!(found.iter().all(|finding| finding.end == End::Server));
        assert!(!found.iter().any(|finding| finding.limit == "memory"), "{found:?}");
    }
}
