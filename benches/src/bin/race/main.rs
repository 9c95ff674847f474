//! `race`: one closed-loop client against several echo servers in turn, messages a second of the server's CPU, ratios.
//!
//!     race run --server roost=127.0.0.1:9600,PID --server other=127.0.0.1:9601,PID --cell 512x100x1
//!     race bare --port 0 --receive      a TCP echo on the gateway's rings, the limit; its address is bare:HOST:PORT
//!     race fanout                       one message to 10,000 sessions of a shard, and a message for each
//!
//! `benches/compare/race.sh` builds and starts the servers and calls it. The client does nothing but what the load needs: bytes
//! made before, compared when they come back, one write for all that a read has answered. It speaks WebSocket or, to the bare
//! echo, the same number of bytes each way without it.
#![forbid(unsafe_code)]

mod bare;
mod cells;
mod client;
mod cpu;
mod fanout;
mod frames;
mod server;
mod table;
mod upgrades;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser};

use cells::{CELLS, Cell, Load};
use server::Server;
use table::{Round, Standing};

// As the gateway has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
enum Command {
    /// Measures servers in turn and prints the table
    Run(Run),
    /// Serves the bare TCP echo
    Bare(bare::Options),
    /// One message to many sessions against a message for each, on a shard of its own
    Fanout(fanout::Options),
}

#[derive(Args)]
struct Run {
    /// NAME=HOST:PORT,PID; NAME=bare:HOST:PORT,PID for the bare echo. The first is compared with the others
    #[arg(long = "server", required = true)]
    servers: Vec<Server>,
    /// A cell of the table, by its name; all without it
    #[arg(long = "cell", value_parser = Cell::named)]
    cells: Vec<&'static Cell>,
    /// Runs against each server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Milliseconds that are measured of each run
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    measured_ms: u64,
    /// Milliseconds of each run before that
    #[arg(long, default_value_t = 1_200, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    warm_up_ms: u64,
    /// Where the JSON goes
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Between two runs, so that a server has closed the connections of the one before.
const REST: Duration = Duration::from_millis(300);

fn main() -> Result<()> {
    match Command::parse() {
        Command::Run(run) => run.execute(),
        Command::Bare(options) => bare::serve(&options),
        Command::Fanout(options) => fanout::measure(&options),
    }
}

impl Run {
    fn execute(&self) -> Result<()> {
        let all: Vec<&Cell> = CELLS.iter().collect();
        let cells = if self.cells.is_empty() { &all } else { &self.cells };
        let mut standings = Vec::new();
        for cell in cells {
            let standing = self.cell(cell)?;
            print!("{}", table::text(&standing));
            standings.push(standing);
        }
        if let Some(file) = &self.json {
            let json = serde_json::to_vec_pretty(&standings)?;
            std::fs::write(file, json).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }

    /// Each round runs all servers and begins with the next one, so that what drifts favours nobody.
    fn cell(&self, cell: &'static Cell) -> Result<Standing> {
        let servers: Vec<&Server> = self.servers.iter().filter(|server| cell.fits(server)).collect();
        let mut standing = Standing::of(cell, &servers);
        for round in 0..self.rounds as usize {
            for step in 0..servers.len() {
                let at = (round + step) % servers.len();
                let server = servers[at];
                let run =
                    self.measure(cell, server).with_context(|| format!("{}, {}", cell.name, server.name))?;
                standing.rounds[at].push(run);
                thread::sleep(REST);
            }
        }
        Ok(standing)
    }

    fn measure(&self, cell: &Cell, server: &Server) -> Result<Round> {
        let (warm_up, measured) =
            (Duration::from_millis(self.warm_up_ms), Duration::from_millis(self.measured_ms));
        match cell.load {
            Load::Echo(echo) => client::echo(server, echo, warm_up, measured),
            Load::Upgrades => upgrades::held(server, measured),
            Load::Churn => upgrades::churn(server, measured),
        }
    }
}
