//! The table itself, and what is made from it: the guide, the files under `units/`, and the numbers of the gateway.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use crate::common::{Tree, tune};
use roost_tuning::{guide::guide, limits, table};

const DROP_IN: &str = "etc/systemd/system/roost-gateway.service.d/50-roost-tune.conf";

#[test]
fn every_entry_tells_why_what_it_costs_and_where_it_was_learnt() {
    let mut names = BTreeSet::new();
    for setting in table::all() {
        assert!(names.insert(setting.name), "{} is there twice", setting.name);
        for text in [setting.needs, setting.why, setting.cost, setting.source] {
            assert!(
                !text.is_empty() && !text.contains('|') && !text.contains('\n'),
                "{}: {text}",
                setting.name
            );
        }
        assert!(setting.why.ends_with('.') && setting.cost.ends_with('.'), "{}", setting.name);
    }
    for entry in table::folklore::FOLKLORE {
        assert!(names.insert(entry.name), "{} is there twice", entry.name);
        assert!(!entry.why_not.is_empty() && !entry.instead.is_empty() && !entry.source.is_empty());
    }
}

#[test]
fn folklore_is_refused_with_the_reason() {
    for (name, reason) in [
        ("tcp_tw_recycle", "behind one NAT address"),
        ("net/ipv4/tcp_tw_recycle", "behind one NAT address"),
        ("tcp_tw_reuse", "not those it accepts"),
        ("net.ipv4.tcp_timestamps=0", "PAWS"),
        ("vm.overcommit", "out-of-memory killer"),
        ("swappiness=0", "never swapped"),
        ("huge tcp_mem", "keeps socket buffers from eating the machine"),
        ("nofile=10000000", "direct descriptors"),
    ] {
        let ran = tune(&["explain", name]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stdout.contains("refused") && ran.stdout.contains(reason), "{name}: {}", ran.stdout);
    }
    // Nothing refused is in the table under the same name with a requirement.
    for entry in table::folklore::FOLKLORE {
        assert!(table::find(entry.name).is_none(), "{}", entry.name);
    }
}

#[test]
fn settings_are_explained_by_any_of_their_names() {
    for name in ["somaxconn", "net.core.somaxconn", "/proc/sys/net/core/somaxconn", "rlimit_nofile"] {
        let ran = tune(&["explain", name]);
        assert!(ran.code == 0 && ran.stdout.contains("why:"), "{name}: {ran:?}");
    }
    let unknown = tune(&["explain", "tcp_tw_recyle"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("like it: tcp_tw_recycle"), "{unknown:?}");
    let json = tune(&["explain", "vm.overcommit_memory", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["known"]["settings"][0]["setting"], "vm.overcommit_memory");
    assert_eq!(json["known"]["refused"][0]["name"], "vm.overcommit_memory=1");
}

#[test]
fn the_guide_is_what_the_table_says() {
    agrees(&crate_folder().join("../docs/TUNING.md"), &guide());
}

#[test]
fn the_files_under_units_are_what_apply_writes() {
    let tree = Tree::stock();
    tree.tune("apply", &[]);
    for file in ["etc/sysctl.d/90-roost.conf", DROP_IN] {
        let units = crate_folder().join("units");
        let target = match file {
            DROP_IN => units.join("roost-gateway.service.d/50-roost-tune.conf"),
            other => units.join(Path::new(other).file_name().expect("a name")),
        };
        agrees(&target, &tree.read(file));
    }
    let unit = fs::read_to_string(crate_folder().join("units/roost-gateway.service")).expect("the unit");
    for key in ["LimitNOFILE", "LimitMEMLOCK", "TasksMax"] {
        assert!(tree.read(DROP_IN).contains(&format!("\n{key}=")), "{key} is the drop-in's");
        assert!(!unit.contains(key), "{key} is the drop-in's, not the unit's");
    }
}

#[test]
fn the_numbers_are_the_gateways_own() {
    let source =
        fs::read_to_string(crate_folder().join("../gateway/src/limits.rs")).expect("the gateway's limits");
    for (name, number) in [
        ("RING_PLACES_MAX", limits::RING_PLACES),
        ("RING_SUBMISSIONS", limits::RING_SUBMISSIONS.into()),
        ("RING_COMPLETIONS", limits::RING_COMPLETIONS.into()),
        ("PROCESS_FILES_RESERVED", limits::PROCESS_FILES),
        ("LISTEN_BACKLOG", limits::LISTEN_BACKLOG),
        ("MEMORY_RESERVE_SHARE", limits::MEMORY_RESERVE_SHARE),
    ] {
        assert_eq!(constant(&source, name).parse(), Ok(number), "{name}");
    }
    let bytes = ["CONNECTION_KERNEL_BYTES", "CONNECTION_USER_BYTES"]
        .map(|name| constant(&source, name).parse::<u64>().expect("a number"));
    assert_eq!(bytes.iter().sum::<u64>(), limits::CONNECTION_BYTES);
    assert_eq!(
        (constant(&source, "MEMORY_RESERVE_BYTES").as_str(), limits::TRAFFIC_BYTES),
        ("1 << 30", 1 << 30)
    );
}

#[test]
fn the_probe_asks_for_what_the_gateways_rings_do() {
    let probe = fs::read_to_string(crate_folder().join("src/probe.rs")).expect("the probe");
    let folder = fs::read_dir(crate_folder().join("../gateway/src/ring")).expect("the gateway's rings");
    let (mut operations, mut flags) = (0, 0);
    for file in folder {
        let source = fs::read_to_string(file.expect("an entry").path()).expect("a source file");
        for rest in source.split("opcode::").skip(1).filter(|rest| rest.contains("::new(")) {
            // A multishot receive is the same operation with a flag.
            let name = word(rest).trim_end_matches("Multi");
            assert!(
                probe.contains(&format!("opcode::{name}::CODE")),
                "{name} is submitted and not asked for"
            );
            operations += 1;
        }
        for rest in source.split(".setup_").skip(1) {
            assert!(
                probe.contains(&format!(".setup_{}(", word(rest))),
                "{} is set and not tried",
                word(rest)
            );
            flags += 1;
        }
    }
    assert!(operations >= 7 && flags >= 5, "{operations} operations, {flags} flags");
}

fn word(text: &str) -> &str {
    text.split(|character: char| !character.is_alphanumeric() && character != '_').next().unwrap_or_default()
}

fn constant(source: &str, name: &str) -> String {
    let (_, rest) = source.split_once(&format!("pub const {name}: ")).unwrap_or_else(|| panic!("{name}"));
    let (_, value) = rest.split_once(" = ").expect("a value");
    value.split_once(';').expect("an end").0.replace('_', "")
}

/// Compares a file with what it has to be, or writes it where `ROOST_REGENERATE` is set.
fn agrees(file: &Path, expected: &str) {
    if env::var_os("ROOST_REGENERATE").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, expected).expect("written");
    }
    let found = fs::read_to_string(file).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what the table says: ROOST_REGENERATE=1 cargo test -p roost-tuning",
        file.display()
    );
}

fn crate_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
