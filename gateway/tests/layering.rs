//! Who may import whom, checked over the sources: between the crates of the workspace, and between the gateway's stages.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A crate's folder and the crates of the workspace it may depend on outside its tests.
const CRATES: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("router", &["roost-proto"]),
    ("gateway", &["roost-proto", "roost-router"]),
    ("loadgen", &["roost-proto", "roost-tuning"]),
    ("client", &["roost-proto"]),
    ("tuning", &[]),
    ("benches/instructions", &["roost-gateway", "roost-proto"]),
    ("benches", &["roost-gateway", "roost-proto", "roost-router"]),
];

/// A stage of the gateway, and the stages and crates it may import.
const STAGES: &[(&str, &[&str])] = &[
    ("limits.rs", &["roost_proto"]),
    ("ring", &["limits"]),
    ("slab", &["limits"]),
    ("timers", &["limits"]),
    ("mailbox", &["limits"]),
    ("conn", &["limits", "roost_proto"]),
    ("auth", &["conn"]),
    ("families.rs", &[]),
    ("http", &["auth", "conn", "families", "limits", "roost_proto"]),
    ("cgroup.rs", &[]),
    ("capacity.rs", &["cgroup", "limits"]),
    ("admission.rs", &["cgroup", "limits"]),
    ("rates.rs", &["limits"]),
    ("config", &["capacity", "limits", "rates"]),
    ("shard", &["admission", "conn", "limits", "mailbox", "ring", "slab", "timers", "roost_proto"]),
    // The binary: the only place that knows gateway and router.
    ("serve", &["roost_gateway", "roost_proto", "roost_router"]),
    ("main.rs", &["roost_gateway"]),
    ("lib.rs", &[]),
];

#[test]
fn crates_depend_only_downwards() {
    for (folder, allowed) in CRATES {
        let manifest = fs::read_to_string(workspace().join(folder).join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = manifest.parse().expect("TOML");
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        for name in
            dependencies.into_iter().flat_map(toml::Table::keys).filter(|name| name.starts_with("roost-"))
        {
            assert!(allowed.contains(&name.as_str()), "{folder}/Cargo.toml may not depend on {name}");
        }
    }
}

#[test]
fn stages_of_the_gateway_import_only_what_they_may() {
    let source = workspace().join("gateway/src");
    let mut unknown = names(&source);
    unknown.retain(|name| !STAGES.iter().any(|(stage, _)| stage == name));
    assert!(unknown.is_empty(), "{unknown:?}: give each new stage its line in STAGES");
    for (stage, allowed) in STAGES {
        for file in rust_files(&source.join(stage)) {
            let own = stage.trim_end_matches(".rs");
            for import in imports(&fs::read_to_string(&file).expect("a source file")) {
                assert!(
                    import == own || allowed.contains(&import.as_str()),
                    "{}: {own} may not import {import}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let source = "use crate::{\n    conn::{Ask, Next},\n    limits,\n};\nuse roost_proto::v1;\nfn f() { crate::ring::x() }";
    assert_eq!(imports(source), ["conn", "limits", "ring", "roost_proto"].map(str::to_owned).into());
    assert_eq!(imports("// crate::commented\nuse crate::slab;"), ["slab".to_owned()].into());
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect()
}

fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let inside = names(path).into_iter().map(|name| path.join(name));
    inside
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// First segments behind `crate::`, and the crates of the workspace that are named.
fn imports(source: &str) -> BTreeSet<String> {
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(top_level(group)),
            None => found.extend(identifier(rest)),
        }
    }
    for (at, _) in code.match_indices("roost_") {
        if !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '"') {
            found.extend(identifier(&code[at..]).filter(|name| code[at + name.len()..].starts_with("::")));
        }
    }
    found
}

/// The first segments in the braces of a grouped import, whose opening brace is already taken.
fn top_level(group: &str) -> Vec<String> {
    let (mut depth, mut found, mut fresh) = (0, Vec::new(), true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if depth == 0 && fresh && character.is_alphabetic() => {
                found.extend(identifier(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    found
}

fn identifier(text: &str) -> Option<String> {
    let end =
        text.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}
