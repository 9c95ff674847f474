//! What `check` says, and with which exit code.

use crate::common::{Tree, row, tune};
use roost_tuning::{Demand, Kind, Machine, Status, check, first_limit, limits, setting::Rule, table};

/// Fields of every row of a report.
const ROW: &[&str] = &[
    "setting", "current", "required", "why", "cost", "scope", "status", "lift", "source", "stops", "allows",
];

#[test]
fn every_exit_code() {
    let tree = Tree::stock();
    assert_eq!(tree.tune("check", &["--connections", "1M"]).code, 1, "something is short");
    assert_eq!(tree.tune("apply", &["--connections", "1M"]).code, 0);
    assert_eq!(tree.tune("check", &["--connections", "1M"]).code, 0, "as required");
    assert_eq!(tree.tune("verify", &["--connections", "1M"]).code, 0);
    assert_eq!(tree.tune("check", &["--connections", "11M"]).code, 2, "usage");

    // Five million need a hash table that only a restart gives.
    assert_eq!(tree.tune("apply", &["--connections", "5M"]).code, 4, "a reboot is needed");
    tree.write("proc/sys/net/ipv4/tcp_ehash_entries", "4194304\n");
    assert_eq!(tree.tune("check", &["--connections", "5M"]).code, 0);

    // What is unsupported goes before what is short.
    tree.write("proc/sys/kernel/osrelease", "5.15.0-generic\n");
    tree.write("proc/sys/net/core/somaxconn", "128\n");
    let (code, report) = tree.report("check", &["--connections", "5M"]);
    assert_eq!((code, &report["exit_code"]), (3, &serde_json::json!(3)), "unsupported here");
    assert_eq!(row(&report, "kernel version")["status"], "unsupported");
}

#[test]
fn usage_errors_are_told_with_code_2() {
    let tree = Tree::stock();
    let root = tree.root().to_str().expect("UTF-8");
    for arguments in [
        &["check", "--connections", "0"][..],
        &["check", "--connections", "many"],
        &["check", "--profile", "router"],
        &["plan", "--script", "--json"],
        &["rollback", "--connections", "1"],
        &["tune"],
        &["explain"],
        &[],
    ] {
        let ran = tune(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
    }
    let empty = tempfile::tempdir().expect("a folder");
    let nothing = tune(&["check", "--root", empty.path().to_str().expect("UTF-8")]);
    assert!(
        nothing.code == 2 && nothing.stderr.contains("there is no proc/sys/fs/file-max in it"),
        "{nothing:?}"
    );
    let nobody = tune(&["check", "--root", root, "--pid", "77"]);
    assert!(nobody.code == 2 && nobody.stderr.contains("no such process"), "{nobody:?}");
}

#[test]
fn the_report_has_its_columns_in_both_forms() {
    let tree = Tree::stock();
    let (_, report) =
        tree.report("check", &["--connections", "2M", "--profile", "loadgen", "--kind", "kernel"]);
    for (field, value) in [
        ("command", serde_json::json!("check")),
        ("connections", serde_json::json!(2_000_000)),
        ("profile", serde_json::json!("loadgen")),
        ("kind", serde_json::json!("kernel")),
        ("pairs", serde_json::json!(1)),
        ("kernel", serde_json::json!("6.12.5-amd64")),
        ("exit_code", serde_json::json!(1)),
        ("first_limit", serde_json::json!("net.ipv4.ip_local_port_range")),
    ] {
        assert_eq!(report[field], value, "{field}");
    }
    let rows = report["settings"].as_array().expect("settings");
    assert_eq!(rows.len(), table::all().count());
    for row in rows {
        let fields: Vec<&str> = row.as_object().expect("a row").keys().map(String::as_str).collect();
        assert_eq!(fields.len(), ROW.len(), "{fields:?}");
        assert!(ROW.iter().all(|field| fields.contains(field)), "{fields:?}");
    }
    let text = tree.tune("check", &[]).stdout;
    assert!(
        text.contains("\nconnections fail first by net.netfilter.nf_conntrack_max, at 209715 connections\n"),
        "{text}"
    );
    let header = text.lines().nth(1).expect("a header");
    let columns: Vec<&str> = header.split_whitespace().collect();
    assert_eq!(columns, ["setting", "current", "required", "why", "cost", "scope", "status"]);
    for setting in table::all() {
        let shown = setting.name.split_whitespace().next().expect("a word");
        assert!(text.contains(shown), "{shown}");
    }
}

#[test]
fn files_of_the_gateway_are_rings_and_not_connections() {
    let tree = Tree::stock();
    let limits = |files: u64| {
        format!(
            "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            {files:<20} {files:<20} files     \n"
        )
    };
    tree.write("proc/self/limits", &limits(20_000));
    let (_, gateway) = tree.report("check", &["--connections", "10M"]);
    assert_eq!(row(&gateway, "RLIMIT_NOFILE")["status"], "ok", "{gateway}");
    let (_, loadgen) = tree.report("check", &["--connections", "100K", "--profile", "loadgen"]);
    let files = row(&loadgen, "RLIMIT_NOFILE");
    assert_eq!((&files["status"], &files["required"]), (&"short".into(), &"101024".into()));
    assert_eq!(files["allows"], 20_000 - limits::PROCESS_FILES);
    let (_, phantoms) =
        tree.report("check", &["--connections", "5M", "--profile", "loadgen", "--kind", "phantom"]);
    assert_eq!(row(&phantoms, "RLIMIT_NOFILE")["status"], "ok");

    // Of another process.
    tree.write("proc/77/limits", &limits(1_024));
    tree.write("proc/77/status", "CapEff:\t0000000000200000\n");
    let (_, gateway) = tree.report("check", &["--connections", "10M", "--pid", "77"]);
    assert_eq!(row(&gateway, "fs.file-max")["status"], "ok", "CAP_SYS_ADMIN is exempt");
    let files = row(&gateway, "RLIMIT_NOFILE");
    assert_eq!(files["status"], "short");
    assert!(
        files["lift"].as_str().is_some_and(|lift| lift.starts_with("prlimit --pid 77 --nofile=")),
        "{files}"
    );
}

#[test]
fn rings_are_charged_as_locked_memory_since_6_14() {
    let tree = Tree::stock();
    let memlock =
        |tree: &Tree| row(&tree.report("check", &["--connections", "10M"]).1, "RLIMIT_MEMLOCK").clone();
    assert_eq!(memlock(&tree)["status"], "ok", "not charged in 6.12");
    tree.write("proc/sys/kernel/osrelease", "6.18.44\n");
    let short = memlock(&tree);
    assert_eq!(short["status"], "short");
    // 51 rings of 160 KiB fit 8 MiB, 16 of them spare ones.
    assert_eq!(short["allows"], (51 - 16) * limits::RING_PLACES);
    tree.write("proc/self/status", "CapEff:\t0000000000004000\n");
    assert_eq!(memlock(&tree)["status"], "ok", "CAP_IPC_LOCK");
}

#[test]
fn memory_is_that_of_the_tightest_group() {
    let tree = Tree::stock();
    let report = |connections: &str| tree.report("check", &["--connections", connections]).1;
    assert_eq!(row(&report("10M"), "memory")["status"], "ok");
    assert_eq!(row(&report("10M"), "memory of the control group")["status"], "not applicable");
    tree.write("sys/fs/cgroup/system.slice/memory.max", "8589934592\n");
    let group = row(&report("10M"), "memory of the control group").clone();
    assert_eq!((&group["status"], &group["current"]), (&"short".into(), &"8192 MiB".into()));
    assert_eq!(group["allows"], ((8 << 30) - limits::TRAFFIC_BYTES) / limits::CONNECTION_BYTES);
    assert_eq!(report("10M")["first_limit"], "net.netfilter.nf_conntrack_max", "that allows fewer still");
    assert_eq!(row(&report("1M"), "memory of the control group")["status"], "ok");
    tree.write("sys/fs/cgroup/system.slice/roost-gateway.service/memory.high", "4294967296\n");
    assert_eq!(row(&report("1M"), "memory of the control group")["current"], "4096 MiB");
}

#[test]
fn decisions_about_security_are_told_and_not_made() {
    let tree = Tree::stock();
    tree.write("proc/sys/kernel/io_uring_disabled", "2\n");
    tree.write("proc/sys/vm/overcommit_memory", "2\n");
    let plan = tree.tune("plan", &[]);
    assert_eq!(plan.code, 1);
    for setting in ["kernel.io_uring_disabled", "vm.overcommit_memory"] {
        assert!(plan.stdout.contains(&format!("not by apply: {setting}: 2")), "{plan:?}");
    }
    tree.tune("apply", &[]);
    assert_eq!(tree.read("proc/sys/kernel/io_uring_disabled"), "2\n");
    assert_eq!(tree.read("proc/sys/vm/overcommit_memory"), "2\n");
    // 1 binds those without CAP_SYS_ADMIN.
    tree.write("proc/sys/kernel/io_uring_disabled", "1\n");
    assert_eq!(row(&tree.report("check", &[]).1, "kernel.io_uring_disabled")["status"], "short");
    tree.write("proc/sys/kernel/io_uring_group", "-1\n");
    tree.write("proc/self/status", "Gid:\t7\t7\t7\t7\nGroups:\t8 900 \nCapEff:\t0000000000000000\n");
    assert_eq!(row(&tree.report("check", &[]).1, "kernel.io_uring_disabled")["status"], "short");
    tree.write("proc/sys/kernel/io_uring_group", "900\n");
    assert_eq!(row(&tree.report("check", &[]).1, "kernel.io_uring_disabled")["status"], "ok");
    tree.write("proc/sys/kernel/io_uring_group", "-1\n");
    tree.write("proc/self/status", "CapEff:\t0000000000200000\n");
    assert_eq!(row(&tree.report("check", &[]).1, "kernel.io_uring_disabled")["status"], "ok");
}

#[test]
fn what_is_not_there_does_not_apply() {
    let tree = Tree::stock();
    tree.write("proc/sys/net/netfilter/nf_conntrack_count", "0\n");
    assert_eq!(
        row(&tree.report("check", &[]).1, "net.netfilter.nf_conntrack_max")["status"],
        "not applicable"
    );
    std::fs::remove_dir_all(tree.root().join("sys/class/net/eth0")).expect("removed");
    std::fs::remove_dir_all(tree.root().join("proc/sys/net/netfilter")).expect("removed");
    tree.remove("proc/sys/net/core/busy_poll");
    let (_, report) = tree.report("check", &[]);
    for setting in [
        "nic queues",
        "rps",
        "rfs",
        "xps",
        "irq affinity",
        "net.core.busy_poll",
        "net.core.rps_sock_flow_entries",
        "net.netfilter.nf_conntrack_max",
    ] {
        assert_eq!(row(&report, setting)["status"], "not applicable", "{setting}");
    }
}

#[test]
fn queues_are_spread_over_the_processors_there_are() {
    let tree = Tree::stock();
    // 40 processors: masks have a comma; the queues of one card, their interrupts all on one processor.
    tree.write("sys/devices/system/cpu/online", "0-39\n");
    for irq in ["50", "51"] {
        tree.write(&format!("sys/class/net/eth0/device/msi_irqs/{irq}"), "msix\n");
        tree.write(&format!("proc/irq/{irq}/effective_affinity_list"), "3\n");
    }
    let (_, report) = tree.report("plan", &[]);
    assert_eq!(row(&report, "nic queues")["current"], "eth0: 2 rx, 2 tx");
    assert_eq!(row(&report, "rps")["required"], "ff,ffffffff");
    let interrupts = row(&report, "irq affinity");
    assert_eq!(
        (&interrupts["status"], &interrupts["current"]),
        (&"short".into(), &"eth0: all on processor 3".into())
    );
    let writes = report["writes"].as_array().expect("writes");
    let after = |file: &str| {
        let write =
            writes.iter().find(|write| write["file"].as_str().is_some_and(|name| name.ends_with(file)));
        write.unwrap_or_else(|| panic!("{file} in {writes:?}"))["after"].as_str().expect("text").to_owned()
    };
    assert_eq!(
        (after("tx-0/xps_cpus"), after("tx-1/xps_cpus")),
        ("55,55555555\n".into(), "aa,aaaaaaaa\n".into())
    );
    assert_eq!(after("rx-1/rps_flow_cnt"), "16384\n");
    tree.write("proc/irq/51/effective_affinity_list", "4\n");
    let (_, report) = tree.report("check", &[]);
    assert_eq!(row(&report, "irq affinity")["status"], "ok");

    // A mask that somebody chose stays, and a queue for each processor needs none.
    tree.write("sys/class/net/eth0/queues/rx-0/rps_cpus", "00,0000000f\n");
    let (_, report) = tree.report("plan", &[]);
    let planned = report["writes"].to_string();
    assert!(!planned.contains("rx-0/rps_cpus") && planned.contains("rx-1/rps_cpus"), "{planned}");
    tree.write("sys/devices/system/cpu/online", "0-1\n");
    assert_eq!(row(&tree.report("check", &[]).1, "rps")["status"], "not applicable");
}

#[test]
fn clocks_and_drops_are_looked_at() {
    let tree = Tree::stock();
    let clock = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    tree.write(clock, "hpet\n");
    tree.write("proc/net/softnet_stat", "00000010 00000000 00000001\n00000010 0000000a 00000001\n");
    tree.write("proc/sys/net/ipv4/tcp_syncookies", "0\n");
    let (_, report) = tree.report("check", &[]);
    assert_eq!(row(&report, "clock source")["required"], "tsc");
    assert_eq!(row(&report, "net.core.netdev_max_backlog")["required"], "16384");
    assert_eq!(
        row(&report, "net.ipv4.tcp_max_syn_backlog")["required"],
        "65535",
        "it counts without cookies"
    );
    tree.tune("apply", &[]);
    assert_eq!(tree.read(clock), "tsc\n");
    assert_eq!(tree.read("proc/sys/net/ipv4/tcp_syncookies"), "1\n");
}

#[test]
fn requirements_never_fall_when_connections_grow() {
    let profiles = [Demand::gateway(1), Demand::loadgen(1, Kind::Kernel), Demand::loadgen(1, Kind::Phantom)];
    for setting in table::all() {
        let Rule::AtLeast(required) = setting.rule else { continue };
        for profile in profiles {
            let mut last = required(&profile);
            for connections in (0..70).map(|step| (1.26_f64.powi(step) as u64).min(limits::CONNECTIONS_MAX)) {
                let next = required(&profile.of(connections.max(1)));
                assert_eq!(next.len(), last.len(), "{}", setting.name);
                assert!(
                    next.iter().zip(&last).all(|(next, last)| next >= last),
                    "{} {connections}",
                    setting.name
                );
                last = next;
            }
        }
    }
}

#[test]
fn this_machine_can_be_checked_as_a_library() {
    let findings = check(&Machine::this(), &Demand::gateway(1_000));
    assert_eq!(findings.len(), table::all().count());
    let probed = findings.iter().find(|finding| finding.setting == "io_uring operations").expect("there");
    assert_ne!(probed.status, Status::Absent, "the running kernel is asked");
    assert!(first_limit(&check(&Machine::this(), &Demand::gateway(10))).is_none_or(|limit| limit.stops));
}
