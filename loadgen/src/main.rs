//! `roost-loadgen`; see CLI.md and `--help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(roost_loadgen::main_with(std::env::args_os()))
}
