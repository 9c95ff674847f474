//! One run on several machines (docs/decisions/0022-agents.md): `roost-loadgen agent` waits for a coordinator, which is an ordinary run with
//! `--agents`. All compute the same schedule; agents run the workers of it, numbered through over all of them, and to the coordinator's
//! [`crate::run`] they look like threads: phases go to them, counts and results come from them.
//!
//! [`channel`] is the encrypted way, [`protocol`] what is said on it, [`clock`] how far clocks are apart, [`results`] what comes back, [`report`] what is told of it;
//! [`serve`] and [`job`] are the agent's side, [`remote`] is the coordinator's.

pub mod channel;
pub mod clock;
pub mod job;
pub mod limits;
pub mod protocol;
pub mod remote;
pub mod report;
pub mod results;
pub mod serve;

use crate::options::{Cli, Kind};
use limits::AGENTS_MAX;
use std::ffi::OsString;
use std::path::PathBuf;

/// The options of a coordinator.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct AgentArgs {
    /// The machines that do the run, where `roost-loadgen agent` waits; the clients are spread over their threads (kernel)
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', requires = "agent_secret_file")]
    pub agents: Vec<String>,
    /// The secret that the agents have, too: 16 bytes or more
    #[arg(long, value_name = "FILE", requires = "agents")]
    pub agent_secret_file: Option<PathBuf>,
    /// The command line, which agents read again.
    #[arg(skip)]
    pub arguments: Vec<OsString>,
}

/// What an agent's run can be.
///
/// # Errors
/// One line for the user.
pub fn check(cli: &Cli) -> Result<(), String> {
    let agents = &cli.agents.agents;
    if agents.is_empty() {
        return Ok(());
    }
    if cli.kind == Kind::Phantom {
        return Err("--agents is for --kind kernel: phantoms stand in the network namespace of one gateway, on one machine".into());
    }
    if cli.threads != 1 {
        return Err("--threads is each agent's own: give it to roost-loadgen agent".into());
    }
    if agents.len() > AGENTS_MAX {
        return Err(format!("--agents: {} are more than {AGENTS_MAX}", agents.len()));
    }
    for (at, agent) in agents.iter().enumerate() {
        if agents[..at].contains(agent) {
            return Err(format!("--agents names {agent} twice"));
        }
    }
    Ok(())
}
