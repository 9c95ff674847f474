//! `roost-tune`: checks a machine for the number of connections it is to hold, and makes it fit.
#![forbid(unsafe_code)]

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Checks a machine for the connections it is to hold, and tunes it
///
/// This version answers --help only; check, plan, apply, verify and rollback come with a later one.
#[derive(Parser)]
#[command(name = "roost-tune", version, about, long_about, arg_required_else_help = true)]
struct Options {}

fn main() {
    Options::parse();
}
