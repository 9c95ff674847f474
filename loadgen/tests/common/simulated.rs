//! What simulations of whole phantoms are built of: options without a machine behind them, a clock that is moved by hand.

use super::cable::PORT;
use clap::Parser;
use quanta::{Clock, Mock};
use roost_loadgen::meters::Counters;
use roost_loadgen::options::Options;
use roost_loadgen::phantom::address::{Addresses, SERVER};
use roost_loadgen::phantom::packet::Endpoint;
use roost_loadgen::phantom::tcp::Setup;
use roost_loadgen::schedule::Plan;
use roost_loadgen::siege::Phases;
use roost_loadgen::tools::Program;
use roost_loadgen::worker::Shared;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

pub const CLIENTS: u32 = 8;

/// A run of [`CLIENTS`] phantoms, and the hand that moves its clock.
pub fn run(scenario: &str, more: &[&str], seed: u64) -> (Arc<Shared>, Arc<Mock>) {
    let arguments = ["roost-loadgen", scenario, "--kind", "phantom", "--url", "ws://198.18.0.1:9000/"];
    let clients = ["--gateway-pid", "1", "--clients", "8", "--ramp-per-s", "100"];
    let arguments = arguments.iter().chain(&clients).chain(more);
    let options = Options::check(Program::try_parse_from(arguments).expect("valid").run.0.expect("a run"))
        .expect("valid");
    let (clock, time) = Clock::mock();
    // Zero is no time to a mock clock's differences.
    time.increment(Duration::from_secs(1));
    let shared = Shared {
        plan: Plan::build(options.plan_params()).expect("a plan"),
        phases: Phases::default(),
        ramp_begun: clock.now(),
        counters: Counters::default(),
        ruled_out: OnceLock::new(),
        cut_us: AtomicU64::new(u64::MAX),
        timeline: Mutex::default(),
        run_id: seed,
        clock,
        options,
    };
    (Arc::new(shared), time)
}

/// Their TCP, with this many flights.
pub fn setup(seed: u64, flights: u32) -> Setup {
    Setup {
        server: Endpoint { address: SERVER, port: PORT },
        addresses: Addresses::new(CLIENTS, 1, 0),
        seed,
        verify: true,
        flights,
    }
}
