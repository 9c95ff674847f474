//! Judging a machine: every setting of the table for a demand.

use crate::{
    demand::Demand,
    machine::{Machine, Reading, numbers, sysctl_file},
    setting::{Change, Finding, Judgement, Rule, Setting, Status},
    table,
};

/// Judges every setting of the table, in its order.
pub fn check(machine: &Machine, demand: &Demand) -> Vec<Finding> {
    table::all().map(|setting| finding(setting, machine, demand)).collect()
}

/// The limit that a run meets first: of the settings that are not as required and beyond which connections fail, the one that
/// allows the fewest.
pub fn first_limit(findings: &[Finding]) -> Option<&Finding> {
    let not_fit = |status| matches!(status, Status::Short | Status::Reboot | Status::Unsupported);
    let limits = findings.iter().filter(|finding| finding.stops && not_fit(finding.status));
    limits.min_by_key(|finding| finding.allows.unwrap_or(0))
}

/// How many connections a setting allows as it is, found by halving; `None` where it does not say.
fn allows(setting: &Setting, machine: &Machine, demand: &Demand) -> Option<u64> {
    let fits = |connections| {
        matches!(judge(setting, machine, &demand.of(connections)).status, Status::Ok | Status::Absent)
    };
    if !fits(1) {
        return None;
    }
    let (mut fitting, mut too_many) = (1, demand.connections);
    while fitting + 1 < too_many {
        let middle = u64::midpoint(fitting, too_many);
        if fits(middle) {
            fitting = middle;
        } else {
            too_many = middle;
        }
    }
    Some(fitting)
}

/// Judges one setting.
pub fn finding(setting: &Setting, machine: &Machine, demand: &Demand) -> Finding {
    let Judgement { current, required, status, lift, changes } = judge(setting, machine, demand);
    let allows = matches!(status, Status::Short | Status::Reboot).then(|| allows(setting, machine, demand));
    Finding {
        setting: setting.name,
        current,
        required,
        why: setting.why,
        cost: setting.cost,
        scope: setting.scope,
        status,
        lift,
        source: setting.source,
        stops: setting.stops,
        allows: allows.flatten(),
        changes,
    }
}

fn judge(setting: &Setting, machine: &Machine, demand: &Demand) -> Judgement {
    match setting.rule {
        Rule::AtLeast(required) => at_least(machine, setting.name, &required(demand)),
        Rule::Judged(judge) => judge(machine, demand),
    }
}

/// A setting below `/proc/sys` whose numbers must each be at least `required`.
pub fn at_least(machine: &Machine, name: &str, required: &[u64]) -> Judgement {
    compare(machine, name, required, |current| {
        current.iter().zip(required).map(|(current, required)| *current.max(required)).collect()
    })
}

/// A range below `/proc/sys` that must take `required` in.
pub fn within(machine: &Machine, name: &str, required: &[u64]) -> Judgement {
    compare(machine, name, required, |current| match (current, required) {
        ([first, last], [from, to]) => vec![*first.min(from), *last.max(to)],
        _ => current.to_vec(),
    })
}

/// Compares what is there with what `raised` makes of it, so that nothing is ever lowered.
fn compare(
    machine: &Machine,
    name: &str,
    required: &[u64],
    raised: impl Fn(&[u64]) -> Vec<u64>,
) -> Judgement {
    let wanted = if required.is_empty() { "as it is".to_owned() } else { joined(required) };
    let file = sysctl_file(name);
    let text = match machine.read(&file) {
        Reading::Text(text) => text,
        Reading::Absent => return Judgement::absent("not here"),
        Reading::Unreadable => {
            return Judgement::short("not readable", wanted, "run it as root");
        }
    };
    let Some(current) = numbers(&text) else {
        return Judgement::short(text.trim(), wanted, format!("numbers are expected in {}", file.display()));
    };
    let raised = raised(&current);
    if required.is_empty() || raised == current {
        return Judgement::ok(joined(&current), wanted);
    }
    let value = joined(&raised);
    Judgement::short(joined(&current), wanted, format!("sysctl -w {name}='{value}'"))
        .changing(vec![Change::Kernel { file: file.display().to_string(), value }])
}

fn joined(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}
