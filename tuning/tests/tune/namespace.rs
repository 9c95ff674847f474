//! The real kernel: in a network namespace made for the test settings really change and come back, and the host keeps its own; and what a user
//! without rights is told.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use serde_json::Value;

use crate::common::{Ran, row};

/// Reads of the namespace before, after apply and after rollback, with what the tool said between.
const SCRIPT: &str = r#"
set -u
show() { cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ip_local_port_range | tr '\t\n' '  '; echo; }
show
"$TUNE" apply --connections 1M --scope namespace --state "$STATE" >/dev/null; echo "apply $?"
show
"$TUNE" verify --connections 1M --scope namespace --state "$STATE" >/dev/null; echo "verify $?"
"$TUNE" apply --connections 60K --profile loadgen --scope namespace --state "$STATE" >/dev/null; echo "loadgen $?"
show
unshare --net "$TUNE" rollback --state "$STATE"; echo "elsewhere $?"
"$TUNE" rollback --state "$STATE" | sort; echo "rollback $?"
show
ls -A "$STATE" 2>/dev/null | wc -l
"#;

/// Root has all the rights: where it lacks one, nothing would be tested in silence.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[test]
fn a_namespace_is_tuned_and_brought_back() {
    // The host is safe: only settings of the namespace are asked for, and `--state` keeps the journal apart.
    let may = Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        assert!(!is_root(), "root may make a network namespace");
        eprintln!("left out: no right to make a network namespace");
        return;
    }
    let host = || {
        ["net/core/somaxconn", "net/ipv4/ip_local_port_range"]
            .map(|name| fs::read_to_string(format!("/proc/sys/{name}")).expect("readable"))
    };
    let (before, state) = (host(), tempfile::tempdir().expect("a folder"));
    let output = Command::new("unshare")
        .args(["--net", "sh", "-c", SCRIPT])
        .env("TUNE", env!("CARGO_BIN_EXE_roost-tune"))
        .env("STATE", state.path().join("state"))
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = [
        "4096 32768 60999 ",
        "apply 0",
        "65535 32768 60999 ",
        "verify 0",
        "loadgen 0",
        "65535 5536 65535 ",
        "elsewhere 1",
        "restored /proc/sys/net/core/somaxconn",
        "restored /proc/sys/net/ipv4/ip_local_port_range",
        "rollback 0",
        "4096 32768 60999 ",
        "0",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{said}");
    assert!(said.contains("was written in network namespace net:["), "{said}");
    assert_eq!(host(), before, "the host keeps its own");
}

#[test]
fn a_user_without_rights_is_told_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    // The build's folder may be closed to others.
    let tune = folder.path().join("roost-tune");
    fs::copy(env!("CARGO_BIN_EXE_roost-tune"), &tune).expect("copied");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
    let Some(check) = as_nobody(&tune, &["check", "--connections", "5M", "--json"]) else {
        assert!(!is_root(), "root may become another user");
        eprintln!("left out: no right to become another user");
        return;
    };
    let report: Value = serde_json::from_str(&check.stdout).expect("JSON");
    // 64 KiB of locked memory are not enough for one ring where rings are charged, and no reason to call io_uring unsupported.
    let charged = roost_tuning::Machine::this().kernel() >= Some((6, 14));
    let memory = row(&report, "RLIMIT_MEMLOCK");
    assert_eq!(memory["status"], if charged { "short" } else { "ok" }, "{memory}");
    let setup = row(&report, "io_uring set-up");
    let said = setup["current"].as_str().expect("text");
    let expected = match said {
        "opens" if !charged => "ok",
        _ if said.contains("memory") => "short",
        // A seccomp filter, or kernel.io_uring_disabled.
        _ if said.contains("not permitted") => "unsupported",
        _ => "something that is known",
    };
    assert_eq!(setup["status"], expected, "{setup}");

    let apply =
        as_nobody(&tune, &["apply", "--connections", "5M", "--state", "/var/lib/roost-tune-of-a-test"]);
    let apply = apply.expect("as before");
    assert!(apply.code == 1 && apply.stderr.contains("run it as root"), "{apply:?}");
    assert!(apply.stdout.contains("write /proc/sys/"), "the plan is shown first: {apply:?}");
}

/// The binary without any right and with 64 KiB of locked memory; `None` where this test may not give up its own.
fn as_nobody(tune: &Path, arguments: &[&str]) -> Option<Ran> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", "prlimit"]);
    command.args(["--memlock=65536:65536"]).arg(tune).args(arguments);
    let ran = Ran::from(command.output().ok()?);
    (!ran.stderr.starts_with("setpriv:")).then_some(ran)
}
