//! The network namespace of a phantom run (`network_namespaces(7)`): one of its own, or the gateway's.
//!
//! A namespace of its own lives in the processes that are in it and nowhere else, so nothing is left of it once they have
//! ended, whatever ended them. Settings that all namespaces share (`net.core.netdev_max_backlog`, `net.ipv4.tcp_mem`,
//! `net.ipv4.tcp_max_orphans`) are left alone: packets from a TUN device do not pass the backlog, and the report counts
//! what the other two did (`network.aborts_on_memory`).

use crate::limits::{HASH_BUCKETS_MAX, HASH_BUCKETS_MIN};
use crate::run::Usage;
use crate::tun;
use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Settings of a namespace of its own.
const SETTINGS: &[(&str, &str)] = &[
    // Connections that wait to be accepted: as many as the gateway asks for, which the default cuts to 4,096.
    ("net/core/somaxconn", "65535"),
    // Handshakes in the making, the kernel's bound beside the one above.
    ("net/ipv4/tcp_max_syn_backlog", "65535"),
    // Otherwise each address that ever closed a connection costs a metrics entry, and later runs start with its values.
    ("net/ipv4/tcp_no_metrics_save", "1"),
    // The reverse-path check looks a route up for each packet, and there is one way only.
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    // Phantoms speak IPv4; the kernel's own IPv6 packets would only take places in the queues.
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

/// Moves the calling thread into a new namespace with a hash table fit for so many connections, and sets up what is in it.
/// Threads and processes started afterwards are in it, too. Buckets of the table come back.
///
/// # Errors
/// [`Usage`] without `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`; anything else where the kernel did not do as asked.
pub fn make(clients: u32) -> anyhow::Result<u64> {
    let buckets = hash_buckets(clients);
    leave()?;
    // The setting counts for the children of a namespace. So the first one exists only to carry it: the host's stays.
    write("net/ipv4/tcp_child_ehash_entries", &buckets.to_string())?;
    leave()?;
    // The kernel takes the common table, and tells its size as a negative number, where memory for one is short.
    let found = read("net/ipv4/tcp_ehash_entries")?;
    if found != buckets.to_string() {
        bail!(
            "the namespace has a TCP hash table of {found} buckets instead of {buckets}; is memory short, or the kernel \
             older than 6.1?"
        );
    }
    tun::loopback_up().context("cannot set lo up in the new network namespace")?;
    for (path, value) in SETTINGS {
        write(path, value)?;
    }
    Ok(buckets)
}

/// Moves the calling thread into the namespace of a process.
///
/// # Errors
/// [`Usage`] where that is the namespace we are in, or without `CAP_SYS_ADMIN`.
pub fn enter(pid: i32) -> anyhow::Result<()> {
    let path = format!("/proc/{pid}/ns/net");
    let identity = |path: &str| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let theirs = identity(&path).map_err(|error| {
        Usage::new(format!("--gateway-pid {pid}: cannot look at its network namespace: {error}"))
    })?;
    if theirs == identity("/proc/thread-self/ns/net")? {
        bail!(Usage::new(format!(
            "--gateway-pid {pid}: it runs in this network namespace, where phantoms will not touch the devices; let \
             roost-loadgen start it (-- roost-gateway ...), or start it in one of its own with `unshare -n` or `ip \
             netns exec NAME`, listening on 0.0.0.0"
        )));
    }
    let namespace = File::open(&path).with_context(|| format!("cannot open {path}"))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| refusal(error, "enters a network namespace"))
}

/// What a device of ours needs in a namespace that is not ours; the rest of it stays as it is.
///
/// # Errors
/// Where a setting cannot be written.
pub fn prepare_device(name: &str) -> anyhow::Result<()> {
    write(&format!("net/ipv4/conf/{name}/rp_filter"), "0")?;
    write(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1")
}

/// The largest power of two with at least one client a bucket: chains stay at one or two.
pub fn hash_buckets(clients: u32) -> u64 {
    let buckets = 1_u64 << clients.max(1).ilog2();
    buckets.clamp(HASH_BUCKETS_MIN, HASH_BUCKETS_MAX)
}

fn leave() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| refusal(error, "makes a network namespace"))
}

fn refusal(error: Errno, what: &str) -> anyhow::Error {
    match error {
        Errno::EPERM => Usage::new(format!(
            "--kind phantom {what}, which needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run it as root, or use --kind kernel"
        ))
        .into(),
        error => anyhow::Error::new(error).context(format!("--kind phantom {what}, and the kernel refused")),
    }
}

fn write(setting: &str, value: &str) -> anyhow::Result<()> {
    match fs::write(Path::new("/proc/sys").join(setting), value) {
        // A kernel without IPv6 sends none either.
        Err(error) if error.kind() == ErrorKind::NotFound && setting.starts_with("net/ipv6") => Ok(()),
        done => done
            .with_context(|| format!("cannot set /proc/sys/{setting} to {value} in the network namespace")),
    }
}

fn read(setting: &str) -> anyhow::Result<String> {
    let path = Path::new("/proc/sys").join(setting);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_one_or_two_clients_between_the_bounds() {
        for (clients, buckets) in
            [(1, HASH_BUCKETS_MIN), (100_000, 65_536), (5_000_000, 4_194_304), (u32::MAX, HASH_BUCKETS_MAX)]
        {
            assert_eq!(hash_buckets(clients), buckets);
        }
        assert_eq!(hash_buckets(1 << 20), 1 << 20);
    }
}
