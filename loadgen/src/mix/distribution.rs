//! Sizes and times as a mix writes them: a distribution with bounds.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution as _, Exp, LogNormal};
use serde::Deserialize;

/// Draws that a mean is computed from.
const MEAN_DRAWS: u32 = 4096;

/// A distribution of numbers that are not negative.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Distribution {
    /// Always the same: `{ constant = 128 }`.
    Constant(f64),
    /// All alike between two bounds: `{ uniform = { min = 3, max = 10 } }`.
    Uniform(Bounds),
    /// Times between independent events: `{ exponential = { mean = 600, max = 3_600 } }`.
    Exponential(Exponential),
    /// Most are small, a few are large: `{ lognormal = { median = 200, sigma = 0.6, min = 100, max = 1_000 } }`.
    Lognormal(Lognormal),
    /// Weighted ranges, all alike within each: `{ buckets = [{ weight = 9, min = 3, max = 8 }, { weight = 1, min = 9, max = 200 }] }`.
    Buckets(Vec<Bucket>),
}

/// Two bounds, both possible.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// An exponential distribution.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exponential {
    /// Its mean, before the bound.
    pub mean: f64,
    /// What is drawn above counts as this.
    pub max: f64,
}

/// A log-normal distribution.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lognormal {
    /// Half of all are smaller.
    pub median: f64,
    /// The standard deviation of the logarithm.
    pub sigma: f64,
    /// What is drawn below counts as this.
    pub min: f64,
    /// What is drawn above counts as this.
    pub max: f64,
}

/// A range with a weight.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// How often it is drawn, relative to the others.
    pub weight: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Distribution {
    /// Draws a number.
    pub fn draw(&self, rng: &mut StdRng) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Uniform(Bounds { min, max }) => rng.random_range(*min..=*max),
            // Checked when it was read, as all numbers are.
            Self::Exponential(Exponential { mean, max }) => {
                Exp::new(mean.recip()).map_or(*mean, |exponential| exponential.sample(rng)).min(*max)
            }
            Self::Lognormal(Lognormal { median, sigma, min, max }) => LogNormal::new(median.ln(), *sigma)
                .map_or(*median, |lognormal| lognormal.sample(rng))
                .clamp(*min, *max),
            Self::Buckets(buckets) => {
                let mut at = rng.random::<f64>() * buckets.iter().map(|bucket| bucket.weight).sum::<f64>();
                let drawn = buckets.iter().find(|bucket| {
                    at -= bucket.weight;
                    at < 0.0
                });
                let Some(bucket) = drawn.or(buckets.last()) else { return 0.0 };
                rng.random_range(bucket.min..=bucket.max)
            }
        }
    }

    /// Its mean, of many draws that are always the same.
    pub fn mean(&self) -> f64 {
        if let Self::Constant(value) = self {
            return *value;
        }
        let mut rng = StdRng::seed_from_u64(0);
        (0..MEAN_DRAWS).map(|_| self.draw(&mut rng)).sum::<f64>() / f64::from(MEAN_DRAWS)
    }

    /// What is wrong with its numbers, where all of them are to be from `least` to `most`: the part, and a reason.
    pub fn fault(&self, least: f64, most: f64) -> Option<(String, String)> {
        let within = |key: &str, value: f64| {
            let fits = (least..=most).contains(&value);
            (!fits).then(|| (key.to_owned(), format!("must be {least} to {most}")))
        };
        let ordered = |key: &str, min: f64, max: f64| {
            (min > max).then(|| (format!("{key}max"), format!("must not be below min, which is {min}")))
        };
        let positive = |key: &str, value: f64, what: &str| {
            (!(value > 0.0 && value.is_finite())).then(|| (key.to_owned(), format!("{what} must be above 0")))
        };
        match self {
            Self::Constant(value) => within("constant", *value),
            Self::Uniform(Bounds { min, max }) => within("uniform.min", *min)
                .or_else(|| within("uniform.max", *max))
                .or_else(|| ordered("uniform.", *min, *max)),
            Self::Exponential(Exponential { mean, max }) => {
                positive("exponential.mean", *mean, "the mean").or_else(|| within("exponential.max", *max))
            }
            Self::Lognormal(Lognormal { median, sigma, min, max }) => {
                positive("lognormal.median", *median, "the median")
                    .or_else(|| {
                        let fits = (0.0..=10.0).contains(sigma);
                        (!fits).then(|| ("lognormal.sigma".to_owned(), "must be 0 to 10".to_owned()))
                    })
                    .or_else(|| within("lognormal.min", *min))
                    .or_else(|| within("lognormal.max", *max))
                    .or_else(|| ordered("lognormal.", *min, *max))
            }
            Self::Buckets(buckets) => {
                if buckets.is_empty() {
                    return Some(("buckets".to_owned(), "needs one bucket at least".to_owned()));
                }
                buckets.iter().enumerate().find_map(|(number, bucket)| {
                    let at = format!("buckets[{number}].");
                    positive(&format!("{at}weight"), bucket.weight, "the weight")
                        .or_else(|| within(&format!("{at}min"), bucket.min))
                        .or_else(|| within(&format!("{at}max"), bucket.max))
                        .or_else(|| ordered(&at, bucket.min, bucket.max))
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(distribution: &Distribution) -> Vec<f64> {
        let mut rng = StdRng::seed_from_u64(1);
        (0..10_000).map(|_| distribution.draw(&mut rng)).collect()
    }

    #[test]
    fn draws_keep_their_bounds_and_their_middle() {
        for (distribution, min, max, mean) in [
            (Distribution::Constant(5.0), 5.0, 5.0, 5.0),
            (Distribution::Uniform(Bounds { min: 2.0, max: 6.0 }), 2.0, 6.0, 4.0),
            (Distribution::Exponential(Exponential { mean: 10.0, max: 1000.0 }), 0.0, 1000.0, 10.0),
            (
                Distribution::Buckets(vec![
                    Bucket { weight: 3.0, min: 0.0, max: 2.0 },
                    Bucket { weight: 1.0, min: 100.0, max: 102.0 },
                ]),
                0.0,
                102.0,
                26.0,
            ),
        ] {
            let all = draws(&distribution);
            assert!(all.iter().all(|value| (min..=max).contains(value)), "{distribution:?}");
            let drawn = all.iter().sum::<f64>() / all.len() as f64;
            assert!((drawn - mean).abs() < mean / 20.0, "{distribution:?}: {drawn}");
            assert!((distribution.mean() - mean).abs() < mean / 20.0, "{distribution:?}");
        }
        let lognormal = Lognormal { median: 200.0, sigma: 0.6, min: 100.0, max: 1000.0 };
        let mut all = draws(&Distribution::Lognormal(lognormal));
        all.sort_unstable_by(f64::total_cmp);
        assert!((190.0..210.0).contains(&all[5000]), "{}", all[5000]);
        assert!((all[0] - 100.0).abs() < 1e-9 && all[9999] <= 1000.0 && all[9000] > 350.0);
    }

    #[test]
    fn numbers_that_make_no_sense_are_named_with_their_part() {
        let uniform = |min, max| Distribution::Uniform(Bounds { min, max });
        let lognormal =
            |median, sigma| Distribution::Lognormal(Lognormal { median, sigma, min: 1.0, max: 9.0 });
        let bucket = |weight, max| Distribution::Buckets(vec![Bucket { weight, min: 1.0, max }]);
        for (distribution, key) in [
            (Distribution::Constant(0.0), "constant"),
            (Distribution::Constant(f64::NAN), "constant"),
            (uniform(0.0, 5.0), "uniform.min"),
            (uniform(5.0, 11.0), "uniform.max"),
            (uniform(5.0, 4.0), "uniform.max"),
            (Distribution::Exponential(Exponential { mean: 0.0, max: 5.0 }), "exponential.mean"),
            (Distribution::Exponential(Exponential { mean: 5.0, max: 50.0 }), "exponential.max"),
            (lognormal(-1.0, 0.5), "lognormal.median"),
            (lognormal(2.0, f64::INFINITY), "lognormal.sigma"),
            (bucket(0.0, 5.0), "buckets[0].weight"),
            (bucket(1.0, 0.5), "buckets[0].max"),
            (Distribution::Buckets(Vec::new()), "buckets"),
        ] {
            assert_eq!(
                distribution.fault(1.0, 10.0).map(|(at, _)| at).as_deref(),
                Some(key),
                "{distribution:?}"
            );
        }
        assert_eq!(uniform(1.0, 10.0).fault(1.0, 10.0), None);
        assert_eq!(lognormal(2.0, 0.0).fault(1.0, 10.0), None);
    }
}
