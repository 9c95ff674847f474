//! Advice that goes from page to page and does no good here, each with the reason it is refused.

/// A piece of advice that is not followed.
#[derive(Clone, Copy, Debug)]
pub struct Folklore {
    /// What `explain` finds it by: the setting, and the value where that is the point.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// What is said.
    pub says: &'static str,
    /// Why it is refused.
    pub why_not: &'static str,
    /// What to do instead.
    pub instead: &'static str,
    /// Where that was learnt.
    pub source: &'static str,
}

const IP_SYSCTL: &str = "kernel: Documentation/networking/ip-sysctl.rst";

/// See the module.
pub const FOLKLORE: &[Folklore] = &[
    Folklore {
        name: "net.ipv4.tcp_tw_recycle",
        aliases: &["tcp_tw_recycle"],
        says: "Set tcp_tw_recycle=1 to get rid of sockets in TIME-WAIT.",
        why_not: "It dropped SYNs whose timestamp ran backwards, and behind one NAT address every phone has a clock of its own: \
                  clients could not connect, at random. Linux 4.12 removed it; the file is not there any more.",
        instead: "Nothing. TIME-WAIT costs 256 bytes for a minute, and a server whose clients close first has none.",
        source: "man 7 tcp; 'Coping with the TCP TIME-WAIT state on busy Linux servers' (V. Bernat)",
    },
    Folklore {
        name: "net.ipv4.tcp_tw_reuse",
        aliases: &["tcp_tw_reuse"],
        says: "Set tcp_tw_reuse=1 on servers.",
        why_not: "It concerns connections this machine opens, not those it accepts: a gateway gains nothing. Since Linux 4.19 the \
                  default, 2, allows it on loopback, which is what a local load test needs.",
        instead: "For a load generator: more source addresses (--source-addresses), or --kind phantom.",
        source: IP_SYSCTL,
    },
    Folklore {
        name: "net.ipv4.tcp_timestamps=0",
        aliases: &["tcp_timestamps", "net.ipv4.tcp_timestamps"],
        says: "Switch timestamps off to save 12 bytes a segment.",
        why_not: "They are what protects against old duplicates (PAWS), what gives round-trip times after a loss, and what lets a SYN \
                  cookie keep window scaling. 12 bytes of a heartbeat each four minutes are nothing.",
        instead: "Leave them on.",
        source: "RFC 7323; kernel: Documentation/networking/ip-sysctl.rst",
    },
    Folklore {
        name: "net.ipv4.tcp_sack=0",
        aliases: &["tcp_sack", "net.ipv4.tcp_sack"],
        says: "Switch selective acknowledgements off to save CPU.",
        why_not: "On a mobile network a lost segment then costs a retransmission of all behind it. The denial of service it was \
                  switched off for (CVE-2019-11477) was mended in 2019.",
        instead: "Leave it on.",
        source: "RFC 2018; man 7 tcp",
    },
    Folklore {
        name: "net.ipv4.tcp_fin_timeout",
        aliases: &["tcp_fin_timeout"],
        says: "Set tcp_fin_timeout=15 to shorten TIME-WAIT.",
        why_not: "It does not touch TIME-WAIT, which is 60 s in the source. It is the time an orphaned socket stays in FIN-WAIT-2, \
                  and a client on a bad network may need it.",
        instead: "Leave it. tcp_max_orphans is what a drain needs.",
        source: IP_SYSCTL,
    },
    Folklore {
        name: "vm.overcommit_memory=1",
        aliases: &["vm.overcommit_memory", "vm.overcommit", "overcommit"],
        says: "Set vm.overcommit_memory=1 so that mappings never fail.",
        why_not: "With 0 the kernel refuses only what can never fit, and the gateway maps blocks of 0.9 MB as it needs them. With 1 the first sign of a machine \
                  that is too small is the out-of-memory killer.",
        instead: "0, the default. 2 is reported, because allocators fail under it.",
        source: "kernel: Documentation/mm/overcommit-accounting.rst",
    },
    Folklore {
        name: "vm.swappiness=0",
        aliases: &["vm.swappiness", "swappiness", "swappiness=0"],
        says: "Set vm.swappiness=0 on servers.",
        why_not: "What ten million connections take is kernel memory, which is never swapped. 0 only makes the kernel kill a process \
                  before it swaps what nobody uses.",
        instead: "Leave it; keep the store's machine without swap if its latency matters.",
        source: "kernel: Documentation/admin-guide/sysctl/vm.rst",
    },
    Folklore {
        name: "huge net.ipv4.tcp_mem",
        aliases: &["huge tcp_mem", "tcp_mem=huge"],
        says: "Set tcp_mem to all of the memory, or more, for millions of connections.",
        why_not: "It is the limit that keeps socket buffers from eating the machine. Idle connections have none; with a limit beyond \
                  the memory a crowd of slow readers ends in the out-of-memory killer instead of in smaller windows.",
        instead: "A page for one connection in sixteen, as explain net.ipv4.tcp_mem says; the kernel's default on a machine that fits.",
        source: IP_SYSCTL,
    },
    Folklore {
        name: "small net.ipv4.tcp_rmem",
        aliases: &["small tcp_rmem", "small tcp_wmem", "tcp_rmem=4096"],
        says: "Set tcp_rmem and tcp_wmem to '4096 4096 4096' for density.",
        why_not: "They bound buffers; no idle connection has one. The tables of docs/MEMORY.md were measured with the defaults, and no \
                  buffer is in them. What it does is cap every connection at 4 KB a round trip.",
        instead: "The defaults.",
        source: "docs/MEMORY.md; kernel: Documentation/networking/ip-sysctl.rst",
    },
    Folklore {
        name: "net.core.rmem_max",
        aliases: &[
            "net.core.wmem_max",
            "rmem_max",
            "wmem_max",
            "net.core.rmem_default",
            "net.core.wmem_default",
        ],
        says: "Raise net.core.rmem_max and wmem_max to 16 MB.",
        why_not: "They bound what a program asks for with SO_RCVBUF and SO_SNDBUF. TCP's own sizes come from tcp_rmem and tcp_wmem, and \
                  the gateway asks for none.",
        instead: "Leave them.",
        source: "man 7 socket; man 7 tcp",
    },
    Folklore {
        name: "RLIMIT_NOFILE of ten million",
        aliases: &["nofile=10000000", "ulimit -n 10000000", "fs.nr_open=10000000"],
        says: "Ten million connections need ten million file descriptors.",
        why_not: "The gateway's connections are direct descriptors, in tables of its rings: the process needs a number for each ring, \
                  611 for ten million, and a thousand besides. The system's fs.file-max counts them all the same.",
        instead: "What explain RLIMIT_NOFILE says. A load generator with kernel sockets does need one each.",
        source: "docs/decisions/0006-several-rings.md; man 2 io_uring_register",
    },
    Folklore {
        name: "net.core.default_qdisc=fq",
        aliases: &["default_qdisc", "net.core.default_qdisc", "net.ipv4.tcp_congestion_control", "bbr"],
        says: "Set fq and BBR for throughput.",
        why_not: "Congestion control matters for long transfers. Messages of a kilobyte fit the first window whatever it is called; for \
                  media it is a choice to be measured on one's own network, not a requirement.",
        instead: "Leave them, or measure.",
        source: IP_SYSCTL,
    },
    Folklore {
        name: "net.ipv4.tcp_low_latency",
        aliases: &["tcp_low_latency"],
        says: "Set tcp_low_latency=1.",
        why_not: "It has had no effect since Linux 4.14; the file is kept for old scripts.",
        instead: "Nothing.",
        source: IP_SYSCTL,
    },
    Folklore {
        name: "kernel.pid_max",
        aliases: &["kernel.threads-max", "pid_max", "threads-max"],
        says: "Raise pid_max and threads-max for many connections.",
        why_not: "A connection has no thread here: a gateway has one for each shard and a few dozen besides.",
        instead: "Leave them.",
        source: "docs/ARCHITECTURE.md",
    },
];

/// The advice of this name.
pub fn find(name: &str) -> Option<&'static Folklore> {
    FOLKLORE.iter().find(|folklore| folklore.name == name || folklore.aliases.contains(&name))
}
