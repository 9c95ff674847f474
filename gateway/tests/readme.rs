//! What the README promises a newcomer is what continuous integration does.

use std::{fs, path::Path};

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_line_that_installs_programs_is_the_one_that_ci_runs() {
    let readme = file("README.md");
    let line =
        readme.lines().find(|line| line.starts_with("apt-get install ")).expect("one line installs them");
    let packages: Vec<&str> = line.split_whitespace().skip(2).filter(|word| !word.starts_with('-')).collect();
    let ci = file(".ci/run");
    let installed = ci.lines().find(|line| line.contains("apt-get install")).expect("a line that installs");
    let installed: Vec<&str> =
        installed.rsplit("apt-get install").next().unwrap_or_default().split_whitespace().collect();
    for package in &packages {
        assert!(installed.contains(package), "{package} is not installed by .ci/run");
    }
    assert_eq!(installed.iter().filter(|word| !word.starts_with('-')).count(), packages.len());
}

#[test]
fn both_commands_stand_in_the_readme() {
    let readme = file("README.md");
    assert!(readme.contains("\ncargo run --release\n") && readme.contains("\ncargo test --workspace\n"));
    assert!(file(".ci/run").contains("\ncargo test --workspace\n"));
}

#[test]
fn links_of_the_readme_lead_somewhere() {
    let readme = file("README.md");
    let targets = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for target in targets.filter(|target| !target.contains("://")) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(target);
        assert!(path.exists(), "README.md links to {target}, which is not there");
    }
}
