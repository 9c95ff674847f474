//! `GET /metrics`: the gateway's families and the HTTP service's own, as `OpenMetrics` text.

use std::fmt::Write;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::families::{HTTP_CALLS_WAITING, HTTP_CROWDED_OUT, HTTP_REQUESTS};

/// Where the gateway's figures come from. Called on the HTTP thread; it must not block.
pub trait MetricsSource: Send + Sync + 'static {
    /// Appends metric families in `OpenMetrics` text form, without the closing `# EOF` (that is
    /// `prometheus_client::encoding::text::encode_registry`).
    fn encode(&self, text: &mut String);
}

/// A registry is a source as it is.
impl MetricsSource for Registry {
    fn encode(&self, text: &mut String) {
        // Writing to a string does not fail, and the registry's own metrics encode.
        let _: std::fmt::Result = encode_registry(text, self);
    }
}

/// The HTTP service's own counters.
pub(super) struct HttpMetrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    crowded_out: Counter,
    calls_waiting: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    status: u16,
}

impl HttpMetrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        registry.register(HTTP_REQUESTS.name, HTTP_REQUESTS.help, requests.clone());
        let crowded_out = Counter::default();
        registry.register(HTTP_CROWDED_OUT.name, HTTP_CROWDED_OUT.help, crowded_out.clone());
        let calls_waiting = Gauge::default();
        registry.register(HTTP_CALLS_WAITING.name, HTTP_CALLS_WAITING.help, calls_waiting.clone());
        Self { registry, requests, crowded_out, calls_waiting }
    }

    pub(super) fn count(&self, status: u16) {
        self.requests.get_or_create(&RequestLabels { status }).inc();
    }

    pub(super) fn count_crowded_out(&self) {
        self.crowded_out.inc();
    }

    /// All families, the gateway's first.
    pub(super) fn text(&self, gateway: &dyn MetricsSource, calls_waiting: usize) -> String {
        self.calls_waiting.set(calls_waiting as i64);
        let mut text = String::new();
        gateway.encode(&mut text);
        if !text.is_empty() && !text.ends_with('\n') {
            let _: std::fmt::Result = text.write_char('\n');
        }
        MetricsSource::encode(&self.registry, &mut text);
        let _: std::fmt::Result = encode_eof(&mut text);
        text
    }
}
