//! Apply, verify and rollback over a copy of a machine's files: byte for byte what was there before.

use std::{
    env,
    fs::{self, File},
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    path::Path,
    process::{Command, abort},
};

use crate::common::{Tree, row};
use roost_tuning::{Demand, Machine, apply, check::check, plan};

const SYSCTL: &str = "etc/sysctl.d/90-roost.conf";
const DROP_IN: &str = "etc/systemd/system/roost-gateway.service.d/50-roost-tune.conf";
/// Places to stop in one apply; more than there are.
const STOPS_MAX: usize = 200;

#[test]
fn rollback_leaves_every_byte_mode_and_folder_as_it_was() {
    let tree = Tree::stock();
    // A file of ours that was there already, not readable by others, with a line of the operator's.
    tree.write(DROP_IN, "[Service]\nLimitCORE=0\n");
    tree.set_mode(DROP_IN, 0o600);
    let before = tree.snapshot();
    let applied = tree.tune("apply", &["--connections", "1M"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    let drop_in = tree.read(DROP_IN);
    assert!(drop_in.contains("LimitCORE=0\n") && drop_in.contains("LimitNOFILE="), "{drop_in}");
    assert_eq!(tree.read("proc/sys/net/core/somaxconn"), "65535\n");
    assert_eq!(tree.read("sys/kernel/mm/transparent_hugepage/enabled"), "madvise\n");
    assert_ne!(tree.snapshot(), before);

    let back = tree.tune("rollback", &[]);
    assert_eq!(back.code, 0, "{back:?}");
    assert_eq!(tree.snapshot(), before);
    for line in [
        format!("restored /{DROP_IN}"),
        format!("removed /{SYSCTL}"),
        "next: systemctl daemon-reload".to_owned(),
    ] {
        assert!(back.stdout.contains(&line), "{line}: {back:?}");
    }
    assert_eq!(tree.tune("rollback", &[]).stdout, "nothing to roll back\n");
}

#[test]
fn the_second_apply_finds_nothing_to_do() {
    for profile in ["gateway", "loadgen"] {
        let tree = Tree::stock();
        let arguments = ["--connections", "200K", "--profile", profile, "--address-pairs", "10"];
        tree.tune("apply", &arguments);
        let first = tree.snapshot();
        let again = tree.tune("apply", &arguments);
        assert!(again.stdout.starts_with("nothing to do\n"), "{again:?}");
        assert_eq!(tree.snapshot(), first);
        assert_eq!(
            tree.tune("apply", &["--connections", "1000", "--profile", profile]).stdout.lines().next(),
            Some("nothing to do")
        );
        assert_eq!(tree.snapshot(), first, "a smaller demand lowers nothing");
    }
}

#[test]
fn a_larger_demand_raises_lines_and_rollback_knows_the_first_state() {
    let tree = Tree::stock();
    let before = tree.snapshot();
    tree.tune("apply", &["--connections", "1M"]);
    tree.tune("apply", &["--connections", "10M"]);
    assert!(tree.read(SYSCTL).contains("net.ipv4.tcp_max_orphans = 10000000\n"));
    assert_eq!(tree.tune("rollback", &[]).code, 0);
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn nothing_is_ever_lowered() {
    let tree = Tree::stock();
    tree.write("proc/sys/net/core/somaxconn", "1000000\n");
    // Of three numbers one is higher than required.
    tree.write("proc/sys/net/ipv4/tcp_mem", "1\t2\t99999999\n");
    tree.write("proc/sys/net/ipv4/ip_local_port_range", "2000\t3000\n");
    tree.write(SYSCTL, "net.ipv4.tcp_max_orphans = 77000000\n");
    tree.write(
        "etc/systemd/system/roost-gateway.service.d/10-mine.conf",
        "[Service]\nLimitNOFILE=8192:infinity\nTasksMax=8K\n",
    );
    tree.tune("apply", &["--connections", "1M"]);
    tree.tune("apply", &["--connections", "64000", "--profile", "loadgen"]);
    assert_eq!(tree.read("proc/sys/net/core/somaxconn"), "1000000\n");
    assert_eq!(tree.read("proc/sys/net/ipv4/tcp_mem"), "46875 62500 99999999\n");
    assert_eq!(tree.read("proc/sys/net/ipv4/ip_local_port_range"), "1536 65535\n");
    assert!(tree.read(SYSCTL).contains("net.ipv4.tcp_max_orphans = 77000000\n"));
    let drop_in = tree.read(DROP_IN);
    assert!(
        !drop_in.contains("LimitNOFILE") && !drop_in.contains("TasksMax"),
        "the operator's are higher: {drop_in}"
    );
}

#[test]
fn an_apply_that_is_killed_anywhere_can_be_rolled_back() {
    let mut stops = 0;
    for stop_at in 1..=STOPS_MAX {
        let tree = Tree::stock();
        tree.write(DROP_IN, "[Service]\nLimitCORE=0\n");
        let before = tree.snapshot();
        let child = Command::new(env::current_exe().expect("this test"))
            .args(["--exact", "apply::child_that_is_stopped"])
            .env("ROOST_STOP_AT", stop_at.to_string())
            .env("ROOST_STOP_ROOT", tree.root())
            .output()
            .expect("it runs");
        let killed = child.status.signal().is_some();
        if stop_at % 2 == 0 {
            // The operator tries again before giving up.
            tree.tune("apply", &["--connections", "1M"]);
        }
        let back = tree.tune("rollback", &[]);
        assert_eq!(back.code, 0, "stopped at {stop_at}: {back:?}");
        assert_eq!(tree.snapshot(), before, "stopped at {stop_at}");
        if !killed {
            assert!(child.status.success(), "{child:?}");
            break;
        }
        stops = stop_at;
    }
    assert!((20..STOPS_MAX).contains(&stops), "journal, each value, each file, each folder: {stops}");
}

/// Not a test of its own: what the test above kills.
#[test]
fn child_that_is_stopped() {
    let (Ok(stop_at), Ok(root)) = (env::var("ROOST_STOP_AT"), env::var("ROOST_STOP_ROOT")) else { return };
    let (machine, demand) = (Machine::at(&root), Demand::gateway(1_000_000));
    let plan = plan::plan(&machine, &check(&machine, &demand), &[]).expect("a plan");
    let mut left: usize = stop_at.parse().expect("a number");
    let mut step = || {
        left -= 1;
        if left == 0 {
            abort();
        }
    };
    left_alone(&mut step, &machine, &plan);
}

fn left_alone(step: &mut dyn FnMut(), machine: &Machine, plan: &plan::Plan) {
    let state = machine.path("/var/lib/roost-tune");
    apply::apply(machine, plan, &state, step).expect("applied");
}

#[test]
fn a_plan_that_somebody_overtook_is_not_carried_out() {
    let tree = Tree::stock();
    let machine = Machine::at(tree.root());
    let plan = plan::plan(&machine, &check(&machine, &Demand::gateway(1_000_000)), &[]).expect("a plan");
    tree.write("proc/sys/net/core/somaxconn", "1000000\n");
    let before = tree.snapshot();
    let state = tree.root().join("state");
    let error = apply::apply(&machine, &plan, &state, &mut || {}).expect_err("it would lower a value");
    assert!(error.to_string().contains("somaxconn was changed while the plan was made"), "{error}");
    fs::remove_dir(&state).expect("nothing is in it");
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn no_link_leads_out_of_a_copy() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let outside = elsewhere.path().join("somaxconn");
    fs::write(&outside, "128\n").expect("written");
    let tree = Tree::stock();
    let folder = tree.root().join("proc/sys/net/core");
    fs::remove_dir_all(&folder).expect("removed");
    symlink(elsewhere.path(), &folder).expect("linked");
    let applied = tree.tune("apply", &["--connections", "1M"]);
    assert_eq!(applied.code, 1, "{applied:?}");
    assert!(applied.stderr.contains("leads out of --root"), "{applied:?}");
    assert_eq!(fs::read_to_string(&outside).expect("there"), "128\n");
}

#[test]
fn what_somebody_else_changed_is_left_unless_forced() {
    let tree = Tree::stock();
    let before = tree.snapshot();
    tree.tune("apply", &["--connections", "1M"]);
    tree.write("proc/sys/net/core/somaxconn", "70000\n");
    let back = tree.tune("rollback", &[]);
    assert_eq!(back.code, 1, "{back:?}");
    assert!(back.stderr.contains("somaxconn was changed by somebody else"), "{back:?}");
    assert_eq!(tree.read("proc/sys/net/core/somaxconn"), "70000\n");
    assert!(!tree.root().join(SYSCTL).exists(), "the rest is back");
    assert_eq!(tree.tune("rollback", &["--force"]).code, 0);
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn a_write_that_fails_is_reported_and_the_rest_is_done() {
    let tree = Tree::stock();
    let before = tree.snapshot();
    // A folder in the way of a file, so that root fails as well.
    fs::create_dir_all(tree.root().join("etc/tmpfiles.d/.90-roost.conf.roost-tune/in-the-way"))
        .expect("made");
    let (code, report) = tree.report("apply", &["--connections", "1M"]);
    assert_eq!(code, 1);
    assert_eq!(report["failed"].as_array().map(Vec::len), Some(1), "{}", report["failed"]);
    assert!(tree.root().join(SYSCTL).exists());
    fs::remove_dir_all(tree.root().join("etc/tmpfiles.d")).expect("removed");
    assert_eq!(tree.tune("rollback", &[]).code, 0);
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn strange_files_stop_it_before_anything_is_changed() {
    let tree = Tree::stock();
    symlink("/dev/null", tree.root().join(SYSCTL)).expect("linked");
    let before = tree.snapshot();
    let applied = tree.tune("apply", &["--connections", "1M"]);
    assert_eq!(applied.code, 1);
    assert!(
        applied.stderr.contains("is a link or no file: move it away, nothing was changed"),
        "{applied:?}"
    );
    assert_eq!(tree.snapshot(), before);

    let tree = Tree::stock();
    tree.write(DROP_IN, "[Unit]\nAfter=postgresql.service\n[Service]\nLimitCORE=0\n");
    let before = tree.snapshot();
    let applied = tree.tune("apply", &["--connections", "1M"]);
    assert!(applied.stderr.contains("has other sections than [Service]"), "{applied:?}");
    assert_eq!(tree.snapshot(), before);

    let tree = Tree::stock();
    tree.write("var/lib/roost-tune/journal.json", "{\"version\": 99}\n");
    let before = tree.snapshot();
    for command in ["apply", "rollback", "verify"] {
        let ran = tree.tune(command, &[]);
        assert!(ran.code == 1 && ran.stderr.contains("is no journal of this tool"), "{ran:?}");
    }
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn two_at_a_time_are_refused() {
    let tree = Tree::stock();
    let state = tree.root().join("var/lib/roost-tune");
    fs::create_dir(&state).expect("made");
    let held = File::open(&state).expect("opened");
    held.lock().expect("locked");
    for command in ["apply", "rollback", "verify"] {
        let ran = tree.tune(command, &[]);
        assert!(ran.code == 1 && ran.stderr.contains("another roost-tune works with"), "{ran:?}");
    }
    assert!(!tree.root().join(SYSCTL).exists());
}

#[test]
fn verify_tells_what_is_not_as_it_was_left() {
    let tree = Tree::stock();
    tree.tune("apply", &["--connections", "1M"]);
    assert_eq!(tree.report("verify", &["--connections", "1M"]).1["drift"], serde_json::json!([]));
    tree.write("proc/sys/net/core/somaxconn", "128\n");
    tree.write(
        "etc/sysctl.d/99-tuning-i-read-about.conf",
        "net/ipv4/tcp_max_orphans = 1024\nfs.file-max = 999999999\n",
    );
    let (code, report) = tree.report("verify", &["--connections", "1M"]);
    assert_eq!(code, 1);
    assert_eq!(row(&report, "net.core.somaxconn")["status"], "short");
    let drift = report["drift"].as_array().expect("drift");
    assert_eq!(drift.len(), 2, "{drift:?}");
    assert_eq!(drift[0]["file"], "/proc/sys/net/core/somaxconn");
    assert!(
        drift[1]["file"]
            .as_str()
            .is_some_and(|file| Path::new(file).ends_with("99-tuning-i-read-about.conf"))
    );
    assert_eq!(drift[1]["current"], "1024");
}
