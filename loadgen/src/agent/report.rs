//! What a report tells of the machines its clients were on.

use super::protocol::Own;
use crate::host::Network;
use crate::host::threads::Busiest;
use crate::meters::Meters;
use crate::report::{Host, Latency, Report, Saturation};
use serde::Serialize;

/// What the report tells of an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AgentReport {
    /// Where it was called.
    pub address: String,
    /// Its workers.
    pub threads: u32,
    /// Its clients.
    pub clients: u64,
    /// Half the shortest round trip: how far its moments may be from the coordinator's.
    pub clock_error_us: u64,
    /// By how much its clock moved against the coordinator's in the run, at least; 0 where the round trips explain it.
    pub clock_drift_us: u64,
    /// CPU of its process in the measured part.
    pub generator_cpu_s: f64,
    /// Resident set of its process at the end of the measured part.
    pub generator_rss_bytes: u64,
    /// How late it was with its messages.
    pub generator_lag_us: Latency,
    /// More of them than --lag-share-max were later than --lag-us-max.
    pub generator_saturated: bool,
    /// How near its limit it was, and why it was there.
    pub saturation: Saturation,
    /// What its kernel counted of TCP in its network namespace.
    pub network: Network,
    /// Its machine.
    pub host: Host,
}

impl AgentReport {
    /// With what the agent told of itself, and with what its clients measured.
    #[must_use]
    pub(super) fn of(self, own: Own, meters: &Meters, lag_share_max: f64) -> Self {
        let late_share = meters.late as f64 / meters.lag.len().max(1) as f64;
        let generator_saturated = late_share > lag_share_max;
        let busiest = own.busiest.map(|(cpu_share, cpu_wait_share)| Busiest { cpu_share, cpu_wait_share });
        let saturation = Saturation {
            late_share,
            late_by_server: meters.left_late.saturating_sub(meters.late),
            ..Saturation::default()
        };
        Self {
            generator_cpu_s: own.cpu_s,
            generator_rss_bytes: own.rss_bytes,
            generator_lag_us: Latency::from(&meters.lag),
            generator_saturated,
            saturation: saturation.with_cpu(busiest).explained(generator_saturated),
            network: own.network,
            host: own.host,
            ..self
        }
    }

    /// How near its limit, for the order among several.
    fn pressure(&self) -> (bool, bool, f64) {
        let of = &self.saturation;
        let wanted = of.cpu_share.unwrap_or_default() + of.cpu_wait_share.unwrap_or_default();
        (self.generator_saturated, of.reason.is_some(), wanted)
    }
}

impl Report {
    /// Takes over what agents were: one that was saturated is enough to say so of the run.
    pub fn take_agents(&mut self, agents: Vec<AgentReport>) {
        self.network = Network::default();
        self.generator_cpu_s = 0.0;
        for agent in &agents {
            self.generator_saturated |= agent.generator_saturated;
            self.generator_cpu_s += agent.generator_cpu_s;
            self.network += agent.network;
            let clock_us = agent.clock_error_us.saturating_add(agent.clock_drift_us);
            self.clock_error_us = self.clock_error_us.max(Some(clock_us));
        }
        let order = |one: &&AgentReport, other: &&AgentReport| {
            let (one, other) = (one.pressure(), other.pressure());
            (one.0, one.1).cmp(&(other.0, other.1)).then(one.2.total_cmp(&other.2))
        };
        if let Some(worst) = agents.iter().max_by(order) {
            // What was counted over all of them stays.
            let Saturation { late_share, late_by_server, .. } = self.saturation;
            self.saturation = Saturation { late_share, late_by_server, ..worst.saturation.clone() };
        }
        self.agents = agents;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_saturated_agent_saturates_the_run_and_gives_its_reason() {
        let agent = |late: u64, cpu_share: f64, error: u64| {
            let mut meters = Meters::new(10);
            (0..100).for_each(|at| meters.lagged(if at < late { 11 } else { 0 }));
            let own = Own { busiest: Some((cpu_share, 0.0)), cpu_s: 1.5, ..Own::default() };
            let begun = AgentReport { clock_error_us: error, clock_drift_us: 1, ..AgentReport::default() };
            begun.of(own, &meters, 0.01)
        };
        let (idle, busy) = (agent(1, 0.5, 30), agent(2, 0.99, 20));
        assert!(!idle.generator_saturated && busy.generator_saturated);
        for agents in [vec![idle.clone(), busy.clone()], vec![busy, idle.clone()]] {
            let mut report = Report::default();
            report.take_agents(agents);
            assert!(report.generator_saturated && report.saturation.cpu_share == Some(0.99), "{report:?}");
            assert_eq!((report.clock_error_us, report.generator_cpu_s), (Some(31), 3.0));
        }
        let mut report = Report::default();
        report.take_agents(vec![idle.clone(), idle]);
        assert!(!report.generator_saturated && report.saturation.reason.is_none(), "{report:?}");
    }
}
