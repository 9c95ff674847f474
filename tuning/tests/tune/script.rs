//! `plan`: shows every write and does none; as a script it does the same as apply.

use std::process::Command;

use crate::common::{Tree, row};

#[test]
fn the_script_does_what_apply_does() {
    let (scripted, applied) = (Tree::stock(), Tree::stock());
    for tree in [&scripted, &applied] {
        tree.write(
            "etc/systemd/system/roost-gateway.service.d/50-roost-tune.conf",
            "[Service]\nLimitCORE=0\n",
        );
    }
    let script = scripted.tune("plan", &["--script", "--connections", "1M"]).stdout;
    let run = Command::new("sh").arg("-c").arg(&script).output().expect("a shell");
    assert!(run.status.success() && run.stderr.is_empty(), "{run:?}\n{script}");
    applied.tune("apply", &["--connections", "1M"]);
    let changed = applied.snapshot().into_keys().filter_map(|path| {
        let file = path.strip_prefix(applied.root()).expect("below").to_owned();
        (path.is_file() && !file.starts_with("var/lib/roost-tune")).then_some(file)
    });
    for file in changed {
        let file = file.to_str().expect("UTF-8");
        assert_eq!(scripted.read(file), applied.read(file), "{file}");
    }
    // Each write tells what was there, so that it can be undone by hand.
    assert!(
        script.contains("# Before: 4096\nprintf '%s\\n' '65535' > \"$ROOT/proc/sys/net/core/somaxconn\"\n"),
        "{script}"
    );
    assert!(script.contains("# Before:\n#   [Service]\n#   LimitCORE=0\n"), "{script}");
    assert_eq!(scripted.tune("plan", &["--connections", "1M"]).stdout, "nothing to do\n");
}

#[test]
fn a_plan_shows_every_write_and_does_none() {
    let tree = Tree::stock();
    let before = tree.snapshot();
    let (code, report) = tree.report("plan", &["--connections", "1M"]);
    assert_eq!(code, 1);
    assert_eq!(tree.snapshot(), before);
    let planned: Vec<&str> = report["writes"]
        .as_array()
        .expect("writes")
        .iter()
        .filter_map(|write| write["file"].as_str())
        .collect();
    let text = tree.tune("plan", &["--connections", "1M"]).stdout;
    assert!(planned.iter().all(|file| text.contains(file)), "{text}");
    tree.tune("apply", &["--connections", "1M"]);
    let after = tree.snapshot();
    let mut changed: Vec<String> = Vec::new();
    for (path, now) in &after {
        if before.get(path) != Some(now) && path.is_file() {
            changed.push(format!("/{}", path.strip_prefix(tree.root()).expect("below").display()));
        }
    }
    changed.retain(|file| !file.starts_with("/var/lib/roost-tune"));
    let mut planned: Vec<String> = planned.into_iter().map(str::to_owned).collect();
    planned.sort();
    changed.sort();
    assert_eq!(planned, changed, "nothing is written that was not shown");
}

#[test]
fn a_scope_keeps_to_itself() {
    let tree = Tree::stock();
    let before = tree.snapshot();
    let (_, report) = tree.report("apply", &["--connections", "1M", "--scope", "namespace"]);
    assert_eq!(row(&report, "net.core.somaxconn")["status"], "ok");
    let rows = report["settings"].as_array().expect("settings");
    assert!(rows.iter().all(|row| row["scope"] == "namespace"));
    assert_eq!(tree.read("proc/sys/fs/file-max"), "800000\n");
    assert!(!tree.root().join("etc/sysctl.d/90-roost.conf").exists(), "the next start is the host's");
    assert_eq!(tree.tune("rollback", &[]).code, 0);
    assert_eq!(tree.snapshot(), before);
}
