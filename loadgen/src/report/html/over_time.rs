//! Which plots the page has, and what each shows.

use super::axis::Unit;
use super::plot::{Curve, Plot, histogram};
use crate::report::Report;
use crate::timeline::Point;
use maud::{Markup, html};

/// The plots that have something to show.
pub(super) fn plots(report: &Report) -> Markup {
    let points = &report.timeline;
    let most = points.iter().map(|point| point.clients_open).max().unwrap_or_default();
    // A few clients share what the first one brought: their quotient says nothing, and would hide what follows.
    let settled: Vec<Point> = points
        .iter()
        .map(|point| {
            let mut point = point.clone();
            if point.clients_open * 4 < most {
                point.memory_bytes_per_client = crate::timeline::MemoryPoint::default();
            }
            point
        })
        .collect();
    let drawn = [
        CONNECTIONS.draw(points),
        CONNECT_RATE.draw(points),
        MESSAGES.draw(points).filter(|_| report.messages_sent > 0),
        LATENCY.draw(points),
        histogram(&report.latency_histogram),
        LATENCY_SENT.draw(points),
        MEMORY.draw(&settled),
        CPU.draw(points),
        LAG.draw(points),
    ];
    html! {
        section {
            h2 { "Over time" }
            p class="note" { "One value each " (report.timeline_interval_s) " s. The measured part is shaded." }
            div class="plots" { @for figure in drawn.into_iter().flatten() { (figure) } }
        }
    }
}

const CONNECTIONS: Plot<'_> = Plot {
    id: "connections",
    title: "Connections",
    note: "Open at the end of each interval.",
    unit: Unit::Count,
    curves: &[Curve { name: "open", color: 1, value: |point| Some(point.clients_open as f64) }],
};

const CONNECT_RATE: Plot<'_> = Plot {
    id: "connect-rate",
    title: "Connections made a second",
    note: "Again ones included, with the errors of each interval.",
    unit: Unit::Count,
    curves: &[
        Curve { name: "made", color: 1, value: |point| Some(point.connect_per_s) },
        Curve { name: "errors", color: 4, value: |point| Some(point.errors as f64) },
    ],
};

const MESSAGES: Plot<'_> = Plot {
    id: "messages",
    title: "Messages a second",
    note: "What the schedule sent, and what came of it.",
    unit: Unit::Count,
    curves: &[
        Curve { name: "sent", color: 1, value: |point| Some(point.sent_per_s) },
        Curve { name: "answered", color: 3, value: |point| Some(point.answered_per_s) },
        Curve { name: "received", color: 2, value: |point| Some(point.received_per_s) },
    ],
};

macro_rules! percentiles {
    ($field:ident) => {
        &[
            Curve {
                name: "p50",
                color: 2,
                value: |point| (point.$field.count > 0).then_some(point.$field.p50 as f64),
            },
            Curve {
                name: "p90",
                color: 1,
                value: |point| (point.$field.count > 0).then_some(point.$field.p90 as f64),
            },
            Curve {
                name: "p99",
                color: 3,
                value: |point| (point.$field.count > 0).then_some(point.$field.p99 as f64),
            },
            Curve {
                name: "p99.9",
                color: 4,
                value: |point| (point.$field.count > 0).then_some(point.$field.p999 as f64),
            },
            Curve {
                name: "max",
                color: 5,
                value: |point| (point.$field.count > 0).then_some(point.$field.max as f64),
            },
        ]
    };
}

const LATENCY: Plot<'_> = Plot {
    id: "latency",
    title: "Latency to the receiver",
    note: "Percentiles of each interval's arrivals; logarithmic.",
    unit: Unit::Latency,
    curves: percentiles!(latency_us),
};

const LATENCY_SENT: Plot<'_> = Plot {
    id: "latency-sent",
    title: "Latency to Sent",
    note: "Until the server had the message for good; logarithmic.",
    unit: Unit::Latency,
    curves: percentiles!(latency_sent_us),
};

const LAG: Plot<'_> = Plot {
    id: "lag",
    title: "The generator's own lateness",
    note: "From each message's time to its turn; where it is high, the latencies are the generator's.",
    unit: Unit::Latency,
    curves: &[
        Curve {
            name: "p50",
            color: 2,
            value: |point| (point.generator_lag_us.count > 0).then_some(point.generator_lag_us.p50 as f64),
        },
        Curve {
            name: "p99",
            color: 3,
            value: |point| (point.generator_lag_us.count > 0).then_some(point.generator_lag_us.p99 as f64),
        },
    ],
};

const MEMORY: Plot<'_> = Plot {
    id: "memory",
    title: "Memory a client",
    note: "Growth since before the first connect, by open connection, once a quarter of them is there.",
    unit: Unit::Bytes,
    curves: &[
        Curve { name: "kernel", color: 3, value: |point| point.memory_bytes_per_client.kernel },
        Curve { name: "gateway", color: 2, value: |point| point.memory_bytes_per_client.gateway },
        Curve { name: "both", color: 1, value: |point| point.memory_bytes_per_client.total },
    ],
};

const CPU: Plot<'_> = Plot {
    id: "cpu",
    title: "CPUs kept busy",
    note: "User and system time by the clock; the gateway's needs --gateway-pid.",
    unit: Unit::Cpus,
    curves: &[
        Curve { name: "gateway", color: 1, value: |point| point.gateway_cpus },
        Curve { name: "generator", color: 3, value: |point| Some(point.generator_cpus) },
    ],
};
