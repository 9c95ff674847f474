//! What was measured: rounds, their medians, the ratios round by round.

use std::fmt::Write;
use std::ops::AddAssign;
use std::time::Duration;

use serde::Serialize;

use crate::cells::Cell;
use crate::server::Server;

/// One run against one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Round {
    /// Messages echoed, or upgrades.
    pub count: u64,
    /// Seconds it took.
    pub seconds: f64,
    /// CPU seconds of the server, user and system.
    pub server_cpu_s: f64,
    /// CPU seconds of the client.
    pub client_cpu_s: f64,
}

impl Round {
    /// From what was counted.
    pub fn of(count: u64, elapsed: Duration, server_cpu: Duration, client_cpu: Duration) -> Self {
        let [seconds, server_cpu_s, client_cpu_s] =
            [elapsed, server_cpu, client_cpu].map(|time| time.as_secs_f64());
        Self { count, seconds, server_cpu_s, client_cpu_s }
    }

    /// How long it was measured.
    pub fn elapsed(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn per_cpu_s(&self) -> f64 {
        self.count as f64 / self.server_cpu_s
    }
}

impl AddAssign for Round {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.seconds += other.seconds;
        self.server_cpu_s += other.server_cpu_s;
        self.client_cpu_s += other.client_cpu_s;
    }
}

/// A cell with what all servers did in it.
#[derive(Serialize)]
pub struct Standing {
    cell: &'static str,
    #[serde(skip)]
    of: &'static Cell,
    servers: Vec<String>,
    /// By server, in order.
    pub rounds: Vec<Vec<Round>>,
}

/// Middle, smallest and largest.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { median, min: values[0], max: values[values.len() - 1] }
    }
}

impl Standing {
    /// Without a round yet.
    pub fn of(cell: &'static Cell, servers: &[&Server]) -> Self {
        let servers: Vec<String> = servers.iter().map(|server| server.name.clone()).collect();
        Self { cell: cell.title, of: cell, rounds: vec![Vec::new(); servers.len()], servers }
    }

    /// How much more the first does with a CPU second than the server `at`, round by round.
    fn ratio(&self, at: usize) -> Spread {
        let pairs = self.rounds[0].iter().zip(&self.rounds[at]);
        Spread::of(pairs.map(|(first, other)| first.per_cpu_s() / other.per_cpu_s()))
    }
}

/// The table of a cell in Markdown.
pub fn text(standing: &Standing) -> String {
    let (cell, rounds) = (standing.of, standing.rounds[0].len());
    let mut text = format!(
        "\n{} ({rounds} rounds)\n\n| server | a server-CPU-second | a second | CPU of server, of client | {} to it: median (min..max) | asked | |\n|---|---:|---:|---:|---:|---:|---|\n",
        cell.title, standing.servers[0]
    );
    for (at, name) in standing.servers.iter().enumerate() {
        let all = |of: fn(&Round) -> f64| Spread::of(standing.rounds[at].iter().map(of));
        let [rate, cpu, own] = [
            all(|round| round.count as f64 / round.seconds),
            all(|round| round.server_cpu_s / round.seconds),
            all(|round| round.client_cpu_s / round.seconds),
        ];
        let ratio = standing.ratio(at);
        let asked = if at == 0 { None } else { cell.asked_against(name) };
        let verdict = asked.map_or("", |asked| if ratio.median >= asked { "reached" } else { "**missed**" });
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {name} | {:.0} | {:.0} | {:.0} %, {:.0} % | {:.3} ({:.3}..{:.3}) | {} | {verdict} |",
            all(Round::per_cpu_s).median,
            rate.median,
            100.0 * cpu.median,
            100.0 * own.median,
            ratio.median,
            ratio.min,
            ratio.max,
            asked.map_or_else(String::new, |asked| format!("{asked:.1}")),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round_and_judged_by_their_median() {
        let server = |name: &str| format!("{name}=127.0.0.1:9,7").parse::<Server>().expect("a server");
        let (roost, other) = (server("roost"), server("uwebsockets"));
        let cell = Cell::named("512x100x1").expect("a cell");
        let mut standing = Standing::of(cell, &[&roost, &other]);
        let round = |count| Round { count, seconds: 2.0, server_cpu_s: 1.0, client_cpu_s: 0.5 };
        standing.rounds = vec![[120, 400, 90].map(round).to_vec(), [100, 200, 100].map(round).to_vec()];
        assert_eq!(standing.ratio(1), Spread { median: 1.2, min: 0.9, max: 2.0 });
        let text = text(&standing);
        let row = "| uwebsockets | 100 | 50 | 50 %, 25 % | 1.200 (0.900..2.000) | 1.1 | reached |";
        assert!(text.contains(row), "{text}");
    }
}
