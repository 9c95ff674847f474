//! The subcommands beside the scenarios: each reads its own options and ends with an exit code.

mod compare;
mod diff;

use clap::{Parser, Subcommand};

use crate::options::{Cli, EXIT_CODES};

/// Simulated clients for a Roost gateway or any WebSocket server.
#[derive(Parser, Debug)]
#[command(name = "roost-loadgen", version, after_help = EXIT_CODES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Program {
    /// What is asked for besides a run.
    #[command(subcommand)]
    pub tool: Option<Tool>,
    /// A run.
    #[command(flatten)]
    pub run: Option<Cli>,
}

/// What the program does besides runs.
#[derive(Subcommand, Debug)]
pub enum Tool {
    /// Runs the same load on several WebSocket servers in turn, and prints what each did
    Compare(compare::Compare),
    /// Compares the JSON reports of two runs
    Diff(diff::Diff),
}

impl Tool {
    /// Does it. Returns the exit code.
    ///
    /// # Errors
    /// [`crate::run::Usage`] where the options ask for what cannot be; anything else where it could not be done.
    pub fn execute(&self) -> anyhow::Result<u8> {
        match self {
            Self::Compare(options) => options.execute(),
            Self::Diff(options) => options.execute(),
        }
    }
}
