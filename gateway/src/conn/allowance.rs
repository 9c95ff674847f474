//! What one connection may send: frames and bytes, as two token buckets in eight bytes of its slot.
//!
//! A bucket is the time at which all its tokens are back, the "theoretical arrival time" of the generic cell rate algorithm
//! (ITU-T I.371, annex A.1): the virtual scheduling form needs no second number.

use std::{num::NonZeroU32, time::Duration};

use crate::limits::{HEARTBEAT_S_MAX, RATE_BURST_S_MAX, SILENT_HEARTBEATS, SWEEP_TICKS, TICK_S};

/// Units of a [`Moment`] in a second: 3.9 microseconds each.
const UNITS_PER_S: u64 = 256_000;

const _: () = assert!(
    (HEARTBEAT_S_MAX as u64 * SILENT_HEARTBEATS as u64 + SWEEP_TICKS * TICK_S + RATE_BURST_S_MAX)
        * UNITS_PER_S
        < 1 << 32,
    "a time that lies as far back as a session may be silent must not look like one ahead"
);

/// Time since the shard's start, modulo 2^32 units (4.6 hours).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment(u32);

impl Moment {
    /// `age`: time since the shard's start.
    pub fn at(age: Duration) -> Self {
        Self((age.as_nanos() * u128::from(UNITS_PER_S) / 1_000_000_000) as u32)
    }
}

/// How fast tokens come back, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units for one token, in 1/2^32.
    token: u64,
    /// Units for all of them.
    burst: u32,
}

impl Rate {
    /// One token comes back each `period`, up to `burst`; those that would take longer than [`RATE_BURST_S_MAX`] are cut off.
    pub fn new(period: Duration, burst: NonZeroU32) -> Self {
        let token = period.as_nanos() * (u128::from(UNITS_PER_S) << 32) / 1_000_000_000;
        let token = u64::try_from(token).unwrap_or(u64::MAX);
        let longest = RATE_BURST_S_MAX * UNITS_PER_S;
        Self { token, burst: units(token, burst.get()).clamp(1, longest) as u32 }
    }
}

fn units(token: u64, count: u32) -> u64 {
    u64::try_from((u128::from(token) * u128::from(count)) >> 32).unwrap_or(u64::MAX)
}

/// The limits of every connection. None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Messages and pings.
    pub frames: Option<Rate>,
    /// Their payloads.
    pub bytes: Option<Rate>,
}

/// Which limit a frame was beyond; its place in [`RATE_LIMITED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Too many.
    Frames,
    /// Too large together.
    Bytes,
}

/// The names of the limits, in the order of [`Limited`].
pub const RATE_LIMITED: [&str; 2] = ["frames", "bytes"];

impl Limited {
    /// As operators and Errors name it.
    pub fn name(self) -> &'static str {
        RATE_LIMITED[self as usize]
    }
}

/// A frame that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The limit it was beyond.
    pub limited: Limited,
    /// When such a frame passes, if none comes in between.
    pub retry_after_ms: u32,
}

/// What a connection has left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    frames: Bucket,
    bytes: Bucket,
}

const _: () = assert!(size_of::<Allowance>() == 8);

impl Allowance {
    /// All of it.
    pub fn full(now: Moment) -> Self {
        Self { frames: Bucket(now.0), bytes: Bucket(now.0) }
    }

    /// Takes what one frame costs, or nothing where it is refused.
    ///
    /// # Errors
    /// The limit it is beyond.
    pub fn take(&mut self, rates: &Rates, payload_bytes: usize, now: Moment) -> Result<(), Refused> {
        let bytes = u32::try_from(payload_bytes).unwrap_or(u32::MAX);
        let frames = self.frames.after(rates.frames, 1, Limited::Frames, now)?;
        self.bytes = self.bytes.after(rates.bytes, bytes, Limited::Bytes, now)?;
        self.frames = frames;
        Ok(())
    }
}

/// When all tokens are back: at most the burst's units ahead of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket(u32);

impl Bucket {
    /// As it is once `count` tokens are taken. More than the whole burst passes when all are there, and takes all.
    fn after(self, rate: Option<Rate>, count: u32, limited: Limited, now: Moment) -> Result<Self, Refused> {
        let Some(rate) = rate else { return Ok(self) };
        // What is further ahead than it can be lies behind.
        let ahead = Some(self.0.wrapping_sub(now.0)).filter(|ahead| *ahead <= rate.burst).unwrap_or(0);
        let cost = units(rate.token, count).min(rate.burst.into()) as u32;
        let missing = (ahead + cost).saturating_sub(rate.burst);
        if missing > 0 {
            let ms = (u64::from(missing) * 1_000).div_ceil(UNITS_PER_S);
            return Err(Refused { limited, retry_after_ms: ms as u32 });
        }
        Ok(Self(now.0.wrapping_add(ahead + cost)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_s: u32, burst: u32) -> Option<Rate> {
        Some(Rate::new(Duration::from_secs(1) / per_s, NonZeroU32::new(burst)?))
    }

    fn ms(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    /// Frames of `bytes` that pass at `now`, of at most `most`; and what the first one that does not is told.
    fn pass(
        allowance: &mut Allowance,
        rates: &Rates,
        bytes: usize,
        now: Moment,
        most: usize,
    ) -> (usize, Option<Refused>) {
        for passed in 0..most {
            if let Err(refused) = allowance.take(rates, bytes, now) {
                return (passed, Some(refused));
            }
        }
        (most, None)
    }

    fn refused(limited: Limited, retry_after_ms: u32) -> Refused {
        Refused { limited, retry_after_ms }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_at_any_time_of_the_clock() {
        let rates = Rates { frames: rate(100, 5), bytes: None };
        // The last begins just before the clock's 32 bits are used up.
        for start in [0, 1, 1_000_000, (1_u64 << 32) / 256 - 20] {
            let mut allowance = Allowance::full(ms(start));
            let mut at = |after, most| pass(&mut allowance, &rates, 1, ms(start + after), most);
            assert_eq!(at(0, 100), (5, Some(refused(Limited::Frames, 10))));
            assert_eq!(at(4, 100), (0, Some(refused(Limited::Frames, 6))));
            assert_eq!(at(10, 100), (1, Some(refused(Limited::Frames, 10))));
            assert_eq!(at(40, 100), (3, Some(refused(Limited::Frames, 10))));
            // All are back after 50 ms, and after any pause that a session may make.
            assert_eq!(at(90, 100).0, 5);
            assert_eq!(at(90 + 2 * 3_600_000, 100).0, 5);
        }
    }

    #[test]
    fn bytes_are_counted_as_frames_are() {
        let rates = Rates { frames: None, bytes: rate(1_000_000, 10_000) };
        let mut allowance = Allowance::full(ms(0));
        assert_eq!(pass(&mut allowance, &rates, 4_000, ms(0), 9), (2, Some(refused(Limited::Bytes, 2))));
        assert_eq!(pass(&mut allowance, &rates, 2_000, ms(0), 9).0, 1);
        assert_eq!(pass(&mut allowance, &rates, 0, ms(0), 9), (9, None));
        assert_eq!(pass(&mut allowance, &rates, 1_000, ms(5), 9).0, 5);
    }

    #[test]
    fn what_is_larger_than_the_burst_passes_when_all_tokens_are_there() {
        let rates = Rates { frames: None, bytes: rate(1_000, 100) };
        let mut allowance = Allowance::full(ms(0));
        assert_eq!(
            pass(&mut allowance, &rates, usize::MAX, ms(0), 2),
            (1, Some(refused(Limited::Bytes, 100)))
        );
        assert_eq!(pass(&mut allowance, &rates, 5_000, ms(99), 2).0, 0);
        assert_eq!(pass(&mut allowance, &rates, 5_000, ms(100), 2).0, 1);
    }

    #[test]
    fn a_refused_frame_costs_nothing_in_either_bucket() {
        let rates = Rates { frames: rate(1, 3), bytes: rate(1, 10) };
        let mut allowance = Allowance::full(ms(0));
        assert_eq!(allowance.take(&rates, 10, ms(0)), Ok(()));
        for _ in 0..10 {
            assert_eq!(allowance.take(&rates, 1, ms(0)).err(), Some(refused(Limited::Bytes, 1_000)));
        }
        assert_eq!(pass(&mut allowance, &rates, 0, ms(0), 9).0, 2);
    }

    #[test]
    fn fast_and_slow_rates_keep_their_long_term_average() {
        for (per_s, burst) in [(1, 1), (7, 3), (2_000, 10_000), (300_000, 1_000), (4 << 20, 16 << 20)] {
            let rates = Rates { frames: None, bytes: rate(per_s, burst) };
            let mut allowance = Allowance::full(ms(0));
            let chunk = (burst / 50).max(1) as usize;
            let (_, first) = pass(&mut allowance, &rates, chunk, ms(0), usize::MAX);
            assert!(first.is_some());
            let passed: usize =
                (1..=20_000).map(|now| pass(&mut allowance, &rates, chunk, ms(now), 1_000).0).sum();
            let (got, expected) = ((passed * chunk) as f64, f64::from(per_s) * 20.0);
            assert!((got - expected).abs() <= expected / 100.0 + 2.0 * chunk as f64, "{got} not {expected}");
        }
    }

    #[test]
    fn without_rates_everything_passes() {
        let mut allowance = Allowance::default();
        assert_eq!(pass(&mut allowance, &Rates::default(), usize::MAX, ms(7), 10_000).0, 10_000);
    }
}
