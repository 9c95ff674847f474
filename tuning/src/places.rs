//! Where this tool writes, and where systemd looks.

use std::path::Path;

use crate::machine::Machine;

/// Settings of the kernel for each start, `sysctl.d(5)`. The number puts it behind the distribution's files.
pub const SYSCTL: &str = "/etc/sysctl.d/90-roost.conf";
/// Files of `/sys` for each start, `tmpfiles.d(5)`.
pub const TMPFILES: &str = "/etc/tmpfiles.d/90-roost.conf";
/// The gateway's limits, `systemd.unit(5)`.
pub const UNIT_DROP_IN: &str = "/etc/systemd/system/roost-gateway.service.d/50-roost-tune.conf";
/// Limits of login sessions, `limits.conf(5)`.
pub const LOGIN_LIMITS: &str = "/etc/security/limits.d/90-roost.conf";
/// Two files of the kernel that every machine has, so that a copy without them is none.
pub const FILE_MAX: &str = "/proc/sys/fs/file-max";
/// The other one.
pub const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
/// What was there before, until it is rolled back.
pub const STATE: &str = "/var/lib/roost-tune";

const UNIT: &str = "roost-gateway.service";

/// The gateway's unit and its drop-ins.
pub fn unit_files(machine: &Machine) -> Vec<String> {
    let folders = ["/usr/lib/systemd/system", "/run/systemd/system", "/etc/systemd/system"];
    let mut files = Vec::new();
    for folder in folders {
        files.push(format!("{folder}/{UNIT}"));
        let drop_ins = machine.names(format!("{folder}/{UNIT}.d")).into_iter();
        files.extend(
            drop_ins
                .filter(|name| Path::new(name).extension() == Some("conf".as_ref()))
                .map(|name| format!("{folder}/{UNIT}.d/{name}")),
        );
    }
    files
}

/// A limit of a unit as a number: `infinity`, the hard part of `soft:hard`, suffixes K to T of 1,024 each.
pub fn unit_number(text: &str) -> Option<u64> {
    let text = text.rsplit(':').next().unwrap_or(text).trim();
    if text == "infinity" {
        return Some(u64::MAX);
    }
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let power = match text.strip_prefix(digits)? {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << power)
}
