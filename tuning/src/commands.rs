//! The commands: what each prints, and the exit code it ends with.

use std::io::{self, Write as _};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{
    apply::{self, Outcome},
    check::{check, first_limit},
    demand::Demand,
    error::Usage,
    explain::{self, Answer},
    machine::Machine,
    options::{Command, Common, Options, Place},
    places,
    plan::{self, Plan, Write},
    render, script,
    setting::{Finding, Status},
    size::Sizing,
    verify::{self, Drift},
};

/// As required.
pub const EXIT_OK: u8 = 0;
/// Something is short, or could not be done.
pub const EXIT_SHORT: u8 = 1;
/// Usage.
pub const EXIT_USAGE: u8 = 2;
/// A setting is unsupported here.
pub const EXIT_UNSUPPORTED: u8 = 3;
/// A reboot is needed.
pub const EXIT_REBOOT: u8 = 4;

/// The report as JSON.
#[derive(Serialize)]
struct Report<'a> {
    command: &'static str,
    #[serde(flatten)]
    demand: Demand,
    root: String,
    kernel: Option<String>,
    exit_code: u8,
    /// The setting that ends a run first, if one does.
    first_limit: Option<&'a str>,
    settings: &'a [Finding],
    #[serde(skip_serializing_if = "Option::is_none")]
    writes: Option<&'a [Write]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<&'a [Drift]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'a [String]>,
}

/// Runs a command and answers its exit code.
///
/// # Errors
/// A file cannot be read or written.
pub fn run(options: Options) -> anyhow::Result<u8> {
    match options.command {
        Command::Check(common) => Session::new(&common)?.check(),
        Command::Plan { script, common } => Session::new(&common)?.plan(script),
        Command::Apply(common) => Session::new(&common)?.apply(),
        Command::Verify(common) => Session::new(&common)?.verify(),
        Command::Rollback { force, place } => rollback(&place, force),
        Command::Size { demand, json } => {
            let sizing = Sizing::of(&demand);
            say(&if json { pretty(&sizing) } else { sizing.table() })?;
            Ok(EXIT_OK)
        }
        Command::Explain { name, common } => Session::new(&common)?.explain(&name),
    }
}

/// What findings mean for a script: what cannot be had here comes first, then what can be mended now, then the restart.
pub fn exit_code(findings: &[Finding]) -> u8 {
    let any = |status| findings.iter().any(|finding| finding.status == status);
    match () {
        () if any(Status::Unsupported) => EXIT_UNSUPPORTED,
        () if any(Status::Short) => EXIT_SHORT,
        () if any(Status::Reboot) => EXIT_REBOOT,
        () => EXIT_OK,
    }
}

/// A machine, and what is asked of it.
struct Session<'a> {
    common: &'a Common,
    machine: Machine,
    demand: Demand,
}

impl<'a> Session<'a> {
    fn new(common: &'a Common) -> anyhow::Result<Self> {
        let machine = common.machine();
        check_root(&machine)?;
        if let Some(pid) = common.pid
            && !machine.path(format!("/proc/{pid}")).exists()
        {
            bail!(Usage(format!("--pid {pid}: there is no such process")));
        }
        Ok(Self { common, machine, demand: common.demand() })
    }

    /// The settings that are looked at: all, or those of the scopes asked for.
    fn findings(&self) -> Vec<Finding> {
        let mut findings = check(&self.machine, &self.demand);
        let scopes = &self.common.scope;
        findings.retain(|finding| scopes.is_empty() || scopes.contains(&finding.scope));
        findings
    }

    fn check(&self) -> anyhow::Result<u8> {
        let findings = self.findings();
        let code = exit_code(&findings);
        if self.common.place.json {
            return self.json("check", code, &findings, None, None, None);
        }
        say(&(render::table(&findings) + &render::summary(&findings)))?;
        Ok(code)
    }

    fn plan(&self, as_script: bool) -> anyhow::Result<u8> {
        let findings = self.findings();
        let plan = self.planned(&findings)?;
        let code = exit_code(&findings);
        if self.common.place.json {
            return self.json("plan", code, &findings, Some(&plan.writes), None, None);
        }
        if as_script {
            say(&script::script(&self.machine, &self.demand, &findings, &plan))?;
        } else {
            say(&(render::plan(&plan) + &beyond_apply(&findings)))?;
        }
        Ok(code)
    }

    fn apply(&self) -> anyhow::Result<u8> {
        let plan = self.planned(&self.findings())?;
        if !self.common.place.json {
            say(&render::plan(&plan))?;
        }
        let Outcome { done, failed, .. } =
            apply::apply(&self.machine, &plan, &self.common.place.state(), &mut || {})?;
        // What the kernel made of it counts, not what was written.
        let findings = self.findings();
        let code =
            if failed.is_empty() { exit_code(&findings) } else { exit_code(&findings).max(EXIT_SHORT) };
        if self.common.place.json {
            return self.json("apply", code, &findings, Some(&plan.writes), None, Some(&failed));
        }
        let wrote = format!("{} written, {} failed\n{}", done.len(), failed.len(), reload(&done));
        say(&(wrote + &render::summary(&findings)))?;
        complain(&failed);
        Ok(code)
    }

    fn verify(&self) -> anyhow::Result<u8> {
        let findings = self.findings();
        let drift = verify::drift(&self.machine, &self.common.place.state())?;
        let code = match exit_code(&findings) {
            EXIT_OK | EXIT_REBOOT if !drift.is_empty() => EXIT_SHORT,
            code => code,
        };
        if self.common.place.json {
            return self.json("verify", code, &findings, None, Some(&drift), None);
        }
        say(&(render::drift(&drift) + &render::summary(&findings)))?;
        Ok(code)
    }

    fn explain(&self, name: &str) -> anyhow::Result<u8> {
        let answer = explain::explain(&self.machine, &self.demand, name);
        if let Answer::Unknown { .. } = answer {
            eprint!("roost-tune: {}", explain::text(&answer));
            return Ok(EXIT_USAGE);
        }
        let text = if self.common.place.json { pretty(&answer) } else { explain::text(&answer) };
        say(&text)?;
        Ok(EXIT_OK)
    }

    fn planned(&self, findings: &[Finding]) -> anyhow::Result<Plan> {
        Ok(plan::plan(&self.machine, findings, &self.common.scope)?)
    }

    fn json(
        &self,
        command: &'static str,
        exit_code: u8,
        settings: &[Finding],
        writes: Option<&[Write]>,
        drift: Option<&[Drift]>,
        failed: Option<&[String]>,
    ) -> anyhow::Result<u8> {
        let report = Report {
            command,
            demand: self.demand,
            root: self.machine.root().display().to_string(),
            kernel: self.machine.text("/proc/sys/kernel/osrelease"),
            exit_code,
            first_limit: first_limit(settings).map(|finding| finding.setting),
            settings,
            writes,
            drift,
            failed,
        };
        say(&pretty(&report))?;
        Ok(exit_code)
    }
}

fn rollback(place: &Place, force: bool) -> anyhow::Result<u8> {
    let machine = place.machine();
    check_root(&machine)?;
    let Outcome { done, removed, failed } = apply::rollback(&machine, &place.state(), force)?;
    let code = if failed.is_empty() { EXIT_OK } else { EXIT_SHORT };
    if place.json {
        let report = serde_json::json!({
            "command": "rollback", "root": machine.root(), "exit_code": code, "restored": done, "removed": removed,
            "failed": failed,
        });
        say(&pretty(&report))?;
        return Ok(code);
    }
    let text = if done.is_empty() && failed.is_empty() {
        "nothing to roll back\n".to_owned()
    } else {
        let verb = |file| if removed.contains(file) { "removed " } else { "restored " };
        done.iter().fold(String::new(), |text, file| text + verb(file) + file + "\n") + &reload(&done)
    };
    say(&text)?;
    complain(&failed);
    Ok(code)
}

/// What is short or needs a restart, and is not among what apply writes.
fn beyond_apply(findings: &[Finding]) -> String {
    let left = findings.iter().filter(|finding| finding.changes.is_empty());
    let line = |finding: &Finding| {
        let Finding { setting, current, required, lift, .. } = finding;
        lift.as_ref().map(|lift| format!("not by apply: {setting}: {current}, required {required}: {lift}\n"))
    };
    left.filter_map(line).collect()
}

/// What else has to be done once a unit's drop-in has changed.
fn reload(done: &[String]) -> String {
    let units = done.iter().any(|file| file == places::UNIT_DROP_IN);
    if units {
        "next: systemctl daemon-reload, and restart roost-gateway\n".to_owned()
    } else {
        String::new()
    }
}

fn check_root(machine: &Machine) -> anyhow::Result<()> {
    for file in [places::FILE_MAX, places::SOMAXCONN] {
        if !machine.path(file).exists() {
            bail!(Usage(format!(
                "--root {}: there is no {} in it; docs/TUNING.md says how a copy of a machine's files is made",
                machine.root().display(),
                file.trim_start_matches('/')
            )));
        }
    }
    Ok(())
}

fn complain(failed: &[String]) {
    for failure in failed {
        eprintln!("roost-tune: {failure}");
    }
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("a report is JSON") + "\n"
}

/// Prints; a reader that went away (`| head`) is no error.
fn say(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("write to stdout"),
    }
}
