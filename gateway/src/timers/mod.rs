//! Coarse time: a 16-bit tick in each slot instead of a timer for each connection, and a sweep that reads it.

use std::ops::Range;

use quanta::Instant;

use crate::limits;

/// Seconds since the shard started, modulo 2^16. Differences are right for anything younger than nine hours.
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
        Tick((now.duration_since(self.start).as_secs() / limits::TICK_S) as u16)
    }
}

/// Walks the slab in slices, so that a sweep of millions of slots never holds up a turn.
#[derive(Default)]
pub struct Sweep {
    next: u32,
}

impl Sweep {
    /// The slots to look at in this tick; all of `slots` come once in [`limits::SWEEP_TICKS`] ticks.
    pub fn slice(&mut self, slots: u32) -> Range<u32> {
        let length = slots.div_ceil(limits::SWEEP_TICKS as u32);
        let start = if self.next >= slots { 0 } else { self.next };
        let end = (start + length).min(slots);
        self.next = end;
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_wrap() {
        assert_eq!(Tick(3).since(Tick(u16::MAX)), 4);
    }

    #[test]
    fn a_sweep_sees_every_slot_once_a_round_and_new_slots_too() {
        let mut sweep = Sweep::default();
        let mut seen = vec![0; 101];
        for _ in 0..limits::SWEEP_TICKS {
            sweep.slice(101).for_each(|slot| seen[slot as usize] += 1);
        }
        assert!(seen.iter().all(|times| *times == 1));
        assert_eq!(Sweep::default().slice(0), 0..0);
        assert_eq!(sweep.slice(10).start, 0, "a slab that shrank is swept from the start");
    }
}
