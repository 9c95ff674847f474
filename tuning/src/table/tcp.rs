//! TCP: queues, memory, tables, ports; and what is left as it is, with the reason.

use crate::{
    check,
    demand::{Demand, Kind},
    limits,
    machine::Machine,
    setting::{Judgement, Rule, Scope, Setting, Status},
};

const IP_SYSCTL: &str = "kernel: Documentation/networking/ip-sysctl.rst";

/// See the module.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "net.core.somaxconn",
        stops: false,
        scope: Scope::Namespace,
        rule: Rule::AtLeast(backlog),
        needs: "gateway: a sixteenth of the connections, as a power of two from 4,096 to 65,535",
        why: "Caps the backlog of each shard's listener. When all clients come back at once, those beyond it are dropped in \
              the handshake and try again a second later, in step.",
        cost: "A socket in memory for each client that waits, only while it waits.",
        source: "man 2 listen; kernel: Documentation/admin-guide/sysctl/net.rst",
    },
    Setting {
        name: "net.ipv4.tcp_max_syn_backlog",
        stops: false,
        scope: Scope::Namespace,
        rule: Rule::Judged(syn_backlog),
        needs: "as somaxconn where tcp_syncookies is 0, else as it is",
        why: "The listener's backlog bounds half-open connections; this number counts only without SYN cookies, where new SYNs \
              are dropped when three quarters of it are used.",
        cost: "A request socket of 320 bytes for each half-open connection.",
        source: IP_SYSCTL,
    },
    Setting {
        name: "net.ipv4.tcp_syncookies",
        stops: false,
        scope: Scope::Namespace,
        rule: Rule::AtLeast(|demand| if demand.is_gateway() { vec![1] } else { Vec::new() }),
        needs: "gateway: 1 or more",
        why: "With cookies a SYN flood costs no queue: real clients still get in when it is full.",
        cost: "Nothing until the queue is full; then window scaling survives only with timestamps.",
        source: IP_SYSCTL,
    },
    Setting {
        name: "net.ipv4.tcp_mem",
        stops: false,
        scope: Scope::Host,
        rule: Rule::AtLeast(memory_pages),
        needs: "pressure: a page for one connection in sixteen; the kernel's own proportions 3 : 4 : 6 around it",
        why: "Pages that all sockets may buffer. An idle connection buffers none, a busy one at least a page. A machine that \
              has the memory for so many connections has this by default.",
        cost: "A limit, not a reservation; but buffers up to it cannot be reclaimed, so it must stay far below the memory.",
        source: IP_SYSCTL,
    },
    Setting {
        name: "net.ipv4.tcp_rmem",
        stops: false,
        scope: Scope::Namespace,
        rule: Rule::AtLeast(
            |demand| if demand.has_sockets() { vec![4_096, 65_536, 262_144] } else { Vec::new() },
        ),
        needs: "4096 65536 262144, below every kernel's default",
        why: "Bounds of a receive buffer; nothing is allocated until bytes come, so lowering them saves no memory at rest and \
              makes long messages stall. This entry only finds machines where that was done.",
        cost: "Up to the last number for a connection whose bytes are not read; the gateway reads at once.",
        source: IP_SYSCTL,
    },
    Setting {
        name: "net.ipv4.tcp_wmem",
        stops: false,
        scope: Scope::Namespace,
        rule: Rule::AtLeast(
            |demand| if demand.has_sockets() { vec![4_096, 16_384, 262_144] } else { Vec::new() },
        ),
        needs: "4096 16384 262144, below every kernel's default",
        why: "As tcp_rmem, for sending. What waits for a slow reader is bounded by the router's window, not here.",
        cost: "Up to the last number for a connection that does not read.",
        source: IP_SYSCTL,
    },
    Setting {
        name: "net.ipv4.tcp_max_orphans",
        stops: false,
        scope: Scope::Host,
        rule: Rule::AtLeast(|demand| if demand.is_gateway() { vec![demand.connections] } else { Vec::new() }),
        needs: "gateway: the connections",
        why: "A gateway that drains closes all of them within seconds. Beyond this number the kernel resets instead: the \
              client loses the GoAway with its time to come back, and all come back at once.",
        cost: "Up to a socket of 2.5 KB for each closed connection until its FIN is acknowledged; it had that before.",
        source: IP_SYSCTL,
    },
    Setting {
        name: "net.ipv4.tcp_max_tw_buckets",
        stops: false,
        scope: Scope::Namespace,
        rule: Rule::AtLeast(|_| Vec::new()),
        needs: "as it is",
        why: "Bounds sockets in TIME-WAIT; beyond it they end early, which harms a server little. Clients close first, so they \
              wait, not the gateway.",
        cost: "256 bytes for each socket in TIME-WAIT.",
        source: IP_SYSCTL,
    },
    Setting {
        name: "net.ipv4.tcp_notsent_lowat",
        stops: false,
        scope: Scope::Namespace,
        rule: Rule::AtLeast(|_| Vec::new()),
        needs: "as it is",
        why: "Bounds unsent bytes of a connection in the kernel. The router's window bounds them already; a low value would \
              cost a wake-up more for each long message.",
        cost: "Wake-ups.",
        source: IP_SYSCTL,
    },
    Setting {
        name: "net.ipv4.tcp_slow_start_after_idle",
        stops: false,
        scope: Scope::Namespace,
        rule: Rule::AtLeast(|_| Vec::new()),
        needs: "as it is",
        why: "After a pause a connection starts with ten segments, about 14 KB. Messages of 100 to 1,000 bytes never notice.",
        cost: "Without it, bursts into networks whose state is no longer known (RFC 2861).",
        source: IP_SYSCTL,
    },
    Setting {
        name: "net.ipv4.tcp_keepalive_time",
        stops: false,
        scope: Scope::Namespace,
        rule: Rule::AtLeast(|_| Vec::new()),
        needs: "as it is",
        why: "The gateway sets no SO_KEEPALIVE: its heartbeats find the dead, with no timer a connection. This number (and \
              tcp_keepalive_intvl, tcp_keepalive_probes) concerns other programs.",
        cost: "With SO_KEEPALIVE a timer and probes for each connection.",
        source: "man 7 tcp; gateway/src/shard (the sweep)",
    },
    Setting {
        name: "net.ipv4.ip_local_port_range",
        stops: true,
        scope: Scope::Namespace,
        rule: Rule::Judged(ports),
        needs: "loadgen with kernel sockets: as many ports as connections of one pair of addresses",
        why: "A client needs a port that is free for its source address and destination. With too few, connect fails with \
              EADDRNOTAVAIL, which looks like a fault of the server.",
        cost: "Servers on ports in the range may find theirs taken: name them in net.ipv4.ip_local_reserved_ports.",
        source: "kernel: Documentation/networking/ip-sysctl.rst; man 7 ip",
    },
    Setting {
        name: "source addresses",
        stops: true,
        scope: Scope::Process,
        rule: Rule::Judged(addresses),
        needs: "loadgen with kernel sockets: 64,512 connections for each pair of source address and destination",
        why: "Ports have 16 bits. More connections need more source addresses, or more addresses or ports of the server.",
        cost: "Addresses on the interface; on loopback, where any of 127.0.0.0/8 serves, nothing.",
        source: "RFC 9293, section 3.1; man 7 ip",
    },
    Setting {
        name: "net.ipv4.tcp_ehash_entries",
        stops: false,
        scope: Scope::Boot,
        rule: Rule::Judged(established),
        needs: "half the connections, as a power of two",
        why: "Buckets of the hash table every packet's socket is looked up in; the kernel makes at most 524,288 by itself. With \
              ten million connections its chains are 20 to 40 sockets long, and each that is passed is a cache miss.",
        cost: "8 bytes a bucket: 64 MiB for ten million connections.",
        source: "kernel: Documentation/admin-guide/kernel-parameters.txt (thash_entries); Documentation/networking/ip-sysctl.rst",
    },
];

fn backlog(demand: &Demand) -> Vec<u64> {
    if !demand.is_gateway() {
        return Vec::new();
    }
    vec![(demand.connections / 16).next_power_of_two().clamp(4_096, limits::LISTEN_BACKLOG)]
}

fn syn_backlog(machine: &Machine, demand: &Demand) -> Judgement {
    let cookies = machine.number("net.ipv4.tcp_syncookies").unwrap_or(1);
    let required = if cookies == 0 { backlog(demand) } else { Vec::new() };
    check::at_least(machine, "net.ipv4.tcp_max_syn_backlog", &required)
}

fn memory_pages(demand: &Demand) -> Vec<u64> {
    if !demand.has_sockets() {
        return Vec::new();
    }
    let quarter = demand.connections / 64;
    vec![3 * quarter, 4 * quarter, 6 * quarter]
}

/// Ports that one pair of addresses needs.
fn ports_needed(demand: &Demand) -> Option<u64> {
    let kernel_clients = !demand.is_gateway() && demand.kind == Kind::Kernel;
    kernel_clients.then(|| demand.connections.div_ceil(demand.pairs.max(1)).min(limits::PORTS))
}

fn ports(machine: &Machine, demand: &Demand) -> Judgement {
    const NAME: &str = "net.ipv4.ip_local_port_range";
    let Some(needed) = ports_needed(demand) else { return check::within(machine, NAME, &[]) };
    let enough =
        matches!(machine.numbers(NAME).as_deref(), Some([first, last]) if last + 1 >= first + needed);
    let wide = [65_536 - needed, 65_535];
    let judged = check::within(machine, NAME, if enough { &[] } else { &wide });
    Judgement { required: format!("{needed} ports"), ..judged }
}

fn addresses(_machine: &Machine, demand: &Demand) -> Judgement {
    if ports_needed(demand).is_none() {
        return Judgement::absent("for loadgen with kernel sockets");
    }
    let required = demand.connections.div_ceil(limits::PORTS);
    let (current, wanted) = (format!("{} pairs", demand.pairs), format!("{required} pairs"));
    if demand.pairs >= required {
        return Judgement::ok(current, wanted);
    }
    let lift = format!(
        "roost-loadgen --source-addresses {required} on loopback, more addresses elsewhere, or --kind phantom"
    );
    Judgement::short(current, wanted, lift)
}

/// A negative number says that the namespace uses the first one's table.
fn established(machine: &Machine, demand: &Demand) -> Judgement {
    const CHILD: &str = "net.ipv4.tcp_child_ehash_entries";
    if !demand.has_sockets() {
        return Judgement::absent("phantoms have no sockets");
    }
    let text = machine.text(crate::machine::sysctl_file("net.ipv4.tcp_ehash_entries"));
    let Some(entries) = text.and_then(|text| text.parse::<i64>().ok()) else {
        return Judgement::absent("not told before Linux 6.1");
    };
    let (current, required) = (entries.unsigned_abs(), (demand.connections / 2).next_power_of_two());
    if current >= required {
        return Judgement::ok(current.to_string(), required.to_string());
    }
    let lift = format!(
        "thash_entries={required} on the kernel's command line; or a network namespace made after sysctl -w {CHILD}={required}"
    );
    Judgement::short(current.to_string(), required.to_string(), lift).status(Status::Reboot)
}
