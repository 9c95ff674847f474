//! A copy of a machine's files to work on, and the binary.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// What a stock server says: 8 processors, 64 GiB, a network card with 8 queues, Linux 6.12, a table of 524,288 buckets.
const STOCK: &[(&str, &str)] = &[
    ("proc/sys/fs/nr_open", "1048576\n"),
    ("proc/sys/fs/file-max", "800000\n"),
    ("proc/sys/kernel/osrelease", "6.12.5-amd64\n"),
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("proc/sys/kernel/random/boot_id", "7c1f2f1e-7e0e-4b0c-9d1e-3d2f0a9b8c7d\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/core/netdev_max_backlog", "1000\n"),
    ("proc/sys/net/core/rps_sock_flow_entries", "0\n"),
    ("proc/sys/net/core/busy_poll", "0\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096\n"),
    ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
    ("proc/sys/net/ipv4/tcp_mem", "18500\t24600\t37000\n"),
    ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
    ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
    ("proc/sys/net/ipv4/tcp_max_orphans", "262144\n"),
    ("proc/sys/net/ipv4/tcp_max_tw_buckets", "262144\n"),
    ("proc/sys/net/ipv4/tcp_notsent_lowat", "4294967295\n"),
    ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1\n"),
    ("proc/sys/net/ipv4/tcp_keepalive_time", "7200\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/sys/net/ipv4/tcp_ehash_entries", "524288\n"),
    ("proc/sys/net/ipv4/neigh/default/gc_thresh2", "512\n"),
    ("proc/sys/net/ipv4/neigh/default/gc_thresh3", "1024\n"),
    ("proc/sys/net/ipv6/neigh/default/gc_thresh3", "1024\n"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
    ("proc/sys/net/netfilter/nf_conntrack_count", "12\n"),
    ("proc/sys/net/netfilter/nf_conntrack_buckets", "262144\n"),
    ("proc/sys/vm/max_map_count", "65530\n"),
    ("proc/sys/vm/overcommit_memory", "0\n"),
    ("proc/meminfo", "MemTotal:       65536000 kB\nMemFree:        60000000 kB\n"),
    ("proc/net/softnet_stat", "00000010 00000000 00000001\n00000010 00000000 00000001\n"),
    ("proc/self/cgroup", "0::/system.slice/roost-gateway.service\n"),
    ("proc/self/status", "Name:\troost-tune\nCapEff:\t0000000000000000\n"),
    (
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max open files            1024                 524288               files     \n\
         Max locked memory         8388608              8388608              bytes     \n",
    ),
    ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
    ("sys/devices/system/cpu/online", "0-7\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm \n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
    ("sys/class/net/lo/queues/rx-0/rps_cpus", "00\n"),
    ("sys/class/net/eth0/device/vendor", "0x8086\n"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00\n"),
    ("sys/class/net/eth0/queues/rx-0/rps_flow_cnt", "0\n"),
    ("sys/class/net/eth0/queues/rx-1/rps_cpus", "00\n"),
    ("sys/class/net/eth0/queues/rx-1/rps_flow_cnt", "0\n"),
    ("sys/class/net/eth0/queues/tx-0/xps_cpus", "00\n"),
    ("sys/class/net/eth0/queues/tx-1/xps_cpus", "00\n"),
    ("etc/systemd/system.conf", "[Manager]\n"),
    ("etc/security/limits.conf", "# nothing\n"),
    ("etc/sysctl.d/10-distribution.conf", "net.ipv4.tcp_syncookies = 1\n"),
    ("var/lib/dpkg/status", "\n"),
];

/// A stock machine's files in a folder of its own.
pub struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    pub fn stock() -> Self {
        let tree = Self { folder: tempfile::tempdir().expect("a folder") };
        for (file, text) in STOCK {
            tree.write(file, text);
        }
        tree
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.root().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.root().join(file)).expect("removed");
    }

    pub fn set_mode(&self, file: &str, mode: u32) {
        fs::set_permissions(self.root().join(file), fs::Permissions::from_mode(mode)).expect("set");
    }

    /// Every file and folder with its mode, owner and contents.
    pub fn snapshot(&self) -> Snapshot {
        let mut files = Snapshot::new();
        walk(self.root(), &mut files);
        files
    }

    /// `roost-tune COMMAND --root TREE ARGUMENTS`.
    pub fn tune(&self, command: &str, arguments: &[&str]) -> Ran {
        let root = self.root().to_str().expect("UTF-8");
        tune(&[&[command, "--root", root], arguments].concat())
    }

    /// The same with `--json`, and the report.
    pub fn report(&self, command: &str, arguments: &[&str]) -> (i32, Value) {
        let ran = self.tune(command, &[arguments, &["--json"]].concat());
        (ran.code, serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}")))
    }
}

pub type Snapshot = BTreeMap<PathBuf, (u32, u32, u32, Option<Vec<u8>>)>;

fn walk(folder: &Path, files: &mut Snapshot) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let metadata = fs::symlink_metadata(&path).expect("there");
        let contents = metadata.is_file().then(|| fs::read(&path).expect("readable"));
        files.insert(path.clone(), (metadata.mode(), metadata.uid(), metadata.gid(), contents));
        if metadata.is_dir() {
            walk(&path, files);
        }
    }
}

/// What a run of the binary left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self {
            code: output.status.code().expect("it ends by itself"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

pub fn tune(arguments: &[&str]) -> Ran {
    Command::new(env!("CARGO_BIN_EXE_roost-tune")).args(arguments).output().expect("it runs").into()
}

/// The row of a setting in a report.
pub fn row<'a>(report: &'a Value, setting: &str) -> &'a Value {
    let rows = report["settings"].as_array().expect("settings");
    rows.iter().find(|row| row["setting"] == setting).unwrap_or_else(|| panic!("{setting} in {report}"))
}
