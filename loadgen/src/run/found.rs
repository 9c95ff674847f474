//! What a run found, as its report tells it.

use super::{Measured, Run};
use crate::host::{self, Network};
use crate::ledger::Ledger;
use crate::meters::Meters;
use crate::options::Scenario;
use crate::phantom::Tallies;
use crate::report::{GroupReport, Latency, PHANTOM_NOTE, Report, Saturation, Scenarios};
use crate::timeline::{Buckets, histogram_buckets};
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

impl Run {
    /// The report of all that was counted and measured, not yet judged.
    pub(super) fn report(
        &self,
        measured: &Measured,
        meters: &Meters,
        ledger: Ledger,
        tallies: Tallies,
    ) -> Report {
        let shared = &self.shared;
        let (options, counters) = (&shared.options.cli, &shared.counters);
        let connected = counters.connected.load(Relaxed);
        let drips = if options.scenario == Scenario::HandshakeDrip { shared.plan.odd_clients() } else { 0 };
        let ramp_s = counters.last_connected_us.load(Relaxed) as f64 / 1e6;
        let network = Network::read().since(&self.before.network);
        let saturation = saturation(meters, &tallies, &network);
        let is_late = saturation.late_share.max(saturation.connects_late_share) > options.lag_share_max;
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION"),
            scenario: options.scenario.name(),
            kind: options.kind.name(),
            seed: options.seed,
            clients_target: options.clients,
            clients_connected: connected,
            clients_failed: self.clients_failed(options.clients - drips, connected),
            clients_dropped: counters.dropped.load(Relaxed),
            reconnects: counters.reconnects.load(Relaxed),
            connect_per_s: if ramp_s > 0.0 { connected as f64 / ramp_s } else { 0.0 },
            connect_latency_us: Latency::from(&meters.connect),
            connects_late: tallies.attempts.late,
            upgrades_refused: tallies.attempts.refused,
            accept_wrong: tallies.attempts.accept_wrong,
            duration_s: measured.duration_s,
            latency_us: Latency::from(&meters.latency),
            latency_sent_us: Latency::from(&meters.latency_sent),
            latency_offline_us: Latency::from(&meters.latency_offline),
            closed_loop: shared.options.is_closed_loop(),
            send_rate_per_s: if measured.duration_s > 0.0 {
                measured.sent as f64 / measured.duration_s
            } else {
                0.0
            },
            network,
            generator_cpu_s: measured.generator_cpu_s,
            generator_lag_us: Latency::from(&meters.lag),
            generator_write_us: Latency::from(&meters.write),
            generator_late_share: saturation.late_share,
            generator_saturated: is_late,
            saturation: saturation.with_cpu(measured.busiest).explained(is_late),
            errors: meters.errors().to_vec(),
            host: host::host(),
            ..Report::default()
        };
        if let Some(ground) = &self.ground {
            report.note = Some(PHANTOM_NOTE);
            report.tcp_hash_buckets = ground.hash_buckets;
            report.tcp = Some(tallies.packets);
        }
        let mut timeline = shared.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        timeline.close();
        (report.timeline_interval_s, report.timeline) = (timeline.interval_s(), timeline.points());
        report.latency_histogram = histogram_buckets(&Buckets::of(&meters.latency.sum()));
        report.measure(&self.before, &measured.held, connected);
        report.spend(measured.gateway_cpu);
        let mut tally = ledger.tally(&shared.plan);
        // What was planned beyond a run's early end was never due.
        tally.unanswered =
            tally.unanswered.saturating_sub(shared.plan.len() as u64 - u64::from(shared.due()));
        report.count(&tally);
        if let Some(agents) = &self.agents {
            report.take_agents(agents.reports());
        }
        if !shared.plan.groups.is_empty() {
            report.group = Some(GroupReport::of(shared, tally.received_in_groups, measured.duration_s));
        }
        report.scenarios = Scenarios::of(&shared.options, &shared.plan, counters, meters);
        if shared.options.echoes() {
            report.messages_unanswered = u64::from(shared.due()).saturating_sub(report.messages_sent);
        }
        report
    }
}

/// How late the generator was, without what its threads did.
fn saturation(meters: &Meters, tallies: &Tallies, network: &Network) -> Saturation {
    let late_share = if meters.lag.is_empty() { 0.0 } else { meters.late as f64 / meters.lag.len() as f64 };
    Saturation {
        late_share,
        late_by_server: meters.left_late.saturating_sub(meters.late),
        connects_late_share: tallies.attempts.late as f64 / tallies.attempts.begun.max(1) as f64,
        queue_drops: network.device_drops,
        ..Saturation::default()
    }
}
