//! The drain: everybody is sent away at a pace, by the shard's clock, and served until it is their turn.
//!
//! It goes over the slab twice. First the sessions, spread over the time there is. Then, not before clients that were
//! accepted just before could end their handshakes, whoever became a session meanwhile; handshakes that still last are
//! refused.

use std::time::Duration;

use super::{Shard, slot::Life};
use crate::{
    conn::{Phase, close_code},
    limits,
    ring::Ring,
};

/// What operators choose of a drain; the process's, of which a shard takes its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainRule {
    /// Sessions sent away in a second, unless the time is too short for it.
    pub closes_per_s: u32,
    /// Seconds until the process cuts who is left.
    pub s_max: u64,
    /// Shards that share the pace.
    pub shards: u16,
}

impl Default for DrainRule {
    fn default() -> Self {
        Self { closes_per_s: limits::DRAIN_CLOSES_PER_S, s_max: limits::DRAIN_S, shards: 1 }
    }
}

impl DrainRule {
    /// The time in which all sessions are sent away: what is left of it is for them to answer and leave.
    fn period(self) -> Duration {
        let whole = Duration::from_secs(self.s_max);
        whole.saturating_sub(Duration::from_secs(limits::DRAIN_CLOSING_S)).max(whole / 2)
    }

    /// Sessions that one shard sends away in a second, in millionths.
    fn shard_rate(self) -> u64 {
        u64::from(self.closes_per_s) * MILLIONTHS / u64::from(self.shards.max(1))
    }
}

const MILLIONTHS: u64 = 1_000_000;
const STEP: Duration = Duration::from_millis(limits::DRAIN_STEP_MS);

/// How many may go now. Time is counted in steps since the drain began; a shard that was held up for longer than a few of them
/// does not make up for it with a storm. It goes faster from there on.
struct Pace {
    rule: DrainRule,
    /// The step that `credit` was last given for.
    step: Option<u64>,
    /// Millionths of sessions that may go in this step.
    credit: u64,
}

impl Pace {
    /// Gives the credit of the step at `since` the beginning, once; `left` are still to go.
    fn grant(&mut self, since: Duration, left: u32) {
        let step = (since.as_millis() / STEP.as_millis()) as u64;
        if self.step == Some(step) {
            return;
        }
        // A turn that takes longer than a step misses some, whose share is due with this one's. More than a few were a stall.
        let missed = self.step.map_or(0, |last| step - last - 1);
        let due = if missed <= limits::DRAIN_STEPS_MISSED_MAX { missed + 1 } else { 1 };
        self.step = Some(step);
        let steps = (self.rule.period().as_millis() / STEP.as_millis()) as u64;
        let needed = (u64::from(left) * MILLIONTHS * due).div_ceil(steps.saturating_sub(step).max(1));
        let chosen = self.rule.shard_rate() * limits::DRAIN_STEP_MS / 1_000;
        // Of what was not used only the fraction is kept, or the next step would have two steps' worth.
        self.credit = self.credit % MILLIONTHS + chosen.max(needed);
    }

    fn allows(&self) -> bool {
        self.credit >= MILLIONTHS
    }

    fn spend(&mut self) {
        self.credit -= MILLIONTHS;
    }

    /// The time from `since` the beginning to the next step.
    fn next_step_in(since: Duration) -> Duration {
        STEP.saturating_sub(Duration::from_nanos((since.as_nanos() % STEP.as_nanos()) as u64))
    }
}

/// What a drain looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Sessions,
    /// Who became a session since, and who has not become one.
    Rest,
    Done,
}

/// A drain that has begun.
pub(super) struct Drain {
    /// Age of the shard.
    begun: Duration,
    /// From the beginning until the last session is told, as it looked then.
    lasts: Duration,
    /// Milliseconds over which those who were sent away should come back.
    spread_ms: u32,
    pace: Pace,
    pass: Pass,
    /// The next slot to look at.
    next: u32,
    /// Connections of the pass that were not looked at yet; no fewer than there are.
    left: u32,
    /// A turn's work was done before what it was allowed to do.
    more: bool,
}

impl Drain {
    /// Begins at `age`, with so many connections in this shard and in the process.
    fn begin(rule: DrainRule, age: Duration, here: u32, everywhere: u64) -> Self {
        let at_pace = u64::from(here) * MILLIONTHS * 1_000 / rule.shard_rate().max(1);
        let spread_ms = everywhere * 1_000 / u64::from(limits::RECONNECTS_PER_S);
        let (least, most) = (limits::GO_AWAY_RECONNECT_MS.1, limits::GO_AWAY_SPREAD_MS_MAX);
        Self {
            begun: age,
            lasts: Duration::from_millis(at_pace).min(rule.period()),
            spread_ms: spread_ms.clamp(least.into(), most.into()) as u32,
            pace: Pace { rule, step: None, credit: 0 },
            pass: Pass::Sessions,
            next: 0,
            left: here,
            more: false,
        }
    }

    /// When who is sent away now should come back: not before the others were told, to a step, and then spread out.
    fn window_ms(&self, age: Duration) -> (u32, u32) {
        let left = self.lasts.saturating_sub(age.saturating_sub(self.begun)).as_millis() as u64;
        let least = (left - left % limits::DRAIN_STEP_MS) as u32;
        (least, least + self.spread_ms)
    }

    fn rest_begins(&self) -> Duration {
        self.begun + Duration::from_millis(limits::DRAIN_HANDSHAKE_MS)
    }

    /// Whether clients that come now are too late to be let in.
    pub(super) fn is_late(&self) -> bool {
        match self.pass {
            Pass::Sessions => false,
            Pass::Rest => self.next > 0,
            Pass::Done => true,
        }
    }

    /// How long a shard of `age` may sleep; `None` when the drain has no more to do.
    pub(super) fn due_in(&self, age: Duration) -> Option<Duration> {
        match self.pass {
            Pass::Done => None,
            _ if self.more => Some(Duration::ZERO),
            Pass::Rest if age < self.rest_begins() => Some(self.rest_begins().saturating_sub(age)),
            _ => Some(Pace::next_step_in(age.saturating_sub(self.begun))),
        }
    }
}

impl<R: Ring> Shard<R> {
    /// Sends away as many as the pace allows, and looks at no more slots than a turn may.
    pub(super) fn drain(&mut self, age: Duration) {
        let mut drain = self.drain.take().unwrap_or_else(|| {
            let everywhere = self.parts.shared.connections.load(std::sync::atomic::Ordering::Relaxed);
            Drain::begin(self.parts.shared.drain, age, self.slab.live(), everywhere)
        });
        drain.pace.grant(age.saturating_sub(drain.begun), drain.left);
        let mut looks = limits::SWEEP_SLOTS_PER_TURN_MAX;
        while drain.pace.allows() && drain.pass != Pass::Done && looks > 0 {
            if drain.pass == Pass::Rest && age < drain.rest_begins() {
                break;
            }
            if drain.next >= self.slab.slots() {
                drain.pass = if drain.pass == Pass::Sessions { Pass::Rest } else { Pass::Done };
                (drain.next, drain.left) = (0, self.slab.live());
                continue;
            }
            looks -= 1;
            self.send_away(&mut drain, age);
        }
        drain.more = looks == 0;
        self.drain = Some(drain);
    }

    /// Looks at the next slot: GoAway where the router's frames are spoken, then Close 1001.
    fn send_away(&mut self, drain: &mut Drain, age: Duration) {
        let slot = drain.next;
        drain.next += 1;
        if self.slab.generation(slot).is_none() {
            return;
        }
        drain.left = drain.left.saturating_sub(1);
        if self.slab[slot].life != Life::Live {
            return;
        }
        if matches!(self.slab[slot].conn.phase(), Phase::Attaching | Phase::Open) {
            drain.pace.spend();
            if self.slab[slot].conn.identity().is_some() {
                self.say_go_away(slot, drain.window_ms(age), "the gateway is being restarted");
            }
            self.say_close(slot, close_code::GOING_AWAY, "the gateway is going away");
        } else if drain.pass == Pass::Rest {
            // Answered with 503 when its head is whole; otherwise its time runs out.
            self.slab[slot].conn.refuse_upgrade();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drains `left` on a shard that turns every `turn_ms`, but for `stall_ms` at the first second; how many went in each step.
    fn drained(rule: DrainRule, mut left: u32, turn_ms: u64, stall_ms: u64) -> Vec<u32> {
        let mut pace = Pace { rule, step: None, credit: 0 };
        let mut steps = Vec::new();
        let (mut now_ms, end_ms) = (0, rule.period().as_millis() as u64 + stall_ms);
        while left > 0 {
            assert!(now_ms <= end_ms, "{left} are left when the time is over");
            pace.grant(Duration::from_millis(now_ms), left);
            let step = (now_ms / limits::DRAIN_STEP_MS) as usize;
            steps.resize(steps.len().max(step + 1), 0);
            while left > 0 && pace.allows() {
                pace.spend();
                left -= 1;
                steps[step] += 1;
            }
            now_ms += if (1_000..1_000 + stall_ms).contains(&now_ms) { stall_ms } else { turn_ms };
        }
        steps
    }

    fn rule(closes_per_s: u32, s_max: u64, shards: u16) -> DrainRule {
        DrainRule { closes_per_s, s_max, shards }
    }

    #[test]
    fn no_step_has_more_than_its_share_of_the_rate() {
        // 5,000 a second over two shards are 50 in 20 ms.
        let steps = drained(rule(5_000, 30, 2), 10_000, 1, 0);
        assert_eq!((steps.iter().max(), steps.len()), (Some(&50), 200));
        // 7 a second: one in every seventh or eighth step, never two.
        let steps = drained(rule(7, 30, 1), 70, 1, 0);
        assert_eq!(steps.iter().max(), Some(&1));
        assert!((490..=500).contains(&steps.len()), "{} steps for ten seconds", steps.len());
    }

    #[test]
    fn more_than_the_rate_could_send_away_go_evenly_within_the_time() {
        for (left, turn_ms) in [(5_000_000, 1), (5_000_000, 7), (100_000, 35)] {
            let rule = rule(1_000, 30, 2);
            let steps = drained(rule, left, turn_ms, 0);
            let used = steps.iter().filter(|step| **step > 0).count() as u32;
            let (most, mean) = (*steps.iter().max().expect("steps"), left / used);
            // A step has its own share and that of one before it that no turn fell into.
            let share = left / 1_000 * turn_ms.div_ceil(limits::DRAIN_STEP_MS) as u32;
            assert!(most <= share + share / 10 + 1, "at most {most} in a step, {mean} on average");
        }
    }

    #[test]
    fn a_stall_is_not_made_up_for_at_once() {
        let steps = drained(rule(1_000, 30, 1), 10_000, 1, 5_000);
        let stalled = drained(rule(1_000, 30, 1), 10_000, 1, 0);
        assert_eq!(steps.iter().max(), stalled.iter().max(), "20 in a step, before and after it");
        let steps = drained(rule(10, 30, 1), 10_000, 1, 10_000);
        let most = steps.iter().max().expect("steps");
        assert!((21..=22).contains(most), "9,500 are left for 9 s of 20: {most} in a step");
    }

    #[test]
    fn whoever_goes_first_is_told_to_wait_until_the_last_was_told_and_many_spread_out_over_longer() {
        let rule = rule(5_000, 30, 2);
        let few = Drain::begin(rule, Duration::from_secs(7), 10, 20);
        assert_eq!(few.window_ms(Duration::from_secs(7)), (0, 5_000), "all go within a step");
        let many = Drain::begin(rule, Duration::from_secs(7), 50_000, 100_000);
        assert_eq!(many.window_ms(Duration::from_secs(7)), (20_000, 40_000));
        assert_eq!(many.window_ms(Duration::from_secs(17)), (10_000, 30_000));
        assert_eq!(many.window_ms(Duration::from_secs(99)), (0, 20_000));
        let most = Drain::begin(rule, Duration::ZERO, 5_000_000, 10_000_000);
        assert_eq!(most.window_ms(Duration::ZERO), (20_000, 20_000 + limits::GO_AWAY_SPREAD_MS_MAX));
    }
}
