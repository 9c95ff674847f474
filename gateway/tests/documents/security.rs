//! docs/SECURITY.md names the tests that hold what it says: each is there.

use super::{path, read};

/// A test as the page names it: `gateway/tests/log.rs: no_secret_and_no_payload_is_in_the_log_at_any_level`.
fn named_tests(page: &str) -> Vec<(&str, &str)> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter_map(|word| word.split_once(".rs: ").map(|(file, test)| (file, test.trim()))).collect()
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let page = read("docs/SECURITY.md");
    let tests = named_tests(&page);
    assert!(tests.len() > 20, "only {} tests are named", tests.len());
    for (file, test) in tests {
        let file = format!("{file}.rs");
        assert!(path(&file).exists(), "{file} is not there");
        let source = read(&file);
        let Some(at) = source.find(&format!("fn {test}(")) else { panic!("{file} has no test {test}") };
        let before = &source[..at];
        let item = before.rsplit("\n\n").next().unwrap_or_default();
        assert!(item.contains("#[test]") || item.contains("#[tokio::test]"), "{test} in {file} is no test");
    }
}

#[test]
fn every_rule_and_every_attack_names_a_test() {
    let page = read("docs/SECURITY.md");
    let mut names_tests = false;
    let mut rows = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        if line.ends_with(" tested by |") || line.ends_with(" may do |") {
            names_tests = line.ends_with(" tested by |");
        } else if names_tests {
            rows += 1;
            assert!(!named_tests(line).is_empty(), "no test is named: {line}");
        }
    }
    assert!(rows > 25, "only {rows} rows were found");
}
