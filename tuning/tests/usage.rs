//! `roost-tune` as a script sees it.

use std::process::Command;

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_roost-tune")).args(arguments).output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn help_says_what_this_version_does() {
    let (code, text) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("answers --help"), "{text}");
}

#[test]
fn a_command_it_does_not_have_is_a_usage_error() {
    for arguments in [&["check"][..], &[]] {
        assert_eq!(run(arguments).0, Some(2));
    }
}
