//! Memory: what the connections take, what the machine and the control group have, and how it is mapped.

use crate::{
    demand::{Demand, Kind},
    limits,
    machine::Machine,
    setting::{Change, Judgement, Rule, Scope, Setting},
};

const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// See the module.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "memory",
        stops: true,
        scope: Scope::Host,
        rule: Rule::Judged(total),
        needs: "gateway: 4,350 bytes a connection; loadgen: 15,100 a client with kernel sockets, 32 a phantom; and 2 GiB for traffic and the system \
                (of a small machine a quarter)",
        why: "What an idle session takes, kernel and gateway together, measured up to five million. Kernel memory is not swapped: \
              what is missing is taken from the page cache, and then the out-of-memory killer comes.",
        cost: "Memory.",
        source: "docs/MEMORY.md",
    },
    Setting {
        name: "memory of the control group",
        stops: true,
        scope: Scope::Process,
        rule: Rule::Judged(group),
        needs: "as memory, without the system's part, where a group is limited",
        why: "Sockets and rings are charged to the group of the process; beyond memory.high it is slowed down, and beyond \
              memory.max it is killed while the machine has memory left.",
        cost: "Less for other groups.",
        source: "kernel: Documentation/admin-guide/cgroup-v2.rst; docs/MEMORY.md",
    },
    Setting {
        name: "transparent huge pages",
        stops: false,
        scope: Scope::Host,
        rule: Rule::Judged(huge_pages),
        needs: "madvise or never",
        why: "With always, a few bytes touched can take 2 MiB, and memory given back in small pieces is filled up again; what \
              docs/MEMORY.md tells was measured with madvise.",
        cost: "Programs that profit from huge pages without asking for them lose them.",
        source: "kernel: Documentation/admin-guide/mm/transhuge.rst",
    },
    Setting {
        name: "vm.max_map_count",
        stops: true,
        scope: Scope::Host,
        rule: Rule::AtLeast(|demand| {
            if demand.is_gateway() {
                vec![limits::MAPPINGS_BASE + limits::MAPPINGS_PER_RING * demand.rings()]
            } else {
                Vec::new()
            }
        }),
        needs: "gateway: 8 for each ring and 8,192 besides",
        why: "Rings, their buffers and the slab's blocks are mappings. The default is enough for ten million; this entry finds \
              machines where it was lowered.",
        cost: "192 bytes and its place in a tree for each mapping in use.",
        source: "kernel: Documentation/admin-guide/sysctl/vm.rst; docs/decisions/0006-several-rings.md",
    },
    Setting {
        name: "vm.overcommit_memory",
        stops: false,
        scope: Scope::Host,
        rule: Rule::Judged(overcommit),
        needs: "0 or 1",
        why: "With 2 the kernel refuses mappings by the sum of what is reserved, not of what is used, and allocators reserve far \
              more. What the machine's owner chose is not changed by apply.",
        cost: "With 0 and 1 memory can be promised that is not there.",
        source: "kernel: Documentation/mm/overcommit-accounting.rst",
    },
];

/// Bytes the connections take, without any reserve.
fn connection_bytes(demand: &Demand) -> u64 {
    demand.connections
        * match (demand.is_gateway(), demand.kind) {
            (true, _) => limits::CONNECTION_BYTES,
            (false, Kind::Kernel) => limits::KERNEL_CLIENT_BYTES,
            (false, Kind::Phantom) => limits::PHANTOM_BYTES,
        }
}

fn total(machine: &Machine, demand: &Demand) -> Judgement {
    let Some(bytes) = machine.memory_bytes() else { return Judgement::absent("no /proc/meminfo") };
    let reserve = (limits::TRAFFIC_BYTES + limits::SYSTEM_BYTES).min(bytes / limits::MEMORY_RESERVE_SHARE);
    compare(bytes, connection_bytes(demand) + reserve, "more memory, or fewer --connections")
}

fn group(machine: &Machine, demand: &Demand) -> Judgement {
    let total = machine.memory_bytes().unwrap_or(u64::MAX);
    match machine.group_memory() {
        // A limit beyond the memory is none.
        Some((bytes, file)) if bytes < total => {
            let reserve = limits::TRAFFIC_BYTES.min(bytes / limits::MEMORY_RESERVE_SHARE);
            let lift = format!("systemctl set-property UNIT MemoryMax=... ({})", file.display());
            compare(bytes, connection_bytes(demand) + reserve, &lift)
        }
        _ => Judgement::absent("not limited"),
    }
}

fn compare(bytes: u64, required: u64, lift: &str) -> Judgement {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    if bytes >= required {
        return Judgement::ok(mib(bytes), mib(required));
    }
    Judgement::short(mib(bytes), mib(required), lift)
}

fn huge_pages(machine: &Machine, _demand: &Demand) -> Judgement {
    let Some(text) = machine.text(HUGE_PAGES) else { return Judgement::absent("not in this kernel") };
    let chosen = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    match chosen.unwrap_or(&text) {
        "always" => Judgement::short("always", "madvise", format!("echo madvise > {HUGE_PAGES}"))
            .changing(vec![Change::Kernel { file: HUGE_PAGES.to_owned(), value: "madvise".to_owned() }]),
        other => Judgement::ok(other, "madvise"),
    }
}

fn overcommit(machine: &Machine, demand: &Demand) -> Judgement {
    match machine.number("vm.overcommit_memory") {
        None => Judgement::absent("not here"),
        Some(2) if demand.is_gateway() => Judgement::short(
            "2",
            "0 or 1",
            "sysctl -w vm.overcommit_memory=0, if the machine's policy allows it",
        ),
        Some(value) => Judgement::ok(value.to_string(), "0 or 1"),
    }
}
