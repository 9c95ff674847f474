//! Pages for operators that are generated from the code, or name things of it: what they say is what there is.
//!
//! `ROOST_REGENERATE=1 cargo test -p roost-gateway --test documents` writes the generated ones anew.

mod dashboard;
mod limits;
mod metrics;
mod operations;
mod samples;
mod security;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file of the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    let path = path(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Checks that a page is as the code generates it, or writes it so where that is asked for.
fn is_current(name: &str, generated: &str) {
    if std::env::var_os("ROOST_REGENERATE").is_some_and(|wanted| wanted == "1") {
        fs::write(path(name), generated).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let found = fs::read_to_string(path(name)).unwrap_or_default();
    let first = found.lines().zip(generated.lines()).find(|(found, generated)| found != generated);
    assert!(
        found == generated,
        "{name} is not what the code says; run ROOST_REGENERATE=1 cargo test -p roost-gateway --test documents. First \
         difference: {first:?}"
    );
}
