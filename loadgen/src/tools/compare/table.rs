//! The table of a comparison: medians over the rounds, ratios to the first server, spreads.

use super::round::{Figures, Round};
use super::server::Server;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A line of the table for each server.
struct Measure {
    /// In the JSON.
    field: &'static str,
    /// For people.
    title: &'static str,
    decimals: usize,
    of: fn(&Figures) -> Option<f64>,
}

const MEASURES: [Measure; 8] = [
    Measure {
        field: "messages_per_s",
        title: "messages a second",
        decimals: 0,
        of: |figures| figures.messages_per_s,
    },
    Measure {
        field: "messages_per_server_cpu_s",
        title: "messages a server-CPU-second",
        decimals: 0,
        of: |figures| figures.messages_per_server_cpu_s,
    },
    Measure {
        field: "latency_p50_us",
        title: "latency p50, us",
        decimals: 0,
        of: |figures| figures.latency_p50_us,
    },
    Measure {
        field: "latency_p99_us",
        title: "latency p99, us",
        decimals: 0,
        of: |figures| figures.latency_p99_us,
    },
    Measure {
        field: "server_cpus",
        title: "CPUs the server used",
        decimals: 3,
        of: |figures| figures.server_cpus,
    },
    Measure {
        field: "kernel_bytes_per_connection",
        title: "kernel bytes a connection, both ends",
        decimals: 0,
        of: |figures| figures.kernel_bytes_per_connection,
    },
    Measure {
        field: "process_bytes_per_connection",
        title: "process bytes a connection",
        decimals: 0,
        of: |figures| figures.process_bytes_per_connection,
    },
    Measure {
        field: "total_bytes_per_connection",
        title: "total bytes a connection",
        decimals: 0,
        of: |figures| figures.total_bytes_per_connection,
    },
];

/// A server with all its rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// As given.
    pub name: String,
    /// As given.
    pub url: String,
    /// As given.
    pub pid: Option<i32>,
    /// In their order.
    pub rounds: Vec<Round>,
    /// Of the rounds that did not fail, by the name of the figure.
    pub figures: BTreeMap<&'static str, Spread>,
}

/// A figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The median as a multiple of the first server's; `null` where that is not above 0 or was not measured.
    pub ratio: Option<f64>,
}

impl Results {
    /// Of a server without a round yet.
    pub fn of(server: &Server) -> Self {
        let Server { name, url, pid } = server.clone();
        Self { name, url, pid, rounds: Vec::new(), figures: BTreeMap::new() }
    }

    fn valid(&self) -> impl Iterator<Item = &Round> {
        self.rounds.iter().filter(|round| round.failure.is_none())
    }

    fn spread(&self, measure: &Measure) -> Option<Spread> {
        let mut values: Vec<f64> = self.valid().filter_map(|round| (measure.of)(&round.figures)).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Spread { median, min, max, ratio: None })
    }

    /// Rounds in which the generator was at its limit.
    fn limited(&self) -> usize {
        self.valid().filter(|round| round.generator_limit.is_some()).count()
    }

    fn failures(&self) -> impl Iterator<Item = (u32, &str)> {
        self.rounds.iter().filter_map(|round| Some((round.number, round.failure.as_deref()?)))
    }
}

/// Computes the figures of all servers from their rounds.
pub fn summarize(all: &mut [Results]) {
    for measure in &MEASURES {
        let spreads: Vec<_> = all.iter().map(|results| results.spread(measure)).collect();
        let first =
            spreads.first().copied().flatten().map(|spread| spread.median).filter(|&median| median > 0.0);
        for (results, spread) in all.iter_mut().zip(spreads) {
            if let Some(spread) = spread {
                let ratio = first.map(|first| spread.median / first);
                results.figures.insert(measure.field, Spread { ratio, ..spread });
            }
        }
    }
}

/// The table as Markdown, padded so that it reads on a terminal, too, with what has to be said about it below. `with_memory`: also
/// the bytes a connection.
pub fn text(all: &[Results], with_memory: bool) -> String {
    let name = |results: &Results| {
        let mark = if results.limited() > 0 { " *" } else { "" };
        format!("{}{mark}", results.name)
    };
    let mut lines = vec![["measure", "server", "median", "to the first", "min..max"].map(ToOwned::to_owned)];
    for measure in
        MEASURES.iter().filter(|measure| with_memory || !measure.field.ends_with("bytes_per_connection"))
    {
        for results in all {
            let Some(spread) = results.figures.get(measure.field) else { continue };
            let number = |value: f64| grouped(value, measure.decimals);
            let ratio = spread.ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
            let range = format!("{}..{}", number(spread.min), number(spread.max));
            lines.push([measure.title.into(), name(results), number(spread.median), ratio, range]);
        }
    }
    let mut text = rule(&lines);
    // Writing to a string does not fail.
    let _ = notes(&mut text, all);
    text
}

fn notes(out: &mut String, all: &[Results]) -> std::fmt::Result {
    for results in all.iter().filter(|results| results.limited() > 0) {
        let reason = results.valid().find_map(|round| round.generator_limit.as_deref()).unwrap_or_default();
        writeln!(
            out,
            "\n* {}: the generator was at its limit in {} of {} rounds, so that the server may do better: {reason}",
            results.name,
            results.limited(),
            results.valid().count()
        )?;
    }
    for results in all {
        let (failed, rounds) = (results.failures().count(), results.rounds.len());
        if failed > 0 {
            writeln!(out, "\nFAILED {}: {failed} of {rounds} rounds do not count", results.name)?;
        }
        for (round, reason) in results.failures() {
            writeln!(out, "  round {round}: {reason}")?;
        }
    }
    Ok(())
}

fn rule(lines: &[[String; 5]]) -> String {
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            // Names to the left, numbers to the right.
            let cell = if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            let _ = write!(text, "| {cell} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(*width);
                let _ = if column < 2 { write!(text, "|-{dashes}-") } else { write!(text, "|-{dashes}:") };
            }
            text.push_str("|\n");
        }
    }
    text
}

/// A number with its thousands apart.
fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let whole = text.split('.').next().unwrap_or_default();
    let mut out = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    let sign = if value < 0.0 && text.contains(|digit| ('1'..='9').contains(&digit)) { "-" } else { "" };
    format!("{sign}{out}{}", &text[whole.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(name: &str, rates: &[f64]) -> Results {
        let mut results = Results::of(&format!("{name}=ws://a").parse().expect("a server"));
        results.rounds = rates
            .iter()
            .zip(1..)
            .map(|(&rate, number)| Round {
                number,
                figures: Figures { messages_per_s: Some(rate), ..Figures::default() },
                ..Round::default()
            })
            .collect();
        results
    }

    #[test]
    fn medians_spreads_and_ratios_stand_in_the_table() {
        let mut all = [results("one", &[1_200.0, 1_000.0, 9_000.0]), results("two", &[500.0, 700.0])];
        summarize(&mut all);
        let figure = |at: usize| all[at].figures["messages_per_s"];
        assert_eq!(figure(0), Spread { median: 1_200.0, min: 1_000.0, max: 9_000.0, ratio: Some(1.0) });
        assert_eq!(figure(1), Spread { median: 600.0, min: 500.0, max: 700.0, ratio: Some(0.5) });
        let text = text(&all, true);
        let row = "| messages a second | two    |    600 |         0.50 |     500..700 |";
        assert!(text.contains(row), "{text}");
        // What was not measured has no line.
        assert!(!text.contains("latency") && !text.contains('*'), "{text}");
    }

    #[test]
    fn a_generator_at_its_limit_marks_the_server_and_says_why() {
        let mut all = [results("one", &[1.0, 2.0, 3.0]), results("two", &[4.0])];
        all[0].rounds[1].generator_limit = Some("its busiest thread".into());
        summarize(&mut all);
        let text = text(&all, true);
        assert!(text.contains("| one *") && !text.contains("| two *"), "{text}");
        assert!(text.contains("* one: the generator was at its limit in 1 of 3 rounds"), "{text}");
        assert!(text.contains("its busiest thread"), "{text}");
    }

    #[test]
    fn a_failed_round_is_told_and_not_counted() {
        let mut all = [results("one", &[1_000.0, 5.0])];
        all[0].rounds[1].failure = Some("3 messages were lost".into());
        summarize(&mut all);
        let text = text(&all, true);
        assert!(text.contains("1,000..1,000"), "{text}");
        assert!(
            text.contains("FAILED one: 1 of 2 rounds") && text.contains("round 2: 3 messages were lost"),
            "{text}"
        );
    }

    #[test]
    fn numbers_are_grouped() {
        for (value, decimals, text) in [
            (0.0, 0, "0"),
            (999.6, 0, "1,000"),
            (1_234_567.0, 0, "1,234,567"),
            (-1_234.5, 1, "-1,234.5"),
            (-0.2, 0, "0"),
        ] {
            assert_eq!(grouped(value, decimals), text);
        }
    }
}
