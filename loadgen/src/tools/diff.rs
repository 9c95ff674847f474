//! `roost-loadgen diff A.json B.json`: the numbers of two reports side by side.

use crate::run::Usage;
use anyhow::bail;
use clap::Args;
use serde_json::Value;
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
}

impl Diff {
    /// Prints every number that stands in either report: what it was, what it is, and their ratio.
    ///
    /// # Errors
    /// [`Usage`] where a file is no report.
    pub fn execute(&self) -> anyhow::Result<u8> {
        let (before, after) = (numbers(&read(&self.before)?), numbers(&read(&self.after)?));
        let names = before.iter().chain(after.iter().filter(|(name, _)| find(&before, name).is_none()));
        println!("{:<40} {:>16} {:>16} {:>8}", "field", "A", "B", "B / A");
        for (name, _) in names {
            let (was, is) = (find(&before, name), find(&after, name));
            let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
            let ratio =
                was.zip(is).filter(|(was, _)| *was != 0.0).map(|(was, is)| format!("{:.3}", is / was));
            println!("{name:<40} {:>16} {:>16} {:>8}", show(was), show(is), ratio.unwrap_or_default());
        }
        Ok(0)
    }
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let refuse = |reason: String| Usage::new(format!("{}: {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let report: Value =
        serde_json::from_str(&text).map_err(|error| refuse(format!("not a report: {error}")))?;
    if report.get("scenario").is_none() {
        bail!(refuse("not a report of roost-loadgen: it has no field 'scenario'".into()));
    }
    Ok(report)
}

/// All numbers with the path to each, in the report's order of names.
fn numbers(report: &Value) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    for (name, value) in report.as_object().into_iter().flatten() {
        match value {
            Value::Number(number) => found.extend(number.as_f64().map(|number| (name.clone(), number))),
            Value::Object(_) => {
                found.extend(
                    numbers(value).into_iter().map(|(part, number)| (format!("{name}.{part}"), number)),
                );
            }
            _ => (),
        }
    }
    found
}

fn find(numbers: &[(String, f64)], name: &str) -> Option<f64> {
    numbers.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
}
