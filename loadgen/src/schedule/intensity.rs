//! How busy the users are in the course of a run: a step function over its length, and arrivals that follow it.

use crate::limits::INTENSITY_STEPS_MAX;

/// A factor of the mean rate for each part of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Intensity {
    /// Where each part ends, in microseconds of the measured part, and its factor.
    steps: Vec<(f64, f64)>,
}

/// A part of the run in which everybody is this many times as busy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Begin, microseconds.
    pub from_us: f64,
    /// End, microseconds.
    pub to_us: f64,
    /// How busy.
    pub factor: f64,
}

impl Intensity {
    /// `curve`: the relative activity in equal parts of the run, whose mean becomes 1; all alike where it is empty. Peaks multiply it, and
    /// each other where they overlap.
    pub fn new(end_us: f64, curve: &[f64], peaks: &[Peak]) -> Self {
        let curve = if curve.is_empty() { &[1.0][..] } else { curve };
        let mean = curve.iter().sum::<f64>() / curve.len() as f64;
        let part_us = end_us / curve.len() as f64;
        let mut edges: Vec<f64> = (1..=curve.len()).map(|part| part as f64 * part_us).collect();
        edges.extend(peaks.iter().flat_map(|peak| [peak.from_us, peak.to_us]));
        edges.retain(|&edge| edge > 0.0 && edge < end_us);
        edges.push(end_us);
        edges.sort_unstable_by(f64::total_cmp);
        edges.dedup();
        edges.truncate(INTENSITY_STEPS_MAX);
        let mut from = 0.0;
        let steps = edges.into_iter().map(|to| {
            let middle = f64::midpoint(from, to);
            from = to;
            let part = ((middle / part_us) as usize).min(curve.len() - 1);
            let raised = peaks.iter().filter(|peak| (peak.from_us..peak.to_us).contains(&middle));
            (to, curve[part] / mean * raised.map(|peak| peak.factor).product::<f64>())
        });
        Self { steps: steps.collect() }
    }

    /// The mean factor over the run.
    pub fn mean(&self) -> f64 {
        let mut from = 0.0;
        let mut sum = 0.0;
        for &(to, factor) in &self.steps {
            sum += (to - from) * factor;
            from = to;
        }
        sum / from
    }

    /// The time at which `work` more arrivals of the mean rate are due after `at_us`; `None` behind the end.
    pub fn advance(&self, at_us: f64, work: f64, rate_per_us: f64) -> Option<f64> {
        let (mut at, mut left) = (at_us, work);
        let first = self.steps.partition_point(|&(to, _)| to <= at_us);
        for &(to, factor) in &self.steps[first..] {
            let rate = rate_per_us * factor;
            let room = (to - at) * rate;
            if left < room {
                return Some(at + left / rate);
            }
            left -= room;
            at = to;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_follow_the_curve_and_the_peaks() {
        let peak = Peak { from_us: 250.0, to_us: 750.0, factor: 4.0 };
        let intensity = Intensity::new(1000.0, &[1.0, 3.0], &[peak]);
        assert!(
            (intensity.mean() - (0.5 * 250.0 + 2.0 * 250.0 + 6.0 * 250.0 + 1.5 * 250.0) / 1000.0).abs()
                < 1e-9
        );
        let mut counts = [0; 4];
        let mut at = 0.0;
        while let Some(next) = intensity.advance(at, 1.0, 1.0) {
            counts[(next / 250.0) as usize] += 1;
            at = next;
        }
        for (count, expected) in counts.into_iter().zip([125, 500, 1500, 375]) {
            assert!((expected - 1..=expected + 1).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn a_time_without_activity_is_passed_over() {
        let intensity = Intensity::new(900.0, &[1.0, 0.0, 1.0], &[]);
        // 300 of the first third's 450 are left at 100; the rest comes after the silent one.
        assert_eq!(intensity.advance(100.0, 400.0, 1.0), Some(600.0 + 100.0 / 1.5));
        assert_eq!(intensity.advance(600.0, 451.0, 1.0), None);
        assert_eq!(Intensity::new(900.0, &[0.0, 1.0], &[]).advance(0.0, 0.5, 1.0), Some(450.25));
    }
}
