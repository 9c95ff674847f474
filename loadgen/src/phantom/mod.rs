//! Phantom clients: TCP spoken in user space over a TUN device.

pub mod gateway;
pub mod ground;
pub mod namespace;
pub mod watch;

use crate::host::Reading;
use crate::options::Options;
use crate::report::{PHANTOM_NOTE, Report};
use std::time::{Duration, Instant};

/// Holds the ground for the length of a run.
///
/// # Errors
/// As [`ground::prepare`]; and the reason where the run had to end early.
pub fn run(mut options: Options) -> anyhow::Result<Report> {
    let mut ground = ground::prepare(&mut options)?;
    let before = Reading::take(Some(ground.gateway_pid));
    let end = Instant::now() + Duration::from_secs(options.cli.duration_s);
    while Instant::now() < end {
        if let Some(reason) = ground.stopped() {
            anyhow::bail!("{reason}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let held = Reading::take(Some(ground.gateway_pid));
    let mut report = Report {
        scenario: options.cli.scenario.name(),
        kind: options.cli.kind.name(),
        note: Some(PHANTOM_NOTE),
        tcp_hash_buckets: ground.hash_buckets,
        network: held.network.since(&before.network),
        ..Report::default()
    };
    report.measure(&before, &held, 1);
    ground.finish()?;
    Ok(report)
}
