//! What the report's fields are made of.

use crate::meters::Meter;
use crate::worker::Shared;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Percentiles of a histogram, in microseconds. All 0 where `count` is 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Values.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// The largest.
    pub max: u64,
}

impl From<&Meter> for Latency {
    fn from(meter: &Meter) -> Self {
        Self::from(&meter.sum())
    }
}

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        }
    }
}

/// Memory one client costs. `null` where it was not measured: the gateway's needs --gateway-pid.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryPerClient {
    /// Growth of Slab (/proc/meminfo). Where server and clients share the machine this holds both ends' sockets.
    pub kernel: Option<f64>,
    /// Growth of the gateway's resident set.
    pub gateway: Option<f64>,
    /// Growth of the gateway's proportional set: shared pages count in part.
    pub gateway_pss: Option<f64>,
    /// The sum of kernel and gateway.
    pub total: Option<f64>,
    /// Growth of `MemTotal - MemFree - Buffers - Cached`: everything, the generator's own memory included.
    pub host: Option<f64>,
    /// Growth of the generator's resident set.
    pub generator: Option<f64>,
    /// `host` without `generator`: kernel, gateway and router, where nothing else on the machine grows meanwhile.
    pub server: Option<f64>,
}

/// The machine the generator ran on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// CPUs this process may use.
    pub cpus: usize,
    /// `MemTotal`.
    pub memory_bytes: u64,
}

/// What a `group` run had in groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GroupReport {
    /// Groups.
    pub groups: u32,
    /// Members of the largest.
    pub members_max: u64,
    /// Messages that arrived, each at each member; with `group`, `messages_received` says the same.
    pub deliveries: u64,
    /// How many there are where each message reaches all members but its sender.
    pub deliveries_planned: u64,
    /// Deliveries a second of the measured part; those of the drain are counted, too.
    pub deliveries_per_s: f64,
}

impl GroupReport {
    /// Of a run that delivered so many messages to groups.
    pub fn of(shared: &Shared, deliveries: u64, duration_s: f64) -> Self {
        let plan = &shared.plan;
        Self {
            groups: plan.groups.len(),
            members_max: plan.groups.members_max() as u64,
            deliveries,
            deliveries_planned: plan.group_deliveries(shared.due()),
            deliveries_per_s: if duration_s > 0.0 { deliveries as f64 / duration_s } else { 0.0 },
        }
    }
}
