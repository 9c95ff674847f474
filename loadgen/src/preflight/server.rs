//! The server's end, as far as it can be read from here: its process on this machine, its network namespace, its CPUs.

use super::{End, Finding, connecting};
use crate::options::Options;
use nix::sched::{CloneFlags, setns};
use procfs::process::Process;
use roost_tuning::{Demand, Machine, table};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::thread;

/// Settings of the table that any server's connections meet.
const SETTINGS: [&str; 3] = ["fs.file-max", "net.ipv4.tcp_mem", "net.netfilter.nf_conntrack_max"];
/// Those that only mean something for a Roost gateway, whose needs are known.
const ROOST_SETTINGS: [&str; 4] =
    ["RLIMIT_NOFILE", "memory of the control group", "vm.max_map_count", "net.ipv4.tcp_max_orphans"];
/// Files of a server besides its connections: what it listens with, logs, its runtime.
const FILES_RESERVED: u64 = 64;

pub fn check(options: &Options) -> Vec<Finding> {
    if !options.cli.command.is_empty() {
        // It is started for the run, with our limits, in a namespace whose queues are made for it.
        return judged(&Machine::this(), options, true);
    }
    let Some(pid) = options.cli.gateway_pid else {
        let what = "files, queues, memory, CPUs";
        let lift =
            "Give --gateway-pid where the server runs on this machine; elsewhere, roost-tune check there";
        return vec![Finding::unknown(End::Server, what, "known", lift)];
    };
    let is_roost = is_roost(Some(pid));
    let mut findings = Vec::new();
    if !is_roost {
        findings.push(files(pid, u64::from(options.cli.clients)));
    }
    findings.extend(in_its_namespace(pid, options, is_roost));
    findings.extend(cpus(pid, options.cli.threads));
    findings
}

/// Whether the process is a Roost gateway, whose needs are known.
pub fn is_roost(pid: Option<i32>) -> bool {
    let name = pid.and_then(|pid| Process::new(pid).ok()?.stat().ok()).map(|stat| stat.comm);
    name.is_some_and(|name| name == "roost-gateway")
}

/// A file for each connection. The soft limit counts: not every server raises it.
fn files(pid: i32, clients: u64) -> Finding {
    const NAME: &str = "RLIMIT_NOFILE";
    let machine = Machine::this().of_process(u32::try_from(pid).ok());
    let open = fs::read_dir(format!("/proc/{pid}/fd")).map(|files| files.count() as u64);
    let (Some((soft, hard)), Ok(open)) = (machine.limit("Max open files"), open) else {
        return Finding::unknown(
            End::Server,
            NAME,
            clients.to_string(),
            "Run as root, or as the server's user",
        );
    };
    let required = clients + open + FILES_RESERVED;
    let current = format!("{soft} (hard {hard}), {open} open");
    let finding = Finding::ok(End::Server, NAME, current, required.to_string());
    if soft >= required {
        return finding;
    }
    let hard = hard.max(required);
    let lift =
        format!("prlimit --pid {pid} --nofile={required}:{hard}, or ulimit -n {required} before the server");
    finding.short(lift).stopping(soft.saturating_sub(open + FILES_RESERVED))
}

/// What only a look from the server's network namespace tells, with the rest of the table.
fn in_its_namespace(pid: i32, options: &Options, is_roost: bool) -> Vec<Finding> {
    let identity = |path: &str| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let path = format!("/proc/{pid}/ns/net");
    let theirs = identity(&path);
    let machine = Machine::this().of_process(u32::try_from(pid).ok());
    let look = || {
        let mut findings = judged(&machine, options, is_roost);
        findings.extend(queues(&machine, options));
        findings
    };
    if theirs.is_some() && theirs == identity("/proc/thread-self/ns/net") {
        return look();
    }
    // A thread of its own: ours has to stay where it is.
    let entered = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let namespace = File::open(&path).ok()?;
            setns(namespace, CloneFlags::CLONE_NEWNET).ok()?;
            Some(look())
        });
        looking.join().ok().flatten()
    });
    entered.unwrap_or_else(|| {
        let lift = "Run as root: the server's network namespace cannot be entered";
        vec![Finding::unknown(End::Server, "net.core.somaxconn", "known", lift)]
    })
}

fn judged(machine: &Machine, options: &Options, is_roost: bool) -> Vec<Finding> {
    let demand = Demand::gateway(u64::from(options.cli.clients));
    let names = SETTINGS.iter().chain(ROOST_SETTINGS.iter().filter(|_| is_roost));
    let settings = names.filter_map(|name| table::find(name));
    let judged = settings.map(|setting| roost_tuning::check::finding(setting, machine, &demand));
    judged.filter_map(|judged| Finding::judged(End::Server, judged)).collect()
}

/// The queues of connections in the making: they have to take as many as connect at a time.
fn queues(machine: &Machine, options: &Options) -> Vec<Finding> {
    let required = connecting(options);
    let cookies = machine.number("net.ipv4.tcp_syncookies").unwrap_or(1) > 0;
    let queue = |name: &str| {
        let found = machine.number(name)?;
        let finding = Finding::ok(End::Server, name, found.to_string(), required.to_string());
        if found >= required {
            return Some(finding);
        }
        Some(finding.short(format!(
            "sysctl -w {name}={required} in its network namespace, and start the server anew; or lower --ramp-per-s"
        )))
    };
    // With cookies a full queue of handshakes costs no connection (ip-sysctl.rst, tcp_syncookies).
    let handshakes = (!cookies).then(|| queue("net.ipv4.tcp_max_syn_backlog")).flatten();
    queue("net.core.somaxconn").into_iter().chain(handshakes).collect()
}

/// CPUs that the server and the generator's threads may use, of which one has to be left for the server.
fn cpus(pid: i32, threads: u32) -> Option<Finding> {
    let allowed = |process: Process| process.status().ok()?.cpus_allowed_list;
    let theirs = spread(&allowed(Process::new(pid).ok()?)?);
    let ours = spread(&allowed(Process::myself().ok()?)?);
    let shared = theirs.iter().filter(|cpu| ours.contains(cpu)).count();
    let all = theirs.len() + ours.len() - shared;
    let current = format!("{all}, {shared} shared");
    let required = threads as usize + 1;
    let finding =
        Finding::ok(End::Both, "CPUs", current, format!("{required} for {threads} threads and a server"));
    if all >= required && (shared < theirs.len() || theirs.len() > 1) {
        return Some(finding);
    }
    let lift = "Server and generator share each CPU, so that either takes the other's: give them CPUs of their own (taskset), lower \
                --threads, or use another machine";
    Some(finding.short(lift))
}

/// Each CPU of a list of ranges.
fn spread(ranges: &[(u32, u32)]) -> Vec<u32> {
    ranges.iter().flat_map(|&(first, last)| first..=last).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use nix::sys::resource::{Resource, getrlimit};

    #[test]
    fn a_server_with_fewer_files_than_clients_is_named_with_its_own_limit() {
        let pid = std::process::id() as i32;
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        let finding = files(pid, soft);
        assert_eq!((finding.end, finding.status, finding.stops), (End::Server, Status::Short, true));
        assert!(finding.clients_max.is_some_and(|most| most > 0 && most < soft), "{finding:?}");
        assert!(
            finding.lift.as_ref().is_some_and(|lift| lift.contains(&format!("prlimit --pid {pid}"))),
            "{finding:?}"
        );
        assert_eq!(files(pid, 1).status, Status::Ok);
        assert_eq!(files(i32::MAX, 1).status, Status::Unknown);
    }

    #[test]
    fn cpus_are_short_where_the_threads_leave_none_for_the_server() {
        let pid = std::process::id() as i32;
        let finding = cpus(pid, 1_000_000).expect("readable");
        assert_eq!((finding.status, finding.stops), (Status::Short, false));
        assert_eq!(spread(&[(0, 2), (5, 5)]), [0, 1, 2, 5]);
    }
}
