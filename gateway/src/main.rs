//! `roost-gateway`: the gateway with its embedded router and store.
#![forbid(unsafe_code)]

mod serve;

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;
use nix::sys::stat::{Mode, umask};
use roost_gateway::{
    capacity::Machine,
    config::{BackendKind, Config, Options},
};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Without `RUST_LOG`: the store's own news only when something is wrong.
const LOG_DEFAULT: &str = "info,fjall=warn,lsm_tree=warn";

/// Usage, configuration, or something at start that an operator has to put right.
const EXIT_CONFIGURATION: u8 = 2;
/// It ran, and failed.
const EXIT_FAILED: u8 = 1;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) if error.use_stderr() => {
            return fail(EXIT_CONFIGURATION, &in_one_line(&error.to_string()));
        }
        // --help and --version.
        Err(answer) => answer.exit(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT)))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    // Whatever is made is for this user alone, also where nobody has set a mask for us.
    umask(Mode::from_bits_truncate(0o077));
    // A ring's table is bounded by the soft limit; where it cannot be raised, the one in force counts.
    let files_max = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
    // The rings' memory is charged against it; where it cannot be raised, the capacity is worked out with what there is.
    let _ = rlimit::Resource::MEMLOCK.get().and_then(|(_, hard)| rlimit::Resource::MEMLOCK.set(hard, hard));
    let config = match options.resolve(&Machine::read(files_max)) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_CONFIGURATION, &error.to_string()),
    };
    serve_all(&config)
}

/// Serves until a signal or a successor comes; and again, on the same sockets, where the successor did not get to it.
fn serve_all(config: &Config) -> ExitCode {
    let (signals, mut kept) = (serve::Watched::default(), None);
    loop {
        let again = kept.is_some();
        let running = match serve::start(config, &signals, kept) {
            Ok(running) => running,
            Err(error) => return fail(EXIT_CONFIGURATION, &format!("{error:#}")),
        };
        if again {
            // Who waited for the first one has read it, and may have closed stdout.
            tracing::info!("serves again: {}", running.ready_line());
        } else {
            println!("{}", running.ready_line());
            if config.backend == BackendKind::Router {
                eprintln!("the web page: http://{}/", running.http_address());
            }
        }
        match running.wait() {
            Ok(None) => return ExitCode::SUCCESS,
            Ok(sockets) => kept = sockets,
            Err(error) => return fail(EXIT_FAILED, &format!("{error:#}")),
        }
    }
}

/// What clap says of a usage error, up to its hints.
fn in_one_line(error: &str) -> String {
    let lines = error.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let what = lines.collect::<Vec<_>>().join(" ");
    format!("{}; --help lists what there is", what.trim_start_matches("error: "))
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("roost-gateway: {}", message.replace('\n', " "));
    ExitCode::from(code)
}
