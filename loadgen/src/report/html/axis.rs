//! Axes: where ticks stand and what is written at them. Positions are shares of the axis, from 0 to 1.

use crate::report::text::{bytes, count, readable};

/// What a plot's values are, and how they are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    /// Counts and rates.
    Count,
    /// Bytes.
    Bytes,
    /// CPUs.
    Cpus,
    /// Microseconds, on a logarithmic axis.
    Latency,
    /// Seconds since the beginning.
    Time,
}

impl Unit {
    /// A value for people.
    pub(super) fn write(self, value: f64) -> String {
        match self {
            Self::Count => count(value),
            Self::Bytes => bytes(value),
            Self::Cpus => format!("{value:.2}"),
            Self::Latency => readable(value.max(0.0) as u64),
            Self::Time => time(value),
        }
    }
}

/// A scale from values to shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    unit: Unit,
    from: f64,
    to: f64,
}

/// About so many ticks.
const TICKS: f64 = 4.0;
/// The same along the longer side.
const TIME_TICKS: f64 = 6.0;

impl Axis {
    /// From 0 to a round number above the largest value; a logarithmic one over the decades of the values.
    pub(super) fn of(unit: Unit, values: impl Iterator<Item = f64> + Clone) -> Self {
        let max = values.clone().fold(0.0, f64::max);
        if unit == Unit::Latency {
            let min = values.fold(f64::MAX, f64::min).clamp(1.0, max.max(1.0));
            let (from, to) = (min.log10().floor(), max.max(2.0).log10().ceil());
            return Self { unit, from, to: to.max(from + 1.0) };
        }
        let step = step(unit, max);
        let to = if max > 0.0 { (max / step - 1e-9).ceil() * step } else { 1.0 };
        Self { unit, from: 0.0, to }
    }

    /// Of times, exactly as long as they are.
    pub(super) fn time(from: f64, to: f64) -> Self {
        Self { unit: Unit::Time, from, to: to.max(from + 1e-3) }
    }

    /// The share at which a value stands, within the axis.
    pub(super) fn share(&self, value: f64) -> f64 {
        let value = if self.unit == Unit::Latency { value.max(1.0).log10() } else { value };
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    /// Where the ticks are, and what stands there.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        if self.unit == Unit::Latency {
            let decades = self.from as i32..=self.to as i32;
            return decades
                .map(|decade| 10_f64.powi(decade))
                .map(|us| (self.share(us), decade(us)))
                .collect();
        }
        let step = step(self.unit, self.to - self.from);
        let first = (self.from / step - 1e-9).ceil();
        let number = ((self.to / step + 1e-9).floor() - first) as u32;
        (0..=number)
            .map(|tick| (first + f64::from(tick)) * step)
            .map(|value| (self.share(value), if value == 0.0 { "0".into() } else { self.unit.write(value) }))
            .collect()
    }
}

/// A power of ten as it stands at an axis.
fn decade(us: f64) -> String {
    match us as u64 {
        us @ 0..1_000 => format!("{us} us"),
        us @ 1_000..1_000_000 => format!("{} ms", us / 1_000),
        us => format!("{} s", us / 1_000_000),
    }
}

/// The distance between two ticks, a round number of its unit.
fn step(unit: Unit, length: f64) -> f64 {
    if unit == Unit::Time {
        let least = (length / TIME_TICKS).max(1e-6);
        let round = [
            1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0,
            43200.0,
        ];
        return round.into_iter().find(|&step| step >= least).unwrap_or((least / 86400.0).ceil() * 86400.0);
    }
    let least = (length / TICKS).max(1e-6);
    let base: f64 =
        if unit == Unit::Bytes { 1024.0_f64.powf(least.log(1024.0).floor().max(0.0)) } else { 1.0 };
    let least = least / base;
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|&step| step >= least).unwrap_or(least)
        * base
}

fn time(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..100 if seconds.fract().abs() > 0.05 => format!("{seconds:.1} s"),
        0..120 => format!("{whole} s"),
        120..7200 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(share, text)| format!("{share:.2} {text}")).collect()
    }

    #[test]
    fn ticks_are_round_and_reach_the_end() {
        let of = |unit, values: &'static [f64]| ticks(Axis::of(unit, values.iter().copied()));
        assert_eq!(of(Unit::Count, &[3.0, 970.0]), ["0.00 0", "0.50 500", "1.00 1,000"]);
        assert_eq!(of(Unit::Count, &[]), of(Unit::Count, &[0.0]));
        assert_eq!(of(Unit::Bytes, &[5000.0]), ["0.00 0", "0.33 2.0 KiB", "0.67 4.0 KiB", "1.00 6.0 KiB"]);
        assert_eq!(
            of(Unit::Latency, &[150.0, 42_000.0]),
            ["0.00 100 us", "0.33 1 ms", "0.67 10 ms", "1.00 100 ms"]
        );
        assert_eq!(of(Unit::Latency, &[]), ["0.00 1 us", "1.00 10 us"]);
        assert_eq!(
            ticks(Axis::time(0.0, 20.0)),
            ["0.00 0", "0.25 5 s", "0.50 10 s", "0.75 15 s", "1.00 20 s"]
        );
        assert_eq!(ticks(Axis::time(0.0, 7000.0)).last().map(String::as_str), Some("0.77 90:00 min"));
    }

    #[test]
    fn every_share_is_within_the_axis() {
        for unit in [Unit::Count, Unit::Bytes, Unit::Cpus, Unit::Latency] {
            let axis = Axis::of(unit, [5.0, 7.5e8].into_iter());
            for value in [-5.0, 0.0, 5.0, 1e5, 7.5e8, 1e12] {
                assert!((0.0..=1.0).contains(&axis.share(value)), "{unit:?} {value}");
            }
            assert!(axis.ticks().len() < 15, "{:?}", axis.ticks());
        }
    }
}
