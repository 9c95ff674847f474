//! Tables that packets pass besides TCP's own: connection tracking and neighbours.

use crate::{
    check,
    demand::{Demand, Profile},
    machine::Machine,
    setting::{Judgement, Rule, Scope, Setting},
};

const CONNTRACK: &str = "kernel: Documentation/networking/nf_conntrack-sysctl.rst";
const NEIGHBOURS: &str = "kernel: Documentation/networking/ip-sysctl.rst; man 7 arp";

/// See the module.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "net.netfilter.nf_conntrack_max",
        stops: true,
        scope: Scope::Host,
        rule: Rule::Judged(|machine, demand| {
            tracked(
                machine,
                demand,
                "net.netfilter.nf_conntrack_max",
                demand.connections + demand.connections / 4,
            )
        }),
        needs: "connections and a quarter, where connections are tracked (nf_conntrack_count is not 0)",
        why: "When the table is full, packets of new connections are dropped without an answer ('nf_conntrack: table full'). \
              Better than a large table is none: a notrack rule for the gateway's port.",
        cost: "256 bytes of kernel memory for each tracked connection, and its extensions, which docs/MEMORY.md does not count.",
        source: CONNTRACK,
    },
    Setting {
        name: "net.netfilter.nf_conntrack_buckets",
        stops: false,
        scope: Scope::Host,
        rule: Rule::Judged(|machine, demand| {
            let buckets = (demand.connections / 4).next_power_of_two();
            tracked(machine, demand, "net.netfilter.nf_conntrack_buckets", buckets)
        }),
        needs: "a quarter of the connections, as a power of two, where connections are tracked",
        why: "Every packet's entry is looked up in this table; with few buckets the chains get long.",
        cost: "8 bytes a bucket.",
        source: CONNTRACK,
    },
    Setting {
        name: "net.ipv4.neigh.default.gc_thresh2",
        stops: false,
        scope: Scope::Host,
        rule: Rule::AtLeast(|demand| vec![neighbours(demand).max(512)]),
        needs: "loadgen: two entries for each source address, at least 512, the default",
        why: "Only hosts of the same link have an entry, and clients come by way of a router: a few are enough. Many addresses \
              on one link, as a load test has them, are another matter.",
        cost: "About 400 bytes for each neighbour that is known.",
        source: NEIGHBOURS,
    },
    Setting {
        name: "net.ipv4.neigh.default.gc_thresh3",
        stops: true,
        scope: Scope::Host,
        rule: Rule::AtLeast(|demand| vec![neighbours(demand).max(512) * 2]),
        needs: "twice gc_thresh2",
        why: "The hard limit: beyond it packets to new neighbours are dropped ('neighbour: arp_cache: neighbor table \
              overflow').",
        cost: "About 400 bytes for each neighbour that is known.",
        source: NEIGHBOURS,
    },
    Setting {
        name: "net.ipv6.neigh.default.gc_thresh3",
        stops: true,
        scope: Scope::Host,
        rule: Rule::AtLeast(|demand| vec![neighbours(demand).max(512) * 2]),
        needs: "as for IPv4",
        why: "The same limit for IPv6 neighbours.",
        cost: "About 400 bytes for each neighbour that is known.",
        source: NEIGHBOURS,
    },
];

/// Only loaded modules have these files; without one nothing is tracked.
fn tracked(machine: &Machine, demand: &Demand, name: &str, required: u64) -> Judgement {
    if !demand.has_sockets() {
        return Judgement::absent("phantoms are not tracked");
    }
    // Where no rule of the namespace asks for it, nothing is tracked, not even this session.
    if machine.number("net.netfilter.nf_conntrack_count") == Some(0) {
        return Judgement::absent("loaded, tracks nothing");
    }
    match check::at_least(machine, name, &[required]) {
        absent if absent.current == "not here" => Judgement::absent("nf_conntrack is not loaded"),
        judged => judged,
    }
}

/// Entries for the addresses of one link.
fn neighbours(demand: &Demand) -> u64 {
    if demand.profile == Profile::Loadgen { 2 * demand.pairs } else { 0 }
}
