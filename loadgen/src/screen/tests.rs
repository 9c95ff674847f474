use super::{View, draw};
use crate::limits::SCREEN_POINTS_MAX;
use crate::meters::Counters;
use crate::report::Latency;
use crate::timeline::{MemoryPoint, Point, Stage};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What the screen shows after so many seconds of a run of 60.
fn view(seconds: u32) -> View {
    let mut view = View {
        title: "echo 127.0.0.1:9000 · kernel clients · seed 1".into(),
        clients_target: 1200,
        ..View::default()
    };
    for second in 0..seconds {
        let us = 200 + 10 * u64::from(second % 7);
        let latency = Latency { count: 100, p50: us, p90: 2 * us, p99: 9_300, p999: 20_000, max: 1_500_000 };
        let total = MemoryPoint { kernel: Some(3000.0), gateway: Some(1096.0), total: Some(4096.0) };
        view.add(Some(Point {
            at_s: f64::from(second) + 1.0,
            phase: Stage::Run,
            clients_open: u64::from(1200.min(second * 400)),
            sent_per_s: 4_321.0,
            received_per_s: 4_320.0,
            latency_us: latency,
            memory_bytes_per_client: total,
            gateway_cpus: Some(0.75),
            gateway_rss_bytes: Some(50 << 20),
            generator_cpus: 0.25,
            errors: u64::from(second == 1),
            ..Point::default()
        }));
    }
    let counters = Counters::default();
    for (counter, value) in [
        (&counters.open, 1200),
        (&counters.connected, 1200),
        (&counters.dropped, 3),
        (&counters.sent, 98_765),
    ] {
        counter.store(value, Relaxed);
    }
    view.update(Stage::Run, Duration::from_mins(1), &counters, None);
    view.update(Stage::Run, Duration::from_secs(u64::from(60 - seconds)), &counters, None);
    view
}

/// The screen as text, a line a row.
fn shown(view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
    terminal.draw(|frame| draw(frame, view)).expect("it cannot fail");
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect();
    (0..height).map(row).collect()
}

#[test]
fn eighty_by_twenty_four_has_all_the_numbers_and_four_plots() {
    let rows = shown(&view(20), 80, 24);
    let all = rows.join("\n");
    for text in [
        "roost-loadgen echo 127.0.0.1:9000 · kernel clients · seed 1",
        "run    40 s left",
        "open 1,200 of 1,200",
        "failed 0  dropped 3",
        "sent 4,321/s  received 4,320/s",
        "all 98,765 sent",
        "p50 250 us  p90 500 us",
        "p99 9.3 ms  p99.9 20.0 ms  max 1.5 s",
        "a client 4.0 KiB  gateway 50.0 MiB",
        "CPUs gateway 0.75  generator 0.25",
        "generator's lag p99 0 us",
        "q ends the run with a report   1 errors",
    ] {
        assert!(all.contains(text), "{text}\n{all}");
    }
    // The empty braille cell is no part of a line.
    let braille = |row: &&String| row.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c));
    let (upper, lower) = rows.split_at(12);
    assert!(upper.iter().filter(braille).count() >= 2 && lower.iter().filter(braille).count() >= 2, "{all}");
    assert!(all.contains("10.0 ms") && all.contains("100 us"), "the latency's axis\n{all}");
}

#[test]
fn any_size_is_drawn_and_the_numbers_go_before_the_plots() {
    for width in [0, 1, 2, 3, 5, 11, 20, 21, 30, 40, 63, 64, 65, 80, 139] {
        for height in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 24, 49] {
            for seconds in [0, 1, 20] {
                shown(&view(seconds), width, height);
            }
        }
    }
    let narrow = shown(&view(20), 44, 20).join("\n");
    for text in ["open 1,200 of 1,200", "sent 4,321/s", "p99 9.3 ms", "generator 0.25", "q ends the run"] {
        assert!(narrow.contains(text), "{text}\n{narrow}");
    }
    assert!(shown(&view(20), 80, 10).join("\n").contains("p99 9.3 ms"));
}

#[test]
fn an_ending_run_says_what_it_waits_for() {
    let mut view = view(20);
    view.update(Stage::Drain, Duration::from_secs(15), &Counters::default(), Some("q"));
    let rows = shown(&view, 80, 24);
    assert!(rows[1].contains("drain  at most 15 s left"), "{}", rows[1]);
    assert!(rows[23].contains("ending (q): waiting for what is on its way"), "{}", rows[23]);
}

#[test]
fn the_points_are_bounded() {
    let mut view = View::default();
    for second in 0..2 * SCREEN_POINTS_MAX {
        view.add(Some(Point { at_s: second as f64, ..Point::default() }));
    }
    assert_eq!((view.points.len(), view.points[0].at_s as usize), (SCREEN_POINTS_MAX, SCREEN_POINTS_MAX));
}
