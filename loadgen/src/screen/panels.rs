//! The four panels of the screen: a line or two of numbers each, and a plot of the last minutes where there is room.

use super::view::{PLOT_HEIGHT, View};
use crate::report::text::{bytes, count, readable};
use crate::timeline::Point;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, BorderType, Chart, Dataset, GraphType, Paragraph};

/// One panel.
type Panel = fn(&mut Frame<'_>, Rect, &View);

/// In the order in which they are read.
pub(super) const ALL: [Panel; 4] = [connections, messages, latency, machine];

/// Generator lag above which a message counts as late, by default.
const LAG_US_HIGH: u64 = crate::limits::LAG_US_MAX;

/// A line of a plot.
struct Curve {
    color: Color,
    /// Its value in a second; `None` leaves a gap.
    value: fn(&Point) -> Option<f64>,
}

fn connections(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let (last, number) = (view.last(), |value: u64| count(value as f64));
    let bad = Style::new().fg(if view.failed + view.dropped > 0 { Color::Red } else { Color::Reset });
    let lines = vec![
        Line::from(vec![
            Span::styled("open ", Color::Cyan),
            Span::raw(format!("{} of {}", number(view.open), number(view.clients_target))),
            Span::raw(format!("  +{}/s", count(last.connect_per_s))),
        ]),
        Line::from(vec![
            Span::raw(format!("once {}  ", number(view.clients_connected))),
            Span::styled(format!("failed {}  dropped {}", number(view.failed), number(view.dropped)), bad),
        ]),
    ];
    let open = Curve { color: Color::Cyan, value: |point| Some(point.clients_open as f64) };
    panel(frame, area, "Connections", lines, &view.points, &[open], Scale::Linear(count));
}

fn messages(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let last = view.last();
    let lines = vec![
        Line::from(vec![
            Span::styled("sent ", Color::Cyan),
            Span::raw(format!("{}/s  ", count(last.sent_per_s))),
            Span::styled("received ", Color::Green),
            Span::raw(format!("{}/s", count(last.received_per_s))),
        ]),
        Line::from(format!(
            "all {} sent, {} answered, {} refused",
            count(view.sent as f64),
            count(view.answered as f64),
            count(view.refused as f64)
        )),
    ];
    let sent = Curve { color: Color::Cyan, value: |point| Some(point.sent_per_s) };
    let received = Curve { color: Color::Green, value: |point| Some(point.received_per_s) };
    panel(frame, area, "Messages a second", lines, &view.points, &[sent, received], Scale::Linear(count));
}

/// The latency that is shown: deliveries, or answers while nothing was delivered, or connects (phantoms).
fn shown(point: &Point) -> &crate::report::Latency {
    [&point.latency_us, &point.latency_sent_us, &point.connect_latency_us]
        .into_iter()
        .find(|latency| latency.count > 0)
        .unwrap_or(&point.latency_us)
}

fn logarithm(us: u64) -> Option<f64> {
    (us > 0).then(|| (us as f64).log10())
}

fn latency(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let last = view.last();
    let latency = shown(&last);
    let lines = if latency.count == 0 {
        vec![Line::from("nothing in the last second"), Line::default()]
    } else {
        vec![
            Line::from(vec![
                Span::styled("p50 ", Color::Green),
                Span::raw(format!("{}  p90 {}  ", readable(latency.p50), readable(latency.p90))),
            ]),
            Line::from(vec![
                Span::styled("p99 ", Color::Magenta),
                Span::raw(format!(
                    "{}  p99.9 {}  max {}",
                    readable(latency.p99),
                    readable(latency.p999),
                    readable(latency.max)
                )),
            ]),
        ]
    };
    let p50 = Curve { color: Color::Green, value: |point| logarithm(shown(point).p50) };
    let p99 = Curve { color: Color::Magenta, value: |point| logarithm(shown(point).p99) };
    panel(frame, area, "Latency in the last second", lines, &view.points, &[p50, p99], Scale::Logarithmic);
}

fn machine(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let last = view.last();
    let memory = last.memory_bytes_per_client;
    let a_client = match (memory.total, memory.kernel) {
        (Some(total), _) => bytes(total),
        (None, Some(kernel)) => format!("{} (kernel)", bytes(kernel)),
        (None, None) => "-".into(),
    };
    let gateway = last
        .gateway_rss_bytes
        .map_or("no --gateway-pid".into(), |rss| format!("gateway {}", bytes(rss as f64)));
    let lag = last.generator_lag_us.p99;
    let late = Style::new().fg(if lag > LAG_US_HIGH { Color::Red } else { Color::Reset });
    let mut cpus = vec![Span::raw("CPUs ")];
    if let Some(gateway) = last.gateway_cpus {
        cpus.extend([Span::styled("gateway ", Color::Cyan), Span::raw(format!("{gateway:.2}  "))]);
    }
    cpus.extend([
        Span::styled("generator ", Color::Yellow),
        Span::raw(format!("{:.2}", last.generator_cpus)),
    ]);
    let lines = vec![
        Line::from(format!("a client {a_client}  {gateway}")),
        Line::from(cpus),
        Line::styled(format!("generator's lag p99 {}", readable(lag)), late),
    ];
    let gateway = Curve { color: Color::Cyan, value: |point| point.gateway_cpus };
    let generator = Curve { color: Color::Yellow, value: |point| Some(point.generator_cpus) };
    let scale = Scale::Linear(|cpus| format!("{cpus:.1}"));
    panel(frame, area, "Memory and CPU", lines, &view.points, &[gateway, generator], scale);
}

/// What the values of a plot are.
#[derive(Clone, Copy)]
enum Scale {
    /// From 0, written so.
    Linear(fn(f64) -> String),
    /// Logarithms of microseconds.
    Logarithmic,
}

impl Scale {
    fn bounds(self, values: &[Vec<(f64, f64)>]) -> [f64; 2] {
        let all = || values.iter().flatten().map(|(_, value)| *value);
        let max = all().fold(f64::MIN, f64::max);
        match self {
            Self::Linear(_) => [0.0, if max > 0.0 { round_above(max) } else { 1.0 }],
            Self::Logarithmic if max > f64::MIN => {
                [all().fold(f64::MAX, f64::min).floor(), max.ceil().max(1.0)]
            }
            Self::Logarithmic => [2.0, 4.0],
        }
    }

    fn label(self, value: f64) -> String {
        match self {
            Self::Linear(write) => write(value),
            Self::Logarithmic => readable(10_f64.powf(value) as u64),
        }
    }
}

/// A round number not below the value.
fn round_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let round = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0].map(|digit| digit * power);
    round.into_iter().find(|&round| round >= value).unwrap_or(value)
}

fn panel(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    lines: Vec<Line<'_>>,
    points: &std::collections::VecDeque<Point>,
    curves: &[Curve],
    scale: Scale,
) {
    let block = Block::bordered().border_type(BorderType::Rounded).border_style(Color::DarkGray);
    let block = block.title(Span::styled(format!(" {title} "), Style::new().fg(Color::Reset).bold()));
    // A border costs two lines: where there are few, numbers count for more.
    let inner = if area.height > 3 {
        let inner = block.inner(area);
        frame.render_widget(block, area);
        inner
    } else {
        area
    };
    let height = (lines.len() as u16).min(inner.height);
    let [numbers, plot] = Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(inner);
    frame.render_widget(Paragraph::new(lines), numbers);
    if plot.height + 2 >= PLOT_HEIGHT && plot.width >= 20 {
        draw_plot(frame, plot, points, curves, scale);
    }
}

fn draw_plot(
    frame: &mut Frame<'_>,
    area: Rect,
    points: &std::collections::VecDeque<Point>,
    curves: &[Curve],
    scale: Scale,
) {
    let values: Vec<Vec<(f64, f64)>> = curves
        .iter()
        .map(|curve| {
            points.iter().filter_map(|point| (curve.value)(point).map(|value| (point.at_s, value))).collect()
        })
        .collect();
    let from_s = points.front().map_or(0.0, |point| point.at_s);
    let to_s = points.back().map_or(1.0, |point| point.at_s).max(from_s + 1.0);
    let bounds = scale.bounds(&values);
    let datasets = curves.iter().zip(&values).map(|(curve, values)| {
        let plain = Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line);
        plain.style(Style::new().fg(curve.color)).data(values)
    });
    let labels = [scale.label(bounds[0]), scale.label(bounds[1])];
    let chart = Chart::new(datasets.collect())
        .x_axis(Axis::default().bounds([from_s, to_s]).style(Color::DarkGray))
        .y_axis(Axis::default().bounds(bounds).labels(labels).style(Color::DarkGray));
    frame.render_widget(chart, area);
}
