//! `roost-tune`: checks a machine for the number of connections it is to hold, makes it fit, and brings back what was there.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use roost_tuning::{commands, error::Usage, options::Options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match commands::run(Options::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("roost-tune: {error:#}");
            let is_usage = error.is::<Usage>();
            ExitCode::from(if is_usage { commands::EXIT_USAGE } else { commands::EXIT_SHORT })
        }
    }
}
