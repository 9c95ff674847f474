//! `roost-tune` as a script sees it.

use crate::common::tune;

#[test]
fn help_lists_the_commands_and_the_exit_codes() {
    let help = tune(&["--help"]);
    assert_eq!(help.code, 0);
    for word in
        ["check", "plan", "apply", "verify", "rollback", "explain", "3 a setting is unsupported here, 4 a"]
    {
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
