//! docs/TUNING.md, made from the table: the guide and the tool cannot disagree.

use std::fmt::Write as _;

use crate::{
    demand::{Demand, Kind},
    places,
    probe::OPERATIONS,
    setting::{Rule, Scope, Setting},
    table::{self, folklore::FOLKLORE},
};

/// Connections for which the guide tells the numbers.
const SIZES: [u64; 3] = [100_000, 1_000_000, 10_000_000];

const HEAD: &str = "# Tuning a machine

This page is generated from the table of `roost-tune` (`tuning/src/table/`):
`ROOST_REGENERATE=1 cargo test -p roost-tuning` writes it anew, and a test fails when the two disagree. What the tool says on a real machine
stands in [TUNING_EXAMPLE.md](TUNING_EXAMPLE.md).

```sh
roost-tune check --connections 1M        # every setting: current, required, why, cost, scope, status
roost-tune plan --connections 1M         # every write that apply would do; --script gives a shell script
sudo roost-tune apply --connections 1M   # shows the plan, saves what is there, writes
roost-tune verify --connections 1M       # reads the kernel again, and what is read at the next start
sudo roost-tune rollback                 # exactly what was there before the first apply
roost-tune explain tcp_tw_recycle        # what is known of a setting, or why advice is refused
roost-tune size --users 5M               # servers, memory, disks and lines: docs/CAPACITY.md
```

A gateway that systemd starts has its unit in [`tuning/units/`](../tuning/units/): copy it to `/etc/systemd/system/` first; the drop-in that apply writes raises its
limits. A copy of a machine's files for `--root` is made by

```sh
cp -r --parents /proc/sys/fs /proc/sys/kernel /proc/sys/net /proc/sys/vm /proc/meminfo /proc/self/limits /proc/self/status /proc/self/cgroup \
    /sys/devices/system/cpu/online /sys/devices/system/clocksource/clocksource0 /sys/kernel/mm/transparent_hugepage/enabled copy 2>/dev/null
```

`--profile loadgen` is for the machine that generates the load (`--kind kernel|phantom`, `--address-pairs N`), `--pid PID` looks at the
limits of a running process, `--scope namespace` changes only what a container may change for itself, `--root DIR` works on a copy of the
machine's files. Exit codes: 0 as required, 1 something is short, 2 usage, 3 a setting is unsupported here, 4 a reboot is needed; 3 goes
before 1, and 1 before 4.

`--json` gives `command`, `connections`, `profile`, `kind`, `pairs`, `root`, `kernel`, `exit_code`, `first_limit` (the setting by which connections fail
first), and `settings` with a row for each: the columns of the table and `lift` (the command that mends it), `source`, `stops` (connections fail beyond it; else
they get slower or dearer) and `allows` (the connections it fits as it is). A `status` is `ok`, `short`, `reboot`, `unsupported` or `not applicable`. `plan`
and `apply` add `writes`, `apply` adds `failed`, `verify` adds `drift`.

";

/// The whole page.
pub fn guide() -> String {
    let mut text = HEAD.to_owned();
    text.push_str(&promises());
    for (title, settings) in table::PARTS {
        section(&mut text, title, settings);
    }
    numbers(&mut text);
    folklore(&mut text);
    text
}

fn promises() -> String {
    let files = [places::SYSCTL, places::TMPFILES, places::UNIT_DROP_IN, places::LOGIN_LIMITS];
    let files = files.map(|file| format!("`{file}`")).join(", ");
    format!(
        "## What apply does\n\n\
         - It never lowers a value. Settings marked *as it is* are told and left alone, with the reason.\n\
         - It writes the kernel's files and, for the next start, {files}. The second apply finds nothing to do; a larger `--connections` raises \
         lines, a smaller one changes nothing.\n\
         - Before the first write `{}/journal.json` holds what was there, on disk. An apply that was cut off, wherever, is rolled back like any other.\n\
         - Rollback restores contents, modes and owners, and removes files and folders that were not there. What somebody else has changed since is \
         left and reported; `--force` brings that back too.\n\
         - What needs a restart, another kernel, more memory or a decision about security is told with its command, and never done by apply.\n\n",
        places::STATE
    )
}

fn section(text: &mut String, title: &str, settings: &[Setting]) {
    write!(
        text,
        "## {title}\n\n| setting | scope | required | why | cost | learnt from |\n|---|---|---|---|---|---|\n"
    )
    .expect("a String takes all");
    for Setting { name, scope, needs, why, cost, source, .. } in settings {
        let scope = match scope {
            Scope::Process => "process",
            Scope::Namespace => "namespace",
            Scope::Host => "host",
            Scope::Boot => "boot",
        };
        writeln!(text, "| `{name}` | {scope} | {needs} | {why} | {cost} | {source} |")
            .expect("a String takes all");
    }
    text.push('\n');
    if title == "io_uring" {
        let names: Vec<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
        writeln!(text, "Operations that are asked for: {}.\n", names.join(", ")).expect("a String takes all");
    }
}

/// What the rules say for some sizes.
fn numbers(text: &mut String) {
    text.push_str(
        "## In numbers\n\n| setting | gateway, 100,000 | 1,000,000 | 10,000,000 | loadgen, kernel sockets, 100,000 |\n|---|---|---|---|---|\n",
    );
    let demands: Vec<Demand> =
        SIZES.map(Demand::gateway).into_iter().chain([Demand::loadgen(SIZES[0], Kind::Kernel)]).collect();
    for setting in table::all() {
        let Rule::AtLeast(required) = setting.rule else { continue };
        let cells: Vec<String> = demands.iter().map(|demand| cell(&required(demand))).collect();
        if cells.iter().any(|cell| cell != "as it is") {
            writeln!(text, "| `{}` | {} |", setting.name, cells.join(" | ")).expect("a String takes all");
        }
    }
    text.push('\n');
}

fn cell(numbers: &[u64]) -> String {
    if numbers.is_empty() {
        return "as it is".to_owned();
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

fn folklore(text: &mut String) {
    text.push_str(
        "## Folklore\n\nAdvice that goes round and is refused.\n\n| advice | why not | instead | learnt from |\n|---|---|---|---|\n",
    );
    for entry in FOLKLORE {
        let (name, says, why_not, instead, source) =
            (entry.name, entry.says, entry.why_not, entry.instead, entry.source);
        writeln!(text, "| `{name}`: {says} | {why_not} | {instead} | {source} |")
            .expect("a String takes all");
    }
}
