//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    demand::{Demand, Kind, Profile},
    limits,
    machine::Machine,
    places,
    setting::Scope,
    size,
};

/// Checks a machine for the connections it is to hold, makes it fit, and brings back what was there
///
/// Exit codes: 0 as required, 1 something is short, 2 usage, 3 a setting is unsupported here, 4 a reboot is needed.
#[derive(Debug, Parser)]
#[command(name = "roost-tune", version, about, long_about, arg_required_else_help = true)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// See the help of each.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compare every setting with what is required, and change nothing
    Check(Common),
    /// Show every write that apply would do, and do none
    Plan {
        /// Write the plan as a shell script
        #[arg(long, conflicts_with = "json")]
        script: bool,
        /// See [`Common`].
        #[command(flatten)]
        common: Common,
    },
    /// Show the plan, save what is there, and carry the plan out
    Apply(Common),
    /// Read the kernel and the files again: is what was applied still there, and will it be after the next start
    Verify(Common),
    /// Bring back exactly what was there before the first apply
    Rollback {
        /// Bring back also what somebody else has changed since
        #[arg(long)]
        force: bool,
        /// See [`Place`].
        #[command(flatten)]
        place: Place,
    },
    /// Reckon what a messenger of a given size takes (docs/CAPACITY.md)
    Size {
        /// See [`size::Demand`].
        #[command(flatten)]
        demand: size::Demand,
        /// Report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Say what is known of a setting, or why a piece of advice is refused
    Explain {
        /// A setting (`somaxconn`, `fs.file-max`) or folklore (`tcp_tw_recycle`, swappiness)
        name: String,
        /// See [`Common`].
        #[command(flatten)]
        common: Common,
    },
}

/// What the machine is to be fit for, and where it is.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Connections at a time: a number up to 10M; K and M are thousand and million
    #[arg(long, value_name = "N", default_value_t = limits::CONNECTIONS_DEFAULT, value_parser = connections)]
    pub connections: u64,
    /// Which end of the connections the machine is
    #[arg(long, value_enum, default_value_t)]
    pub profile: Profile,
    /// Clients of the loadgen profile
    #[arg(long, value_enum, default_value_t)]
    pub kind: Kind,
    /// Pairs of source address and destination that the loadgen profile's clients are spread over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub address_pairs: u64,
    /// Change only settings of these scopes, and no files for the next start: what a container may do for itself
    #[arg(long, value_enum)]
    pub scope: Vec<Scope>,
    /// Look at the limits of this running process instead of one's own
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// See [`Place`].
    #[command(flatten)]
    pub place: Place,
}

/// Where the machine's files are.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// Work on a copy of the machine's files (proc/sys, sys, etc) below this folder
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Where what was there is kept [default: ROOT/var/lib/roost-tune]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
}

impl Common {
    /// What is asked of the machine.
    pub fn demand(&self) -> Demand {
        let Self { connections, profile, kind, address_pairs: pairs, .. } = *self;
        Demand { connections, profile, kind, pairs }
    }

    /// The machine.
    pub fn machine(&self) -> Machine {
        self.place.machine().of_process(self.pid)
    }
}

impl Place {
    /// The machine.
    pub fn machine(&self) -> Machine {
        Machine::at(&self.root)
    }

    /// The folder of the journal.
    pub fn state(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| self.machine().path(places::STATE))
    }
}

fn connections(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let number =
        digits.replace(['_', ','], "").parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    match number {
        Some(number @ 1..=limits::CONNECTIONS_MAX) => Ok(number),
        _ => Err(format!("a number from 1 to {}, such as 500000, 500K or 10M", limits::CONNECTIONS_MAX)),
    }
}
