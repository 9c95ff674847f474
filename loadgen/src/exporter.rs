//! `--metrics ADDR`: the run as Prometheus sees it, read when it is scraped.

use crate::limits::{SCRAPE_BYTES_MAX, SCRAPE_MAX};
use crate::run::Usage;
use crate::timeline::{Buckets, Point};
use crate::worker::Shared;
use anyhow::Context as _;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::convert::Infallible;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::thread;
use tokio::sync::oneshot;

/// What <https://prometheus.io/docs/specs/om/open_metrics_spec/> asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the latency buckets, in microseconds.
const BOUNDS_US: [u64; 18] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 60_000_000,
];

/// A port that waits for its run.
pub struct Exporter(TcpListener);

/// Serves until it is dropped.
pub struct Serving {
    // The thread ends when this is dropped.
    _alive: oneshot::Sender<()>,
}

impl Exporter {
    /// Takes the address, and tells on stderr which it is.
    ///
    /// # Errors
    /// [`Usage`] where the address cannot be had.
    pub fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let refuse = |error| Usage::new(format!("--metrics {address}: {error}; port 0 takes a free one"));
        let listener = TcpListener::bind(address).map_err(refuse)?;
        listener.set_nonblocking(true).map_err(refuse)?;
        eprintln!("roost-loadgen: metrics at http://{}/metrics", listener.local_addr().map_err(refuse)?);
        Ok(Self(listener))
    }

    /// Serves the metrics of a run from a thread of its own.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn serve(self, shared: Arc<Shared>) -> anyhow::Result<Serving> {
        let mut registry = Registry::with_prefix("roost_loadgen");
        registry.register_collector(Box::new(RunMetrics(shared)));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot serve --metrics")?;
        let (alive, ended) = oneshot::channel();
        thread::Builder::new().name("metrics".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = answer_all(self.0, &registry) => (),
                    _ = ended => (),
                }
            });
        })?;
        Ok(Serving { _alive: alive })
    }
}

/// Answers one scraper at a time.
async fn answer_all(listener: TcpListener, registry: &Registry) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    // Until the run ends; each connection is bounded in time.
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(SCRAPE_MAX).await;
            continue;
        };
        let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(&request, registry)) });
        let connection = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(SCRAPE_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        // A scraper that is too slow or speaks no HTTP gets no answer.
        let _ = tokio::time::timeout(SCRAPE_MAX, connection).await;
    }
}

fn answer(request: &Request<Incoming>, registry: &Registry) -> Response<String> {
    let plain = |status, text: &str| {
        let mut response = Response::new(text.to_owned());
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "the metrics are at /metrics\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    let mut text = String::new();
    if encode(&mut text, registry).is_err() {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode\n");
    }
    let mut response = Response::new(text);
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(OPEN_METRICS));
    response
}

/// The metrics of a run.
struct RunMetrics(Arc<Shared>);

impl fmt::Debug for RunMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunMetrics")
    }
}

impl Collector for RunMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let (shared, counters) = (&self.0, &self.0.counters);
        let (latency, latency_sent, lag, last) = {
            let timeline = shared.timeline.lock().unwrap_or_else(PoisonError::into_inner);
            let totals = timeline.totals();
            let last = timeline.samples().next_back().cloned();
            (totals.latency.clone(), totals.latency_sent.clone(), totals.lag.clone(), last)
        };
        let options = &shared.options.cli;
        for (name, help, value) in [
            ("clients_target", "Clients asked for", u64::from(options.clients)),
            ("connections_open", "Connections open", counters.open.load(Relaxed)),
        ] {
            gauge(&mut encoder, name, help, None, value as f64)?;
        }
        for (name, help, counter) in [
            ("clients_connected", "Clients that were connected and welcomed once", &counters.connected),
            ("clients_failed", "Clients that gave up", &counters.failed),
            ("connections_dropped", "Connections that broke against the schedule", &counters.dropped),
            ("reconnects", "Connections made again", &counters.reconnects),
            ("messages_sent", "Messages handed to a socket", &counters.sent),
            ("messages_answered", "Messages answered", &counters.answered),
            ("messages_refused", "Messages refused for good", &counters.refused),
            ("messages_received", "Messages that arrived", &counters.received),
            ("receipts_delivered", "Messages whose sender got DELIVERED", &counters.receipts),
        ] {
            let metric = ConstCounter::new(counter.load(Relaxed));
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        histogram(&mut encoder, "latency", "Scheduled time to delivery or echo", &latency)?;
        histogram(&mut encoder, "latency_sent", "Scheduled time to Sent", &latency_sent)?;
        histogram(&mut encoder, "generator_lag", "The generator's own lateness", &lag)?;
        let Some(point) = last.as_ref().map(Point::from) else { return Ok(()) };
        for (name, help, unit, value) in [
            (
                "gateway_resident",
                "The gateway's resident set",
                Unit::Bytes,
                point.gateway_rss_bytes.map(|bytes| bytes as f64),
            ),
            (
                "gateway_cpu",
                "CPUs the gateway kept busy in the last second",
                Unit::Other("cpus".into()),
                point.gateway_cpus,
            ),
            (
                "generator_cpu",
                "CPUs the generator kept busy in the last second",
                Unit::Other("cpus".into()),
                Some(point.generator_cpus),
            ),
            (
                "client_memory",
                "Memory by open connection",
                Unit::Bytes,
                point.memory_bytes_per_client.total.or(point.memory_bytes_per_client.kernel),
            ),
        ] {
            if let Some(value) = value {
                gauge(&mut encoder, name, help, Some(&unit), value)?;
            }
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> fmt::Result {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

fn histogram(encoder: &mut DescriptorEncoder, name: &str, help: &str, latency: &Buckets) -> fmt::Result {
    let mut counts = BOUNDS_US.map(|bound_us| (bound_us as f64 / 1e6, 0)).to_vec();
    counts.push((f64::INFINITY, 0));
    let mut sum_s = 0.0;
    for (us, count) in latency.iter() {
        sum_s += us as f64 / 1e6 * count as f64;
        counts[BOUNDS_US.partition_point(|&bound_us| bound_us < us)].1 += count;
    }
    let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    metric.encode_histogram::<NoLabelSet>(sum_s, latency.count(), &counts, None)
}
