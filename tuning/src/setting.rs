//! One setting: what is known of it, and what came out when it was judged.

use clap::ValueEnum;
use serde::Serialize;

use crate::{demand::Demand, machine::Machine};

/// Whom a setting concerns, and so who can change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// A process and its children.
    Process,
    /// A network namespace.
    Namespace,
    /// The machine.
    Host,
    /// The machine, from its next start on.
    Boot,
}

/// How a setting stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As required.
    Ok,
    /// Less than required.
    Short,
    /// Less than required, and only a restart of the machine changes it.
    Reboot,
    /// The gateway needs what this kernel does not have.
    Unsupported,
    /// There is nothing here that it applies to: no hardware, no module, another profile.
    #[serde(rename = "not applicable")]
    Absent,
}

/// How a setting's requirement is known.
#[derive(Clone, Copy)]
pub enum Rule {
    /// Numbers below `/proc/sys`, each at least as large. No numbers: whatever is there stays.
    AtLeast(fn(&Demand) -> Vec<u64>),
    /// Found out by looking.
    Judged(fn(&Machine, &Demand) -> Judgement),
}

/// An entry of the table.
#[derive(Clone, Copy)]
pub struct Setting {
    /// Its name: with dots where it is one of `/proc/sys`.
    pub name: &'static str,
    /// Whether connections fail beyond it; else they only get slower or dearer.
    pub stops: bool,
    /// Whom it concerns.
    pub scope: Scope,
    /// How the requirement is known.
    pub rule: Rule,
    /// The requirement in words.
    pub needs: &'static str,
    /// Why it is required, or why it is left alone.
    pub why: &'static str,
    /// What raising it costs.
    pub cost: &'static str,
    /// Where that was learnt.
    pub source: &'static str,
}

/// Something `apply` would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file of the kernel, named from `/`, now and (by sysctl.d or tmpfiles.d) at each start.
    Kernel {
        /// The file.
        file: String,
        /// What is written into it, without a line end.
        value: String,
    },
    /// A line of the gateway's systemd drop-in.
    Unit {
        /// The directive.
        key: &'static str,
        /// Its value.
        value: u64,
    },
    /// A line of limits.d, for login sessions.
    Login {
        /// The item, as `limits.conf(5)` names it.
        item: &'static str,
        /// Its value.
        value: u64,
    },
}

/// What a setting was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What is there.
    pub current: String,
    /// What has to be there.
    pub required: String,
    /// How it stands.
    pub status: Status,
    /// The command that lifts it, or what to do.
    pub lift: Option<String>,
    /// What `apply` would change.
    pub changes: Vec<Change>,
}

impl Judgement {
    /// As required.
    pub fn ok(current: impl Into<String>, required: impl Into<String>) -> Self {
        Self {
            current: current.into(),
            required: required.into(),
            status: Status::Ok,
            lift: None,
            changes: Vec::new(),
        }
    }

    /// Not as required; `lift` mends it.
    pub fn short(current: impl Into<String>, required: impl Into<String>, lift: impl Into<String>) -> Self {
        Self { status: Status::Short, lift: Some(lift.into()), ..Self::ok(current, required) }
    }

    /// Nothing here that it applies to.
    pub fn absent(why: impl Into<String>) -> Self {
        Self { status: Status::Absent, ..Self::ok(why, "-") }
    }

    /// The same with another status.
    #[must_use]
    pub fn status(self, status: Status) -> Self {
        Self { status, ..self }
    }

    /// The same, with what `apply` changes.
    #[must_use]
    pub fn changing(self, changes: Vec<Change>) -> Self {
        Self { changes, ..self }
    }
}

/// A setting on a machine, judged: a row of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The setting's name.
    pub setting: &'static str,
    /// What is there.
    pub current: String,
    /// What has to be there.
    pub required: String,
    /// Why.
    pub why: &'static str,
    /// What raising it costs.
    pub cost: &'static str,
    /// Whom it concerns.
    pub scope: Scope,
    /// How it stands.
    pub status: Status,
    /// The command that lifts it, or what to do; only where it is not as required.
    pub lift: Option<String>,
    /// Where the requirement was learnt.
    pub source: &'static str,
    /// Whether connections fail beyond it; else they only get slower or dearer.
    pub stops: bool,
    /// How many connections the setting allows as it is; only where it is short, and where numbers decide.
    pub allows: Option<u64>,
    /// What `apply` would change.
    #[serde(skip)]
    pub changes: Vec<Change>,
}

impl Finding {
    /// Whether `apply` would write this file of the kernel for it.
    pub fn writes(&self, kernel_file: &str) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Kernel { file, .. } if file == kernel_file))
    }
}
