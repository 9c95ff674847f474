//! Counts the instructions of the gateway's hot functions, and tells when a count has changed.
//!
//! Time is noise on a shared machine; the number of instructions is the same in each run of one build. Every function is run twice under
//! callgrind, with setup and rounds, then with half the rounds, and the difference is what the rounds cost.

mod chat;
mod feed;
mod frames;
mod hot;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};
use hot::{ALL, Hot, ROUNDS};

/// A change of more than this part, either way, has to be written into the file of counts.
const TOLERANCE: f64 = 0.03;

/// Counts the instructions of the gateway's hot functions (valgrind has to be installed).
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Counts, and fails where a count is off by more than 3 % from the file's.
    Check,
    /// Counts, and writes the file anew: the change is deliberate.
    Update,
    /// Counts those whose name has this text in it, and prints them.
    Count {
        /// A part of the name.
        #[arg(default_value = "")]
        name: String,
    },
    /// Runs one, for callgrind.
    Run {
        /// Its whole name.
        name: String,
        /// Rounds.
        rounds: u32,
    },
}

/// Instructions an operation, by name.
type Counts = BTreeMap<String, u64>;

fn main() -> ExitCode {
    match carry_out(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(task: Task) -> Result<()> {
    match task {
        Task::Run { name, rounds } => {
            let hot =
                ALL.iter().find(|hot| hot.name == name).with_context(|| format!("{name} is not counted"))?;
            (hot.run)(rounds);
            Ok(())
        }
        Task::Count { name } => {
            for (name, count) in count_all(&name)? {
                println!("{count:>8}  {name}");
            }
            Ok(())
        }
        Task::Update => {
            let text = format!("{HEAD}{}", toml::to_string(&count_all("")?)?);
            fs::write(file(), text).with_context(|| format!("cannot write {}", file().display()))
        }
        Task::Check => check(),
    }
}

const HEAD: &str = "\
# Instructions an operation of the gateway's hot functions, counted by callgrind. Checked in CI to 3 %; after a deliberate change:
# cargo run --profile counted -p roost-instructions -- update
";

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.toml")
}

fn check() -> Result<()> {
    let text = fs::read_to_string(file()).with_context(|| format!("cannot read {}", file().display()))?;
    let kept: Counts =
        toml::from_str(&text).with_context(|| format!("{} has no counts", file().display()))?;
    let counted = count_all("")?;
    let mut changed = Vec::new();
    for (name, &count) in &counted {
        match kept.get(name) {
            Some(&kept) => {
                let change = count as f64 / kept as f64 - 1.0;
                println!("{count:>8}  {:+6.1} %  {name}", 100.0 * change);
                if change.abs() > TOLERANCE {
                    changed.push(format!("{name}: {kept} before, {count} now"));
                }
            }
            None => changed.push(format!("{name}: {count}, and none is in the file")),
        }
    }
    changed.extend(
        kept.keys()
            .filter(|name| !counted.contains_key(*name))
            .map(|name| format!("{name} is not counted any more")),
    );
    ensure!(
        changed.is_empty(),
        "these changed by more than 3 %:\n  {}\nWhere that is meant, say why in the commit and write the file anew: \
         cargo run --profile counted -p roost-instructions -- update",
        changed.join("\n  ")
    );
    Ok(())
}

/// Counts those whose name has `part` in it, on as many threads as there are processors.
fn count_all(part: &str) -> Result<Counts> {
    let all: Vec<&Hot> = ALL.iter().filter(|hot| hot.name.contains(part)).collect();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(all.len().max(1));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let mine: Vec<_> = all.iter().copied().skip(worker).step_by(threads).collect();
                scope.spawn(move || {
                    mine.into_iter()
                        .map(|hot| Ok((hot.name.to_owned(), count(hot)?)))
                        .collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let mut counts = Counts::new();
        for worker in workers {
            counts.extend(worker.join().expect("no panic")?);
        }
        Ok(counts)
    })
}

fn count(hot: &Hot) -> Result<u64> {
    let (long, short) = (collected(hot, ROUNDS)?, collected(hot, ROUNDS / 2)?);
    let operations = u64::from((ROUNDS - ROUNDS / 2) * hot.operations);
    Ok((long - short).div_ceil(operations))
}

/// Instructions of a whole run.
fn collected(hot: &Hot, rounds: u32) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["run", hot.name, &rounds.to_string()])
        .output()
        .context("cannot run valgrind: install it (Debian: apt-get install valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{} failed under callgrind:\n{said}", hot.name);
    }
    let line = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = line.with_context(|| format!("callgrind told no count:\n{said}"))?;
    count.trim().parse().with_context(|| format!("{count} is no count"))
}
