//! The same seed gives the same schedule, byte by byte, in every scenario; another seed another one.

use clap::Parser;
use roost_loadgen::options::Options;
use roost_loadgen::schedule::{Arrivals, Odd, Plan, PlanParams, To};
use roost_loadgen::tools::Program;

fn written(seed: u64, arrivals: Arrivals) -> Vec<u8> {
    let params = PlanParams {
        clients: 300,
        rate_per_s: 1000.0,
        duration_s: 3,
        payload_bytes: 200,
        seed,
        arrivals,
        offline_share: 0.2,
        user_base: 1_000_000_000,
        to: To::OneOther,
        odd: Odd::default(),
    };
    bytes_of(params)
}

fn bytes_of(params: PlanParams) -> Vec<u8> {
    let mut bytes = Vec::new();
    Plan::build(params).unwrap().write_to(&mut bytes).unwrap();
    bytes
}

#[test]
fn two_schedules_of_one_seed_are_the_same_bytes() {
    for arrivals in [Arrivals::Poisson, Arrivals::Uniform] {
        let first = written(42, arrivals);
        assert!(first.len() > 2000 * 200);
        assert!(first == written(42, arrivals));
        assert!(first != written(43, arrivals));
    }
}

/// What a command line makes of a seed: users, times away, groups, messages and payloads.
fn planned(scenario: &[&str], seed: &str) -> Vec<u8> {
    let base = ["roost-loadgen"].iter().chain(scenario);
    let target = ["--url", "ws://198.18.0.1:9000/", "--auth", "none", "--gateway-pid", "1"];
    let size = ["--clients", "200", "--duration-s", "20", "--rate-per-s", "200", "--seed", seed];
    let program = Program::try_parse_from(base.chain(&target).chain(&size)).expect("valid");
    let options = Options::check(program.run.0.expect("a scenario")).expect("valid");
    let mut bytes = bytes_of(options.plan_params());
    // Scenarios without messages differ in who the clients are.
    let plan = Plan::build(options.plan_params()).unwrap();
    (0..200).for_each(|client| bytes.extend(plan.user(client).to_le_bytes()));
    bytes
}

#[test]
fn every_scenario_is_the_same_for_one_seed_and_another_for_another() {
    let scenarios = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let mix = |name: &str| format!("{scenarios}/{name}.toml");
    let (day, game, storm) = (mix("messenger-day"), mix("match-day"), mix("reconnect-storm"));
    for (scenario, least) in [
        (&["idle"][..], 0),
        (&["storm"], 0),
        (&["churn"], 0),
        (&["halfopen", "--kind", "phantom"], 80),
        (&["handshake-drip"], 80),
        (&["echo"], 3_000),
        (&["chat", "--offline-share", "0.3"], 3_000),
        (&["group", "--group-size", "16"], 3_000),
        (&["slow", "--slow-share", "0.3"], 3_000),
        (&["siege", "--attack", "flood"], 3_000),
        (&["mix", "--mix", &day], 1_000),
        (&["mix", "--mix", &game], 500),
        (&["mix", "--mix", &storm], 100),
    ] {
        let first = planned(scenario, "42");
        let lines = first.split(|&byte| byte == b'\n').count();
        assert!(lines >= least, "{scenario:?}: {lines}");
        assert!(first == planned(scenario, "42"), "{scenario:?}");
        assert!(first != planned(scenario, "43"), "{scenario:?}");
    }
}
