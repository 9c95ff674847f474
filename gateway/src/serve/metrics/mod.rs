//! The gateway's figures for `GET /metrics`, read from counters when somebody asks. Names and meanings stand in
//! [`roost_gateway::families`].

mod density;
mod machine;
mod router;
mod shards;

use std::{path::Path, sync::Arc};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use roost_gateway::{
    families::{Family, Kind},
    shard::Shared,
};
use roost_router::Handle;

use super::embedded::TokensRefused;
pub use density::Density;

/// What the figures are read from.
pub struct Sources<'a> {
    /// Of the shards.
    pub density: Density,
    /// Of the process.
    pub shared: Arc<Shared>,
    /// Of the handshakes.
    pub tokens: Arc<TokensRefused>,
    /// Of the router, where there is one.
    pub router: Option<Handle>,
    /// Whose disk is looked at.
    pub data: &'a Path,
}

/// A registry over all of them.
pub fn registry(sources: Sources<'_>) -> Registry {
    let mut registry = Registry::default();
    let (shards, connections_max) = (sources.density.shards.clone(), sources.density.connections_max);
    registry.register_collector(Box::new(shards::Shards::new(shards, sources.tokens)));
    registry.register_collector(Box::new(sources.density));
    registry.register_collector(Box::new(machine::Machine::new(
        sources.shared,
        connections_max,
        sources.data,
    )));
    if let Some(handle) = sources.router {
        registry.register_collector(Box::new(router::Router(handle)));
    }
    registry
}

type Encoded = Result<(), std::fmt::Error>;

/// Writes families: each sample is given with the values of its labels.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn family<'s>(&'s mut self, family: &'s Family) -> Result<MetricEncoder<'s>, std::fmt::Error> {
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        self.0.encode_descriptor(family.name, family.help, None, kind)
    }

    /// A family without labels.
    fn one(&mut self, family: &Family, value: u64) -> Encoded {
        encode(family.kind, value, self.family(family)?)
    }

    /// The same of a fraction.
    fn fraction(&mut self, family: &Family, value: f64) -> Encoded {
        encode_fraction(family.kind, value, self.family(family)?)
    }

    /// A family with one label: its values, each with its sample.
    fn by(&mut self, family: &Family, samples: impl IntoIterator<Item = (String, u64)>) -> Encoded {
        let mut metrics = self.family(family)?;
        for (value, sample) in samples {
            let labels = [(family.labels[0], value)];
            encode(family.kind, sample, metrics.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// As [`Self::numbered`], of fractions.
    fn numbered_fractions(&mut self, family: &Family, samples: impl Iterator<Item = f64>) -> Encoded {
        let mut metrics = self.family(family)?;
        for (number, sample) in samples.enumerate() {
            let labels = [(family.labels[0], number.to_string())];
            encode_fraction(family.kind, sample, metrics.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A family with the label of its shard, thread or partition.
    fn numbered(&mut self, family: &Family, samples: impl IntoIterator<Item = u64>) -> Encoded {
        self.by(family, samples.into_iter().enumerate().map(|(number, value)| (number.to_string(), value)))
    }

    /// A histogram in seconds of counts by bounds in microseconds; the last count is of what is beyond them.
    fn histogram(&mut self, family: &Family, bounds_us: &[u64], counts: &[u64], sum_us: u64) -> Encoded {
        let bounds = bounds_us.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let sum = sum_us as f64 / 1e6;
        self.family(family)?.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }
}

fn encode(kind: Kind, value: u64, encoder: MetricEncoder<'_>) -> Encoded {
    match kind {
        Kind::Counter => ConstCounter::new(value).encode(encoder),
        Kind::Gauge | Kind::Histogram => ConstGauge::new(value as i64).encode(encoder),
    }
}

fn encode_fraction(kind: Kind, value: f64, encoder: MetricEncoder<'_>) -> Encoded {
    match kind {
        Kind::Counter => ConstCounter::new(value).encode(encoder),
        Kind::Gauge | Kind::Histogram => ConstGauge::new(value).encode(encoder),
    }
}
