//! `roost-loadgen`: simulated clients for a Roost gateway, or any WebSocket server.
//!
//! [`schedule`] computes who sends what when; [`worker`] keeps it, with clients whose doings are in [`scenario`], whose
//! connections are in [`link`] (tokio-uring sockets) and [`ws`] (tungstenite framing, without I/O); [`ledger`] knows what
//! became of every message; [`run`] leads through the phases and [`report`] tells the end. [`phantom`] clients speak TCP
//! themselves, over the device of [`tun`].
#![deny(unsafe_code)]

pub mod agent;
pub mod auth;
pub mod clock;
pub mod ending;
pub mod exporter;
pub mod fail_if;
pub mod host;
pub mod ledger;
pub mod limits;
pub mod link;
pub mod meters;
pub mod mix;
pub mod net;
pub mod odd;
pub mod options;
pub mod outputs;
pub mod payload;
pub mod phantom;
pub mod preflight;
pub mod progress;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod screen;
pub mod siege;
pub mod timeline;
pub mod tools;
#[allow(unsafe_code, reason = "ioctls of the TUN device, bpf(2) and prctl(2) in a child; nothing else may")]
pub mod tun;
pub mod wire;
pub mod worker;
pub mod ws;

use clap::Parser;
use options::{Cli, Options};
use std::ffi::OsString;
use tools::Program;

/// Exit code for bad usage.
const USAGE: u8 = 2;
/// Exit code where the run could not be made.
const FAILED: u8 = 1;

/// The whole program: options in, exit code out.
pub fn main_with(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = outputs::command(&arguments);
    let program = match Program::try_parse_from(&arguments) {
        Ok(program) => program,
        Err(error) => {
            // --help and --version are told here, too; they are no error.
            let _ = error.print();
            return if error.use_stderr() { USAGE } else { 0 };
        }
    };
    match (program.tool, program.run.0) {
        (Some(tool), _) => tool.execute().unwrap_or_else(|error| fail(&error)),
        (None, Some(mut cli)) => {
            cli.agents.arguments = arguments.into_iter().skip(1).collect();
            run_with(cli, command)
        }
        (None, None) => complain("a scenario is missing; see --help", USAGE),
    }
}

/// A run, from its options to its exit code.
fn run_with(cli: Cli, command: Vec<String>) -> u8 {
    if let Err(text) = outputs::check(cli.json.as_deref(), &cli.outputs) {
        return complain(&text, USAGE);
    }
    let options = match Options::check(cli) {
        Ok(options) => options,
        Err(text) => return complain(&text, USAGE),
    };
    let cli = options.cli.clone();
    if cli.preflight.preflight_only {
        return preflight_only(&options);
    }
    let mut report = match run::run(options) {
        Ok(report) => report,
        Err(error) => return fail(&error),
    };
    report.command = command;
    let code = report.judge(&cli.fail_if);
    match outputs::tell(&report, cli.json.as_deref(), &cli.outputs) {
        Ok(()) => code,
        Err(error) => complain(&format!("{error:#}"), FAILED),
    }
}

/// What stands in the way of a run, without one: 0, or 1 where something is short.
fn preflight_only(options: &Options) -> u8 {
    let findings = preflight::check(options);
    print!("{}", preflight::table(options.cli.clients, &findings));
    u8::from(findings.iter().any(|finding| finding.status == preflight::Status::Short))
}

fn fail(error: &anyhow::Error) -> u8 {
    let code = if error.is::<run::Usage>() { USAGE } else { FAILED };
    complain(&format!("{error:#}"), code)
}

fn complain(text: &str, code: u8) -> u8 {
    eprintln!("roost-loadgen: {text}");
    code
}
