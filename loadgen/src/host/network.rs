//! What the kernel counts of TCP in a network namespace (/proc/net/snmp and /proc/net/netstat).

use crate::tun::DEVICE as TUN_DEVICE;
use procfs::FromRead;
use procfs::net::InterfaceDeviceStatus;
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// Counts of TCP; of an interval where one was subtracted from a later one. The names in the kernel stand in brackets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Connections the kernel accepted (`PassiveOpens`).
    pub passive_opens: u64,
    /// Handshakes that came to nothing (`AttemptFails`).
    pub attempt_fails: u64,
    /// Connections dropped because the accept queue was full (`ListenOverflows`).
    pub listen_overflows: u64,
    /// Connections dropped for any reason while they were opened, the overflows included (`ListenDrops`).
    pub listen_drops: u64,
    /// SYNs dropped because the queue of handshakes was full (`TCPReqQFullDrop`).
    pub request_queue_drops: u64,
    /// SYNs answered with a cookie because that queue was full (`TCPReqQFullDoCookies`).
    pub request_queue_cookies: u64,
    /// Connections that ended by a reset (`EstabResets`).
    pub established_resets: u64,
    /// Resets sent (`OutRsts`).
    pub resets_sent: u64,
    /// Segments sent again (`RetransSegs`).
    pub segments_retransmitted: u64,
    /// Retransmission timers that ran out (`TCPTimeouts`).
    pub timeouts: u64,
    /// Segments received that were malformed (`InErrs`).
    pub segments_in_error: u64,
    /// Segments received with a wrong checksum (`InCsumErrors`).
    pub checksum_errors: u64,
    /// Connections given up because of `tcp_mem` or `tcp_max_orphans`, which all namespaces share (`TCPAbortOnMemory`).
    pub aborts_on_memory: u64,
    /// Packets for phantoms that found their queue of the TUN device full. TCP sends them again.
    pub device_drops: u64,
}

impl Network {
    /// Reads the calling thread's namespace; what cannot be read counts as 0.
    pub fn read() -> Self {
        let read =
            |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        Self { device_drops: device_drops(), ..Self::parse(&read("snmp"), &read("netstat")) }
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let by = |value: fn(&Self) -> u64| value(self).saturating_sub(value(earlier));
        Self {
            passive_opens: by(|network| network.passive_opens),
            attempt_fails: by(|network| network.attempt_fails),
            listen_overflows: by(|network| network.listen_overflows),
            listen_drops: by(|network| network.listen_drops),
            request_queue_drops: by(|network| network.request_queue_drops),
            request_queue_cookies: by(|network| network.request_queue_cookies),
            established_resets: by(|network| network.established_resets),
            resets_sent: by(|network| network.resets_sent),
            segments_retransmitted: by(|network| network.segments_retransmitted),
            timeouts: by(|network| network.timeouts),
            segments_in_error: by(|network| network.segments_in_error),
            checksum_errors: by(|network| network.checksum_errors),
            aborts_on_memory: by(|network| network.aborts_on_memory),
            device_drops: by(|network| network.device_drops),
        }
    }

    /// procfs knows snmp but not netstat, which has the same form.
    fn parse(snmp: &str, netstat: &str) -> Self {
        let tcp = |name| counter(snmp, "Tcp:", name);
        let extended = |name| counter(netstat, "TcpExt:", name);
        Self {
            passive_opens: tcp("PassiveOpens"),
            attempt_fails: tcp("AttemptFails"),
            listen_overflows: extended("ListenOverflows"),
            listen_drops: extended("ListenDrops"),
            request_queue_drops: extended("TCPReqQFullDrop"),
            request_queue_cookies: extended("TCPReqQFullDoCookies"),
            established_resets: tcp("EstabResets"),
            resets_sent: tcp("OutRsts"),
            segments_retransmitted: tcp("RetransSegs"),
            timeouts: extended("TCPTimeouts"),
            segments_in_error: tcp("InErrs"),
            checksum_errors: tcp("InCsumErrors"),
            aborts_on_memory: extended("TCPAbortOnMemory"),
            device_drops: 0,
        }
    }
}

impl AddAssign for Network {
    fn add_assign(&mut self, other: Self) {
        let Self {
            passive_opens,
            attempt_fails,
            listen_overflows,
            listen_drops,
            request_queue_drops,
            request_queue_cookies,
            established_resets,
            resets_sent,
            segments_retransmitted,
            timeouts,
            segments_in_error,
            checksum_errors,
            aborts_on_memory,
            device_drops,
        } = self;
        for (mine, theirs) in [
            (passive_opens, other.passive_opens),
            (attempt_fails, other.attempt_fails),
            (listen_overflows, other.listen_overflows),
            (listen_drops, other.listen_drops),
            (request_queue_drops, other.request_queue_drops),
            (request_queue_cookies, other.request_queue_cookies),
            (established_resets, other.established_resets),
            (resets_sent, other.resets_sent),
            (segments_retransmitted, other.segments_retransmitted),
            (timeouts, other.timeouts),
            (segments_in_error, other.segments_in_error),
            (checksum_errors, other.checksum_errors),
            (aborts_on_memory, other.aborts_on_memory),
            (device_drops, other.device_drops),
        ] {
            // Another process may have told it.
            *mine = mine.saturating_add(theirs);
        }
    }
}

/// 0 where there is no such device, as in runs with kernel sockets.
fn device_drops() -> u64 {
    let devices = InterfaceDeviceStatus::from_file("/proc/thread-self/net/dev").map(|devices| devices.0);
    devices.ok().and_then(|devices| Some(devices.get(TUN_DEVICE)?.sent_drop)).unwrap_or_default()
}

/// A group is two lines with the same beginning: the names, and the values in the same order.
fn counter(text: &str, group: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let mut pairs = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
    pairs.find(|(found, _)| *found == name).and_then(|(_, value)| value.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "Icmp: InMsgs InErrors OutRsts
Icmp: 1 2 99
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors
Tcp: 1 200 120000 -1 177 14 3 6 4 11155 10083 18 5 94 7
";
    const NETSTAT: &str = "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPTimeouts TCPAbortOnMemory TCPReqQFullDoCookies TCPReqQFullDrop
TcpExt: 8 21 22 23 24 25 26
IpExt: ListenDrops
IpExt: 99
";

    #[test]
    fn counters_are_found_by_their_names() {
        let network = Network::parse(SNMP, NETSTAT);
        let expected = Network {
            passive_opens: 14,
            attempt_fails: 3,
            listen_overflows: 21,
            listen_drops: 22,
            request_queue_drops: 26,
            request_queue_cookies: 25,
            established_resets: 6,
            resets_sent: 94,
            segments_retransmitted: 18,
            timeouts: 23,
            segments_in_error: 5,
            checksum_errors: 7,
            aborts_on_memory: 24,
            device_drops: 0,
        };
        assert_eq!(network, expected);
        assert_eq!(Network::parse("", "TcpExt: ListenDrops"), Network::default());
    }

    #[test]
    fn an_interval_is_the_difference_and_never_negative() {
        let early = Network::parse(SNMP, NETSTAT);
        let late = Network { timeouts: 30, resets_sent: 0, ..early };
        assert_eq!(late.since(&early), Network { timeouts: 7, ..Network::default() });
    }

    #[test]
    fn this_kernel_has_every_counter() {
        let texts = ["snmp", "netstat"]
            .map(|file| std::fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default());
        let text = texts.concat();
        for name in [
            "PassiveOpens",
            "AttemptFails",
            "ListenOverflows",
            "ListenDrops",
            "TCPReqQFullDrop",
            "TCPReqQFullDoCookies",
            "EstabResets",
            "OutRsts",
            "RetransSegs",
            "TCPTimeouts",
            "InErrs",
            "InCsumErrors",
            "TCPAbortOnMemory",
        ] {
            assert!(text.contains(&format!(" {name} ")) || text.contains(&format!(" {name}\n")), "{name}");
        }
    }
}
