//! How far another machine's clock is from ours: a question, its time, and ours before and after. The answer was given at some moment
//! between, so that half the round trip bounds the error (Cristian, "Probabilistic clock synchronization", 1989); the shortest round trip counts.

/// What one question told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Their clock minus ours.
    offset_ns: i64,
    /// Half the round trip.
    pub error_ns: u64,
}

impl Sample {
    /// Of a question that left at `asked_ns` and was answered by `told_ns` at `heard_ns`.
    pub fn of(asked_ns: u64, told_ns: u64, heard_ns: u64) -> Self {
        let error_ns = heard_ns.saturating_sub(asked_ns).div_ceil(2);
        // Wrapping: a peer may tell any time, and what follows from it is bounded where it is used.
        Self { offset_ns: told_ns.wrapping_sub(asked_ns.saturating_add(error_ns)) as i64, error_ns }
    }

    /// The one that is known better.
    #[must_use]
    pub fn better(self, other: Self) -> Self {
        if other.error_ns < self.error_ns { other } else { self }
    }

    /// A moment of ours on their clock.
    pub fn there(self, here_ns: u64) -> u64 {
        here_ns.saturating_add_signed(self.offset_ns)
    }

    /// By how much the clocks have moved apart between two samples, at least: what their errors do not explain.
    pub fn drift_ns(self, later: Self) -> u64 {
        let moved = self.offset_ns.abs_diff(later.offset_ns);
        moved.saturating_sub(self.error_ns.saturating_add(later.error_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_true_offset_is_within_the_error_wherever_the_delay_was() {
        let true_offset = 5_000_i64;
        for (out, back) in [(0, 100), (100, 0), (50, 50), (10, 91)] {
            for here in [0_u64, 1_000_000] {
                let told = (here + out).saturating_add_signed(true_offset);
                let sample = Sample::of(here, told, here + out + back);
                assert!(sample.offset_ns.abs_diff(true_offset) <= sample.error_ns, "{sample:?}");
                assert!(sample.there(here).abs_diff(here + 5_000) <= sample.error_ns, "{sample:?}");
            }
        }
    }

    #[test]
    fn the_shortest_round_trip_counts_and_a_drift_is_told_only_where_it_is_proved() {
        let (near, far) = (Sample::of(0, 105, 10), Sample::of(0, 200, 400));
        assert_eq!((near.better(far), far.better(near)), (near, near));
        assert_eq!(near.drift_ns(far), 0, "the long round trip explains it");
        assert_eq!(near.drift_ns(Sample::of(1_000_000, 1_000_405, 1_000_010)), 300 - 10);
    }

    #[test]
    fn a_peer_may_tell_any_time() {
        for (asked, told, heard) in [(0, u64::MAX, 0), (u64::MAX, 0, 0), (5, 0, u64::MAX)] {
            let sample = Sample::of(asked, told, heard);
            sample.there(u64::MAX);
            sample.there(0);
            sample.drift_ns(Sample::of(1, 2, 3));
        }
    }
}
