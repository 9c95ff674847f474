//! `roost-loadgen diff A.json B.json`: what changed from one run to another, whether it is better, and whether the two may be compared.

mod fields;

use crate::limits::REPORT_BYTES_MAX;
use crate::run::Usage;
use anyhow::bail;
use clap::Args;
use fields::{Better, CONDITIONS, ELSEWHERE, FIELDS, NOISE_SHARE};
use serde_json::Value;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Two reports.
#[derive(Args, Debug)]
pub struct Diff {
    /// The report to compare with, as --json wrote it
    #[arg(value_name = "A.json")]
    before: PathBuf,
    /// The other one
    #[arg(value_name = "B.json")]
    after: PathBuf,
    /// Every number of the reports, not only those that say how the server did
    #[arg(long)]
    all: bool,
}

impl Diff {
    /// Prints what speaks against comparing the two, and a line for each field: what it was, what it is, their ratio, and which
    /// is better.
    ///
    /// # Errors
    /// [`Usage`] where a file is no report.
    pub fn execute(&self) -> anyhow::Result<u8> {
        let (before, after) = (read(&self.before)?, read(&self.after)?);
        let mut out = String::new();
        writeln!(out, "A  {}  {}", title(&before), self.before.display())?;
        writeln!(out, "B  {}  {}", title(&after), self.after.display())?;
        for warning in warnings(&before, &after) {
            writeln!(out, "not the same: {warning}")?;
        }
        table(&mut out, &before, &after, self.all)?;
        print!("{out}");
        Ok(0)
    }
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let refuse = |reason: String| Usage::new(format!("{}: {reason}", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    // A byte more than may be, to see that there is one.
    file.take(REPORT_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| refuse(error.to_string()))?;
    if text.len() as u64 > REPORT_BYTES_MAX {
        bail!(refuse(format!("not a report: longer than {REPORT_BYTES_MAX} bytes")));
    }
    let report: Value =
        serde_json::from_str(&text).map_err(|error| refuse(format!("not a report: {error}")))?;
    if report.get("scenario").is_none() {
        bail!(refuse("not a report of roost-loadgen: it has no field 'scenario'".into()));
    }
    Ok(report)
}

fn title(report: &Value) -> String {
    let text = |name: &str| show(report.get(name).unwrap_or(&Value::Null));
    format!("{} {} {} v{}", text("scenario"), text("verdict"), text("started_at"), text("version"))
}

/// Why the figures of the two may not be compared, a sentence each.
fn warnings(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for name in CONDITIONS {
        let (was, is) = (find(before, name), find(after, name));
        if was != is {
            let show = |value: Option<&Value>| value.map_or("not told".into(), show);
            found.push(format!("{name} is {} in A and {} in B", show(was), show(is)));
        }
    }
    let (mine, theirs) = (options(before), options(after));
    for (one, other, name) in [(&mine, &theirs, "A"), (&theirs, &mine, "B")] {
        let only: Vec<_> = one.iter().filter(|option| !other.contains(option)).cloned().collect();
        if !only.is_empty() && !mine.is_empty() && !theirs.is_empty() {
            found.push(format!("only {name} ran with {}", only.join(", ")));
        }
    }
    for (report, name) in [(before, "A"), (after, "B")] {
        if report.get("generator_saturated") == Some(&Value::Bool(true)) {
            found.push(format!("the generator of {name} was saturated, that run does not count"));
        }
        if report.get("ended_early").is_some_and(Value::is_object) {
            found.push(format!("{name} was ended early"));
        }
    }
    found
}

/// The options of a run, each with its value, but for those that do not change what it does.
fn options(report: &Value) -> Vec<String> {
    let words = report.get("command").and_then(Value::as_array);
    let words: Vec<&str> = words.into_iter().flatten().filter_map(Value::as_str).collect();
    let mut found: Vec<String> = Vec::new();
    for word in words {
        match found.last_mut() {
            _ if word.starts_with("--") => found.push(word.replacen('=', " ", 1)),
            Some(option) if !option.contains(' ') => {
                option.push(' ');
                option.push_str(word);
            }
            _ => (),
        }
    }
    found.retain(|option| !ELSEWHERE.contains(&option.split(' ').next().unwrap_or_default()));
    found
}

fn table(out: &mut String, before: &Value, after: &Value, all: bool) -> std::fmt::Result {
    let mut rows: Vec<(String, Option<Better>)> =
        FIELDS.iter().map(|(name, better)| ((*name).to_owned(), Some(*better))).collect();
    if all {
        let mut others = Vec::new();
        for report in [before, after] {
            numbers("", report, &mut others);
        }
        for name in others {
            if !rows.iter().any(|(known, _)| *known == name) {
                rows.push((name, None));
            }
        }
    }
    let (mut of_before, mut of_after, mut written) = (Vec::new(), Vec::new(), 0);
    writeln!(out, "{:<34} {:>14} {:>14} {:>8}", "field", "A", "B", "B / A")?;
    for (name, better) in &rows {
        let (was, is) = (number(before, name), number(after, name));
        for (report, other, missing) in [(before, is, &mut of_before), (after, was, &mut of_after)] {
            if other.is_some() && find(report, name).is_none() {
                missing.push(name.clone());
            }
        }
        let nothing = was.unwrap_or_default() == 0.0 && is.unwrap_or_default() == 0.0;
        let fault = *better == Some(Better::None) && was.or(is).is_some();
        if (was.is_none() && is.is_none()) || (nothing && !all && !fault) {
            continue;
        }
        let (ratio, verdict) = judge(was, is, *better);
        let show = |value: Option<f64>| value.map_or("-".to_owned(), figure);
        let line = format!("{name:<34} {:>14} {:>14} {ratio:>8}  {verdict}", show(was), show(is));
        writeln!(out, "{}", line.trim_end())?;
        written += 1;
    }
    if written == 0 {
        writeln!(out, "neither has a figure to compare")?;
    }
    for (names, report) in [(of_before, "A"), (of_after, "B")].iter().filter(|(names, _)| !names.is_empty()) {
        writeln!(
            out,
            "{report} does not have: {} (another version of roost-loadgen wrote it)",
            names.join(", ")
        )?;
    }
    Ok(())
}

/// The ratio, and which is better.
fn judge(was: Option<f64>, is: Option<f64>, better: Option<Better>) -> (String, &'static str) {
    let Some((was, is)) = was.zip(is) else { return (String::new(), "") };
    let ratio = if was == 0.0 { String::new() } else { format!("{:.3}", is / was) };
    let noise = if better == Some(Better::None) { 0.0 } else { NOISE_SHARE * was.abs().max(is.abs()) };
    let more = is - was;
    let verdict = match better {
        _ if more.abs() <= noise => "",
        None => "",
        Some(Better::More) if more > 0.0 => "better",
        Some(Better::Less | Better::None) if more < 0.0 => "better",
        Some(_) => "worse",
    };
    (ratio, verdict)
}

fn find<'a>(report: &'a Value, name: &str) -> Option<&'a Value> {
    name.split('.').try_fold(report, |value, part| value.get(part))
}

fn number(report: &Value, name: &str) -> Option<f64> {
    find(report, name).and_then(Value::as_f64)
}

/// The names of all numbers, in the report's order, but for the timeline and other lists.
fn numbers(prefix: &str, value: &Value, names: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Number(_) if !names.contains(&name) => names.push(name),
            Value::Object(_) => numbers(&name, value, names),
            _ => (),
        }
    }
}

/// A number without more digits than it has a meaning.
fn figure(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn show(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
