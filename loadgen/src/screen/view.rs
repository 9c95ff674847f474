//! What the screen shows: [`View`] holds it, [`draw`] lays it out for any size of terminal.

use super::panels;
use crate::limits::SCREEN_POINTS_MAX;
use crate::meters::Counters;
use crate::options::Options;
use crate::timeline::{Point, Stage};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{LineGauge, Paragraph};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Everything that is shown.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What runs: scenario, target, kind, seed.
    pub title: String,
    /// What the run is doing.
    pub stage: Stage,
    /// Until the phase's end, at most.
    pub left: Duration,
    /// The phase's length, as it was told when it began.
    pub whole: Duration,
    /// How the user ended the run; `None` while it goes on.
    pub ending: Option<&'static str>,
    /// Clients asked for.
    pub clients_target: u64,
    /// Clients that were connected once.
    pub clients_connected: u64,
    /// Connections open.
    pub open: u64,
    /// Clients that gave up.
    pub failed: u64,
    /// Connections that broke against the schedule.
    pub dropped: u64,
    /// Messages handed to a socket.
    pub sent: u64,
    /// Messages answered.
    pub answered: u64,
    /// Messages that arrived.
    pub received: u64,
    /// Messages refused for good.
    pub refused: u64,
    /// Errors so far.
    pub errors: u64,
    /// The last seconds, the newest last.
    pub points: VecDeque<Point>,
}

/// Below this width the panels stand in one column, without plots.
const WIDE: u16 = 64;
/// A panel of this height has room for a plot.
pub(super) const PLOT_HEIGHT: u16 = 6;

impl View {
    /// Of a run that begins.
    pub fn new(options: &Options) -> Self {
        let cli = &options.cli;
        let (scenario, kind, target) = (cli.scenario.name(), cli.kind.name(), &options.target.authority);
        Self {
            title: format!("{scenario} {target} · {kind} clients · seed {}", cli.seed),
            clients_target: u64::from(cli.clients),
            ..Self::default()
        }
    }

    /// Takes over where the run stands.
    pub fn update(
        &mut self,
        stage: Stage,
        left: Duration,
        counters: &Counters,
        ending: Option<&'static str>,
    ) {
        if stage != self.stage || left > self.whole {
            (self.stage, self.whole) = (stage, left);
        }
        (self.left, self.ending) = (left, ending);
        for (shown, counter) in [
            (&mut self.clients_connected, &counters.connected),
            (&mut self.open, &counters.open),
            (&mut self.failed, &counters.failed),
            (&mut self.dropped, &counters.dropped),
            (&mut self.sent, &counters.sent),
            (&mut self.answered, &counters.answered),
            (&mut self.received, &counters.received),
            (&mut self.refused, &counters.refused),
        ] {
            *shown = counter.load(Relaxed);
        }
    }

    /// Takes over a second that is complete; `None` where there was no sample of it.
    pub fn add(&mut self, point: Option<Point>) {
        let Some(point) = point else { return };
        self.errors += point.errors;
        if self.points.len() == SCREEN_POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// The last second; of a run that has just begun, an empty one.
    pub(super) fn last(&self) -> Point {
        self.points.back().cloned().unwrap_or_default()
    }
}

/// Draws it all. Any size will do: what has no room is left out.
pub fn draw(frame: &mut Frame<'_>, view: &View) {
    let [head, progress, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, view);
    draw_progress(frame, progress, view);
    draw_body(frame, body, view);
    frame.render_widget(Paragraph::new(foot_line(view)), foot);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let name = Span::styled("roost-loadgen ", Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Paragraph::new(Line::from(vec![name, Span::raw(view.title.clone())])), area);
}

fn draw_progress(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let whole_s = view.whole.as_secs_f64();
    let ratio = if whole_s > 0.0 { (1.0 - view.left.as_secs_f64() / whole_s).clamp(0.0, 1.0) } else { 0.0 };
    let left_s = view.left.as_secs_f64().ceil();
    // Only the measured part and what follows it have a length; the others end when they are done.
    let left = match view.stage {
        Stage::Run | Stage::Hold | Stage::Rest => format!("{left_s:.0} s left"),
        _ => format!("at most {left_s:.0} s left"),
    };
    let gauge = LineGauge::default()
        .ratio(ratio)
        .label(format!("{:<6} {left:<18}", view.stage.name()))
        .filled_style(Style::new().fg(Color::Cyan))
        .unfilled_style(Style::new().fg(Color::DarkGray));
    frame.render_widget(gauge, area);
}

fn draw_body(frame: &mut Frame<'_>, area: Rect, view: &View) {
    if area.width < WIDE {
        let rows = Layout::vertical([Constraint::Fill(1); 4]).split(area);
        panels::ALL.iter().zip(rows.iter()).for_each(|(panel, &area)| panel(frame, area, view));
        return;
    }
    let [upper, lower] = Layout::vertical([Constraint::Fill(1); 2]).areas(area);
    for (row, panels) in [upper, lower].into_iter().zip(panels::ALL.chunks(2)) {
        let columns = Layout::horizontal([Constraint::Fill(1); 2]).split(row);
        panels.iter().zip(columns.iter()).for_each(|(panel, &area)| panel(frame, area, view));
    }
}

fn foot_line(view: &View) -> Line<'static> {
    if let Some(by) = view.ending {
        let text =
            format!("ending ({by}): waiting for what is on its way; q again gives up without a report");
        return Line::styled(text, Style::new().fg(Color::Yellow));
    }
    let mut spans = vec![Span::raw("q ends the run with a report")];
    if view.errors > 0 {
        let text = format!("   {} errors, the report has their texts", view.errors);
        spans.push(Span::styled(text, Style::new().fg(Color::Red)));
    }
    Line::from(spans)
}
