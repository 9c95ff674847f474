//! The subcommands beside the scenarios: each reads its own options and ends with an exit code.

mod compare;
mod diff;

use clap::{ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};

use crate::agent::serve::AgentOptions;
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
    pub run: Run,
}

/// The options of a run, where one is asked for. clap's own `Option` forgets a struct that others are flattened into.
#[derive(Debug)]
pub struct Run(pub Option<Cli>);

impl Args for Run {
    fn augment_args(command: Command) -> Command {
        Cli::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Cli::augment_args_for_update(command)
    }
}

impl FromArgMatches for Run {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        matches.contains_id("scenario").then(|| Cli::from_arg_matches(matches)).transpose().map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What the program does besides runs.
#[derive(Subcommand, Debug)]
pub enum Tool {
    /// Runs the same load on several WebSocket servers in turn, and prints what each did
    Compare(compare::Compare),
    /// Compares the JSON reports of two runs
    Diff(diff::Diff),
    /// Does the runs of a coordinator (a run with --agents), one after the other, until it is ended
    Agent(AgentOptions),
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
            Self::Agent(options) => options.execute(),
        }
    }
}
