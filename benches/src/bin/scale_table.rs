//! Makes the tables and the plot of docs/MEMORY.md from the reports of `benches/scale.sh`.
//!
//! `cargo run --release -p roost-benches --bin scale_table -- SVG REPORT.json...` prints Markdown and writes the plot.

use std::{env, fs, path::Path};

use anyhow::{Context, Result, bail};
use plotters::prelude::*;
use serde::Deserialize;

/// Owners below this many bytes a session are summed up as one.
const NAMED_BYTES_MIN: f64 = 8.0;

/// What is read of a report of `roost-loadgen`.
#[derive(Deserialize)]
struct Report {
    clients_target: u64,
    clients_connected: u64,
    clients_dropped: u64,
    connect_per_s: f64,
    duration_s: f64,
    gateway_cpu_s: Option<f64>,
    memory_bytes_per_client: Shares,
    slab: Vec<Slab>,
}

#[derive(Deserialize)]
struct Shares {
    kernel: Option<f64>,
    gateway: Option<f64>,
    host: Option<f64>,
    generator: Option<f64>,
}

#[derive(Deserialize)]
struct Slab {
    cache: String,
    object_bytes: u64,
    bytes_per_client: f64,
}

/// One owner's bytes a session in each report.
struct Owner {
    name: String,
    bytes: Vec<f64>,
}

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let Some(svg) = arguments.next() else { bail!("usage: scale_table SVG REPORT.json...") };
    let mut reports = arguments.map(|path| read(Path::new(&path))).collect::<Result<Vec<_>>>()?;
    if reports.is_empty() {
        bail!("no report was named");
    }
    reports.sort_by_key(|report| report.clients_target);
    let owners = owners(&reports);
    print_runs(&reports);
    print_owners(&reports, &owners);
    plot(Path::new(&svg), &reports, &owners).with_context(|| format!("{svg} cannot be written"))
}

fn read(path: &Path) -> Result<Report> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report of roost-loadgen", path.display()))
}

/// All owners, the kernel's caches first. They add up to what the machine lost, as far as it was measured.
fn owners(reports: &[Report]) -> Vec<Owner> {
    let mut names: Vec<(String, f64)> = Vec::new();
    for slab in reports.iter().flat_map(|report| &report.slab) {
        let name = format!("{} ({} B)", slab.cache, slab.object_bytes);
        match names.iter_mut().find(|known| known.0 == name) {
            Some(known) => known.1 = known.1.max(slab.bytes_per_client),
            None => names.push((name, slab.bytes_per_client)),
        }
    }
    names.retain(|(_, most)| *most >= NAMED_BYTES_MIN);
    names.sort_by(|one, other| other.1.total_cmp(&one.1));
    let cache = |report: &Report, name: &str| {
        let named = |slab: &&Slab| format!("{} ({} B)", slab.cache, slab.object_bytes) == name;
        report.slab.iter().find(named).map_or(0.0, |slab| slab.bytes_per_client)
    };
    let mut owners: Vec<Owner> = names
        .iter()
        .map(|(name, _)| Owner {
            name: name.clone(),
            bytes: reports.iter().map(|report| cache(report, name)).collect(),
        })
        .collect();
    let named: Vec<f64> =
        (0..reports.len()).map(|at| owners.iter().map(|owner| owner.bytes[at]).sum()).collect();
    let others = reports.iter().zip(&named).map(|(report, named)| kernel(report) - named).collect();
    owners.push(Owner { name: "other slabs".to_owned(), bytes: others });
    let gateway = reports.iter().map(|report| report.memory_bytes_per_client.gateway.unwrap_or_default());
    owners.push(Owner { name: "gateway and router (RSS)".to_owned(), bytes: gateway.collect() });
    owners
}

fn kernel(report: &Report) -> f64 {
    report.memory_bytes_per_client.kernel.unwrap_or_default()
}

/// What the machine lost, the load generator's own memory not counted.
fn host(report: &Report) -> f64 {
    let shares = &report.memory_bytes_per_client;
    shares.host.unwrap_or_default() - shares.generator.unwrap_or_default()
}

fn print_runs(reports: &[Report]) {
    println!("| sessions | held | lost | connects/s | held for | gateway CPU a session | bytes a session |");
    println!("|---|---|---|---|---|---|---|");
    for report in reports {
        let cpu_us = report.gateway_cpu_s.map_or_else(
            || "not measured".to_owned(),
            |cpu_s| {
                format!(
                    "{:.3} us/s",
                    cpu_s * 1e6 / report.duration_s / report.clients_connected.max(1) as f64
                )
            },
        );
        println!(
            "| {} | {} | {} | {:.0} | {:.0} s | {cpu_us} | {:.0} |",
            millions(report.clients_target),
            report.clients_connected,
            report.clients_dropped,
            report.connect_per_s,
            report.duration_s,
            host(report)
        );
    }
    println!();
}

fn print_owners(reports: &[Report], owners: &[Owner]) {
    let heads: Vec<String> = reports.iter().map(|report| millions(report.clients_target)).collect();
    println!("| owner | {} |", heads.join(" | "));
    println!("|---|{}", "---|".repeat(reports.len()));
    let row = |name: &str, bytes: Vec<f64>| {
        let bytes: Vec<String> = bytes.iter().map(|bytes| format!("{bytes:.0}")).collect();
        println!("| {name} | {} |", bytes.join(" | "));
    };
    for owner in owners {
        row(&owner.name, owner.bytes.clone());
    }
    let sum = |at: usize| owners.iter().map(|owner| owner.bytes[at]).sum();
    row("**slabs + RSS**", (0..reports.len()).map(sum).collect());
    row("**MemTotal-MemFree-Buffers-Cached**, generator not counted", reports.iter().map(host).collect());
}

fn millions(count: u64) -> String {
    if count < 1_000_000 { format!("{} k", count / 1_000) } else { format!("{} M", count as f64 / 1e6) }
}

/// Stacked bars: bytes a session by owner, one bar a size.
fn plot(path: &Path, reports: &[Report], owners: &[Owner]) -> Result<()> {
    let root = SVGBackend::new(path, (900, 560)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = reports.iter().map(host).fold(0.0, f64::max).max(5_000.0);
    let mut chart = ChartBuilder::on(&root)
        .caption("Memory of an idle session", ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..reports.len() as f64 + 1.4, 0.0..most * 1.05)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .y_label_formatter(&|bytes| format!("{bytes:.0}"))
        .y_desc("bytes a session")
        .x_desc("sessions")
        .x_labels(2 * reports.len() + 3)
        .x_label_formatter(&|at| {
            let bar = at - 0.5;
            let report =
                (bar.fract().abs() < 0.01 && bar >= 0.0).then(|| reports.get(bar as usize)).flatten();
            report.map_or_else(String::new, |report| millions(report.clients_target))
        })
        .draw()?;
    let mut below = vec![0.0; reports.len()];
    for (place, owner) in owners.iter().enumerate() {
        let colour = Palette99::pick(place).mix(0.85);
        let bars = owner.bytes.iter().enumerate().map(|(at, bytes)| {
            let bottom = below[at];
            below[at] += bytes.max(0.0);
            Rectangle::new([(at as f64 + 0.15, bottom), (at as f64 + 0.85, below[at])], colour.filled())
        });
        let series = chart.draw_series(bars.collect::<Vec<_>>())?;
        let swatch = move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled());
        series.label(owner.name.clone()).legend(swatch);
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK.mix(0.3)).draw()?;
    root.present()?;
    Ok(())
}
