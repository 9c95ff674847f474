//! The report as a short text for people.

use super::Report;
use super::text::readable;
use crate::options::Kind;
use std::fmt::Write;

impl Report {
    /// A dozen lines for people.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        self.write_summary(&mut text).map(|()| text).unwrap_or_default()
    }

    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{} (seed {}): {:?}", self.scenario, self.seed, self.verdict)?;
        if let Some(ended) = &self.ended_early {
            let (by, phase, at_s) = (ended.by, ended.phase.name(), ended.at_s);
            writeln!(
                out,
                "  ENDED     by {by} in the {phase}, after {at_s:.1} s: judged on what was done by then"
            )?;
        }
        writeln!(
            out,
            "  clients   {} of {} connected at {:.0}/s, {} failed, {} dropped, {} reconnects",
            self.clients_connected,
            self.clients_target,
            self.connect_per_s,
            self.clients_failed,
            self.clients_dropped,
            self.reconnects
        )?;
        if self.messages_sent > 0 {
            self.write_messages(out)?;
        }
        self.scenarios.write(out)?;
        let memory = &self.memory_bytes_per_client;
        if let Some(kernel) = memory.kernel {
            let gateway =
                memory.gateway.map_or("not measured (--gateway-pid)".into(), |bytes| format!("{bytes:.0}"));
            let ends = if self.kind == Kind::Phantom.name() { "" } else { " (both ends)" };
            writeln!(out, "  memory    bytes a client: kernel{ends} {kernel:.0}, gateway {gateway}")?;
        }
        if let Some(cpu_s) = self.gateway_cpu_s {
            writeln!(out, "  gateway   {cpu_s:.2} s of CPU in {:.1} s", self.duration_s)?;
        }
        self.write_agents(out)?;
        if let Some(note) = self.note {
            self.write_network(out)?;
            writeln!(out, "  note      {note}")?;
        }
        if self.generator_saturated {
            writeln!(
                out,
                "  SATURATED the generator was late with {:.1} % of the messages and {} connects: this run does not \
                 count: {}",
                self.generator_late_share * 100.0,
                self.connects_late,
                self.saturation
            )?;
        } else if self.saturation.reason.is_some() {
            writeln!(out, "  GENERATOR near its limit: {}", self.saturation)?;
        }
        if self.saturation.late_by_server > 0 {
            writeln!(
                out,
                "  waiting   {} messages left late for want of the server's answer, reading or connection; their wait counts in the \
                 latency",
                self.saturation.late_by_server
            )?;
        }
        for condition in &self.fail_if_held {
            writeln!(out, "  FAILED    {condition}")?;
        }
        for (error, count) in &self.errors {
            writeln!(out, "  error     {count} x {error}")?;
        }
        Ok(())
    }

    /// The machines, where the clients were on others.
    fn write_agents(&self, out: &mut String) -> std::fmt::Result {
        for agent in &self.agents {
            let saturated = if agent.generator_saturated { ", SATURATED" } else { "" };
            writeln!(
                out,
                "  agent     {}: {} clients on {} threads, {:.2} s of CPU, own lag p99 {}{saturated}",
                agent.address,
                agent.clients,
                agent.threads,
                agent.generator_cpu_s,
                readable(agent.generator_lag_us.p99)
            )?;
        }
        match self.clock_error_us {
            Some(us) => writeln!(
                out,
                "  clocks    of agents agree within {}: so exact is a latency between two of them",
                readable(us)
            ),
            None => Ok(()),
        }
    }

    /// The server's side of TCP: in the phantoms' network namespace there is nothing else.
    fn write_network(&self, out: &mut String) -> std::fmt::Result {
        let network = &self.network;
        writeln!(
            out,
            "  network   {} accepted, {} accept queue overflows, {} other drops, {} sent again, {} device drops, {} \
             given up for memory",
            network.passive_opens,
            network.listen_overflows,
            // The kernel counts an overflow as a drop, too.
            network.listen_drops.saturating_sub(network.listen_overflows),
            network.segments_retransmitted,
            network.device_drops,
            network.aborts_on_memory
        )
    }

    fn write_messages(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "  messages  {} sent ({:.0}/s), {} answered, {} received, {} redelivered, {} refused, {} unanswered",
            self.messages_sent,
            self.send_rate_per_s,
            self.messages_answered,
            self.messages_received,
            self.messages_redelivered,
            self.messages_refused,
            self.messages_unanswered
        )?;
        writeln!(
            out,
            "  ledger    {} lost, {} doubled, {} out of order, {} violations, {} wrong receipts",
            self.messages_lost,
            self.messages_duplicated,
            self.messages_out_of_order,
            self.violations,
            self.receipts_wrong
        )?;
        if let Some(group) = &self.group {
            writeln!(
                out,
                "  groups    {} of at most {}, {} of {} deliveries ({:.0}/s)",
                group.groups,
                group.members_max,
                group.deliveries,
                group.deliveries_planned,
                group.deliveries_per_s
            )?;
        }
        let counted_from = if self.closed_loop { "sending (closed loop)" } else { "scheduled time" };
        writeln!(out, "  times     count from the {counted_from}")?;
        for (name, latency) in [
            ("latency", &self.latency_us),
            ("to Sent", &self.latency_sent_us),
            ("own lag", &self.generator_lag_us),
        ] {
            if latency.count > 0 {
                let [p50, p90, p99, p999, max] =
                    [latency.p50, latency.p90, latency.p99, latency.p999, latency.max].map(readable);
                writeln!(out, "  {name:<9} p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Latency, PHANTOM_NOTE};
    use super::*;
    use crate::agent::report::AgentReport;
    use crate::host::Network;

    #[test]
    fn the_summary_has_readable_times_and_says_once_what_they_count_from() {
        let latency = Latency { count: 5, p50: 850, p90: 1_500, p99: 15_340, p999: 198_400, max: 12_340_000 };
        let report = Report {
            messages_sent: 5,
            latency_us: latency.clone(),
            latency_sent_us: latency,
            ..Report::default()
        };
        let summary = report.summary();
        let times = "p50 850 us, p90 1.5 ms, p99 15.3 ms, p99.9 198 ms, max 12.3 s";
        assert!(summary.contains(&format!("  latency   {times}\n  to Sent   {times}\n")), "{summary}");
        assert_eq!(summary.matches("scheduled time").count(), 1, "{summary}");
        let closed = Report { closed_loop: true, ..report }.summary();
        assert!(closed.contains("from the sending") && !closed.contains("scheduled"), "{closed}");
    }

    #[test]
    fn agents_are_told_one_by_one_and_the_saturated_one_is_named() {
        let agent = |address: &str, generator_saturated| AgentReport {
            address: address.into(),
            generator_saturated,
            clients: 50,
            threads: 2,
            ..AgentReport::default()
        };
        let agents = vec![agent("one:7000", false), agent("two:7000", true)];
        let summary = Report { agents, clock_error_us: Some(45), ..Report::default() }.summary();
        let lines: Vec<_> = summary.lines().filter(|line| line.starts_with("  agent ")).collect();
        assert!(
            lines[0].contains("one:7000: 50 clients on 2 threads") && !lines[0].contains("SATURATED"),
            "{summary}"
        );
        assert!(lines[1].contains("two:7000") && lines[1].ends_with("SATURATED"), "{summary}");
        assert!(summary.contains("agree within 45 us"), "{summary}");
    }

    #[test]
    fn phantom_runs_say_what_they_do_not_prove() {
        let network =
            Network { passive_opens: 9, listen_overflows: 4, listen_drops: 6, ..Network::default() };
        let report = Report { note: Some(PHANTOM_NOTE), network, ..Report::default() };
        let counts = "  network   9 accepted, 4 accept queue overflows, 2 other drops, ";
        assert!(report.summary().contains(counts), "{}", report.summary());
        assert!(
            report
                .summary()
                .contains("  note      TUN runs the receiver's network stack in the generator's threads: ")
        );
        let json = serde_json::to_value(&report).expect("JSON");
        assert!(json["note"].as_str().is_some_and(|note| note.ends_with("kernel sockets prove CPU")));
        assert!(!Report::default().summary().contains("note"));
    }
}
