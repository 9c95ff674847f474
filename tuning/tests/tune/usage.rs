//! `roost-tune` as a script sees it.

use crate::common::tune;

#[test]
fn help_lists_the_commands_and_the_exit_codes() {
    let help = tune(&["--help"]);
    assert_eq!(help.code, 0);
    for word in [
        "check",
        "plan",
        "apply",
        "verify",
        "rollback",
        "size",
        "explain",
        "3 a setting is unsupported here, 4 a",
    ] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
    assert!(tune(&["--version"]).stdout.starts_with("roost-tune "));
}

#[test]
fn connections_are_written_in_several_ways() {
    for (text, number) in
        [("500000", 500_000), ("500K", 500_000), ("500k", 500_000), ("10M", 10_000_000), ("1_000", 1_000)]
    {
        let json = tune(&["check", "--json", "--connections", text]).stdout;
        let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(report["connections"], number);
    }
}

#[test]
fn size_reckons_in_both_forms() {
    let sizing = tune(&["size", "--users", "2G", "--messages-per-day", "100G", "--message-bytes", "100"]);
    assert_eq!(sizing.code, 0);
    assert!(sizing.stdout.contains("926 Mb/s"), "{}", sizing.stdout);
    let json: serde_json::Value = serde_json::from_str(&tune(&["size", "--json"]).stdout).expect("JSON");
    assert_eq!(json["servers"], 200.0);
    assert_eq!(tune(&["size", "--users", "none"]).code, 2);
}
