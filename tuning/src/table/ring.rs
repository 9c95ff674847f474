//! `io_uring`: whether it is there, whether it may be used, and what bounds rings.

use crate::{
    demand::Demand,
    limits,
    machine::Machine,
    probe::{OPERATIONS, Refusal, RingProbe},
    setting::{Judgement, Rule, Scope, Setting, Status},
    table::units,
};

/// The first kernel with `IORING_SETUP_DEFER_TASKRUN`.
const KERNEL_LEAST: (u32, u32) = (6, 1);
/// The first kernel that charges the memory of rings to the user.
const KERNEL_CHARGING: (u32, u32) = (6, 14);

/// See the module.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "kernel version",
        stops: true,
        scope: Scope::Boot,
        rule: Rule::Judged(version),
        needs: "6.1 for the gateway",
        why: "The gateway's rings defer task work to the thread that owns them (IORING_SETUP_DEFER_TASKRUN), which is there \
              since 6.1; multishot poll, receive and table registration are older.",
        cost: "A newer kernel.",
        source: "man 2 io_uring_setup",
    },
    Setting {
        name: "kernel.io_uring_disabled",
        stops: true,
        scope: Scope::Host,
        rule: Rule::Judged(disabled),
        needs: "0, or 1 for a process with CAP_SYS_ADMIN or in kernel.io_uring_group",
        why: "With 2 nobody can open a ring, and the gateway does not start. It is a decision about the attack surface of the \
              machine, so apply leaves it alone.",
        cost: "Every process may use io_uring; some hardened machines forbid that on purpose.",
        source: "kernel: Documentation/admin-guide/sysctl/kernel.rst",
    },
    Setting {
        name: "io_uring set-up",
        stops: true,
        scope: Scope::Host,
        rule: Rule::Judged(|machine, demand| {
            probed(machine, demand, |probe| match &probe.setup {
                Ok(()) => Judgement::ok("opens", "a ring opens"),
                Err(refusal) => refused(refusal, "a ring opens"),
            })
        }),
        needs: "a ring with SINGLE_ISSUER, DEFER_TASKRUN, TASKRUN_FLAG, SUBMIT_ALL and CQSIZE opens",
        why: "Those are the flags of the gateway's rings. Seccomp filters of containers often refuse io_uring_setup \
              whatever the kernel can do.",
        cost: "A container needs a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register.",
        source: "man 2 io_uring_setup; tried by opening one",
    },
    Setting {
        name: "io_uring operations",
        stops: true,
        scope: Scope::Host,
        rule: Rule::Judged(|machine, demand| probed(machine, demand, operations)),
        needs: "ACCEPT, POLL_ADD, RECV, SEND, SHUTDOWN, CLOSE, ASYNC_CANCEL; FEAT_NODROP, FEAT_EXT_ARG; without FIXED_FD_INSTALL (6.8) operators are \
                not told the address of a peer",
        why: "All the gateway submits, asked of the kernel one by one (IORING_REGISTER_PROBE).",
        cost: "A newer kernel.",
        source: "man 2 io_uring_register; man 2 io_uring_enter",
    },
    Setting {
        name: "io_uring table",
        stops: false,
        scope: Scope::Process,
        rule: Rule::Judged(|machine, demand| {
            probed(machine, demand, |probe| match &probe.table {
                Ok(()) => Judgement::ok(limits::RING_PLACES.to_string(), limits::RING_PLACES.to_string()),
                Err(refusal) => Judgement::short(
                    &refusal.said,
                    limits::RING_PLACES.to_string(),
                    format!("raise RLIMIT_NOFILE to {} or more", limits::RING_PLACES),
                ),
            })
        }),
        needs: "16,384 direct descriptors in one ring",
        why: "A table holds at most min(RLIMIT_NOFILE, 1,048,576); with smaller tables the gateway opens more rings.",
        cost: "8 bytes a place.",
        source: "man 2 io_uring_register (IORING_REGISTER_FILES2); tried by registering one",
    },
    Setting {
        name: "RLIMIT_MEMLOCK",
        stops: true,
        scope: Scope::Process,
        rule: Rule::Judged(memlock),
        needs: "160 KiB for each ring, since Linux 6.14 and without CAP_IPC_LOCK",
        why: "The kernel charges the memory of rings to the user as locked memory and refuses the next ring with ENOMEM: 55 \
              rings of 16,384 connections under the usual 8 MiB.",
        cost: "The user may lock so much memory.",
        source: "measured on Linux 6.18, docs/TUNING_EXAMPLE.md; liburing issue 1408 'io_uring_setup fails with ENOMEM'; man 7 capabilities",
    },
];

fn version(machine: &Machine, demand: &Demand) -> Judgement {
    let Some((major, minor)) = machine.kernel() else { return Judgement::absent("not told") };
    let current = format!("{major}.{minor}");
    if !demand.is_gateway() || (major, minor) >= KERNEL_LEAST {
        return Judgement::ok(current, "6.1");
    }
    Judgement::short(current, "6.1", "start a kernel of 6.1 or later").status(Status::Unsupported)
}

fn disabled(machine: &Machine, demand: &Demand) -> Judgement {
    if !demand.has_sockets() {
        return Judgement::absent("phantoms use no ring");
    }
    let Some(value) = machine.number("kernel.io_uring_disabled") else {
        return Judgement::absent("not here: never disabled");
    };
    let allowed = match value {
        0 => true,
        1 => {
            let group = machine.number("kernel.io_uring_group");
            machine.is_administrator() || group.is_some_and(|group| machine.is_in_group(group))
        }
        _ => false,
    };
    if allowed {
        return Judgement::ok(value.to_string(), "0");
    }
    Judgement::short(
        value.to_string(),
        "0",
        "sysctl -w kernel.io_uring_disabled=0, if the machine's policy allows it",
    )
}

fn probed(machine: &Machine, demand: &Demand, judge: impl Fn(&RingProbe) -> Judgement) -> Judgement {
    match machine.probe() {
        _ if !demand.is_gateway() => Judgement::absent("for the gateway"),
        None => Judgement::absent("not asked of a copy"),
        Some(probe) => judge(probe),
    }
}

fn operations(probe: &RingProbe) -> Judgement {
    let all = format!("all {}", OPERATIONS.len());
    match &probe.setup {
        Err(refusal) => refused(refusal, &all),
        Ok(()) if probe.missing.is_empty() && probe.without.is_empty() => Judgement::ok(&all, &all),
        Ok(()) if probe.missing.is_empty() => {
            Judgement::ok(format!("{all}, without {}", probe.without.join(", ")), &all)
        }
        Ok(()) => {
            let said = format!("without {}", probe.missing.join(", "));
            refused(&Refusal { said, for_memory: false }, &all)
        }
    }
}

fn refused(refusal: &Refusal, required: &str) -> Judgement {
    if refusal.for_memory {
        return Judgement::short(
            &refusal.said,
            required,
            "raise RLIMIT_MEMLOCK, or end what else of this user has rings",
        );
    }
    Judgement::short(&refusal.said, required, "a newer kernel, or a seccomp profile that allows io_uring")
        .status(Status::Unsupported)
}

fn memlock(machine: &Machine, demand: &Demand) -> Judgement {
    if !demand.is_gateway() {
        return Judgement::absent("for the gateway");
    }
    let required = units::ring_bytes(demand);
    let Some((_soft, hard)) = machine.limit("Max locked memory") else {
        return Judgement::absent("no /proc/PID/limits");
    };
    let current = if hard == u64::MAX { "unlimited".to_owned() } else { hard.to_string() };
    if machine.may_lock_memory() {
        return Judgement::ok(format!("{current}, CAP_IPC_LOCK"), "not needed");
    }
    if machine.kernel().is_some_and(|version| version < KERNEL_CHARGING) {
        return Judgement::ok(format!("{current}, not charged"), "not needed");
    }
    if hard >= required {
        return Judgement::ok(current, required.to_string());
    }
    let lift = match machine.pid() {
        Some(pid) => format!("prlimit --pid {pid} --memlock={required}:{required}"),
        None => {
            format!("LimitMEMLOCK={required} in its unit, or prlimit --memlock={required}:{required} as root")
        }
    };
    Judgement::short(current, required.to_string(), lift)
}
