//! The same seed gives the same schedule, byte by byte; another seed another one.

use roost_loadgen::schedule::{Arrivals, Plan, PlanParams, To};

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
    };
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
