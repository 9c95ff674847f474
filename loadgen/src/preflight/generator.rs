//! The generator's end: files, ports and addresses, memory, and for phantoms the device and the hash table.

use super::{End, Finding};
use crate::limits::{CLIENT_BYTES, FILES_RESERVED, QUEUE_PACKETS};
use crate::options::{Kind, Options};
use crate::phantom::{namespace, watch};
use crate::siege;
use nix::sys::resource::{Resource, getrlimit};
use roost_tuning::{Demand, Machine, limits as reckoned, table};
use std::path::Path;

/// Settings of the table that a client with a kernel socket meets.
const SETTINGS: [&str; 6] = [
    "fs.file-max",
    "net.ipv4.ip_local_port_range",
    "source addresses",
    "net.netfilter.nf_conntrack_max",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_ehash_entries",
];

pub fn check(options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    match options.cli.kind {
        Kind::Kernel => {
            let attackers = siege::attackers_max(&options.cli);
            findings.extend(files(options.cli.clients.saturating_add(attackers)));
            let machine = Machine::this();
            let demand = demand(options);
            let settings = SETTINGS.iter().filter_map(|name| table::find(name));
            let judged = settings.map(|setting| roost_tuning::check::finding(setting, &machine, &demand));
            findings.extend(judged.filter_map(|judged| Finding::judged(End::Generator, judged)));
        }
        Kind::Phantom => findings.extend(device(options)),
    }
    findings.extend(memory(options));
    findings
}

/// What the table needs to know of the clients.
fn demand(options: &Options) -> Demand {
    let kernel = Demand::loadgen(u64::from(options.cli.clients), roost_tuning::Kind::Kernel);
    // Elsewhere the kernel chooses one address, and there is one destination.
    let spread = options.target.source(0, options.cli.source_addresses).is_some();
    let addresses = options.cli.source_addresses.min(options.cli.clients);
    Demand { pairs: if spread { u64::from(addresses) } else { 1 }, ..kernel }
}

/// A file for each client; the soft limit is raised to the hard one by the run itself.
fn files(clients: u32) -> Option<Finding> {
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let (required, fitting) = (u64::from(clients) + FILES_RESERVED, hard.saturating_sub(FILES_RESERVED));
    let finding = Finding::ok(End::Generator, "RLIMIT_NOFILE", hard.to_string(), required.to_string());
    if u64::from(clients) <= fitting {
        return Some(finding);
    }
    let nr_open = Machine::this().number("fs.nr_open").filter(|&most| most < required);
    let first = nr_open.map_or(String::new(), |_| format!("sysctl -w fs.nr_open={required}, and "));
    let lift = format!(
        "This process may open files for {fitting} clients only: {first}raise the hard limit (ulimit -n {required} as root before \
         it, or LimitNOFILE={required} in a unit), use --kind phantom, or ask for fewer"
    );
    Some(finding.short(lift).stopping(fitting))
}

/// The TUN device, its queues, and the hash table of the namespace that is made.
fn device(options: &Options) -> Vec<Finding> {
    let device = Finding::ok(End::Generator, "/dev/net/tun", "there", "there");
    let device = if Path::new("/dev/net/tun").exists() {
        device
    } else {
        let missing = Finding { current: "missing".into(), ..device };
        missing.short("modprobe tun, or give the container /dev/net/tun; or use --kind kernel").stopping(0)
    };
    let queues = format!("{} of {QUEUE_PACKETS} packets", options.cli.threads);
    let mut findings = vec![device, Finding::ok(End::Generator, "TUN queues", &queues, &queues)];
    if !options.cli.command.is_empty() {
        let buckets = format!("{} buckets", namespace::hash_buckets(options.cli.clients));
        findings.push(Finding::ok(End::Generator, "TCP hash table of the namespace", &buckets, &buckets));
    }
    findings
}

/// What the clients take, kernel included, beside what can be had now; where a gateway runs here, its sessions, too.
fn memory(options: &Options) -> Option<Finding> {
    let available = watch::available_bytes()?;
    let clients = u64::from(options.cli.clients);
    let own = match options.cli.kind {
        Kind::Kernel => CLIENT_BYTES,
        Kind::Phantom => reckoned::PHANTOM_BYTES,
    };
    let is_ours = !options.cli.command.is_empty() || super::server::is_roost(options.cli.gateway_pid);
    let (end, each) =
        if is_ours { (End::Both, own + reckoned::CONNECTION_BYTES) } else { (End::Generator, own) };
    let floor = match options.cli.kind {
        Kind::Kernel => 0,
        Kind::Phantom => options.cli.memory_floor_mb << 20,
    };
    let required = clients * each + floor;
    let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
    let finding = Finding::ok(end, "memory available", mib(available), mib(required));
    if required <= available {
        return Some(finding);
    }
    let lift = format!(
        "Reckoned with {each} bytes a client: free memory, use --kind phantom on a larger machine, or ask for fewer"
    );
    Some(finding.short(lift).stopping(available.saturating_sub(floor) / each))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::Program;
    use clap::Parser;

    fn options(more: &[&str]) -> Options {
        let arguments = ["roost-loadgen", "idle"].iter().chain(more);
        let program = Program::try_parse_from(arguments).expect("valid");
        Options::check(program.run.0.expect("a run")).expect("valid")
    }

    fn find<'a>(findings: &'a [Finding], limit: &str) -> &'a Finding {
        findings.iter().find(|finding| finding.limit == limit).expect(limit)
    }

    #[test]
    fn a_small_run_fits_this_machine() {
        let findings = check(&options(&["--url", "ws://127.0.0.1:1/", "--clients", "2"]));
        for limit in ["RLIMIT_NOFILE", "memory available", "net.ipv4.ip_local_port_range"] {
            assert_eq!(find(&findings, limit).status, super::super::Status::Ok, "{findings:?}");
        }
    }

    #[test]
    fn more_clients_than_files_stop_the_run_at_their_number() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        let clients = u32::try_from(hard).unwrap_or(u32::MAX);
        let finding = files(clients).expect("a limit");
        assert_eq!((finding.stops, finding.clients_max), (true, Some(u64::from(clients) - FILES_RESERVED)));
        assert!(finding.lift.expect("a command").contains("hard limit"));
        assert_eq!(files(clients - FILES_RESERVED as u32).expect("a limit").lift, None);
    }

    #[test]
    fn clients_to_another_machine_share_one_address() {
        let pairs = |url, clients| demand(&options(&["--url", url, "--clients", clients])).pairs;
        assert_eq!(pairs("ws://192.0.2.1/", "5000"), 1);
        assert_eq!(pairs("ws://127.0.0.1:1/", "5000"), 16);
        assert_eq!(pairs("ws://127.0.0.1:1/", "3"), 3);
        let findings = check(&options(&["--url", "ws://192.0.2.1/", "--clients", "100000"]));
        let addresses = find(&findings, "source addresses");
        assert_eq!((addresses.stops, addresses.clients_max), (true, Some(reckoned::PORTS)));
    }

    #[test]
    fn memory_that_is_not_there_stops_the_run_and_counts_a_gateway_of_ours() {
        let phantoms = ["--kind", "phantom", "--clients", "20000000", "--memory-floor-mb", "1000000"];
        let own = memory(&options(
            &[&phantoms[..], &["--url", "ws://198.18.0.1:1/", "--gateway-pid", "1"]].concat(),
        ));
        let own = own.expect("readable");
        assert_eq!((own.end, own.stops, own.clients_max), (End::Generator, true, Some(0)));
        let both = memory(&options(&[&phantoms[..], &["--", "roost-gateway"]].concat())).expect("readable");
        assert_eq!(both.end, End::Both);
    }
}
