//! Coarse time: a 16-bit tick in each slot instead of a timer for each connection, and a sweep that reads it.

use std::{ops::Range, time::Duration};

use quanta::Instant;

use crate::limits;

/// Seconds since the shard started, modulo 2^16. Differences are right for anything younger than 18 hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick(pub u16);

impl Tick {
    /// Ticks that went by since `earlier`.
    pub fn since(self, earlier: Tick) -> u16 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// Turns the monotonic clock into ticks.
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts at tick 0.
    pub fn new(start: Instant) -> Self {
        Self { start }
    }

    /// The tick of `now`.
    pub fn tick(&self, now: Instant) -> Tick {
        Tick((self.age(now).as_secs() / limits::TICK_S) as u16)
    }

    /// Time since the start.
    pub fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.start)
    }
}

/// A round over all slots takes this long.
const ROUND: Duration = Duration::from_secs(limits::TICK_S * limits::SWEEP_TICKS);

/// Walks the slab evenly: each turn looks at as many slots as the time since the last one is worth, so that a connection
/// costs the same in a slab of any size and no turn is held up.
#[derive(Default)]
pub struct Sweep {
    next: u32,
    /// The age of the shard that the slots looked at so far were due at.
    paid: Duration,
}

impl Sweep {
    /// The slots to look at when the shard is of `age`; all of `slots` come once in [`limits::SWEEP_TICKS`] ticks.
    pub fn slice(&mut self, slots: u32, age: Duration) -> Range<u32> {
        if slots == 0 {
            self.paid = age;
            return 0..0;
        }
        let start = if self.next >= slots { 0 } else { self.next };
        // A thread that was held up for longer does not make up for more than a round.
        self.paid = self.paid.max(age.saturating_sub(ROUND));
        let due = (u128::from(slots) * age.saturating_sub(self.paid).as_nanos() / ROUND.as_nanos()) as u32;
        let length = due.min(limits::SWEEP_SLOTS_PER_TURN_MAX).min(slots - start);
        self.paid += worth(length, slots);
        self.next = start + length;
        start..self.next
    }

    /// How long the shard may sleep before a whole slice is due.
    pub fn due_in(&self, slots: u32, age: Duration) -> Duration {
        let tick = Duration::from_secs(limits::TICK_S);
        if slots == 0 {
            return tick;
        }
        let slice = worth(slots.min(limits::SWEEP_SLOTS_PER_TURN_MAX), slots);
        (self.paid + slice).saturating_sub(age).min(tick)
    }
}

/// The time in which `length` of `slots` are looked at.
fn worth(length: u32, slots: u32) -> Duration {
    Duration::from_nanos((ROUND.as_nanos() * u128::from(length)).div_ceil(slots.into()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_wrap() {
        assert_eq!(Tick(3).since(Tick(u16::MAX)), 4);
    }

    /// Sweeps `slots` for a round in turns that come every `turn`; how often each slot was seen, and the longest slice.
    fn round(slots: u32, turn: Duration) -> (Vec<u32>, u32) {
        let (mut sweep, mut age) = (Sweep::default(), Duration::ZERO);
        let (mut seen, mut longest) = (vec![0; slots as usize], 0);
        while age < ROUND {
            age += turn;
            let slice = sweep.slice(slots, age);
            longest = longest.max(slice.end - slice.start);
            slice.for_each(|slot| seen[slot as usize] += 1);
        }
        (seen, longest)
    }

    #[test]
    fn a_sweep_sees_every_slot_once_a_round_whatever_the_number_of_turns() {
        for (slots, turn_us) in [(101, 500_000), (101, 100), (20_000, 100), (2_500_000, 1_000)] {
            let (seen, longest) = round(slots, Duration::from_micros(turn_us));
            let missed = seen.iter().filter(|times| **times == 0).count();
            assert!(missed <= slots as usize / 1_000 + 1, "{missed} of {slots} were missed");
            assert!(seen.iter().all(|times| *times <= 1), "none is looked at twice");
            assert!(longest <= limits::SWEEP_SLOTS_PER_TURN_MAX, "a turn's work is bounded");
        }
    }

    #[test]
    fn the_sleep_ends_when_a_slice_is_due() {
        let sweep = Sweep::default();
        assert_eq!(sweep.due_in(0, Duration::ZERO), Duration::from_secs(limits::TICK_S));
        let slots = 1_000 * limits::SWEEP_SLOTS_PER_TURN_MAX;
        assert_eq!(sweep.due_in(slots, Duration::ZERO), ROUND / 1_000);
        assert_eq!(sweep.due_in(slots, ROUND), Duration::ZERO);
    }

    #[test]
    fn a_slab_that_shrank_is_swept_from_the_start_and_a_stall_is_not_made_up_for() {
        let mut sweep = Sweep::default();
        assert_eq!(sweep.slice(100, ROUND / 2), 0..50);
        assert_eq!(sweep.slice(10, ROUND), 0..5);
        assert_eq!(sweep.slice(10, 100 * ROUND), 5..10);
        assert_eq!(Sweep::default().slice(0, ROUND), 0..0);
    }
}
