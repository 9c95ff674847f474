//! What the reports of `slow`, `halfopen`, `handshake-drip`, `siege` and `mix` have beyond the others'.

use super::Latency;
use super::siege::SiegeReport;
use super::text::readable;
use crate::meters::{Counters, Meters};
use crate::mix::Mix;
use crate::options::{Options, Scenario};
use crate::schedule::{Plan, Target};
use serde::Serialize;
use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering::Relaxed;

/// One of them; the others are `null` in the report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Scenarios {
    /// With `slow`.
    pub slow: Option<SlowReport>,
    /// With `halfopen`.
    pub halfopen: Option<HalfopenReport>,
    /// With `handshake-drip`.
    pub handshake_drip: Option<DripReport>,
    /// With `siege`.
    pub siege: Option<SiegeReport>,
    /// With `mix`.
    pub mix: Option<MixReport>,
}

/// Clients that stopped reading for a while. `latency_us` and `latency_sent_us` of the report are the others'.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SlowReport {
    /// Clients that the schedule has stop reading.
    pub clients: u32,
    /// Times one stopped reading.
    pub stalled: u64,
    /// Of these, how often it read on where it had stopped.
    pub resumed: u64,
    /// Of these, how often the server ended its connection meanwhile; `errors` tells how.
    pub ended: u64,
    /// From the scheduled time to the arrival at one of these clients, whether it read at that time or not.
    pub latency_us: Latency,
}

/// Clients that vanished without a FIN.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HalfopenReport {
    /// Clients that vanished.
    pub vanished: u64,
    /// Of these, those whose connection the server ended in the measured part.
    pub ended: u64,
    /// Of these, those it still held.
    pub still_held: u64,
    /// From the vanishing to the server's FIN or RST.
    pub held_us: Latency,
    /// By what it ended them: FIN or RST.
    pub ended_by: Vec<(String, u64)>,
}

/// Clients whose upgrade request came a byte at a time. `clients_connected` of the report counts the others only.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DripReport {
    /// Clients that dripped.
    pub dripped: u64,
    /// Of these, those that the server ended.
    pub ended: u64,
    /// Of these, those that had their upgrade: their request was whole before the server's patience was over.
    pub upgraded: u64,
    /// Of these, those still dripping when the run ended.
    pub still_held: u64,
    /// From the connection to its end by the server.
    pub held_us: Latency,
    /// By what it ended them: an HTTP status, FIN or RST.
    pub ended_by: Vec<(String, u64)>,
}

/// What a mix came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MixReport {
    /// Seconds that passed in each second of the run.
    pub compression: f64,
    /// The populations.
    pub populations: Vec<PopulationReport>,
    /// Messages for one user.
    pub messages_direct: u64,
    /// Messages for a group.
    pub messages_to_groups: u64,
    /// Members of all groups together.
    pub memberships: u64,
    /// Times that a user was to be offline.
    pub absences: u64,
    /// Median and largest payload of the schedule.
    pub payload_bytes_p50: u64,
    /// The largest payload.
    pub payload_bytes_max: u64,
}

/// A population of a mix.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PopulationReport {
    /// Its name.
    pub name: String,
    /// Its users.
    pub users: u32,
    /// Messages of the schedule that they send.
    pub messages: u64,
    /// How many times as long as the compression says they are online and offline, because clients cannot follow faster; 1 is as it says.
    pub presence_stretched: f64,
}

impl Scenarios {
    /// All of them, for `--fail-if` to be checked against.
    pub fn example() -> Self {
        Self {
            slow: Some(SlowReport::default()),
            halfopen: Some(HalfopenReport::default()),
            handshake_drip: Some(DripReport::default()),
            siege: Some(SiegeReport::example()),
            mix: Some(MixReport::default()),
        }
    }

    /// Of a run that is over.
    pub fn of(options: &Options, plan: &Plan, counters: &Counters, meters: &Meters) -> Self {
        let (begun, ended, through) = (
            counters.odd_begun.load(Relaxed),
            counters.odd_ended.load(Relaxed),
            counters.odd_through.load(Relaxed),
        );
        let held_us = Latency::from(&meters.held);
        let ended_by = meters.ends().to_vec();
        let still_held = begun.saturating_sub(ended + through);
        let mut of = Self::default();
        match options.cli.scenario {
            Scenario::Slow => {
                let latency_us = Latency::from(&meters.latency_slow);
                let clients = plan.odd_clients();
                of.slow = Some(SlowReport { clients, stalled: begun, resumed: through, ended, latency_us });
            }
            Scenario::Halfopen => {
                of.halfopen = Some(HalfopenReport { vanished: begun, ended, still_held, held_us, ended_by });
            }
            Scenario::HandshakeDrip => {
                of.handshake_drip = Some(DripReport {
                    dripped: begun,
                    ended,
                    upgraded: through,
                    still_held,
                    held_us,
                    ended_by,
                });
            }
            Scenario::Mix => of.mix = options.mix.as_deref().map(|mix| MixReport::of(mix, plan)),
            _ => (),
        }
        of
    }
}

impl Scenarios {
    /// A line or two for people.
    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        if let Some(SlowReport { clients, stalled, resumed, ended, latency_us }) = &self.slow {
            let (p50, p99) = (readable(latency_us.p50), readable(latency_us.p99));
            writeln!(
                out,
                "  slow      {clients} clients stopped reading {stalled} times: {resumed} read on, {ended} ended by the server; \
                 their latency p50 {p50}, p99 {p99}"
            )?;
        }
        if let Some(HalfopenReport { vanished, ended, still_held, held_us, ended_by }) = &self.halfopen {
            let (held, by) = (times(held_us), list(ended_by));
            writeln!(
                out,
                "  halfopen  {vanished} vanished: {ended} ended by the server{by}{held}, {still_held} still held"
            )?;
        }
        if let Some(DripReport { dripped, ended, upgraded, still_held, held_us, ended_by }) =
            &self.handshake_drip
        {
            let (held, by) = (times(held_us), list(ended_by));
            writeln!(
                out,
                "  drip      {dripped} dripped: {ended} ended by the server{by}{held}, {upgraded} upgraded, {still_held} still held"
            )?;
        }
        if let Some(siege) = &self.siege {
            siege.write(out)?;
        }
        let Some(mix) = &self.mix else { return Ok(()) };
        writeln!(
            out,
            "  mix       {:.0} times as fast; {} messages to users, {} to groups; {} absences; payloads p50 {}, max {} bytes",
            mix.compression,
            mix.messages_direct,
            mix.messages_to_groups,
            mix.absences,
            mix.payload_bytes_p50,
            mix.payload_bytes_max
        )?;
        for PopulationReport { name, users, messages, presence_stretched } in &mix.populations {
            write!(out, "            {name}: {users} users, {messages} messages")?;
            if *presence_stretched > 1.0 {
                write!(out, ", times online and offline stretched {presence_stretched:.1} times")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

fn times(held_us: &Latency) -> String {
    if held_us.count == 0 {
        return String::new();
    }
    format!(" after p50 {}, max {}", readable(held_us.p50), readable(held_us.max))
}

fn list(ended_by: &[(String, u64)]) -> String {
    let each: Vec<_> = ended_by.iter().map(|(how, count)| format!("{count} by {how}")).collect();
    if each.is_empty() { String::new() } else { format!(" ({})", each.join(", ")) }
}

impl MixReport {
    fn of(mix: &Mix, plan: &Plan) -> Self {
        let duration_s = plan.params.duration_s as f64;
        let populations = mix.populations(plan.params.clients).unwrap_or_default();
        let populations =
            mix.population.iter().zip(populations).map(|(population, users)| PopulationReport {
                name: population.name.clone(),
                messages: plan.sender.iter().filter(|sender| users.contains(sender)).count() as u64,
                users: users.len() as u32,
                presence_stretched: population
                    .presence
                    .as_ref()
                    .map_or(1.0, |presence| mix.stay(presence, duration_s).stretch),
            });
        let direct = |&index: &u32| matches!(plan.target(index), Target::Client(_));
        let messages_direct = (0..plan.len() as u32).filter(direct).count() as u64;
        let mut bytes: Vec<_> =
            (0..plan.len() as u32).map(|index| plan.payload_bytes(index) as u64).collect();
        let middle = bytes.len() / 2;
        let p50 = if bytes.is_empty() { 0 } else { *bytes.select_nth_unstable(middle).1 };
        Self {
            compression: mix.compression(duration_s),
            populations: populations.collect(),
            messages_direct,
            messages_to_groups: plan.len() as u64 - messages_direct,
            memberships: (0..plan.groups.len()).map(|group| plan.groups.members(group).len() as u64).sum(),
            absences: plan.offline.len() as u64,
            payload_bytes_p50: p50,
            payload_bytes_max: plan.payload_bytes_max() as u64,
        }
    }
}
