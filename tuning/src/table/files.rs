//! Open files: what the kernel allows the system, and what the process has.

use crate::{
    check,
    demand::{Demand, Kind},
    limits,
    machine::Machine,
    setting::{Judgement, Rule, Scope, Setting},
};

/// See the module.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "fs.nr_open",
        stops: true,
        scope: Scope::Host,
        rule: Rule::AtLeast(|demand| vec![process_files(demand)]),
        needs: "what RLIMIT_NOFILE needs",
        why: "No process may raise RLIMIT_NOFILE beyond it. The gateway stays far below the default, since direct descriptors \
              take no number of the process; a load generator with kernel sockets has a file for each client.",
        cost: "Nothing until a process opens so many files: 8 bytes each in its table.",
        source: "kernel: Documentation/admin-guide/sysctl/fs.rst; man 2 getrlimit",
    },
    Setting {
        name: "fs.file-max",
        stops: true,
        scope: Scope::Host,
        rule: Rule::Judged(system_files),
        needs: "connections and a fifth, at least 65,536 more; nothing of a process (--pid) with CAP_SYS_ADMIN",
        why: "Every socket is an open file of the system, direct descriptors too. When they are used up, accept fails with \
              ENFILE for every process without CAP_SYS_ADMIN.",
        cost: "Nothing: a file's memory is part of what a connection costs.",
        source: "kernel: Documentation/admin-guide/sysctl/fs.rst; man 5 proc_sys_fs",
    },
    Setting {
        name: "RLIMIT_NOFILE",
        stops: true,
        scope: Scope::Process,
        rule: Rule::Judged(nofile),
        needs: "gateway: a file for each ring and 1,024 besides, so that rings times places take the connections; loadgen \
                with kernel sockets: a file for each client and 1,024",
        why: "It bounds a ring's table of direct descriptors, and the number of rings. The hard limit counts: gateway and load \
              generator raise their soft limit themselves.",
        cost: "Nothing until the files are open. Programs that close every possible descriptor get slow under a huge one.",
        source: "man 2 getrlimit; man 2 io_uring_register; docs/decisions/0006-several-rings.md",
    },
];

/// Files the process needs for the demand.
pub fn process_files(demand: &Demand) -> u64 {
    match (demand.is_gateway(), demand.kind) {
        (true, _) => gateway_files(demand.connections),
        (false, Kind::Kernel) => demand.connections + limits::PROCESS_FILES,
        (false, Kind::Phantom) => limits::PROCESS_FILES,
    }
}

/// The lowest file limit under which the gateway holds so many connections, by its own reckoning
/// (`gateway/src/capacity.rs`): places a ring times rings.
fn gateway_files(connections: u64) -> u64 {
    let holds = |files: u64| {
        files.min(limits::RING_PLACES) * (files - limits::PROCESS_FILES.min(files / 2)) >= connections
    };
    let (mut few, mut enough) = (0, limits::CONNECTIONS_MAX);
    while few + 1 < enough {
        let middle = u64::midpoint(few, enough);
        if holds(middle) { enough = middle } else { few = middle }
    }
    enough.max(limits::PROCESS_FILES)
}

/// A gateway that is known to be exempt needs nothing; who asks as root may well start it as somebody else.
fn system_files(machine: &Machine, demand: &Demand) -> Judgement {
    let connections = demand.connections;
    let required = demand.has_sockets().then(|| connections + (connections / 5).max(65_536));
    let required: Vec<u64> = required.into_iter().collect();
    let judged = check::at_least(machine, "fs.file-max", &required);
    if machine.pid().is_some() && machine.is_administrator() {
        return Judgement::ok(format!("{}, CAP_SYS_ADMIN", judged.current), "not needed");
    }
    judged
}

fn nofile(machine: &Machine, demand: &Demand) -> Judgement {
    let required = process_files(demand);
    let Some((soft, hard)) = machine.limit("Max open files") else {
        return Judgement::absent("no /proc/PID/limits");
    };
    let current = format!("{soft} (hard {hard})");
    if hard >= required {
        return Judgement::ok(current, required.to_string());
    }
    let lift = match machine.pid() {
        Some(pid) => format!("prlimit --pid {pid} --nofile={required}:{required}"),
        None if demand.is_gateway() => {
            format!("LimitNOFILE={required} in its unit, or ulimit -Hn {required} before it")
        }
        None => format!("ulimit -n {required} before it, as root, or log in again after apply"),
    };
    Judgement::short(current, required.to_string(), lift)
}
