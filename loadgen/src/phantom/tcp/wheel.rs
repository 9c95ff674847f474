//! Timers of the flights: a wheel of slots with doubly linked lists through them, so that arming and disarming cost the
//! same whatever the number of timers, and nothing is allocated.

use crate::phantom::limits::{TICK, WHEEL_SLOTS};

/// No timer.
const NONE: u32 = u32::MAX;
const TICK_US: u64 = TICK.as_micros() as u64;

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    before: u32,
    /// The deadline's tick; meaningful while armed.
    tick: u64,
    armed: bool,
}

/// A wheel of timers by number.
#[derive(Debug)]
pub struct Wheel {
    /// The first timer of each slot.
    heads: Vec<u32>,
    links: Vec<Link>,
    /// All ticks before this one were looked at.
    tick: u64,
}

impl Wheel {
    /// A wheel without timers, at time 0.
    pub fn new() -> Self {
        Self { heads: vec![NONE; WHEEL_SLOTS], links: Vec::new(), tick: 0 }
    }

    /// One timer more.
    pub fn grow(&mut self) {
        self.links.push(Link { next: NONE, before: NONE, tick: 0, armed: false });
    }

    /// Whether the timer is armed.
    pub fn is_armed(&self, number: u32) -> bool {
        self.links[number as usize].armed
    }

    /// Arms the timer, in place of what it was armed to. It fires at the first tick at or after `at_us`.
    pub fn arm(&mut self, number: u32, at_us: u64) {
        self.disarm(number);
        let tick = at_us.div_ceil(TICK_US).max(self.tick);
        let head = &mut self.heads[tick as usize % WHEEL_SLOTS];
        let next = std::mem::replace(head, number);
        if next != NONE {
            self.links[next as usize].before = number;
        }
        self.links[number as usize] = Link { next, before: NONE, tick, armed: true };
    }

    /// Disarms the timer, where it is armed.
    pub fn disarm(&mut self, number: u32) {
        let Link { next, before, tick, armed } = self.links[number as usize];
        if !armed {
            return;
        }
        self.links[number as usize].armed = false;
        if next != NONE {
            self.links[next as usize].before = before;
        }
        match before {
            NONE => self.heads[tick as usize % WHEEL_SLOTS] = next,
            _ => self.links[before as usize].next = next,
        }
    }

    /// Puts the timers whose time has come into `due` and disarms them. Looks at each slot once at most.
    pub fn expire(&mut self, now_us: u64, due: &mut Vec<u32>) {
        let now = now_us / TICK_US;
        if now < self.tick {
            return;
        }
        let first = self.tick.max((now + 1).saturating_sub(WHEEL_SLOTS as u64));
        self.tick = now + 1;
        for tick in first..=now {
            let mut number = self.heads[tick as usize % WHEEL_SLOTS];
            // The list of a slot holds each timer once at most.
            while number != NONE {
                let link = self.links[number as usize];
                if link.tick <= now {
                    self.disarm(number);
                    due.push(number);
                }
                number = link.next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn timers_fire_once_at_their_tick_as_a_plain_list_of_deadlines_says() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut wheel = Wheel::new();
        let mut plain: Vec<Option<u64>> = vec![None; 50];
        for _ in &plain {
            wheel.grow();
        }
        let mut now = 0;
        for _ in 0..20_000 {
            let number = rng.random_range(0..50);
            match rng.random_range(0..3) {
                0 => {
                    // Beyond one round of the wheel, too.
                    let at = now + rng.random_range(0..30_000_000);
                    wheel.arm(number, at);
                    plain[number as usize] = Some(at);
                }
                1 => {
                    wheel.disarm(number);
                    plain[number as usize] = None;
                }
                _ => {
                    now += if rng.random_bool(0.01) { 40_000_000 } else { rng.random_range(0..100_000) };
                    let mut due = Vec::new();
                    wheel.expire(now, &mut due);
                    due.sort_unstable();
                    let fires = |at: u64| at.div_ceil(TICK_US) <= now / TICK_US;
                    let expected: Vec<u32> =
                        (0..50).filter(|&number| plain[number as usize].is_some_and(fires)).collect();
                    assert_eq!(due, expected, "at {now}");
                    for number in due {
                        plain[number as usize] = None;
                    }
                }
            }
            assert_eq!(wheel.is_armed(number), plain[number as usize].is_some());
        }
    }
}
