//! Findings and plans for a terminal.

use std::fmt::Write as _;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};

use crate::{
    check::first_limit,
    plan::Plan,
    setting::{Finding, Status},
    verify::Drift,
};

/// Columns where the width of the terminal is not known.
const WIDTH: u16 = 160;
/// Columns below which a table of seven columns cannot be read.
const WIDTH_LEAST: u16 = 100;

/// The table of `check`.
pub fn table(findings: &[Finding]) -> String {
    let mut table = Table::new();
    let width = terminal_size::terminal_size().map_or(WIDTH, |(width, _)| width.0.max(WIDTH_LEAST));
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width);
    table.set_header(["setting", "current", "required", "why", "cost", "scope", "status"]);
    let narrow = |columns: u16| ColumnConstraint::UpperBoundary(Width::Fixed(columns));
    let whole = ColumnConstraint::ContentWidth;
    table.set_constraints([whole, narrow(20), narrow(20), narrow(200), narrow(40), whole, whole]);
    for finding in findings {
        let scope = word(&finding.scope);
        let Finding { setting, current, required, why, cost, status, .. } = finding;
        table.add_row([*setting, current, required, gist(why), gist(cost), &scope, &word(status)]);
    }
    table.trim_fmt() + "\n"
}

/// How many there are of each status, and what lifts those that are not as required.
pub fn summary(findings: &[Finding]) -> String {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    let mut text = format!(
        "{} as required, {} short, {} need a restart, {} unsupported, {} do not apply\n",
        count(Status::Ok),
        count(Status::Short),
        count(Status::Reboot),
        count(Status::Unsupported),
        count(Status::Absent)
    );
    if let Some(Finding { setting, allows, .. }) = first_limit(findings) {
        let at = allows.map_or_else(String::new, |allows| format!(", at {allows} connections"));
        writeln!(text, "connections fail first by {setting}{at}").expect("a String takes all");
    }
    for finding in findings {
        if let Some(lift) = &finding.lift {
            let allows =
                finding.allows.map_or_else(String::new, |allows| format!(" (fits {allows} connections)"));
            writeln!(
                text,
                "{}: {}, required {}{allows}: {lift}",
                finding.setting, finding.current, finding.required
            )
            .expect("a String takes all");
        }
    }
    text
}

/// Every write of a plan: where, what is there, what will be.
pub fn plan(plan: &Plan) -> String {
    if plan.is_empty() {
        return "nothing to do\n".to_owned();
    }
    let mut text = String::new();
    for folder in &plan.folders {
        writeln!(text, "make {folder}/").expect("a String takes all");
    }
    for write in &plan.writes {
        let before = write.before.as_deref().map(str::trim_end);
        if write.kernel {
            let before = before.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
            writeln!(text, "write {}: {before} -> {}", write.file, write.after.trim_end())
        } else {
            let verb = if before.is_some() { "replace" } else { "create" };
            let lines = write.after.lines().fold(String::new(), |lines, line| lines + "    " + line + "\n");
            write!(text, "{verb} {}:\n{lines}", write.file)
        }
        .expect("a String takes all");
    }
    text
}

/// What is not as apply left it.
pub fn drift(drift: &[Drift]) -> String {
    drift.iter().fold(String::new(), |text, Drift { file, expected, current, meaning }| {
        text + &format!("{file}: {meaning}: {current}, expected {expected}\n")
    })
}

/// The first sentence: the rest is for `explain` and the guide.
fn gist(text: &str) -> &str {
    text.find(". ").map_or(text, |end| &text[..=end])
}

/// A scope or a status as the reports write it.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
