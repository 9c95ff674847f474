//! A plan as a shell script, for machines that are changed by other means than this tool.

use std::fmt::Write as _;

use crate::{
    demand::Demand,
    lines::comment,
    machine::Machine,
    plan::{Plan, Write},
    setting::Finding,
};

/// The end of each file in the script; no line of ours is this.
const END: &str = "END_OF_ROOST_TUNE";

/// The script: every write of the plan, each below the reason and what was there.
pub fn script(machine: &Machine, demand: &Demand, findings: &[Finding], plan: &Plan) -> String {
    let head = format!(
        "The plan of roost-tune for {} connections, profile {:?}. It writes and saves nothing else: what was there stands in the \
         comments. ROOT may name a copy of the machine's files.",
        demand.connections, demand.profile
    );
    let root = if machine.is_live() { String::new() } else { machine.root().display().to_string() };
    let mut text = format!("#!/bin/sh\n{}set -eu\nROOT=\"${{ROOT-{root}}}\"\n", comment(&head));
    for folder in &plan.folders {
        writeln!(text, "mkdir -p \"$ROOT{folder}\"").expect("a String takes all");
    }
    for write in &plan.writes {
        text.push('\n');
        text.push_str(&one(findings, write));
    }
    text
}

fn one(findings: &[Finding], write: &Write) -> String {
    let Write { file, kernel, before, after, .. } = write;
    if *kernel {
        let why = findings.iter().find(|finding| finding.writes(file));
        let was = before.as_deref().unwrap_or_default().trim_end();
        let told =
            why.map_or_else(String::new, |finding| comment(&format!("{}: {}", finding.setting, finding.why)));
        return format!("{told}# Before: {was}\nprintf '%s\\n' '{}' > \"$ROOT{file}\"\n", after.trim_end());
    }
    let was = match before {
        Some(before) => {
            before.lines().fold("# Before:\n".to_owned(), |text, line| text + "#   " + line + "\n")
        }
        None => "# Before: no such file\n".to_owned(),
    };
    format!("{was}cat > \"$ROOT{file}\" <<'{END}'\n{after}{END}\n")
}
