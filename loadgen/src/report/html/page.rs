//! The page around the plots: verdict, key figures, thresholds, all numbers, the command line.

use super::axis::Unit;
use super::over_time::plots;
use crate::preflight::Status;
use crate::report::text::{bytes, count, readable};
use crate::report::{Report, Verdict};
use crate::timeline::Point;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The whole page.
///
/// # Errors
/// Where the report cannot be written as JSON.
pub fn page(report: &Report) -> serde_json::Result<String> {
    let fields = serde_json::to_value(report)?;
    // Only our own script runs: whatever a server or a command line brought into the report stays text.
    let hash = STANDARD.encode(Sha256::digest(SCRIPT));
    let policy = format!("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "roost-loadgen: " (report.scenario) ", " (word(report.verdict)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header(report))
                main {
                    (figures(report))
                    (plots(report))
                    (thresholds(report))
                    (errors(report))
                    (limits(report))
                    section {
                        h2 { "Command line" }
                        pre class="card" { code { (command(report)) } }
                    }
                    (numbers(&fields))
                    (seconds(&report.timeline))
                }
                footer { "roost-loadgen " (report.version) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clean => "clean",
        Verdict::Unclean => "unclean",
        Verdict::Saturated => "saturated",
        Verdict::Failed => "failed",
        Verdict::Incomplete => "incomplete",
    }
}

/// How the verdict looks, and what it means.
fn meaning(report: &Report) -> (&'static str, &'static str) {
    match report.verdict {
        Verdict::Clean => {
            ("good", "Nothing was lost, doubled or out of order, and the generator kept its schedule.")
        }
        Verdict::Unclean => {
            ("bad", "The ledger found messages lost, doubled, out of order or against the contract.")
        }
        Verdict::Saturated => {
            ("warn", "The generator could not keep its schedule: this run says nothing about the server.")
        }
        Verdict::Failed => ("bad", "A threshold was crossed."),
        Verdict::Incomplete => {
            ("warn", "Clients did not connect, or messages were refused or never answered.")
        }
    }
}

fn header(report: &Report) -> Markup {
    let (look, text) = meaning(report);
    html! {
        header {
            p class="kind" { "roost-loadgen report" }
            h1 { (report.scenario) " " span class={ "verdict " (look) } { (word(report.verdict)) } }
            p class="lead" { (text) }
            @if let Some(ended) = &report.ended_early {
                p class="lead" {
                    "Ended early by " (ended.by) " in the " (ended.phase.name()) ", after " (Unit::Time.write(ended.at_s))
                    ": judged on what was done by then."
                }
            }
            @if report.saturation.reason.is_some() {
                p class="lead" { "The generator was at its limit, because " (report.saturation.to_string()) "." }
            }
            @if let Some(note) = report.note { p class="note" { (note) "." } }
            dl class="facts" {
                (fact("Began", &report.started_at.replace('T', " ").replace('Z', " UTC")))
                (fact("Measured part", &Unit::Time.write(report.duration_s)))
                (fact("Clients", &format!("{} with {} sockets", count(f64::from(report.clients_target)), report.kind)))
                (fact("Seed", &report.seed.to_string()))
                (fact("Host", &format!("Linux {}, {} CPUs, {}", report.host.kernel, report.host.cpus, bytes(report.host.memory_bytes as f64))))
            }
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn figures(report: &Report) -> Markup {
    let mut tiles = vec![(
        "Connected",
        count(report.clients_connected as f64),
        format!(
            "of {} at {}/s, {} failed, {} dropped",
            count(f64::from(report.clients_target)),
            count(report.connect_per_s),
            count(report.clients_failed as f64),
            count(report.clients_dropped as f64)
        ),
    )];
    if report.messages_sent > 0 {
        tiles.push((
            "Messages sent",
            count(report.messages_sent as f64),
            format!("{}/s", count(report.send_rate_per_s)),
        ));
        let bad = report.messages_lost + report.messages_duplicated + report.messages_out_of_order;
        tiles.push((
            "Lost, doubled, disordered",
            count(bad as f64),
            format!(
                "{}, {}, {}",
                report.messages_lost, report.messages_duplicated, report.messages_out_of_order
            ),
        ));
    }
    let from =
        if report.closed_loop { "from the sending: stalls hide in it" } else { "from the scheduled time" };
    let latency = &report.latency_us;
    if latency.count > 0 {
        tiles.push(("Latency p50", readable(latency.p50), from.into()));
        tiles.push((
            "Latency p99",
            readable(latency.p99),
            format!("p99.9 {}, max {}", readable(latency.p999), readable(latency.max)),
        ));
    }
    if report.latency_sent_us.count > 0 {
        let sent = &report.latency_sent_us;
        tiles.push(("To Sent p99", readable(sent.p99), format!("p50 {}", readable(sent.p50))));
    }
    let memory = &report.memory_bytes_per_client;
    if let Some(total) = memory.total.or(memory.kernel) {
        let gateway = memory
            .gateway
            .map_or("gateway not measured".into(), |gateway| format!("gateway {}", bytes(gateway)));
        tiles.push((
            "Memory a client",
            bytes(total),
            format!("kernel {}, {gateway}", memory.kernel.map_or("-".into(), bytes)),
        ));
    }
    if let Some(cpu_s) = report.gateway_cpu_s.filter(|_| report.duration_s > 0.0) {
        tiles.push((
            "Gateway CPU",
            format!("{:.2}", cpu_s / report.duration_s),
            "CPUs busy in the measured part".into(),
        ));
    }
    html! {
        section {
            h2 { "Key figures" }
            ul class="tiles" {
                @for (name, value, more) in &tiles {
                    li class="card" { span class="name" { (name) } strong { (value) } span class="more" { (more) } }
                }
            }
        }
    }
}

fn thresholds(report: &Report) -> Markup {
    html! {
        @if !report.fail_if.is_empty() {
            section {
                h2 { "Thresholds" }
                ul class="card list" {
                    @for condition in &report.fail_if {
                        @let held = report.fail_if_held.contains(condition);
                        li { span class={ "verdict " (if held { "bad" } else { "good" }) } { (if held { "failed" } else { "passed" }) } " fails if " code { (condition) } }
                    }
                }
            }
        }
    }
}

fn errors(report: &Report) -> Markup {
    html! {
        @if !report.errors.is_empty() {
            section {
                h2 { "Errors" }
                div class="card scroll" { table {
                    thead { tr { th scope="col" { "times" } th scope="col" { "error" } } }
                    tbody { @for (text, number) in &report.errors { tr { td class="number" { (count(*number as f64)) } td { (text) } } } }
                } }
            }
        }
    }
}

/// The limits at both ends that the run had to do with.
fn limits(report: &Report) -> Markup {
    let found = || report.preflight.iter().filter(|finding| finding.status != Status::Ok);
    html! {
        @if found().next().is_some() {
            section {
                h2 { "Limits" }
                p class="note" { "What was short, or could not be read, before the run." }
                div class="card scroll" { table {
                    thead { tr { @for name in ["limit", "is", "needed", "what lifts it"] { th scope="col" { (name) } } } }
                    tbody { @for finding in found() { tr {
                        th scope="row" { (finding.limit) }
                        td { (finding.current) }
                        td { (finding.required) }
                        td { (finding.lift.as_deref().unwrap_or_default()) }
                    } } }
                } }
            }
        }
    }
}

/// The command line as a shell would take it.
fn command(report: &Report) -> String {
    let plain = |argument: &str| {
        !argument.is_empty()
            && argument.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c))
    };
    let quoted = |argument: &String| {
        if plain(argument) { argument.clone() } else { format!("'{}'", argument.replace('\'', "'\\''")) }
    };
    report.command.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Every single value of the report, by its name in the JSON report.
fn numbers(fields: &Value) -> Markup {
    let mut rows = Vec::new();
    flatten("", fields, &mut rows);
    html! {
        section {
            h2 { "All numbers" }
            p class="note" { "By their names in the JSON report (--json). Units stand last in a name." }
            div class="card scroll" { table class="numbers" {
                thead { tr { th scope="col" { "field" } th scope="col" { "value" } } }
                tbody { @for (name, value) in &rows { tr { th scope="row" { code { (name) } } td class="number" { (value) } } } }
            } }
        }
    }
}

/// What has a place of its own on the page.
const SHOWN: [&str; 7] =
    ["timeline", "latency_histogram", "errors", "command", "fail_if", "fail_if_held", "note"];

fn flatten(prefix: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let below = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
    match value {
        Value::Object(fields) => {
            for (name, value) in
                fields.iter().filter(|(name, _)| !prefix.is_empty() || !SHOWN.contains(&name.as_str()))
            {
                flatten(&below(name), value, rows);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                flatten(&below(&index.to_string()), value, rows);
            }
        }
        Value::Null => rows.push((prefix.to_owned(), "not measured".into())),
        Value::Number(number) => rows.push((prefix.to_owned(), written(number))),
        Value::String(text) => rows.push((prefix.to_owned(), text.clone())),
        Value::Bool(truth) => rows.push((prefix.to_owned(), truth.to_string())),
    }
}

fn written(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(value) if !number.is_u64() && !number.is_i64() => format!("{value:.3}"),
        _ => number.to_string(),
    }
}

/// The plots' values as a table, for those who do not see them or want the numbers.
fn seconds(points: &[Point]) -> Markup {
    let latency = |us: u64, count: u64| if count > 0 { readable(us) } else { "-".into() };
    html! {
        section {
            details class="card" {
                summary { "The timeline as a table" }
                div class="scroll" { table {
                    thead { tr {
                        @for name in ["at", "phase", "open", "connects/s", "sent/s", "received/s", "p50", "p99", "max", "errors", "memory a client", "gateway CPUs"] {
                            th scope="col" { (name) }
                        }
                    } }
                    tbody { @for point in points { tr {
                        td class="number" { (Unit::Time.write(point.at_s)) }
                        td { (point.phase.name()) }
                        @for value in [point.clients_open as f64, point.connect_per_s, point.sent_per_s, point.received_per_s] {
                            td class="number" { (count(value)) }
                        }
                        @for us in [point.latency_us.p50, point.latency_us.p99, point.latency_us.max] {
                            td class="number" { (latency(us, point.latency_us.count)) }
                        }
                        td class="number" { (point.errors) }
                        td class="number" { (point.memory_bytes_per_client.total.map_or("-".into(), bytes)) }
                        td class="number" { (point.gateway_cpus.map_or("-".into(), |cpus| format!("{cpus:.2}"))) }
                    } } }
                } }
            }
        }
    }
}
