//! One plot: an SVG that is stretched to its place, so that it fits a phone and a large screen, with its labels as text beside it,
//! and a text alternative. Colours are classes of the page's style.

use super::axis::{Axis, Unit};
use crate::timeline::{HistogramBucket, Point};
use maud::{Markup, PreEscaped, html};
use serde::Serialize;
use std::fmt::Write;

/// Units of the SVG each way; it is stretched anyway.
const SIZE: f64 = 1000.0;

/// A line of a plot.
pub(super) struct Curve {
    pub(super) name: &'static str,
    /// Number of the style's colour.
    pub(super) color: u8,
    /// `None` leaves a gap.
    pub(super) value: fn(&Point) -> Option<f64>,
}

/// A plot of the timeline.
pub(super) struct Plot<'a> {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What the reader should know of it.
    pub(super) note: &'static str,
    pub(super) unit: Unit,
    pub(super) curves: &'a [Curve],
}

/// What the page's script shows where somebody points: a place from 0 to 1, and the text.
#[derive(Serialize)]
struct Readout {
    at: f64,
    text: String,
}

impl Plot<'_> {
    /// The figure; nothing where no curve has a value.
    pub(super) fn draw(&self, points: &[Point]) -> Option<Markup> {
        let values = || self.curves.iter().flat_map(|curve| points.iter().filter_map(curve.value));
        values().next()?;
        let from_s = points.first().map_or(0.0, |point| (point.at_s - 1.0).max(0.0));
        let (x, y) = (Axis::time(from_s, points.last()?.at_s), Axis::of(self.unit, values()));
        let drawing = html! {
            (bands(points, &x))
            (grid(&x, &y))
            @for curve in self.curves {
                path class={ "line c" (curve.color) } d=(path(points, curve.value, &x, &y)) {}
            }
        };
        let names: Vec<_> = self.curves.iter().map(|curve| (curve.name, curve.color)).collect();
        let frame = Frame { id: self.id, title: self.title, note: self.note, x: &x, y: &y };
        Some(frame.figure(&names, &self.describe(points), &self.readouts(points, &x), &drawing))
    }

    /// The plot in words.
    fn describe(&self, points: &[Point]) -> String {
        let mut text =
            format!("Line plot over {}.", Unit::Time.write(points.last().map_or(0.0, |point| point.at_s)));
        for curve in self.curves {
            let values: Vec<_> = points.iter().filter_map(curve.value).collect();
            let Some(last) = values.last() else { continue };
            let (least, most) = values
                .iter()
                .fold((f64::MAX, f64::MIN), |(least, most), &value| (least.min(value), most.max(value)));
            let [least, most, last] = [least, most, *last].map(|value| self.unit.write(value));
            let _ = write!(text, " {}: from {least} to {most}, {last} at the end.", curve.name);
        }
        text
    }

    fn readouts(&self, points: &[Point], x: &Axis) -> Vec<Readout> {
        let text = |point: &Point| {
            let mut text = format!("{} ({})", Unit::Time.write(point.at_s), point.phase.name());
            for curve in self.curves {
                let value = (curve.value)(point).map_or("-".into(), |value| self.unit.write(value));
                let _ = write!(text, " · {} {value}", curve.name);
            }
            text
        };
        points.iter().map(|point| Readout { at: x.share(point.at_s), text: text(point) }).collect()
    }
}

/// The latency histogram.
pub(super) fn histogram(buckets: &[HistogramBucket]) -> Option<Markup> {
    let all: u64 = buckets.iter().map(|bucket| bucket.count).sum();
    let (first, last) = (buckets.first()?, buckets.last()?);
    let x = Axis::of(Unit::Latency, [first.from_us.max(1) as f64, last.to_us as f64].into_iter());
    let y = Axis::of(Unit::Count, buckets.iter().map(|bucket| bucket.count as f64));
    let place = |bucket: &HistogramBucket| {
        (x.share(bucket.from_us.max(1) as f64), x.share(bucket.to_us as f64 + 1.0))
    };
    let drawing = html! {
        (grid(&x, &y))
        @for bucket in buckets {
            @let (left, right) = place(bucket);
            @let height = y.share(bucket.count as f64);
            rect class="bar c1" x=(number(left)) width=(number((right - left) * 0.94)) y=(number(1.0 - height)) height=(number(height)) {}
        }
    };
    let name = |bucket: &HistogramBucket| {
        format!(
            "{} to {}",
            Unit::Latency.write(bucket.from_us as f64),
            Unit::Latency.write(bucket.to_us as f64)
        )
    };
    let readouts: Vec<_> = buckets
        .iter()
        .map(|bucket| {
            let (left, right) = place(bucket);
            let share = bucket.count as f64 / all as f64 * 100.0;
            let text = format!(
                "{}: {} messages, {share:.2} %",
                name(bucket),
                Unit::Count.write(bucket.count as f64)
            );
            Readout { at: f64::midpoint(left, right), text }
        })
        .collect();
    let most = buckets.iter().max_by_key(|bucket| bucket.count)?;
    let text = format!(
        "Histogram of {} messages from {} to {}; the most, {}, took {}.",
        Unit::Count.write(all as f64),
        Unit::Latency.write(first.from_us as f64),
        Unit::Latency.write(last.to_us as f64),
        Unit::Count.write(most.count as f64),
        name(most)
    );
    let note = "Messages by latency; the axis is logarithmic, so that the tail is seen.";
    let frame = Frame { id: "histogram", title: "Latency histogram", note, x: &x, y: &y };
    Some(frame.figure(&[("messages", 1)], &text, &readouts, &drawing))
}

struct Frame<'a> {
    id: &'a str,
    title: &'a str,
    note: &'a str,
    x: &'a Axis,
    y: &'a Axis,
}

impl Frame<'_> {
    fn figure(&self, names: &[(&str, u8)], text: &str, readouts: &[Readout], drawing: &Markup) -> Markup {
        let id = self.id;
        let percent = |share: f64| format!("{:.3}%", share * 100.0);
        html! {
            figure class="card" {
                figcaption {
                    h3 id={ (id) "-title" } { (self.title) }
                    p class="note" { (self.note) }
                    @if names.len() > 1 {
                        p class="legend" { @for (name, color) in names { span class={ "key c" (color) } { (name) } " " } }
                    }
                }
                div class="plot" {
                    div class="y" aria-hidden="true" {
                        @for (share, label) in self.y.ticks() { span style={ "bottom:" (percent(share)) } { (label) } }
                    }
                    div class="area" data-readouts=(serde_json::to_string(readouts).unwrap_or_default()) {
                        svg role="img" aria-labelledby={ (id) "-title" } aria-describedby={ (id) "-text" }
                            viewBox="0 0 1000 1000" preserveAspectRatio="none" { (drawing) }
                    }
                    div class="x" aria-hidden="true" {
                        @for (share, label) in self.x.ticks() { span style={ "left:" (percent(share)) } { (label) } }
                    }
                }
                p class="text" id={ (id) "-text" } { (text) }
                p class="readout" aria-hidden="true" { }
            }
        }
    }
}

/// A share in the SVG's units.
fn number(share: f64) -> String {
    format!("{:.1}", share * SIZE)
}

fn grid(x: &Axis, y: &Axis) -> Markup {
    html! {
        @for (share, _) in y.ticks() {
            @let at = number(1.0 - share);
            line class="grid" x1="0" x2="1000" y1=(at) y2=(at) {}
        }
        @for (share, _) in x.ticks() {
            @let at = number(share);
            line class="grid" x1=(at) x2=(at) y1="0" y2="1000" {}
        }
    }
}

/// The measured part, behind the lines.
fn bands(points: &[Point], x: &Axis) -> Markup {
    let mut runs: Vec<(f64, f64)> = Vec::new();
    let mut before_s = points.first().map_or(0.0, |point| point.at_s - 1.0);
    let mut inside = false;
    for point in points {
        let is_run = point.phase == crate::timeline::Stage::Run;
        match runs.last_mut() {
            Some((_, to)) if is_run && inside => *to = point.at_s,
            _ if is_run => runs.push((before_s, point.at_s)),
            _ => (),
        }
        (inside, before_s) = (is_run, point.at_s);
    }
    html! {
        @for (from, to) in runs {
            @let (left, right) = (x.share(from), x.share(to));
            rect class="run" x=(number(left)) width=(number(right - left)) y="0" height="1000" {}
        }
    }
}

fn path(points: &[Point], value: fn(&Point) -> Option<f64>, x: &Axis, y: &Axis) -> PreEscaped<String> {
    let mut path = String::new();
    let mut pen_is_down = false;
    for (index, point) in points.iter().enumerate() {
        let Some(at) = value(point) else {
            pen_is_down = false;
            continue;
        };
        let command = if pen_is_down { 'L' } else { 'M' };
        let (across, up) = (number(x.share(point.at_s)), number(1.0 - y.share(at)));
        let _ = write!(path, "{command}{across} {up}");
        // A value between two gaps would have no length, and not be seen.
        let alone = !pen_is_down && points.get(index + 1).and_then(value).is_none();
        if alone {
            path.push_str("h0.1");
        }
        pen_is_down = true;
    }
    PreEscaped(path)
}
