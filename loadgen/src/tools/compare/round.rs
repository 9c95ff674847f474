//! One run against one server, and what a comparison keeps of it.

use crate::report::{Report, Verdict};
use serde::Serialize;

/// What one run found. A figure is `null` where it was not measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Messages sent, by the length of the measured part; each came back, or the round failed.
    pub messages_per_s: Option<f64>,
    /// Messages for each second of CPU that the server spent in it.
    pub messages_per_server_cpu_s: Option<f64>,
    /// Median from the scheduled time to the echo; closed loop: from the sending.
    pub latency_p50_us: Option<f64>,
    /// Its 99th percentile.
    pub latency_p99_us: Option<f64>,
    /// CPU seconds of the server in each second.
    pub server_cpus: Option<f64>,
    /// Growth of the kernel's slabs by connection; both ends where the server is on this machine.
    pub kernel_bytes_per_connection: Option<f64>,
    /// Growth of the server's resident set by connection, since before its first run.
    pub process_bytes_per_connection: Option<f64>,
    /// The sum of both.
    pub total_bytes_per_connection: Option<f64>,
}

/// One run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Round {
    /// Its number, from 1.
    pub number: u32,
    /// Which run of the round, from 1.
    pub place: usize,
    /// Why the run says nothing; `null` where it does.
    pub failure: Option<String>,
    /// What it found.
    pub figures: Figures,
    /// Time that the generator's busiest thread ran, as a share.
    pub generator_cpu_share: Option<f64>,
    /// Why the generator may be what held the figures down; `null` where it was not.
    pub generator_limit: Option<String>,
}

impl Round {
    /// Keeps what a judged report says. `resident_first`: the server's resident set before its first run.
    pub fn of(report: &Report, resident_first: Option<u64>) -> Self {
        let limit = report.saturation.to_string();
        Self {
            failure: failure(report),
            figures: Figures::of(report, resident_first),
            generator_cpu_share: report.saturation.cpu_share,
            // What connections cost does not depend on it.
            generator_limit: (report.messages_answered > 0 && !limit.is_empty()).then_some(limit),
            ..Self::default()
        }
    }

    /// A run that came to no report.
    pub fn failed(reason: String) -> Self {
        Self { failure: Some(reason), ..Self::default() }
    }
}

impl Figures {
    fn of(report: &Report, resident_first: Option<u64>) -> Self {
        let talks = report.messages_answered > 0;
        let messages = report.send_rate_per_s * report.duration_s;
        let cpu_s = report.gateway_cpu_s.filter(|&cpu_s| cpu_s > 0.0);
        let clients = report.clients_connected;
        let grown = |before: u64, after: u64| (after as f64 - before as f64) / clients as f64;
        let process = resident_first
            .zip(report.memory_held_bytes.gateway_rss)
            .filter(|_| clients > 0)
            .map(|(before, after)| grown(before, after));
        let kernel = report.memory_bytes_per_client.kernel.filter(|_| process.is_some());
        Self {
            messages_per_s: talks.then_some(report.send_rate_per_s),
            messages_per_server_cpu_s: cpu_s.filter(|_| talks).map(|cpu_s| messages / cpu_s),
            latency_p50_us: talks.then_some(report.latency_us.p50 as f64),
            latency_p99_us: talks.then_some(report.latency_us.p99 as f64),
            server_cpus: report.gateway_cpu_s.map(|cpu_s| cpu_s / report.duration_s),
            kernel_bytes_per_connection: kernel,
            process_bytes_per_connection: process,
            total_bytes_per_connection: kernel.zip(process).map(|(kernel, process)| kernel + process),
        }
    }
}

/// Why the run says nothing about the server's speed; `None` where it does. A generator at its limit is no failure of the server.
fn failure(report: &Report) -> Option<String> {
    let mut faults = Vec::new();
    for (count, what) in [
        (report.clients_failed, "clients could not connect"),
        (report.clients_dropped, "connections were dropped"),
        (report.messages_lost, "messages were lost"),
        (report.messages_duplicated, "were doubled"),
        (report.messages_out_of_order, "were out of order"),
        (report.violations, "came back changed"),
        (report.messages_unanswered, "were never sent for want of an answer"),
    ] {
        if count > 0 {
            faults.push(format!("{count} {what}"));
        }
    }
    if faults.is_empty() && matches!(report.verdict, Verdict::Unclean | Verdict::Incomplete | Verdict::Failed)
    {
        faults.push(format!("verdict {:?}", report.verdict));
    }
    let (error, _) = report.errors.first().map_or((None, 0), |(text, count)| (Some(text), *count));
    (!faults.is_empty())
        .then(|| faults.join(", ") + &error.map_or(String::new(), |text| format!(" ({text})")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Memory;
    use crate::report::{Latency, MemoryPerClient};

    fn report() -> Report {
        let held = Memory { gateway_rss: Some(9_000), ..Memory::default() };
        Report {
            clients_connected: 10,
            messages_answered: 500,
            send_rate_per_s: 100.0,
            duration_s: 5.0,
            gateway_cpu_s: Some(2.0),
            latency_us: Latency { p50: 70, p99: 900, ..Latency::default() },
            memory_bytes_per_client: MemoryPerClient { kernel: Some(4_000.0), ..MemoryPerClient::default() },
            memory_held_bytes: held,
            ..Report::default()
        }
    }

    #[test]
    fn figures_are_by_second_by_cpu_second_and_by_connection() {
        let figures = Round::of(&report(), Some(1_000)).figures;
        let expected = Figures {
            messages_per_s: Some(100.0),
            messages_per_server_cpu_s: Some(250.0),
            latency_p50_us: Some(70.0),
            latency_p99_us: Some(900.0),
            server_cpus: Some(0.4),
            kernel_bytes_per_connection: Some(4_000.0),
            process_bytes_per_connection: Some(800.0),
            total_bytes_per_connection: Some(4_800.0),
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn without_a_process_or_messages_nothing_is_made_up() {
        let silent = Report { messages_answered: 0, gateway_cpu_s: None, ..report() };
        assert_eq!(Round::of(&silent, None).figures, Figures::default());
    }

    #[test]
    fn what_a_server_did_wrong_fails_the_round_and_what_the_generator_did_does_not() {
        let errors = vec![("connection broke".to_owned(), 3)];
        let broken = Report { messages_lost: 2, clients_dropped: 3, errors, ..report() };
        let text = Round::of(&broken, None).failure.expect("a failure");
        assert_eq!(text, "3 connections were dropped, 2 messages were lost (connection broke)");
        let saturated = Report { generator_saturated: true, verdict: Verdict::Saturated, ..report() };
        assert_eq!(Round::of(&saturated, None).failure, None);
        let refused = Report { verdict: Verdict::Incomplete, ..report() };
        assert!(Round::of(&refused, None).failure.is_some());
    }
}
