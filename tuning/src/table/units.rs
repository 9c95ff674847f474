//! What systemd gives the gateway's unit, and PAM a login session.

use crate::{
    demand::{Demand, Kind},
    limits,
    lines::{Lines, Syntax},
    machine::Machine,
    places,
    setting::{Change, Judgement, Rule, Scope, Setting},
    table::files,
};

/// See the module.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "unit LimitNOFILE",
        stops: false,
        scope: Scope::Process,
        rule: Rule::Judged(|machine, demand| unit(machine, demand, "LimitNOFILE", unit_files(demand))),
        needs: "a full table of 16,384 places, a file for each ring, and 1,024 besides",
        why: "A unit without it starts with the manager's default. With fewer files than places in a table the gateway needs \
              more rings for the same connections, of about 270 KiB each.",
        cost: "Nothing until the files are open.",
        source: "man 5 systemd.exec (Process Properties); docs/decisions/0006-several-rings.md",
    },
    Setting {
        name: "unit LimitMEMLOCK",
        stops: false,
        scope: Scope::Process,
        rule: Rule::Judged(|machine, demand| unit(machine, demand, "LimitMEMLOCK", ring_bytes(demand))),
        needs: "160 KiB for each ring",
        why: "Since Linux 6.14 the memory of rings is charged to the user as locked memory. With the usual 8 MiB a gateway \
              without CAP_IPC_LOCK opens 55 rings: 901,120 connections, whatever the memory.",
        cost: "The gateway's user may lock so much memory, which cannot be swapped.",
        source: "measured on Linux 6.18, docs/TUNING_EXAMPLE.md; liburing issue 1408 'io_uring_setup fails with ENOMEM'; man 2 getrlimit (RLIMIT_MEMLOCK)",
    },
    Setting {
        name: "unit TasksMax",
        stops: false,
        scope: Scope::Process,
        rule: Rule::Judged(|machine, demand| unit(machine, demand, "TasksMax", limits::UNIT_TASKS)),
        needs: "4,096",
        why: "Shards, router threads and HTTP are threads, and a unit that reaches its limit of tasks cannot start another. \
              Connections take none.",
        cost: "Nothing until they run.",
        source: "man 5 systemd.resource-control",
    },
    Setting {
        name: "limits.d nofile",
        stops: false,
        scope: Scope::Process,
        rule: Rule::Judged(login),
        needs: "loadgen with kernel sockets: a file for each client and 1,024",
        why: "A load generator is started from a login session, whose hard limit PAM sets.",
        cost: "Every session may open so many files.",
        source: "man 5 limits.conf; man 8 pam_limits",
    },
];

/// Files of the gateway's unit.
fn unit_files(demand: &Demand) -> u64 {
    limits::RING_PLACES + demand.rings() + limits::PROCESS_FILES
}

/// Bytes of ring memory that are charged to the gateway's user.
pub fn ring_bytes(demand: &Demand) -> u64 {
    demand.rings() * limits::RING_LOCKED_BYTES
}

fn unit(machine: &Machine, demand: &Demand, key: &'static str, required: u64) -> Judgement {
    if !demand.is_gateway() {
        return Judgement::absent("for the gateway's unit");
    }
    if machine.names("/etc/systemd").is_empty() {
        return Judgement::absent("no systemd here");
    }
    let set = places::unit_files(machine).into_iter().filter_map(|file| {
        let lines = Lines::parse(Syntax::Unit, &machine.text(file)?);
        places::unit_number(lines.value(key)?)
    });
    let current = set.max();
    let wanted = required.to_string();
    match current {
        Some(current) if current >= required => Judgement::ok(
            if current == u64::MAX { "infinity".to_owned() } else { current.to_string() },
            wanted,
        ),
        _ => Judgement::short(
            current.map_or_else(|| "not set".to_owned(), |current| current.to_string()),
            wanted,
            format!("{key}={required} in {}", places::UNIT_DROP_IN),
        )
        .changing(vec![Change::Unit { key, value: required }]),
    }
}

fn login(machine: &Machine, demand: &Demand) -> Judgement {
    if demand.is_gateway() || demand.kind == Kind::Phantom {
        return Judgement::absent("for loadgen with kernel sockets");
    }
    if machine.names("/etc/security").is_empty() {
        return Judgement::absent("no PAM here");
    }
    let required = files::process_files(demand);
    let text = machine.text(places::LOGIN_LIMITS).unwrap_or_default();
    let lines = Lines::parse(Syntax::Login, &text);
    let current = lines.value("root nofile").and_then(|value| value.parse().ok());
    match current {
        Some(current) if current >= required => Judgement::ok(u64::to_string(&current), required.to_string()),
        _ => Judgement::short(
            current.map_or_else(|| "not set".to_owned(), |current: u64| current.to_string()),
            required.to_string(),
            format!("'root - nofile {required}' in {}, and log in again", places::LOGIN_LIMITS),
        )
        .changing(vec![Change::Login { item: "nofile", value: required }]),
    }
}
