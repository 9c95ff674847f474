//! What `apply` would write: worked out from what was found, shown before anything is done.

use serde::Serialize;

use crate::{
    error::Error,
    lines::{Lines, Syntax},
    machine::Machine,
    places,
    setting::{Change, Finding, Scope},
    store::{self, Saved},
    table,
};

/// One file that is to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// The file, named from `/`.
    pub file: String,
    /// Whether it is one of the kernel's, which take values, not contents.
    pub kernel: bool,
    /// What is in it now; `None` where there is no such file.
    pub before: Option<String>,
    /// What will be in it.
    pub after: String,
    /// Mode and owner of what is there.
    #[serde(skip)]
    pub saved: Option<Saved>,
}

/// All that is to change, in the order in which it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The files.
    pub writes: Vec<Write>,
    /// Folders that have to be made first, outer ones before inner ones.
    pub folders: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// Works out what would make `machine` as `findings` require, of the settings with one of `scopes` (all, where there are
/// none). Files for the next start are written only when no scope is left out.
///
/// # Errors
/// A file that would be replaced cannot be read, or is not what this tool writes.
pub fn plan(machine: &Machine, findings: &[Finding], scopes: &[Scope]) -> Result<Plan, Error> {
    let chosen = findings.iter().filter(|finding| scopes.is_empty() || scopes.contains(&finding.scope));
    let changes: Vec<&Change> = chosen.flat_map(|finding| &finding.changes).collect();
    let mut plan = Plan::default();
    for change in &changes {
        if let Change::Kernel { file, value } = change {
            plan.add(machine, file, format!("{value}\n"), true)?;
        }
    }
    if scopes.is_empty() {
        for config in CONFIGS {
            config.extend(machine, &changes, &mut plan)?;
        }
    }
    Ok(plan)
}

impl Plan {
    fn add(&mut self, machine: &Machine, file: &str, after: String, kernel: bool) -> Result<(), Error> {
        let saved = store::save(&machine.path_to_write(file)?)?;
        let before = saved.as_ref().map(|saved| saved.text.clone());
        if before.as_ref() == Some(&after) {
            return Ok(());
        }
        let outer = file.match_indices('/').skip(1).map(|(at, _)| &file[..at]);
        for folder in outer.filter(|folder| !machine.path(folder).exists()) {
            if !self.folders.iter().any(|known| known == folder) {
                self.folders.push(folder.to_owned());
            }
        }
        self.writes.push(Write { file: file.to_owned(), kernel, before, after, saved });
        Ok(())
    }
}

/// A file for the next start.
struct Config {
    file: &'static str,
    syntax: Syntax,
    /// The line a change makes in it.
    line: fn(&Change) -> Vec<(String, String)>,
    /// The setting of the table that a key belongs to.
    setting: fn(&str) -> String,
}

const CONFIGS: &[Config] = &[
    Config { file: places::SYSCTL, syntax: Syntax::Sysctl, line: sysctl_line, setting: str::to_owned },
    Config {
        file: places::TMPFILES,
        syntax: Syntax::Tmpfiles,
        line: tmpfiles_line,
        setting: |_| String::new(),
    },
    Config {
        file: places::UNIT_DROP_IN,
        syntax: Syntax::Unit,
        line: |change| match change {
            Change::Unit { key, value } => vec![((*key).to_owned(), value.to_string())],
            _ => Vec::new(),
        },
        setting: |key| format!("unit {key}"),
    },
    Config {
        file: places::LOGIN_LIMITS,
        syntax: Syntax::Login,
        // The wildcard does not include root, pam_limits(8).
        line: |change| match change {
            Change::Login { item, value } => {
                ["*", "root"].map(|domain| (format!("{domain} {item}"), value.to_string())).to_vec()
            }
            _ => Vec::new(),
        },
        setting: |_| "limits.d nofile".to_owned(),
    },
];

impl Config {
    /// Adds the file to the plan, if a change has a line in it. Lines that are there stay, and are never lowered.
    fn extend(&self, machine: &Machine, changes: &[&Change], plan: &mut Plan) -> Result<(), Error> {
        let new: Vec<_> = changes.iter().flat_map(|change| (self.line)(change)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let text =
            store::save(&machine.path_to_write(self.file)?)?.map_or_else(String::new, |saved| saved.text);
        let mut lines = Lines::parse(self.syntax, &text);
        if self.syntax == Syntax::Unit
            && text.lines().any(|line| line.starts_with('[') && line.trim() != "[Service]")
        {
            let is = "has other sections than [Service]";
            return Err(Error::Strange { path: machine.path(self.file), is });
        }
        for (key, value) in new {
            lines.raise(&key, &value);
        }
        let why = |key: &str| table::find(&(self.setting)(key)).map(|setting| setting.why);
        plan.add(machine, self.file, lines.render(HEAD, why), false)
    }
}

const HEAD: &str =
    "Written by roost-tune apply; roost-tune rollback removes it. Lines are only ever added and raised.";

fn sysctl_line(change: &Change) -> Vec<(String, String)> {
    let Change::Kernel { file, value } = change else { return Vec::new() };
    let key = file.strip_prefix("/proc/sys/").map(|name| name.replace('/', "."));
    key.into_iter().map(|key| (key, value.clone())).collect()
}

fn tmpfiles_line(change: &Change) -> Vec<(String, String)> {
    match change {
        Change::Kernel { file, value } if file.starts_with("/sys/") => vec![(file.clone(), value.clone())],
        _ => Vec::new(),
    }
}

/// Keys that a file read after ours sets lower at the next start: file, key, its value, ours.
pub fn overridden(machine: &Machine) -> Vec<(String, String, String, String)> {
    let ours = Lines::parse(Syntax::Sysctl, &machine.text(places::SYSCTL).unwrap_or_default());
    let mut later = Vec::new();
    for folder in ["/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d"] {
        let names = machine.names(folder).into_iter().filter(|name| name.as_str() > "90-roost.conf");
        later.extend(names.map(|name| format!("{folder}/{name}")));
    }
    later.push("/etc/sysctl.conf".to_owned());
    let mut found = Vec::new();
    for file in later {
        let theirs = Lines::parse(Syntax::Sysctl, &machine.text(&file).unwrap_or_default());
        for (key, value) in ours.settings() {
            let mut both = ours.clone();
            if let Some(other) = theirs.value(key) {
                both.raise(key, other);
                if both.value(key) != Some(other) {
                    found.push((file.clone(), key.clone(), other.to_owned(), value.clone()));
                }
            }
        }
    }
    found
}
