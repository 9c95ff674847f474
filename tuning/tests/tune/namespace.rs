//! The real kernel, in a network namespace made for the test: settings really change there, come back, and the host keeps its own.

use std::{fs, process::Command};

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

#[test]
fn a_namespace_is_tuned_and_brought_back() {
    // SAFETY of the host: only settings of the namespace are asked for, and `--state` keeps the journal apart.
    let may = Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success());
    if !may {
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
