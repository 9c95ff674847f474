//! The schedule of a run, computed before it starts: who sends to whom and when, who is offline when, from the seed
//! alone. The same parameters give the same plan, byte by byte.

use crate::limits::{DELIVERIES_MAX, MESSAGES_MAX};
use crate::payload;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// How the gaps between arrivals are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// Exponential gaps: independent arrivals, with bursts.
    Poisson,
    /// Equal gaps.
    Uniform,
}

/// What a plan is computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanParams {
    /// Number of clients.
    pub clients: u32,
    /// Messages a second, of all clients together.
    pub rate_per_s: f64,
    /// Length of the measured part in seconds.
    pub duration_s: u64,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Distribution of the gaps.
    pub arrivals: Arrivals,
    /// Share of the clients that go offline once during the run, 0 to 0.9.
    pub offline_share: f64,
    /// The first user number; [`Plan::user`] adds the seed's offset and the client's index.
    pub user_base: u64,
    /// Whom messages are for.
    pub to: To,
}

/// Whom the messages of a plan are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Nobody but the server.
    Nobody,
    /// One other client each.
    OneOther,
    /// All others of the sender's group: clients are spread over as many groups as it takes for none to have more than `size`.
    Group {
        /// Clients of a group at most, 3 or more, so that none is alone.
        size: u32,
    },
}

/// A time without connection: from, to, in microseconds of the measured part.
pub type Window = (u64, u64);

/// A computed schedule: parallel arrays over the messages, in the order of their times.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it was computed from.
    pub params: PlanParams,
    /// When each message is due, in microseconds of the measured part.
    pub at_us: Vec<u64>,
    /// Each message's sender (client index).
    pub sender: Vec<u32>,
    /// Each message's receiver (client index), where it is for one; else its sender.
    pub receiver: Vec<u32>,
    /// Each client's time offline; empty where nobody is.
    pub offline: Vec<Option<Window>>,
}

impl Plan {
    /// Computes the schedule. A sender is never one that is offline at that time; a receiver may be.
    ///
    /// # Errors
    /// A sentence for the user, where the parameters cannot give a schedule.
    pub fn build(params: PlanParams) -> Result<Self, String> {
        let expected = params.rate_per_s * params.duration_s as f64;
        if expected > MESSAGES_MAX as f64 {
            return Err(format!(
                "{expected:.0} messages are more than the {MESSAGES_MAX} one run may have; lower --rate-per-s or --duration-s"
            ));
        }
        if let To::Group { size } = params.to
            && expected * f64::from(size) > DELIVERIES_MAX as f64
        {
            return Err(format!(
                "{expected:.0} messages to {size} members each are more than the {DELIVERIES_MAX} deliveries one run may have; lower \
                 --rate-per-s, --duration-s or --group-size"
            ));
        }
        if params.to != To::Nobody && params.clients < 2 {
            return Err(
                "two clients at least are needed to send messages between them; raise --clients".into()
            );
        }
        let mut rng = StdRng::seed_from_u64(params.seed);
        let end_us = params.duration_s * 1_000_000;
        // Millions of phantoms that stay take no entry each.
        let windows = if params.offline_share > 0.0 { params.clients } else { 0 };
        let offline: Vec<_> = (0..windows)
            .map(|_| (rng.random::<f64>() < params.offline_share).then(|| offline_window(&mut rng, end_us)))
            .collect();
        let mut plan = Self { at_us: Vec::new(), sender: Vec::new(), receiver: Vec::new(), offline, params };
        plan.fill(&mut rng, end_us);
        Ok(plan)
    }

    fn fill(&mut self, rng: &mut StdRng, end_us: u64) {
        if self.params.rate_per_s <= 0.0 {
            return;
        }
        let gap_us = 1e6 / self.params.rate_per_s;
        let mut at = 0.0_f64;
        for index in 0..MESSAGES_MAX {
            at = match self.params.arrivals {
                Arrivals::Uniform => index as f64 * gap_us,
                Arrivals::Poisson => at - (1.0 - rng.random::<f64>()).ln() * gap_us,
            };
            let at_us = at as u64;
            if at_us >= end_us {
                return;
            }
            let (sender, receiver) = self.pair(rng, at_us);
            self.at_us.push(at_us);
            self.sender.push(sender);
            self.receiver.push(receiver);
        }
    }

    fn pair(&self, rng: &mut StdRng, at_us: u64) -> (u32, u32) {
        let clients = self.params.clients;
        // At most nine tenths are offline, so that this ends long before its bound.
        let sender = (0..1000)
            .map(|_| rng.random_range(0..clients))
            .find(|&client| !self.is_offline(client, at_us))
            .unwrap_or(0);
        if self.params.to != To::OneOther {
            return (sender, sender);
        }
        let other = rng.random_range(0..clients - 1);
        (sender, if other >= sender { other + 1 } else { other })
    }

    /// Whether the client is meant to be offline at that time.
    pub fn is_offline(&self, client: u32, at_us: u64) -> bool {
        self.window(client).is_some_and(|(from, to)| (from..to).contains(&at_us))
    }

    /// Whether the client is meant to be offline at any time from `from_us` to `to_us`.
    pub fn is_offline_within(&self, client: u32, from_us: u64, to_us: u64) -> bool {
        self.window(client).is_some_and(|(from, to)| from <= to_us && from_us < to)
    }

    fn window(&self, client: u32) -> Option<Window> {
        self.offline.get(client as usize).copied().flatten()
    }

    /// Number of groups; 0 where messages are not for groups.
    pub fn groups(&self) -> u32 {
        match self.params.to {
            To::Group { size } => self.params.clients.div_ceil(size),
            To::Nobody | To::OneOther => 0,
        }
    }

    /// The group of a client; its first member is the client of that number.
    pub fn group(&self, client: u32) -> u32 {
        client % self.groups().max(1)
    }

    /// The clients of a group.
    pub fn members(&self, group: u32) -> impl Iterator<Item = u32> {
        (group..self.params.clients).step_by(self.groups().max(1) as usize)
    }

    /// How often the message is to arrive.
    pub fn deliveries(&self, index: u32) -> u64 {
        match self.params.to {
            To::Nobody => 0,
            To::OneOther => 1,
            To::Group { .. } => {
                self.members(self.group(self.sender[index as usize])).size_hint().0 as u64 - 1
            }
        }
    }

    /// Whether a message is for this user.
    pub fn receives(&self, index: u32, user: u64) -> bool {
        let sender = self.sender[index as usize];
        match self.params.to {
            To::Nobody => false,
            To::OneOther => self.user(self.receiver[index as usize]) == user,
            To::Group { .. } => {
                let client = user.wrapping_sub(self.user(0));
                client < u64::from(self.params.clients)
                    && self.group(client as u32) == self.group(sender)
                    && client as u32 != sender
            }
        }
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.at_us.len()
    }

    /// Whether nothing is to be sent.
    pub fn is_empty(&self) -> bool {
        self.at_us.is_empty()
    }

    /// The user number of a client: the base, a million numbers a seed (modulo 1,000), the index.
    pub fn user(&self, client: u32) -> u64 {
        self.params.user_base + (self.params.seed % 1000) * 1_000_000 + u64::from(client)
    }

    /// The payload of a message, as it is sent.
    pub fn payload(&self, index: u32) -> Vec<u8> {
        let at = index as usize;
        payload::build(
            self.params.seed,
            self.user(self.sender[at]),
            index,
            self.at_us[at],
            self.params.payload_bytes,
        )
    }

    /// A digest of the schedule (SHA-256 over its messages and times offline; payloads follow from them and the seed): the same on all
    /// machines that are to take part in one run.
    pub fn digest(&self) -> [u8; 32] {
        let Self { params, at_us, sender, receiver, offline } = self;
        let mut digest = Sha256::new();
        digest.update(format!("{params:?}"));
        for ((at_us, sender), receiver) in at_us.iter().zip(sender).zip(receiver) {
            digest.update(at_us.to_le_bytes());
            digest.update(sender.to_le_bytes());
            digest.update(receiver.to_le_bytes());
        }
        for (client, window) in offline.iter().enumerate() {
            if let Some((from_us, to_us)) = window {
                digest.update((client as u64).to_le_bytes());
                digest.update(from_us.to_le_bytes());
                digest.update(to_us.to_le_bytes());
            }
        }
        digest.finalize().into()
    }

    /// Writes the whole schedule, payloads included: two runs with one seed give the same bytes.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        for (client, window) in self.offline.iter().enumerate() {
            if let Some((from, to)) = window {
                writeln!(out, "offline {} {from} {to}", self.user(client as u32))?;
            }
        }
        for index in 0..self.len() {
            let (from, to) = (self.user(self.sender[index]), self.user(self.receiver[index]));
            write!(out, "send {} {from} {to} ", self.at_us[index])?;
            out.write_all(&self.payload(index as u32))?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// Away for 10 to 30 percent of the run, back before its last tenth.
fn offline_window(rng: &mut StdRng, end_us: u64) -> Window {
    let length = rng.random_range(0.1..0.3);
    let from = rng.random_range(0.1..0.9 - length);
    let us = |share: f64| (share * end_us as f64) as u64;
    (us(from), us(from + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(seed: u64) -> PlanParams {
        PlanParams {
            clients: 50,
            rate_per_s: 500.0,
            duration_s: 4,
            payload_bytes: 100,
            seed,
            arrivals: Arrivals::Poisson,
            offline_share: 0.3,
            user_base: 1000,
            to: To::OneOther,
        }
    }

    #[test]
    fn arrivals_keep_rate_order_and_never_come_from_somebody_offline() {
        for arrivals in [Arrivals::Poisson, Arrivals::Uniform] {
            let plan = Plan::build(PlanParams { arrivals, ..params(7) }).unwrap();
            assert!((1700..2300).contains(&plan.len()), "{}", plan.len());
            assert!(plan.at_us.is_sorted());
            for index in 0..plan.len() {
                assert_ne!(plan.sender[index], plan.receiver[index]);
                assert!(!plan.is_offline(plan.sender[index], plan.at_us[index]));
            }
        }
    }

    #[test]
    fn a_share_of_the_clients_goes_offline_and_returns_before_the_end() {
        let plan = Plan::build(PlanParams { clients: 1000, ..params(7) }).unwrap();
        let windows: Vec<_> = plan.offline.iter().flatten().collect();
        assert!((230..370).contains(&windows.len()), "{}", windows.len());
        assert!(windows.iter().all(|(from, to)| from < to && *to <= 3_600_000));
    }

    #[test]
    fn clients_are_spread_evenly_over_groups_that_none_is_alone_in() {
        for (clients, size, groups) in [(50, 16, 4), (33, 32, 2), (4, 3, 2), (3, 3, 1), (1024, 1024, 1)] {
            let plan = Plan::build(PlanParams { clients, to: To::Group { size }, ..params(7) }).unwrap();
            assert_eq!(plan.groups(), groups);
            let mut all = Vec::new();
            for group in 0..groups {
                let members: Vec<_> = plan.members(group).collect();
                assert!((2..=size as usize).contains(&members.len()), "{clients} {size}: {members:?}");
                assert!(members.iter().all(|&member| plan.group(member) == group));
                all.extend(members);
            }
            all.sort_unstable();
            assert!(all.into_iter().eq(0..clients));
            let (sender, others) = (plan.sender[0], plan.members(plan.group(plan.sender[0])).count() - 1);
            assert_eq!(plan.deliveries(0), others as u64);
            assert_eq!((0..clients).filter(|&client| plan.receives(0, plan.user(client))).count(), others);
            assert!(!plan.receives(0, plan.user(sender)) && !plan.receives(0, plan.user(clients)));
        }
    }

    #[test]
    fn a_schedule_out_of_bounds_is_refused_with_the_flag_to_change() {
        let error = Plan::build(PlanParams { rate_per_s: 1e9, ..params(7) }).unwrap_err();
        assert!(error.contains("--rate-per-s"), "{error}");
        let many = PlanParams { rate_per_s: 2e6, to: To::Group { size: 1024 }, ..params(7) };
        let error = Plan::build(many).unwrap_err();
        assert!(error.contains("--group-size"), "{error}");
        let error = Plan::build(PlanParams { clients: 1, ..params(7) }).unwrap_err();
        assert!(error.contains("--clients"), "{error}");
    }
}
