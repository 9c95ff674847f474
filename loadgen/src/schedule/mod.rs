//! The schedule of a run, computed before it starts: who sends what to whom and when, who is offline when, from the seed
//! alone. The same parameters give the same plan, byte by byte.

mod groups;
mod intensity;
mod mixed;
mod params;
mod plain;
mod windows;

pub use groups::Groups;
pub use params::{Arrivals, Odd, PlanParams, To};
pub use windows::{Window, Windows};

use crate::limits::DELIVERIES_MAX;
use crate::payload;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// How long after its return a client may still be on the way: it sends nothing, and what reaches it counts as late for that reason.
pub const RETURN_GRACE_US: u64 = 1_000_000;

/// Whom one message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The server itself.
    Server,
    /// A client.
    Client(u32),
    /// A group's other members.
    Group(u32),
}

/// A [`Target`] in four bytes: there are ten million of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u32);

impl Packed {
    const GROUP: u32 = 1 << 31;
    const SERVER: u32 = u32::MAX;
}

impl From<Target> for Packed {
    fn from(target: Target) -> Self {
        Self(match target {
            Target::Server => Self::SERVER,
            Target::Client(client) => client,
            Target::Group(group) => Self::GROUP | group,
        })
    }
}

impl From<Packed> for Target {
    fn from(packed: Packed) -> Self {
        match packed.0 {
            Packed::SERVER => Self::Server,
            number if number & Packed::GROUP != 0 => Self::Group(number & !Packed::GROUP),
            number => Self::Client(number),
        }
    }
}

/// A computed schedule: parallel arrays over the messages, in the order of their times.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it was computed from.
    pub params: PlanParams,
    /// When each message is due, in microseconds of the measured part.
    pub at_us: Vec<u64>,
    /// Each message's sender (client index).
    pub sender: Vec<u32>,
    to: Vec<Packed>,
    /// Each payload's bytes; empty where all are alike.
    bytes: Vec<u32>,
    /// When each client is offline.
    pub offline: Windows,
    /// When each client does not read.
    pub stalled: Windows,
    /// Who is in which group.
    pub groups: Groups,
}

/// A message before it has its place.
#[derive(Clone, Copy, Debug)]
struct Draft {
    at_us: u64,
    sender: u32,
    to: Target,
    bytes: u32,
}

impl Plan {
    /// Computes the schedule. A sender is never one that is offline, or does not read, at that time; a receiver may be.
    ///
    /// # Errors
    /// A sentence for the user, where the parameters cannot give a schedule.
    pub fn build(params: PlanParams) -> Result<Self, String> {
        if params.to != To::Nobody && params.clients < 2 {
            return Err(
                "two clients at least are needed to send messages between them; raise --clients".into()
            );
        }
        let mut rng = StdRng::seed_from_u64(params.seed);
        let mut plan = Self {
            at_us: Vec::new(),
            sender: Vec::new(),
            to: Vec::new(),
            bytes: Vec::new(),
            offline: Windows::default(),
            stalled: Windows::default(),
            groups: Groups::default(),
            params,
        };
        plan.stall();
        match plan.params.to.clone() {
            To::Mix(mix) => plan.fill_mixed(&mix, &mut rng)?,
            _ => plan.fill_plain(&mut rng)?,
        }
        let deliveries = (0..plan.len() as u32).map(|index| plan.deliveries(index)).sum::<u64>();
        if deliveries > DELIVERIES_MAX {
            return Err(format!(
                "{deliveries} deliveries are more than the {DELIVERIES_MAX} one run may have; send less, for a shorter time, or to \
                 smaller groups"
            ));
        }
        Ok(plan)
    }

    fn end_us(&self) -> u64 {
        self.params.duration_s * 1_000_000
    }

    fn push(&mut self, draft: Draft) {
        self.at_us.push(draft.at_us);
        self.sender.push(draft.sender);
        self.to.push(draft.to.into());
        if draft.bytes as usize != self.params.payload_bytes || !self.bytes.is_empty() {
            // The first that differs: all before it were alike.
            self.bytes.resize(self.at_us.len() - 1, self.params.payload_bytes as u32);
            self.bytes.push(draft.bytes);
        }
    }

    fn stall(&mut self) {
        let Some((from, to)) = self.params.odd.stall else { return };
        let us = |share: f64| (share * self.end_us() as f64) as u64;
        let window = (us(from), us(to));
        self.stalled = Windows::new(self.params.clients, |client, own| {
            own.extend(self.is_odd(client).then_some(window));
        });
    }

    /// Whether the client is one of those that misbehave.
    pub fn is_odd(&self, client: u32) -> bool {
        let share = self.params.odd.share;
        share > 0.0 && f64::from(payload::spread(self.params.seed, client)) < share * f64::from(u32::MAX)
    }

    /// Number of clients that misbehave.
    pub fn odd_clients(&self) -> u32 {
        (0..self.params.clients).filter(|&client| self.is_odd(client)).count() as u32
    }

    /// Whether the client can send at that time: it is there, and reads.
    fn can_send(&self, client: u32, at_us: u64) -> bool {
        !self.offline.has(client, at_us) && !self.stalled.has(client, at_us)
    }

    /// Whether the client is meant to be offline at that time.
    pub fn is_offline(&self, client: u32, at_us: u64) -> bool {
        self.offline.has(client, at_us)
    }

    /// Whether the client is meant to be offline at any time from `from_us` to `to_us`, or was so shortly before: it may not be back yet.
    pub fn is_offline_within(&self, client: u32, from_us: u64, to_us: u64) -> bool {
        self.offline.within(client, from_us.saturating_sub(RETURN_GRACE_US), to_us)
    }

    /// Whether the client stops reading at any time.
    pub fn is_slow(&self, client: u32) -> bool {
        !self.stalled.of(client).is_empty()
    }

    /// Whether the client does not read at that time.
    pub fn is_stalled(&self, client: u32, at_us: u64) -> bool {
        self.stalled.has(client, at_us)
    }

    /// Whom a message is for.
    pub fn target(&self, index: u32) -> Target {
        self.to[index as usize].into()
    }

    /// How often the message is to arrive.
    pub fn deliveries(&self, index: u32) -> u64 {
        match self.target(index) {
            Target::Server => 0,
            Target::Client(_) => 1,
            Target::Group(group) => self.groups.members(group).len() as u64 - 1,
        }
    }

    /// How often the first `due` messages are to arrive, of those to groups, all of them together.
    pub fn group_deliveries(&self, due: u32) -> u64 {
        let to_groups = (0..due).filter(|&index| matches!(self.target(index), Target::Group(_)));
        to_groups.map(|index| self.deliveries(index)).sum()
    }

    /// Whether a message is for this user.
    pub fn receives(&self, index: u32, user: u64) -> bool {
        let client = user.wrapping_sub(self.user(0));
        if client >= u64::from(self.params.clients) {
            return false;
        }
        match self.target(index) {
            Target::Server => false,
            Target::Client(receiver) => u64::from(receiver) == client,
            Target::Group(group) => {
                self.groups.has(group, client as u32) && self.sender[index as usize] != client as u32
            }
        }
    }

    /// Whether any message is for a single client.
    pub fn has_direct(&self) -> bool {
        match self.params.to {
            To::Nobody | To::Group { .. } => false,
            To::OneOther => true,
            To::Mix(_) => self.to.iter().any(|&to| matches!(to.into(), Target::Client(_))),
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

    /// Bytes of a message's payload.
    pub fn payload_bytes(&self, index: u32) -> usize {
        self.bytes.get(index as usize).map_or(self.params.payload_bytes, |&bytes| bytes as usize)
    }

    /// Bytes of the largest payload.
    pub fn payload_bytes_max(&self) -> usize {
        self.bytes.iter().max().map_or(self.params.payload_bytes, |&bytes| bytes as usize)
    }

    /// The payload of a message, as it is sent.
    pub fn payload(&self, index: u32) -> Vec<u8> {
        let at = index as usize;
        payload::build(
            self.params.seed,
            self.user(self.sender[at]),
            index,
            self.at_us[at],
            self.payload_bytes(index),
        )
    }

    /// A digest of the schedule (SHA-256 over its messages, its groups and its times away; payloads follow from them and the seed): the same
    /// on all machines that are to take part in one run.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(format!("{:?}", self.params));
        for index in 0..self.len() as u32 {
            let at = index as usize;
            digest.update(self.at_us[at].to_le_bytes());
            digest.update(self.sender[at].to_le_bytes());
            digest.update(self.to[at].0.to_le_bytes());
            digest.update((self.payload_bytes(index) as u64).to_le_bytes());
        }
        for windows in [&self.offline, &self.stalled] {
            for (client, own) in windows.iter() {
                digest.update([client, own.len() as u32].map(u32::to_le_bytes).as_flattened());
                for (from_us, to_us) in own {
                    digest.update([from_us.to_le_bytes(), to_us.to_le_bytes()].as_flattened());
                }
            }
        }
        for group in 0..self.groups.len() {
            let members = self.groups.members(group);
            digest.update((members.len() as u32).to_le_bytes());
            for member in members {
                digest.update(member.to_le_bytes());
            }
        }
        digest.finalize().into()
    }

    /// Writes the whole schedule, payloads included: two runs with one seed give the same bytes.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        for (what, windows) in [("offline", &self.offline), ("stalled", &self.stalled)] {
            for (client, own) in windows.iter() {
                for (from, to) in own {
                    writeln!(out, "{what} {} {from} {to}", self.user(client))?;
                }
            }
        }
        for client in (0..self.params.clients).filter(|&client| self.is_odd(client)) {
            writeln!(out, "odd {}", self.user(client))?;
        }
        for group in 0..self.groups.len() {
            write!(out, "group {group}")?;
            for &member in self.groups.members(group) {
                write!(out, " {}", self.user(member))?;
            }
            writeln!(out)?;
        }
        for index in 0..self.len() as u32 {
            let at = index as usize;
            write!(out, "send {} {} ", self.at_us[at], self.user(self.sender[at]))?;
            match self.target(index) {
                Target::Server => write!(out, "server ")?,
                Target::Client(client) => write!(out, "user {} ", self.user(client))?,
                Target::Group(group) => write!(out, "group {group} ")?,
            }
            out.write_all(&self.payload(index))?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_comes_back_from_its_four_bytes() {
        for target in [
            Target::Server,
            Target::Client(0),
            Target::Client(20_000_000),
            Target::Group(0),
            Target::Group(20_000_000),
        ] {
            assert_eq!(Target::from(Packed::from(target)), target);
        }
    }
}
