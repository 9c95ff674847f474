//! The report of a run: the fields of CLI.md and more, the verdict, the exit code, and in [`summary`] a short text for people.

pub mod html;
mod parts;
mod saturation;
mod scenarios;
mod siege;
mod summary;
pub mod text;

pub use parts::{GroupReport, Host, Latency, MemoryPerClient};
pub use saturation::{Reason, Saturation};
pub use scenarios::Scenarios;
pub use siege::{AttackReport, PhaseReport, SiegeReport};

use crate::agent::report::AgentReport;
use crate::fail_if::Condition;
use crate::host::{Cpu, Memory, Network, Reading, SlabGrowth};
use crate::ledger::Tally;
use crate::phantom::tcp::Counts;
use crate::preflight::Finding;
use crate::run::{EndedEarly, Round, Storm};
use crate::timeline::{HistogramBucket, Point};
use serde::Serialize;

/// The note of every run with phantoms.
pub const PHANTOM_NOTE: &str = "TUN runs the receiver's network stack in the generator's threads: phantom runs prove memory \
    and counts, and runs with kernel sockets prove CPU";

/// One line on how the run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All well.
    #[default]
    Clean,
    /// The ledger found something lost, doubled, disordered or against the contract.
    Unclean,
    /// The generator could not keep its schedule: the run does not count.
    Saturated,
    /// A `--fail-if` held.
    Failed,
    /// Clients did not connect, or messages were refused or never answered.
    Incomplete,
}

/// Everything a run found. Counts without a unit are counts; units stand last in the names.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Version of roost-loadgen: the same seed gives the same schedule with the same version.
    pub version: &'static str,
    /// Scenario.
    pub scenario: &'static str,
    /// How the clients reached the network: `kernel` or `phantom`.
    pub kind: &'static str,
    /// What a reader has to know of such a run; `null` where there is nothing.
    pub note: Option<&'static str>,
    /// When the run began (RFC 3339, UTC).
    pub started_at: String,
    /// The command line, without what could be a secret.
    pub command: Vec<String>,
    /// The user ended the run before its time, and it is judged on what it did; `null` where it ran to its end.
    pub ended_early: Option<EndedEarly>,
    /// Seed of the schedule, payloads and users.
    pub seed: u64,
    /// Clients asked for.
    pub clients_target: u32,
    /// Clients that were connected, and welcomed where the server knows them.
    pub clients_connected: u64,
    /// Clients that never were, or gave up.
    pub clients_failed: u64,
    /// Connections that broke without the schedule wanting it.
    pub clients_dropped: u64,
    /// Connections made again.
    pub reconnects: u64,
    /// Clients connected by the length of the ramp: TCP, upgrade, token and Welcome.
    pub connect_per_s: f64,
    /// From the SYN to Welcome (phantoms).
    pub connect_latency_us: Latency,
    /// Connections of the ramp that the generator began more than a second after their time (phantoms).
    pub connects_late: u64,
    /// Answers to the upgrade with another status than 101 (phantoms); `errors` has them by status.
    pub upgrades_refused: u64,
    /// Answers to the upgrade whose Sec-WebSocket-Accept did not fit the key (phantoms).
    pub accept_wrong: u64,
    /// How the storm went (storm).
    pub storm: Option<Storm>,
    /// The rounds (churn).
    pub rounds: Vec<Round>,
    /// What some scenarios have beyond the others.
    #[serde(flatten)]
    pub scenarios: Scenarios,
    /// What the phantoms' TCP did; `null` with kernel sockets.
    pub tcp: Option<Counts>,
    /// Length of the measured part.
    pub duration_s: f64,
    /// Messages handed to a socket.
    pub messages_sent: u64,
    /// Messages answered by Sent (chat, group), or echoed.
    pub messages_answered: u64,
    /// Messages that arrived.
    pub messages_received: u64,
    /// Answered by Sent and never delivered (chat, group); sent and never echoed (echo).
    pub messages_lost: u64,
    /// Deliveries of what was delivered for good already.
    pub messages_duplicated: u64,
    /// Messages that came before an earlier one of the same sender to the same receiver.
    pub messages_out_of_order: u64,
    /// Deliveries again of what was not acknowledged when a connection broke: allowed.
    pub messages_redelivered: u64,
    /// Messages the server refused for good.
    pub messages_refused: u64,
    /// Messages sent, or due, without any answer by the end.
    pub messages_unanswered: u64,
    /// Messages of earlier runs on the same store.
    pub messages_foreign: u64,
    /// Things the contract forbids: wrong receiver, changed payload, a cursor that went back, unreadable frames.
    pub violations: u64,
    /// Messages for which the sender got DELIVERED.
    pub receipts_delivered: u64,
    /// Messages for which the sender got READ.
    pub receipts_read: u64,
    /// Messages that arrived, with no DELIVERED by the end.
    pub receipts_missing: u64,
    /// Receipts for a message that was never sent, or by somebody else than its receiver.
    pub receipts_wrong: u64,
    /// With `group`: the groups and their deliveries; `null` elsewhere.
    pub group: Option<GroupReport>,
    /// From the scheduled time to the arrival at a receiver that was meant to be online throughout (chat, group), to the
    /// echo (echo), or with `closed_loop` from the sending.
    pub latency_us: Latency,
    /// From the scheduled time to Sent, of senders that were meant to be online throughout (chat, group).
    pub latency_sent_us: Latency,
    /// From the scheduled time to the arrival at a receiver that was offline meanwhile (chat, group).
    pub latency_offline_us: Latency,
    /// Latency counts from the sending, because there is no schedule (echo at rate 0): stalls hide in it.
    pub closed_loop: bool,
    /// Messages handed to a socket a second of the measured part.
    pub send_rate_per_s: f64,
    /// Memory a client.
    pub memory_bytes_per_client: MemoryPerClient,
    /// Memory before the first connect.
    pub memory_before_bytes: Memory,
    /// Memory when all clients were connected; with idle, at the end of the measured part.
    pub memory_held_bytes: Memory,
    /// The kernel's slab caches that grew meanwhile by a byte a client or more, the largest first; empty without root.
    pub slab: Vec<SlabGrowth>,
    /// Buckets of the TCP hash table of a network namespace made for this run, 8 bytes each, made before
    /// `memory_before_bytes`; `null` where there was none.
    pub tcp_hash_buckets: Option<u64>,
    /// What the kernel counted of TCP in the generator's network namespace during the run.
    pub network: Network,
    /// CPU of the gateway in the measured part, user and system; `null` without --gateway-pid.
    pub gateway_cpu_s: Option<f64>,
    /// Of that, in user mode.
    pub gateway_cpu_user_s: Option<f64>,
    /// Of that, in the kernel.
    pub gateway_cpu_system_s: Option<f64>,
    /// The gateway that was started for this run ended with an error, told in `errors`.
    pub gateway_failed: bool,
    /// CPU of the generator in the measured part.
    pub generator_cpu_s: f64,
    /// How late the generator itself was: from each message's time in the schedule to its turn.
    pub generator_lag_us: Latency,
    /// From a write's hand-over to tokio-uring to its completion.
    pub generator_write_us: Latency,
    /// Share of the messages that were later than --lag-us-max.
    pub generator_late_share: f64,
    /// That share, or that of late connections, was above --lag-share-max.
    pub generator_saturated: bool,
    /// How near its limit the generator was, and why it was there.
    pub saturation: Saturation,
    /// The limits at both ends, as they were found before the run.
    pub preflight: Vec<Finding>,
    /// The machines the clients were on; empty without --agents. Then `network`, `generator_cpu_s` and what the clients measured are theirs
    /// together, while memory, `slab` and `host` are the coordinator's.
    pub agents: Vec<AgentReport>,
    /// How far a latency between two agents' clients may be from the truth, beside what the numbers say: the largest error and drift of their
    /// clocks; `null` without --agents.
    pub clock_error_us: Option<u64>,
    /// The conditions of --fail-if, all of them.
    pub fail_if: Vec<String>,
    /// The conditions of --fail-if that held.
    pub fail_if_held: Vec<String>,
    /// Texts of different errors, with the number of each.
    pub errors: Vec<(String, u64)>,
    /// How the run ended.
    pub verdict: Verdict,
    /// `latency_us` in full: how often which latency was seen.
    pub latency_histogram: Vec<HistogramBucket>,
    /// Length of an interval of `timeline`: 1, doubled where the run was too long for so many.
    pub timeline_interval_s: u64,
    /// The run second by second.
    pub timeline: Vec<Point>,
    /// The machine.
    pub host: Host,
}

impl Report {
    /// A report whose optional fields are all there: what `--fail-if` is checked against.
    pub fn example() -> Self {
        let memory = MemoryPerClient {
            kernel: Some(0.0),
            gateway: Some(0.0),
            gateway_pss: Some(0.0),
            total: Some(0.0),
            host: Some(0.0),
            generator: Some(0.0),
            server: Some(0.0),
        };
        let held = Memory { gateway_rss: Some(0), gateway_pss: Some(0), ..Memory::default() };
        Self {
            note: Some(""),
            ended_early: Some(EndedEarly::default()),
            gateway_cpu_s: Some(0.0),
            gateway_cpu_user_s: Some(0.0),
            gateway_cpu_system_s: Some(0.0),
            tcp_hash_buckets: Some(0),
            clock_error_us: Some(0),
            group: Some(GroupReport::default()),
            scenarios: Scenarios::example(),
            latency_histogram: vec![HistogramBucket::default()],
            timeline: vec![Point::example()],
            memory_bytes_per_client: memory,
            memory_before_bytes: held,
            memory_held_bytes: held,
            ..Self::default()
        }
    }

    /// Takes over what was read before the first connect and while `clients` were held.
    pub fn measure(&mut self, before: &Reading, held: &Reading, clients: u64) {
        self.memory_bytes_per_client = before.memory.growth(&held.memory, clients);
        (self.memory_before_bytes, self.memory_held_bytes) = (before.memory, held.memory);
        self.slab = before.slab_growth(held, clients);
    }

    /// Takes over the gateway's CPU of the measured part, where it was measured.
    pub fn spend(&mut self, cpu: Option<Cpu>) {
        self.gateway_cpu_s = cpu.map(|cpu| cpu.total_s());
        self.gateway_cpu_user_s = cpu.map(|cpu| cpu.user_s);
        self.gateway_cpu_system_s = cpu.map(|cpu| cpu.system_s);
    }

    /// Takes over the ledger's counts.
    pub fn count(&mut self, tally: &Tally) {
        self.messages_sent = tally.sent;
        self.messages_answered = tally.answered;
        self.messages_received = tally.received;
        self.messages_lost = tally.lost;
        self.messages_duplicated = tally.duplicated;
        self.messages_out_of_order = tally.out_of_order;
        self.messages_redelivered = tally.redelivered;
        self.messages_refused = tally.refused;
        self.messages_unanswered = tally.unanswered;
        self.messages_foreign = tally.foreign;
        self.violations += tally.violations;
        self.receipts_delivered = tally.receipts_delivered;
        self.receipts_read = tally.receipts_read;
        self.receipts_missing = tally.receipts_missing;
        self.receipts_wrong = tally.receipts_wrong;
    }

    /// Evaluates the conditions and sets the verdict; the first that applies of 97, 98, 99, 1 and 0 is the exit code.
    pub fn judge(&mut self, conditions: &[Condition]) -> u8 {
        self.verdict = self.verdict_without_conditions();
        self.fail_if = conditions.iter().map(ToString::to_string).collect();
        let fields = serde_json::to_value(&*self).unwrap_or_default();
        self.fail_if_held =
            conditions.iter().filter(|condition| condition.holds(&fields)).map(ToString::to_string).collect();
        if !self.fail_if_held.is_empty() && matches!(self.verdict, Verdict::Clean | Verdict::Incomplete) {
            self.verdict = Verdict::Failed;
        }
        match self.verdict {
            Verdict::Clean => 0,
            Verdict::Incomplete => 1,
            Verdict::Unclean => 97,
            Verdict::Saturated => 98,
            Verdict::Failed => 99,
        }
    }

    /// Clients that did not come back, or stayed behind.
    fn clients_missing(&self) -> u64 {
        if self.ended_early.is_some() {
            return 0;
        }
        let target = u64::from(self.clients_target);
        let storm = self.storm.as_ref().map_or(0, |storm| target.saturating_sub(storm.back));
        let round = |round: &Round| target.saturating_sub(round.connected) + round.left_behind;
        storm + self.rounds.iter().map(round).sum::<u64>()
    }

    fn verdict_without_conditions(&self) -> Verdict {
        let unclean = self.messages_lost
            + self.messages_duplicated
            + self.messages_out_of_order
            + self.violations
            + self.receipts_wrong;
        if unclean > 0 {
            Verdict::Unclean
        } else if self.generator_saturated {
            Verdict::Saturated
        } else if u64::from(self.gateway_failed)
            + self.clients_failed
            + self.clients_missing()
            + self.messages_refused
            + self.messages_unanswered
            > 0
        {
            Verdict::Incomplete
        } else {
            Verdict::Clean
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_follows_the_precedence() {
        let held: Vec<Condition> = vec!["messages_sent >= 0".parse().unwrap()];
        let judge = |change: fn(&mut Report), conditions: &[Condition]| {
            let mut report = Report::default();
            change(&mut report);
            report.judge(conditions)
        };
        assert_eq!(judge(|_| (), &[]), 0);
        assert_eq!(judge(|_| (), &held), 99);
        assert_eq!(judge(|report| report.messages_refused = 1, &[]), 1);
        assert_eq!(judge(|report| report.messages_refused = 1, &held), 99);
        assert_eq!(judge(|report| report.generator_saturated = true, &held), 98);
        for change in [
            (|report| report.messages_lost = 1) as fn(&mut Report),
            |report| report.messages_duplicated = 1,
            |report| report.messages_out_of_order = 1,
            |report| report.violations = 1,
            |report| report.receipts_wrong = 1,
            |report| (report.messages_lost, report.generator_saturated) = (1, true),
        ] {
            assert_eq!(judge(change, &held), 97);
        }
    }
}
