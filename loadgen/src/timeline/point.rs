//! A timeline and a histogram as the report shows them.

use super::{Buckets, Sample, Stage};
use crate::limits::HISTOGRAM_BUCKETS_MAX;
use crate::report::Latency;
use serde::Serialize;

/// An interval of the report's `timeline`. Rates are those of the interval; everything else is what was there at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// The end, in seconds since the ramp began.
    pub at_s: f64,
    /// What the run was doing then.
    pub phase: Stage,
    /// Clients that were connected once.
    pub clients_connected: u64,
    /// Connections open.
    pub clients_open: u64,
    /// Connections made a second, again ones included.
    pub connect_per_s: f64,
    /// Messages handed to a socket a second.
    pub sent_per_s: f64,
    /// Messages answered a second.
    pub answered_per_s: f64,
    /// Messages that arrived a second.
    pub received_per_s: f64,
    /// Of the messages that arrived in the interval, as the report's `latency_us`; to a hundredth of each value.
    pub latency_us: Latency,
    /// Of the messages answered in the interval, as the report's `latency_sent_us`.
    pub latency_sent_us: Latency,
    /// Of the connections made in the interval (phantoms).
    pub connect_latency_us: Latency,
    /// How late the generator itself was in the interval.
    pub generator_lag_us: Latency,
    /// Errors in the interval; the report's `errors` has their texts.
    pub errors: u64,
    /// Memory that an open connection takes; `null` where nobody is connected or it was not measured.
    pub memory_bytes_per_client: MemoryPoint,
    /// The gateway's resident set; `null` without --gateway-pid.
    pub gateway_rss_bytes: Option<u64>,
    /// CPUs the gateway kept busy: seconds of CPU a second; `null` without --gateway-pid.
    pub gateway_cpus: Option<f64>,
    /// The generator's resident set.
    pub generator_rss_bytes: u64,
    /// CPUs the generator kept busy.
    pub generator_cpus: f64,
}

/// Memory by open connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MemoryPoint {
    /// Growth of Slab.
    pub kernel: Option<f64>,
    /// Growth of the gateway's resident set.
    pub gateway: Option<f64>,
    /// The sum of both.
    pub total: Option<f64>,
}

impl Point {
    /// A point whose optional fields are all there.
    pub fn example() -> Self {
        let memory = MemoryPoint { kernel: Some(0.0), gateway: Some(0.0), total: Some(0.0) };
        Self {
            memory_bytes_per_client: memory,
            gateway_rss_bytes: Some(0),
            gateway_cpus: Some(0.0),
            ..Self::default()
        }
    }
}

impl From<&Sample> for Point {
    fn from(sample: &Sample) -> Self {
        let each_s = |value: f64| if sample.seconds > 0.0 { value / sample.seconds } else { 0.0 };
        let open = (sample.clients_open > 0).then_some(sample.clients_open as f64);
        let each = |bytes: i64| open.map(|open| bytes as f64 / open);
        let kernel = each(sample.held.kernel_growth_bytes);
        let gateway = sample.held.gateway_growth_bytes.and_then(each);
        let total = kernel.zip(gateway).map(|(kernel, gateway)| kernel + gateway);
        Self {
            at_s: sample.until_s,
            phase: sample.stage,
            clients_connected: sample.clients_connected,
            clients_open: sample.clients_open,
            connect_per_s: each_s(sample.connects as f64),
            sent_per_s: each_s(sample.sent as f64),
            answered_per_s: each_s(sample.answered as f64),
            received_per_s: each_s(sample.received as f64),
            latency_us: Latency::from(&sample.latency),
            latency_sent_us: Latency::from(&sample.latency_sent),
            connect_latency_us: Latency::from(&sample.connect),
            generator_lag_us: Latency::from(&sample.lag),
            errors: sample.errors,
            memory_bytes_per_client: MemoryPoint { kernel, gateway, total },
            gateway_rss_bytes: sample.held.gateway_rss_bytes,
            gateway_cpus: sample.held.gateway_cpu_s.map(each_s),
            generator_rss_bytes: sample.generator_rss_bytes,
            generator_cpus: each_s(sample.generator_cpu_s),
        }
    }
}

/// A bucket of the report's `latency_histogram`: values from `from_us` to `to_us`, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HistogramBucket {
    /// The least value, in microseconds.
    pub from_us: u64,
    /// The largest.
    pub to_us: u64,
    /// How many there were.
    pub count: u64,
}

/// The histogram of a report: four buckets a doubling, from the first that is not empty to the last.
pub fn histogram_buckets(buckets: &Buckets) -> Vec<HistogramBucket> {
    let mut found: Vec<HistogramBucket> = Vec::new();
    let (mut values, mut from_us) = (buckets.iter().peekable(), 0);
    for number in 0..HISTOGRAM_BUCKETS_MAX {
        // Edges of the finer buckets, too, so that none of them is cut in two.
        let (doubling, quarter) = (1_u64 << (number / 4), u64::from(number % 4) + 5);
        let to_us = (doubling * quarter).div_ceil(4).saturating_sub(1);
        if to_us < from_us {
            continue;
        }
        let mut count = 0;
        while let Some((_, of_value)) = values.next_if(|&(us, _)| us <= to_us) {
            count += of_value;
        }
        if count > 0 || !found.is_empty() {
            found.push(HistogramBucket { from_us, to_us, count });
        }
        from_us = to_us + 1;
        if values.peek().is_none() {
            break;
        }
    }
    found
}
