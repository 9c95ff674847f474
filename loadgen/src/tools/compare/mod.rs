//! `roost-loadgen compare`: the same load on several servers in turn, so that anyone can compare what they have.
//!
//! A B C, B C A, C A B: the runs are interleaved, and each round begins with the next server, so that what drifts (a cache that
//! warms up, a neighbour's load, heat) favours nobody.

mod round;
mod server;
mod table;

use super::Program;
use crate::host::{self, is_alive};
use crate::limits::{
    COMPARE_REST_S, DURATION_S_MAX, MEMORY_CLIENTS_MIN, ROUNDS_MAX, SERVERS_MAX, THREADS_MAX,
};
use crate::options::Options;
use crate::report::{Host, Report};
use crate::run::{self, Usage};
use anyhow::{Context as _, bail};
use clap::{Args, Parser, ValueEnum};
use procfs::{Current, LoadAverage};
use round::Round;
use serde::Serialize;
use server::Server;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use table::Results;

/// The comparison that is asked for.
#[derive(Args, Debug)]
pub struct Compare {
    /// A server: its name in the table, its address, and its process where that is on this machine (with what it started; without
    /// it there is no CPU and no memory). The others are compared with the first
    #[arg(long = "server", value_name = "NAME=URL,PID", required = true)]
    servers: Vec<Server>,
    /// echo for speed, idle for memory
    #[arg(long, value_enum, default_value_t = Load::Echo)]
    scenario: Load,
    /// Number of clients
    #[arg(long, default_value_t = 100)]
    clients: u32,
    /// Bytes of each message's payload (echo)
    #[arg(long, default_value_t = 128)]
    payload_bytes: usize,
    /// Unanswered messages a client may have (echo)
    #[arg(long, default_value_t = 1)]
    in_flight: u32,
    /// Messages a second of all clients together (echo); 0 sends as fast as answers come: throughput, and a latency that hides stalls
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.0)]
    rate_per_s: f64,
    /// Connections begun a second while the clients come up
    #[arg(long, allow_negative_numbers = true, default_value_t = 2000.0)]
    ramp_per_s: f64,
    /// Runs against each server
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROUNDS_MAX)))]
    rounds: u32,
    /// Length of the measured part of each run in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=DURATION_S_MAX))]
    duration_s: u64,
    /// Length of a run against each server that is not counted, before the first round (echo); 0 for none
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=DURATION_S_MAX))]
    warm_up_s: u64,
    /// Pause between two runs in seconds
    #[arg(long, default_value_t = COMPARE_REST_S, value_parser = clap::value_parser!(u64).range(0..=3600))]
    rest_s: u64,
    /// The longest wait for all clients of a run to be connected, beyond the ramp's own length
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    ready_s: u64,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(THREADS_MAX)))]
    threads: u32,
    /// The same seed gives the same schedule and payloads
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the JSON goes; - is stdout, and the table then goes to stderr
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// No progress
    #[arg(long)]
    quiet: bool,
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Load {
    /// Send, and check what comes back
    Echo,
    /// Connect and hold
    Idle,
}

/// What a comparison found.
#[derive(Serialize)]
struct Comparison<'a> {
    version: &'static str,
    scenario: &'static str,
    clients: u32,
    payload_bytes: usize,
    in_flight: u32,
    rate_per_s: f64,
    closed_loop: bool,
    rounds: u32,
    duration_s: u64,
    threads: u32,
    seed: u64,
    host: Host,
    /// Of a minute, when the comparison began.
    load_average: f32,
    servers: &'a [Results],
}

impl Compare {
    /// Makes the runs and prints the table. Returns 0, or 1 where a run failed or the user ended the comparison early.
    ///
    /// # Errors
    /// [`Usage`] where the options ask for what cannot be; anything else where the JSON cannot be written.
    pub fn execute(&self) -> anyhow::Result<u8> {
        self.check()?;
        let load_average = LoadAverage::current().map_or(0.0, |load| load.one);
        let mut all: Vec<Results> = self.servers.iter().map(Results::of).collect();
        // Each server's resident set before its first run: what an allocator keeps after a round is no less the connections'.
        let mut resident_first = self.warm_up();
        let mut is_whole = true;
        'rounds: for round in 0..self.rounds {
            for (place, at) in order(round, all.len()).enumerate() {
                let server = &self.servers[at];
                self.say(&format!("round {} of {}: {}", round + 1, self.rounds, server.name));
                let run = match self.run(server, self.duration_s) {
                    Ok(report) if report.ended_early.is_some() => {
                        is_whole = false;
                        break 'rounds;
                    }
                    Ok(report) => {
                        resident_first[at] = resident_first[at].or(report.memory_before_bytes.gateway_rss);
                        Round::of(&report, resident_first[at])
                    }
                    Err(error) => Round::failed(format!("{error:#}")),
                };
                all[at].rounds.push(Round { number: round + 1, place: place + 1, ..run });
                thread::sleep(Duration::from_secs(self.rest_s));
            }
        }
        table::summarize(&mut all);
        self.tell(&all, load_average)?;
        let failed = all.iter().flat_map(|results| &results.rounds).any(|round| round.failure.is_some());
        Ok(u8::from(failed || !is_whole))
    }

    /// What would be refused in the middle is refused before anything begins.
    fn check(&self) -> Result<(), Usage> {
        if self.servers.len() > SERVERS_MAX {
            return Err(Usage::new(format!("--server may be given {SERVERS_MAX} times at most")));
        }
        for (number, server) in self.servers.iter().enumerate() {
            if self.servers[..number].iter().any(|other| other.name == server.name) {
                return Err(Usage::new(format!("--server: two are called '{}'", server.name)));
            }
            if let Some(pid) = server.pid.filter(|&pid| !is_alive(pid)) {
                let name = &server.name;
                return Err(Usage::new(format!("--server {name}: there is no process {pid}")));
            }
            self.options(server, self.duration_s)?;
        }
        Ok(())
    }

    /// The resident set of each server before it had a client, where it was warmed up and can be read.
    fn warm_up(&self) -> Vec<Option<u64>> {
        if self.scenario == Load::Idle || self.warm_up_s == 0 {
            return vec![None; self.servers.len()];
        }
        let warm_up = |server: &Server| {
            self.say(&format!("warming up {}", server.name));
            // Where it fails, the rounds will tell.
            self.run(server, self.warm_up_s).ok()?.memory_before_bytes.gateway_rss
        };
        self.servers.iter().map(warm_up).collect()
    }

    fn options(&self, server: &Server, duration_s: u64) -> Result<Options, Usage> {
        let numbers = [
            ("--clients", self.clients.to_string()),
            ("--payload-bytes", self.payload_bytes.to_string()),
            ("--in-flight", self.in_flight.to_string()),
            ("--rate-per-s", self.rate_per_s.to_string()),
            ("--ramp-per-s", self.ramp_per_s.to_string()),
            ("--duration-s", duration_s.to_string()),
            ("--ready-s", self.ready_s.to_string()),
            ("--threads", self.threads.to_string()),
            ("--seed", self.seed.to_string()),
        ];
        let pid = server.pid.map(|pid| ("--gateway-pid", pid.to_string()));
        let mut arguments =
            vec!["roost-loadgen".to_owned(), self.scenario.name().to_owned(), "--quiet".to_owned()];
        arguments.push(format!("--url={}", server.url));
        arguments.extend(numbers.into_iter().chain(pid).map(|(flag, value)| format!("{flag}={value}")));
        let program = Program::try_parse_from(arguments).map_err(|error| Usage::new(error.to_string()))?;
        let cli = program.run.0.ok_or_else(|| Usage::new("a scenario is missing".into()))?;
        Options::check(cli).map_err(Usage::new)
    }

    fn run(&self, server: &Server, duration_s: u64) -> anyhow::Result<Report> {
        if let Some(pid) = server.pid.filter(|&pid| !is_alive(pid)) {
            bail!("its process {pid} has ended");
        }
        let mut report = run::run(self.options(server, duration_s)?)?;
        report.judge(&[]);
        Ok(report)
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("roost-loadgen: {text}");
        }
    }

    fn tell(&self, all: &[Results], load_average: f32) -> anyhow::Result<()> {
        let comparison = Comparison {
            version: env!("CARGO_PKG_VERSION"),
            scenario: self.scenario.name(),
            clients: self.clients,
            payload_bytes: self.payload_bytes,
            in_flight: self.in_flight,
            rate_per_s: self.rate_per_s,
            closed_loop: self.is_closed_loop(),
            rounds: self.rounds,
            duration_s: self.duration_s,
            threads: self.threads,
            seed: self.seed,
            host: host::host(),
            load_average,
            servers: all,
        };
        let text = format!(
            "{}\n\n{}{}",
            self.headline(&comparison),
            table::text(all, self.clients >= MEMORY_CLIENTS_MIN),
            self.caution(&comparison)
        );
        let Some(path) = self.json.as_deref() else {
            print!("{text}");
            return Ok(());
        };
        let json = serde_json::to_string_pretty(&comparison)? + "\n";
        if path == Path::new("-") {
            print!("{json}");
            eprint!("{text}");
            return Ok(());
        }
        print!("{text}");
        std::fs::write(path, json).with_context(|| format!("cannot write --json {}", path.display()))
    }

    fn headline(&self, comparison: &Comparison<'_>) -> String {
        let Self { clients, payload_bytes, in_flight, rounds, duration_s, threads, .. } = self;
        let talk = match (self.scenario, self.is_closed_loop()) {
            (Load::Idle, _) => String::new(),
            (Load::Echo, true) => {
                format!(
                    ", {payload_bytes} B, {in_flight} in flight, closed loop (latency from the sending: it hides stalls)"
                )
            }
            (Load::Echo, false) => {
                let rate = self.rate_per_s;
                format!(", {payload_bytes} B, {rate} messages/s, open loop (latency from the scheduled time)")
            }
        };
        let Host { kernel, cpus, .. } = &comparison.host;
        format!(
            "{}: {clients} clients{talk}; medians of {rounds} interleaved rounds of {duration_s} s, {threads} generator threads; \
             Linux {kernel}, {cpus} CPUs for the generator, load {:.2} before",
            self.scenario.name(),
            comparison.load_average
        )
    }

    /// What a reader has to know of the figures as a whole.
    fn caution(&self, comparison: &Comparison<'_>) -> String {
        let mut text = String::new();
        let measured = self.servers.iter().any(|server| server.pid.is_some());
        if measured && self.clients < MEMORY_CLIENTS_MIN {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "\nBytes a connection are left out: with fewer than {MEMORY_CLIENTS_MIN} clients they are mostly noise."
            );
        }
        if f64::from(comparison.load_average) > comparison.host.cpus as f64 / 2.0 {
            let load = comparison.load_average;
            let _ = writeln!(
                text,
                "\nThe machine was busy when this began (load {load:.2}): the figures are too low, and spread."
            );
        }
        text
    }

    fn is_closed_loop(&self) -> bool {
        self.scenario == Load::Echo && self.rate_per_s == 0.0
    }
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Idle => "idle",
        }
    }
}

/// The servers of a round: all of them, beginning with the next one each time.
fn order(round: u32, servers: usize) -> impl Iterator<Item = usize> {
    (0..servers).map(move |place| (place + round as usize) % servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_each_place_equally_often() {
        let rounds: Vec<Vec<usize>> = (0..3).map(|round| order(round, 3).collect()).collect();
        assert_eq!(rounds, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }
}
