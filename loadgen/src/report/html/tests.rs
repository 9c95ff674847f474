use super::page;
use crate::fail_if::Condition;
use crate::report::Report;
use crate::timeline::{Point, Stage};

fn report() -> Report {
    let point = |second: u64| {
        let mut point = Point::example();
        (point.at_s, point.clients_open) = (second as f64 + 1.0, 40 + second);
        point.phase = if second < 3 { Stage::Ramp } else { Stage::Run };
        (point.sent_per_s, point.latency_us.count, point.latency_us.p50) = (100.0, 100, 300 * (second + 1));
        (point.latency_us.p99, point.latency_us.max) = (4000, 90_000);
        point
    };
    let mut report = Report {
        timeline: (0..12).map(point).collect(),
        timeline_interval_s: 1,
        messages_sent: 900,
        ..Report::example()
    };
    report.command = ["roost-loadgen", "echo", "--url", "ws://host/"].map(str::to_owned).to_vec();
    report.latency_us.count = 900;
    report
}

#[test]
fn the_page_loads_nothing_and_shows_every_plot_and_number() {
    let page = page(&report()).expect("a page");
    for address in ["src=", "href=", "@import", "url(", "http://", "https://"] {
        assert!(!page.contains(address), "{address}");
    }
    for id in ["connections", "connect-rate", "messages", "latency", "histogram", "memory", "cpu"] {
        assert!(page.contains(&format!("id=\"{id}-title\"")), "{id}");
        assert!(page.contains(&format!("id=\"{id}-text\"")), "{id} without words");
    }
    assert_eq!(page.matches("<svg role=\"img\"").count(), page.matches("aria-describedby").count());
    let fields = serde_json::to_value(report()).expect("JSON");
    let is_empty = |value: &serde_json::Value| value.as_array().is_some_and(Vec::is_empty);
    for (name, _) in fields.as_object().expect("an object").iter().filter(|(_, value)| !is_empty(value)) {
        let elsewhere = [
            "preflight",
            "timeline",
            "latency_histogram",
            "errors",
            "command",
            "fail_if",
            "fail_if_held",
            "note",
        ];
        let has = |text: String| page.contains(&text);
        assert!(
            elsewhere.contains(&name.as_str())
                || has(format!("<code>{name}</code>"))
                || has(format!("<code>{name}.")),
            "{name}"
        );
    }
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"));
    assert!(page.contains("<code>roost-loadgen echo --url ws://host/</code>"));
}

#[test]
fn what_comes_from_outside_stays_text() {
    let evil = "</script><script>alert(1)</script>'\"&";
    let mut report = report();
    report.command.push(evil.into());
    report.errors.push((evil.into(), 1));
    report.host.kernel = evil.into();
    report.judge(&["scenario != '<script>alert(1)</script>'".parse::<Condition>().expect("valid")]);
    let page = page(&report).expect("a page");
    assert!(!page.contains("<script>alert"), "it would run");
    assert_eq!(page.matches("<script").count(), 1, "our own, and the policy lets no other run");
    assert!(page.matches("&lt;script&gt;alert(1)").count() >= 4, "it is told all the same");
    assert!(page.contains("script-src 'sha256-"));
}

#[test]
fn a_report_with_nothing_in_it_is_a_page_too() {
    let page = page(&Report::default()).expect("a page");
    assert!(page.contains("All numbers") && !page.contains("NaN") && !page.contains("inf"));
}
