//! What a siege's report has beyond the others'.

use super::text::{bytes, count, readable};
use super::{Latency, Report};
use crate::meters::{Meters, PhaseMeters};
use crate::siege::{Attack, Observed, Seen, Tally, attackers};
use crate::worker::Shared;
use serde::Serialize;
use std::fmt::{self, Write as _};

/// How the clients that behaved fared while others attacked. `latency_us` of the report is theirs over all phases.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SiegeReport {
    /// Before the first attack.
    pub undisturbed: PhaseReport,
    /// The attacks, in order.
    pub attacks: Vec<AttackReport>,
}

/// One phase, as the clients that behaved and the server's process tell of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PhaseReport {
    /// Of the messages that were due in it.
    pub latency_us: Latency,
    /// How late the generator itself was with them.
    pub generator_lag_us: Latency,
    /// The most resident memory of the server; `null` without --gateway-pid.
    pub server_rss_bytes_max: Option<u64>,
    /// The server's CPU time by the phase's length; `null` without --gateway-pid.
    pub server_cpus: Option<f64>,
}

/// One attack.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AttackReport {
    /// Its kind.
    pub attack: &'static str,
    /// Attackers at a time.
    pub attackers: u32,
    /// While it lasted.
    pub attacked: PhaseReport,
    /// After it.
    pub recovered: PhaseReport,
    /// `attacked.latency_us.p99` by `undisturbed.latency_us.p99`; `null` where one of them was not measured.
    pub p99_ratio: Option<f64>,
    /// The same after the attack.
    pub p99_ratio_recovered: Option<f64>,
    /// What the server's resident memory grew by at most; `null` without --gateway-pid.
    pub server_rss_growth_bytes: Option<u64>,
    /// Connections that the attackers made.
    pub connections: u64,
    /// Connections that they could not make.
    pub unconnected: u64,
    /// Bytes that the attackers' kernel took from them.
    pub sent_bytes: u64,
    /// Bytes that they read.
    pub received_bytes: u64,
    /// Connections that the server ended.
    pub ended: u64,
    /// By what: an HTTP status, a close code, FIN or RST.
    pub ended_by: Vec<(String, u64)>,
    /// Connections that stood when the attack was over.
    pub held: u64,
    /// Of these, those whose bytes the server did not take any more.
    pub unread: u64,
    /// In a word: `ended`, `unread`, or `held` where neither happened to any of them.
    pub outcome: &'static str,
}

impl SiegeReport {
    /// One whose optional fields are all there.
    pub(super) fn example() -> Self {
        let phase =
            PhaseReport { server_rss_bytes_max: Some(0), server_cpus: Some(0.0), ..PhaseReport::default() };
        let attack = AttackReport {
            attacked: phase.clone(),
            recovered: phase.clone(),
            p99_ratio: Some(0.0),
            p99_ratio_recovered: Some(0.0),
            server_rss_growth_bytes: Some(0),
            ..AttackReport::default()
        };
        Self { undisturbed: phase, attacks: vec![attack] }
    }

    fn of(shared: &Shared, meters: &Meters, observed: &Observed) -> Self {
        let phase = |number: usize| PhaseReport::of(meters.phases().get(number), observed.phases.get(number));
        let undisturbed = phase(0);
        let attacks = shared.phases.attacks().iter().zip(&observed.attackers).enumerate();
        let attacks = attacks.map(|(number, (attack, tally))| {
            let at = 2 * number + 1;
            let (attacked, recovered) = (phase(at), phase(at + 1));
            let before = observed.phases.get(at).and_then(|seen| seen.rss_before);
            let most = attacked.server_rss_bytes_max.max(recovered.server_rss_bytes_max);
            AttackReport {
                attackers: attackers(&shared.options.cli, *attack),
                p99_ratio: ratio(&attacked.latency_us, &undisturbed.latency_us),
                p99_ratio_recovered: ratio(&recovered.latency_us, &undisturbed.latency_us),
                server_rss_growth_bytes: most.zip(before).map(|(most, before)| most.saturating_sub(before)),
                attacked,
                recovered,
                ..AttackReport::told(*attack, tally)
            }
        });
        Self { attacks: attacks.collect(), undisturbed }
    }

    /// A line for each attack.
    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let (p50, p99) =
            (readable(self.undisturbed.latency_us.p50), readable(self.undisturbed.latency_us.p99));
        writeln!(out, "  siege     undisturbed p50 {p50}, p99 {p99}")?;
        self.attacks.iter().try_for_each(|attack| attack.write(out))
    }
}

fn ratio(one: &Latency, other: &Latency) -> Option<f64> {
    (one.count > 0 && other.p99 > 0).then(|| one.p99 as f64 / other.p99 as f64)
}

impl PhaseReport {
    fn of(meters: Option<&PhaseMeters>, seen: Option<&Seen>) -> Self {
        let seen = seen.copied().unwrap_or_default();
        Self {
            latency_us: meters.map(|meters| Latency::from(&meters.latency)).unwrap_or_default(),
            generator_lag_us: meters.map(|meters| Latency::from(&meters.lag)).unwrap_or_default(),
            server_rss_bytes_max: seen.rss_max,
            server_cpus: seen.cpu_s.filter(|_| seen.seconds > 0.0).map(|cpu_s| cpu_s / seen.seconds),
        }
    }
}

impl AttackReport {
    /// What became of the attackers.
    fn told(attack: Attack, tally: &Tally) -> Self {
        let ended = tally.ended_by.values().sum();
        let outcome = match (ended, tally.unread) {
            (1.., _) => "ended",
            (0, 1..) => "unread",
            (0, 0) => "held",
        };
        Self {
            attack: attack.name(),
            connections: tally.connections,
            unconnected: tally.unconnected,
            sent_bytes: tally.sent_bytes,
            received_bytes: tally.received_bytes,
            ended,
            ended_by: tally.ended_by.clone().into_iter().collect(),
            held: tally.held,
            unread: tally.unread,
            outcome,
            ..Self::default()
        }
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let (attacked, recovered) = (&self.attacked.latency_us, &self.recovered.latency_us);
        let times =
            |ratio: Option<f64>| ratio.map_or("not measured".to_owned(), |ratio| format!("{ratio:.2}x"));
        write!(
            out,
            "            {}: p99 {} ({}), after it {} ({})",
            self.attack,
            readable(attacked.p99),
            times(self.p99_ratio),
            readable(recovered.p99),
            times(self.p99_ratio_recovered)
        )?;
        if let Some(growth) = self.server_rss_growth_bytes {
            write!(out, ", memory +{}", bytes(growth as f64))?;
        }
        if let Some(cpus) = self.attacked.server_cpus {
            write!(out, ", {cpus:.2} CPUs")?;
        }
        let by: Vec<_> = self.ended_by.iter().map(|(how, times)| format!("{times} by {how}")).collect();
        let by = if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) };
        writeln!(
            out,
            "; {} attackers made {} connections, {} ended{by}, {} held, {} of them not read; sent {}",
            self.attackers,
            count(self.connections as f64),
            count(self.ended as f64),
            count(self.held as f64),
            count(self.unread as f64),
            bytes(self.sent_bytes as f64)
        )
    }
}

impl Report {
    /// Takes over what a siege found; nothing in other scenarios.
    pub(crate) fn besieged(&mut self, shared: &Shared, meters: &Meters, observed: Option<Observed>) {
        let Some(observed) = observed else { return };
        self.scenarios.siege = Some(SiegeReport::of(shared, meters, &observed));
        self.errors.extend(observed.errors.into_iter().map(|error| (error, 1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_says_what_happened_to_any_of_them() {
        let told = |ended: u64, unread| {
            let ended_by = (0..ended).map(|number| (number.to_string(), 1)).collect();
            AttackReport::told(Attack::Flood, &Tally { ended_by, unread, ..Tally::default() }).outcome
        };
        assert_eq!([told(2, 1), told(0, 1), told(0, 0)], ["ended", "unread", "held"]);
    }
}
