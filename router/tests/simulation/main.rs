//! Random users, devices, messages, losses, failures and crashes against partitions and their store, with a plain model beside
//! them. Each seed is a world of its own; whatever it does can be replayed.
//!
//! A failing seed is named in the panic, with the command that replays it and tells each step. `ROOST_SEEDS=n` tries n of them
//! in memory, and as many on disk in proportion.

mod check;
mod check_groups;
mod device;
mod disk;
mod groups;
mod host;
mod keys;
mod model;
mod observe;
mod random;
mod steps;
mod thread;
mod wire;
mod world;

use disk::Disk;
use random::Rng;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};
use steps::Habits;
use world::World;

const PARTITIONS: u16 = 5;
const SEEDS: u64 = 10_000;
const SEEDS_ON_DISK: u64 = 20;
const STEPS: usize = 150;
const THREADS: usize = 2;

fn run(seed: u64, disk: Disk, is_told: bool) {
    let mut world = World::new(seed, disk, is_told);
    let habits = Habits::new(&mut Rng(!seed));
    for _ in 0..STEPS {
        world.step(&habits);
    }
    world.heal();
    world.check();
    world.check_groups();
    world.check_acknowledged();
    world.check_keys();
    world.check_forgotten();
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Runs seeds 0 to `count` - 1, or the one that is named, and says how to replay the first that fails.
fn seeds(test: &str, count: u64, disk: fn(u16) -> Disk) {
    if let Some(seed) = number("ROOST_SEED") {
        return run(seed, disk(PARTITIONS), true);
    }
    let count = number("ROOST_SEEDS").map_or(count, |seeds| seeds * count / SEEDS);
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count || failed.load(Ordering::Relaxed) != u64::MAX {
                        break;
                    }
                    if catch_unwind(AssertUnwindSafe(|| run(seed, disk(PARTITIONS), false))).is_err() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seed = failed.into_inner();
    assert!(
        seed == u64::MAX,
        "seed {seed} failed; replay it, step by step:\n  ROOST_SEED={seed} cargo test -p roost-router --test simulation \
         {test} -- --exact --nocapture"
    );
}

#[test]
fn nothing_is_lost_doubled_or_disordered() {
    seeds("nothing_is_lost_doubled_or_disordered", SEEDS, Disk::memory);
}

#[test]
fn the_same_over_a_store_on_disk() {
    seeds("the_same_over_a_store_on_disk", SEEDS_ON_DISK, Disk::files);
}
