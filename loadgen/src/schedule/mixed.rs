//! The schedule of a mix: populations, presence, groups, conversations. Nothing in it waits for a server: an answer is planned with the
//! message it answers, after the time to think, when the one who answers is there.

use super::intensity::{Intensity, Peak};
use super::{Arrivals, Draft, Groups, Plan, RETURN_GRACE_US, Target, Window, Windows};
use crate::limits::{MESSAGES_MAX, MIX_GROUPS_MAX, MIX_MEMBERSHIPS_MAX, MIX_STAY_US_MIN, MIX_WINDOWS_MAX};
use crate::mix::{GroupKind, Mix, Population, Presence};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IteratorRandom as _, index};
use rand_distr::{Distribution as _, Exp};
use std::ops::Range;

/// Users that are looked at for one who is there, before a message waits for somebody's return.
const LOOKS: u32 = 32;

/// Times online and offline of a population, in microseconds of the run, as they are played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stay {
    /// Mean time online.
    pub online_us: f64,
    /// Mean time offline.
    pub offline_us: f64,
    /// How many times as long both are as the compression makes them, so that a client can follow: 1 where it can.
    pub stretch: f64,
}

impl Mix {
    /// The clients of each population: one range after the other.
    ///
    /// # Errors
    /// A sentence for the user where the clients do not suffice, or do not fit.
    pub fn populations(&self, clients: u32) -> Result<Vec<Range<u32>>, String> {
        let fixed: u64 =
            self.population.iter().filter_map(|population| population.users).map(u64::from).sum();
        let shares: f64 = self.population.iter().filter_map(|population| population.share).sum();
        let Some(rest) = u64::from(clients).checked_sub(fixed) else {
            return Err(format!("the mix names {fixed} users; --clients {clients} is too few for them"));
        };
        if rest > 0 && shares <= 0.0 {
            return Err(format!(
                "the mix names {fixed} users and no shares; give --clients {fixed}, or a population a share"
            ));
        }
        let (mut begin, mut taken, mut passed) = (0, 0, 0.0);
        let ranges = self.population.iter().map(|population| {
            let users = population.users.unwrap_or_else(|| {
                passed += population.share.unwrap_or_default();
                // The last share ends where the clients do, whatever was rounded.
                let until = (rest as f64 * (passed / shares)).round() as u32;
                until - std::mem::replace(&mut taken, until)
            });
            begin += users;
            begin - users..begin
        });
        Ok(ranges.collect())
    }

    /// How a population's presence is played in a run of that length.
    pub fn stay(&self, presence: &Presence, duration_s: f64) -> Stay {
        let scale = 1e6 / self.compression(duration_s);
        let online = presence.online_s.mean() * scale;
        let offline = match (&presence.offline_s, presence.share_online) {
            (Some(away), _) => away.mean() * scale,
            (None, share) => {
                let share = share.unwrap_or(1.0);
                online * (1.0 - share) / share
            }
        };
        let shorter = if offline > 0.0 { online.min(offline) } else { f64::INFINITY };
        let stretch = (MIX_STAY_US_MIN as f64 / shorter).max(1.0);
        Stay { online_us: online * stretch, offline_us: offline * stretch, stretch }
    }
}

/// What a message is made from.
struct Making<'a> {
    mix: &'a Mix,
    populations: &'a [Range<u32>],
    /// Microseconds of the run in a second of the span.
    scale_us: f64,
    /// By group: whose users write to it; `None` is all.
    writers: Vec<Option<u16>>,
}

impl Making<'_> {
    fn place(&self, client: u32) -> usize {
        self.populations.partition_point(|range| range.end <= client)
    }

    fn population(&self, client: u32) -> &Population {
        &self.mix.population[self.place(client)]
    }

    /// Whether the client writes to the group, of which it is a member.
    fn writes(&self, client: u32, group: u32) -> bool {
        self.writers[group as usize].is_none_or(|place| usize::from(place) == self.place(client))
    }

    fn bytes(&self, rng: &mut StdRng, sender: u32) -> u32 {
        self.population(sender).bytes.draw(rng).round() as u32
    }

    fn think_us(&self, rng: &mut StdRng) -> u64 {
        (self.mix.conversation.think_s.draw(rng) * self.scale_us) as u64
    }
}

impl Plan {
    pub(super) fn fill_mixed(&mut self, mix: &Mix, rng: &mut StdRng) -> Result<(), String> {
        let populations = mix.populations(self.params.clients)?;
        let duration_s = self.params.duration_s as f64;
        let scale_us = 1e6 / mix.compression(duration_s);
        let mut making = Making { mix, populations: &populations, scale_us, writers: Vec::new() };
        let intensity = intensity(mix, self.end_us() as f64, making.scale_us);
        let per_s = |(population, range): (&Population, &Range<u32>)| {
            population.rate_per_s() * f64::from(range.len() as u32) * mix.compression(duration_s)
        };
        let rates: Vec<f64> = mix.population.iter().zip(&populations).map(per_s).collect();
        let expected = rates.iter().sum::<f64>() * duration_s * intensity.mean();
        // A margin for chance: what is drawn may be a little more than what is expected.
        if expected * 1.01 + 1000.0 > MESSAGES_MAX as f64 {
            return Err(format!(
                "the mix has {expected:.0} messages in this run, more than the {MESSAGES_MAX} one run may have; lower --clients, the \
                 rates, the span or the compression"
            ));
        }
        self.offline = self.absences(&making, rng)?;
        self.groups = self.gather(&mut making, rng)?;
        let mut drafts = self.converse(&making, rng, &intensity, &rates);
        drafts.sort_by_key(|draft| draft.at_us);
        drafts.truncate(MESSAGES_MAX as usize);
        for draft in drafts {
            self.push(draft);
        }
        Ok(())
    }

    /// When users are away: their own times, and the outages.
    fn absences(&self, making: &Making<'_>, rng: &mut StdRng) -> Result<Windows, String> {
        let (end_us, duration_s) = (self.end_us(), self.params.duration_s as f64);
        let stays = making.mix.population.iter().map(|population| {
            population.presence.as_ref().map(|presence| making.mix.stay(presence, duration_s))
        });
        let stays: Vec<_> = stays.collect();
        let turns = making.populations.iter().zip(&stays).map(|(range, stay)| {
            stay.map_or(0.0, |stay| {
                f64::from(range.len() as u32) * (end_us as f64 / (stay.online_us + stay.offline_us) + 1.0)
            })
        });
        let strikes = making.mix.outage.len() as f64 * f64::from(self.params.clients);
        let expected = turns.sum::<f64>() + strikes;
        if expected > MIX_WINDOWS_MAX as f64 {
            return Err(format!(
                "the mix has {expected:.0} times offline in this run, more than the {MIX_WINDOWS_MAX} one run may have; lower --clients \
                 or --duration-s, or let the users stay longer"
            ));
        }
        Ok(Windows::new(self.params.clients, |client, own| {
            let place = making.place(client);
            let population = &making.mix.population[place];
            if let (Some(presence), Some(stay)) = (&population.presence, stays[place]) {
                let scale_us = making.scale_us * stay.stretch;
                come_and_go(rng, presence, &stay, scale_us, end_us, own);
            }
            for outage in &making.mix.outage {
                let strikes = outage.of.as_ref().is_none_or(|of| *of == population.name);
                if strikes && rng.random::<f64>() < outage.share {
                    let from = (outage.at_s * making.scale_us) as u64;
                    // Shorter, and some would not notice.
                    let lasts = ((outage.lasts_s * making.scale_us) as u64).max(MIX_STAY_US_MIN / 2);
                    own.push((from.min(end_us), (from + lasts).min(end_us)));
                }
            }
        }))
    }

    /// Who is in which group.
    fn gather(&self, making: &mut Making<'_>, rng: &mut StdRng) -> Result<Groups, String> {
        let mut groups = Vec::new();
        let mut memberships = 0;
        for kind in &making.mix.groups {
            let of = kind.of.as_ref().and_then(|of| making.mix.population_named(of));
            let writers = kind.written_by.as_ref().and_then(|name| making.mix.population_named(name));
            let empty =
                [of, writers].into_iter().flatten().find(|&place| making.populations[place].is_empty());
            if let Some(place) = empty {
                return Err(format!(
                    "population '{}' has no users at --clients {}, and groups '{}' need some; raise --clients or its share",
                    making.mix.population[place].name, self.params.clients, kind.name
                ));
            }
            let range = of.map_or(0..self.params.clients, |place| making.populations[place].clone());
            for _ in 0..count(kind, range.len())? {
                let members = (kind.members.draw(rng).round() as usize).min(range.len());
                // Alone, nobody would get what is sent.
                if members < 2 {
                    continue;
                }
                memberships += members as u64;
                if memberships > MIX_MEMBERSHIPS_MAX || groups.len() as u32 >= MIX_GROUPS_MAX {
                    return Err(format!(
                        "groups '{}' of the mix make more than {MIX_GROUPS_MAX} groups or {MIX_MEMBERSHIPS_MAX} memberships; lower \
                         --clients, count, per_user or members",
                        kind.name
                    ));
                }
                making.writers.push(writers.map(|place| place as u16));
                let drawn = index::sample(rng, range.len(), members);
                groups.push(drawn.into_iter().map(|place| range.start + place as u32).collect());
            }
        }
        Ok(Groups::new(self.params.clients, groups.into_iter()))
    }

    /// All messages: those that begin a conversation, and the answers.
    fn converse(
        &self,
        making: &Making<'_>,
        rng: &mut StdRng,
        intensity: &Intensity,
        rates: &[f64],
    ) -> Vec<Draft> {
        let mut drafts = Vec::new();
        let all_per_s = rates.iter().sum::<f64>();
        if all_per_s <= 0.0 {
            return drafts;
        }
        let starts_per_us = all_per_s / making.mix.messages_per_start() / 1e6;
        let mut at = 0.0;
        // Bounded by what was expected, with a margin.
        while (drafts.len() as u64) < MESSAGES_MAX {
            let work = match self.params.arrivals {
                Arrivals::Poisson => -(1.0 - rng.random::<f64>()).ln(),
                Arrivals::Uniform => 1.0,
            };
            let Some(next) = intensity.advance(at, work, starts_per_us) else { break };
            at = next;
            let mut drawn = rng.random::<f64>() * all_per_s;
            let place = rates.iter().position(|rate| {
                drawn -= rate;
                drawn < 0.0
            });
            let place = place.unwrap_or(rates.len() - 1);
            self.talk(making, rng, (at as u64, place), &mut drafts);
        }
        drafts
    }

    /// A message of that population at that time, and what it is answered with.
    fn talk(
        &self,
        making: &Making<'_>,
        rng: &mut StdRng,
        (at_us, place): (u64, usize),
        drafts: &mut Vec<Draft>,
    ) {
        let Some((mut at_us, mut sender)) = self.speaker(rng, making.populations[place].clone(), at_us)
        else {
            return;
        };
        let mut to = self.addressee(making, rng, sender);
        for turn in 0..=making.mix.conversation.replies_max {
            if at_us >= self.end_us() {
                return;
            }
            drafts.push(Draft { at_us, sender, to, bytes: making.bytes(rng, sender) });
            let is_last = turn == making.mix.conversation.replies_max;
            if is_last || rng.random::<f64>() >= making.mix.conversation.reply_share {
                return;
            }
            let is_read_only = matches!(to, Target::Group(group) if making.writers[group as usize].is_some());
            if is_read_only {
                return;
            }
            let answers = match to {
                Target::Server => return,
                Target::Client(receiver) => {
                    to = Target::Client(sender);
                    receiver
                }
                Target::Group(group) => self.another(rng, group, sender),
            };
            // Who is away sees it on return, and thinks then.
            let seen_us = self.offline.next_outside(answers, at_us, RETURN_GRACE_US);
            let thought_us = seen_us + making.think_us(rng);
            (at_us, sender) = (self.offline.next_outside(answers, thought_us, RETURN_GRACE_US), answers);
        }
    }

    /// One of these clients who is there, or the first of a few to be.
    fn speaker(&self, rng: &mut StdRng, range: Range<u32>, at_us: u64) -> Option<(u64, u32)> {
        if range.is_empty() {
            return None;
        }
        let mut soonest = (u64::MAX, range.start);
        for _ in 0..LOOKS {
            let client = rng.random_range(range.clone());
            let there_us = self.offline.next_outside(client, at_us, RETURN_GRACE_US);
            soonest = soonest.min((there_us, client));
            if there_us == at_us {
                break;
            }
        }
        Some(soonest)
    }

    /// Whom a conversation is begun with.
    fn addressee(&self, making: &Making<'_>, rng: &mut StdRng, sender: u32) -> Target {
        if rng.random::<f64>() < making.population(sender).group_share {
            let own = self.groups.of(sender).iter().filter(|&&group| making.writes(sender, group));
            if let Some(&group) = own.choose(rng) {
                return Target::Group(group);
            }
        }
        let other = rng.random_range(0..self.params.clients - 1);
        Target::Client(if other >= sender { other + 1 } else { other })
    }

    /// A member of the group other than this one.
    fn another(&self, rng: &mut StdRng, group: u32, member: u32) -> u32 {
        let members = self.groups.members(group);
        let own = members.binary_search(&member).unwrap_or(members.len() - 1);
        let place = rng.random_range(0..members.len() - 1);
        members[if place >= own { place + 1 } else { place }]
    }
}

fn intensity(mix: &Mix, end_us: f64, scale_us: f64) -> Intensity {
    let peaks = mix.time.peak.iter().map(|peak| Peak {
        from_us: peak.at_s * scale_us,
        to_us: (peak.at_s + peak.lasts_s) * scale_us,
        factor: peak.factor,
    });
    Intensity::new(end_us, &mix.time.curve, &peaks.collect::<Vec<_>>())
}

/// How many groups of a kind there are among so many users.
fn count(kind: &GroupKind, users: usize) -> Result<u32, String> {
    let of = |per_user: f64| per_user * users as f64 / kind.members.mean().min(users.max(1) as f64);
    let count = kind.count.map_or_else(|| of(kind.per_user.unwrap_or_default()).round(), f64::from);
    if count > f64::from(MIX_GROUPS_MAX) {
        return Err(format!(
            "groups '{}' of the mix would be {count:.0}, more than {MIX_GROUPS_MAX}; lower --clients or per_user",
            kind.name
        ));
    }
    Ok(count as u32)
}

/// A user's times away, by turns with times there; who is where at the start is drawn by how long both last.
fn come_and_go(
    rng: &mut StdRng,
    presence: &Presence,
    stay: &Stay,
    scale_us: f64,
    end_us: u64,
    own: &mut Vec<Window>,
) {
    if stay.offline_us <= 0.0 {
        return;
    }
    let least = MIX_STAY_US_MIN as f64 / 2.0;
    let away = |rng: &mut StdRng| match &presence.offline_s {
        Some(drawn) => drawn.draw(rng) * scale_us,
        None => Exp::new(stay.offline_us.recip()).map_or(stay.offline_us, |times| times.sample(rng)),
    };
    let mut online = rng.random::<f64>() < stay.online_us / (stay.online_us + stay.offline_us);
    let mut at = 0.0;
    // The first stay has begun before the run.
    let mut part = rng.random::<f64>();
    while at < end_us as f64 {
        let lasts = if online { presence.online_s.draw(rng) * scale_us } else { away(rng) };
        let until = at + (lasts * std::mem::replace(&mut part, 1.0)).max(least);
        if !online {
            own.push((at as u64, (until as u64).min(end_us)));
        }
        (at, online) = (until, !online);
    }
}
