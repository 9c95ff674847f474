//! A run second by second: what each [`Sample`] holds, bounded in number, and exactly mergeable over workers, time and machines.
//!
//! Workers hand over the latencies of each second ([`Timeline::record`]), the run's own thread the counts
//! ([`Timeline::sample`], by [`Sampler`]). When there are too many samples, neighbours become one and the interval doubles.

mod buckets;
mod point;
mod sample;
mod sampler;

pub use buckets::Buckets;
pub use point::{HistogramBucket, MemoryPoint, Point, histogram_buckets};
pub use sample::{Held, Sample, Stage};
pub use sampler::Sampler;

use crate::limits::TIMELINE_SAMPLES_MAX;
use crate::meters::Interval;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The samples of a run, by the number of their interval since the ramp began. A number without a sample: none was taken, and
/// the next one's counts cover it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Timeline {
    /// Length of an interval in seconds, a power of two.
    interval_s: u64,
    samples: BTreeMap<u32, Sample>,
    /// All that was handed over.
    totals: Interval,
}

/// The same on its way between machines.
#[derive(Clone, Serialize, Deserialize)]
struct Parts {
    interval_s: u64,
    samples: Vec<(u32, Sample)>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { interval_s: 1, samples: BTreeMap::new(), totals: Interval::default() }
    }
}

impl Timeline {
    /// Length of an interval in seconds: 1, until the samples are too many.
    pub fn interval_s(&self) -> u64 {
        self.interval_s
    }

    /// What a worker recorded in the second of this number.
    pub fn record(&mut self, second: u64, interval: &Interval) {
        self.at(second).record(interval);
        self.totals.add(interval);
    }

    /// The counts of the second of this number, and of those before it without any.
    pub fn sample(&mut self, second: u64, sample: &Sample) {
        self.at(second).follow(sample);
    }

    /// The sample that holds the second of this number.
    pub fn get(&self, second: u64) -> Option<&Sample> {
        self.samples.get(&u32::try_from(second / self.interval_s).ok()?)
    }

    /// All that workers handed over so far.
    pub fn totals(&self) -> &Interval {
        &self.totals
    }

    /// The samples in their order.
    pub fn samples(&self) -> impl DoubleEndedIterator<Item = &Sample> {
        // Latencies without counts: the run ended before the second's sample was taken.
        self.samples.values().filter(|sample| sample.seconds > 0.0)
    }

    /// Gives away what was handed over, each part with its second: an agent's goes to its coordinator.
    pub fn drain(&mut self) -> Vec<(u64, Interval)> {
        let second = |number: u32| u64::from(number) * self.interval_s;
        let parts =
            self.samples.iter().map(|(&number, sample)| (second(number), sample.recorded())).collect();
        self.samples.clear();
        parts
    }

    /// Nothing will be handed over any more. What was recorded in a second of which no sample was taken goes to the sample that covers
    /// it, the next one, or to the last where none follows: each latency then stands in one point.
    pub fn close(&mut self) {
        let mut uncovered = Sample::default();
        let mut closed: BTreeMap<u32, Sample> = BTreeMap::new();
        for (number, mut sample) in std::mem::take(&mut self.samples) {
            if sample.seconds > 0.0 {
                sample.record(&std::mem::take(&mut uncovered).recorded());
                closed.insert(number, sample);
            } else {
                uncovered.record(&sample.recorded());
            }
        }
        if let Some(mut last) = closed.last_entry() {
            last.get_mut().record(&uncovered.recorded());
        }
        self.samples = closed;
    }

    /// Takes over what another process saw that began its ramp together with this one; both are closed. Where one of them has no sample, what it
    /// held last still counts.
    pub fn merge(&mut self, mut other: Self) {
        while self.interval_s != other.interval_s {
            let finer = if self.interval_s < other.interval_s { &mut *self } else { &mut other };
            finer.halve();
        }
        let numbers: Vec<u32> = self.samples.keys().chain(other.samples.keys()).copied().collect();
        let mut last = (None::<Sample>, None::<Sample>);
        let mut merged = BTreeMap::new();
        for number in std::collections::BTreeSet::from_iter(numbers) {
            let mine = step(&self.samples, number, &mut last.0);
            let theirs = step(&other.samples, number, &mut last.1);
            let sample = match (mine, theirs) {
                (Some(mut mine), Some(theirs)) => {
                    // Of the stage, the process that took a sample knows more.
                    let stage = if mine.seconds > 0.0 { mine.stage } else { theirs.stage };
                    mine.beside(&theirs);
                    mine.stage = stage;
                    mine
                }
                (one, other) => one.or(other).unwrap_or_default(),
            };
            merged.insert(number, sample);
        }
        self.samples = merged;
        self.totals.add(&other.totals);
    }

    /// What the report shows.
    pub fn points(&self) -> Vec<Point> {
        self.samples().map(Point::from).collect()
    }

    fn at(&mut self, second: u64) -> &mut Sample {
        while second / self.interval_s >= u64::from(TIMELINE_SAMPLES_MAX) {
            self.halve();
        }
        self.samples.entry((second / self.interval_s) as u32).or_default()
    }

    /// Makes one sample of each two neighbours.
    fn halve(&mut self) {
        self.interval_s *= 2;
        let mut coarser: BTreeMap<u32, Sample> = BTreeMap::new();
        for (number, sample) in std::mem::take(&mut self.samples) {
            coarser.entry(number / 2).or_default().follow(&sample);
        }
        self.samples = coarser;
    }
}

/// The sample of that number, or what lasts of the one before.
fn step(samples: &BTreeMap<u32, Sample>, number: u32, last: &mut Option<Sample>) -> Option<Sample> {
    match samples.get(&number) {
        Some(sample) => {
            *last = Some(sample.lasting());
            Some(sample.clone())
        }
        None => last.clone(),
    }
}

impl From<Timeline> for Parts {
    fn from(timeline: Timeline) -> Self {
        Self { interval_s: timeline.interval_s, samples: timeline.samples.into_iter().collect() }
    }
}

impl TryFrom<Parts> for Timeline {
    type Error = &'static str;

    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        let known = |(number, _): &(u32, Sample)| *number < TIMELINE_SAMPLES_MAX;
        // 2^20 s are the longest run many times over; a larger one could make `merge` halve without end.
        if !parts.interval_s.is_power_of_two()
            || parts.interval_s > 1 << 20
            || !parts.samples.iter().all(known)
        {
            return Err("a timeline out of bounds");
        }
        let mut totals = Interval::default();
        for (_, sample) in &parts.samples {
            totals.add(&sample.recorded());
        }
        Ok(Self { interval_s: parts.interval_s, samples: parts.samples.into_iter().collect(), totals })
    }
}

#[cfg(test)]
mod tests;
