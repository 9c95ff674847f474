//! The latencies of an interval: the buckets of a histogram that are not empty.

use crate::limits::LATENCY_US_MAX;
use crate::report::Latency;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Values below this have a bucket of their own. Above, a bucket spans less than a hundredth of its values, as in a histogram of
/// two significant digits (<https://hdrhistogram.org>).
const EXACT_BELOW: u64 = 256;

/// Counts by bucket, each named by the largest microsecond in it, rising. Two of them add up exactly, on one machine or on
/// several: a count never changes its bucket. At most 3,328 buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>")]
pub struct Buckets(Vec<(u64, u64)>);

/// The largest value in the bucket of this one.
fn edge(us: u64) -> u64 {
    let us = us.min(LATENCY_US_MAX);
    let shift = (us.max(1).ilog2() + 1).saturating_sub(EXACT_BELOW.ilog2());
    (us >> shift << shift) | ((1 << shift) - 1)
}

impl Buckets {
    /// Everything that was recorded in the histogram, in microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let mut all = Self::default();
        for bucket in histogram.iter_recorded() {
            all.record(bucket.value_iterated_to(), bucket.count_at_value());
        }
        all
    }

    /// Counts a value.
    pub fn record(&mut self, us: u64, count: u64) {
        let at = edge(us);
        match self.0.last_mut() {
            Some((last, known)) if *last == at => *known = known.saturating_add(count),
            Some((last, _)) if *last > at => self.add(&Self(vec![(at, count)])),
            _ => self.0.push((at, count)),
        }
    }

    /// Adds the counts of another interval, or machine.
    pub fn add(&mut self, other: &Self) {
        for &(at, count) in &other.0 {
            match self.0.binary_search_by_key(&at, |(known, _)| *known) {
                Ok(place) => self.0[place].1 = self.0[place].1.saturating_add(count),
                Err(place) => self.0.insert(place, (at, count)),
            }
        }
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The buckets: the largest value, in microseconds, and the count.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// The value that this share of all values does not exceed; 0 where there are none.
    pub fn value_at_quantile(&self, quantile: f64) -> u64 {
        let rank = (self.count() as f64 * quantile).ceil().max(1.0) as u64;
        let mut passed = 0_u64;
        for &(at, count) in &self.0 {
            passed = passed.saturating_add(count);
            if passed >= rank {
                return at;
            }
        }
        self.max()
    }

    /// The largest value, as its bucket names it; 0 where there are none.
    pub fn max(&self) -> u64 {
        self.0.last().map_or(0, |(at, _)| *at)
    }
}

impl TryFrom<Vec<(u64, u64)>> for Buckets {
    type Error = &'static str;

    fn try_from(buckets: Vec<(u64, u64)>) -> Result<Self, Self::Error> {
        let rising = buckets.is_sorted_by(|(one, _), (next, _)| one < next);
        let known = buckets.iter().all(|&(at, count)| at == edge(at) && count > 0);
        if rising && known { Ok(Self(buckets)) } else { Err("latency buckets that no histogram has") }
    }
}

impl From<&Buckets> for Latency {
    fn from(buckets: &Buckets) -> Self {
        let at = |quantile| buckets.value_at_quantile(quantile);
        Self {
            count: buckets.count(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: buckets.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn histogram(digits: u8) -> Histogram<u64> {
        Histogram::new_with_bounds(1, LATENCY_US_MAX, digits).expect("valid bounds")
    }

    #[test]
    fn buckets_are_those_of_a_histogram_of_two_digits() {
        let mut rng = StdRng::seed_from_u64(1);
        let two = histogram(2);
        for _ in 0..100_000 {
            let us = rng.random_range(1..LATENCY_US_MAX) >> rng.random_range(0..31);
            assert_eq!(edge(us), two.highest_equivalent(us), "{us}");
        }
        assert_eq!((edge(0), edge(255), edge(256), edge(u64::MAX)), (0, 255, 257, edge(LATENCY_US_MAX)));
    }

    #[test]
    fn parts_of_a_finer_histogram_add_up_to_the_whole_in_any_order() {
        let mut rng = StdRng::seed_from_u64(2);
        let (mut parts, mut whole) = (vec![histogram(3); 5], histogram(2));
        for number in 0..50_000 {
            let us = rng.random_range(1..1_000_000_u64) >> rng.random_range(0..20);
            parts[number % 5].record(us).expect("in bounds");
            whole.record(us).expect("in bounds");
        }
        let mut forth = Buckets::default();
        for part in &parts {
            forth.add(&Buckets::of(part));
        }
        let mut back = Buckets::default();
        for part in parts.iter().rev() {
            back.add(&Buckets::of(part));
        }
        assert_eq!((&forth, &back), (&Buckets::of(&whole), &forth));
        assert_eq!(Latency::from(&forth), Latency::from(&whole));
    }

    #[test]
    fn what_no_histogram_has_is_refused() {
        for text in ["[[300,1]]", "[[2,1],[1,1]]", "[[1,1],[1,1]]", "[[1,0]]", "[[18446744073709551615,1]]"] {
            assert!(serde_json::from_str::<Buckets>(text).is_err(), "{text}");
        }
        let text = "[[1,3],[301,2]]";
        let buckets: Buckets = serde_json::from_str(text).expect("valid");
        assert_eq!(serde_json::to_string(&buckets).expect("JSON"), text);
        assert_eq!((buckets.count(), buckets.max(), buckets.value_at_quantile(0.5)), (5, 301, 1));
    }
}
