//! docs/LOADGEN.md names every field of the report and of its timeline, and every metric.

use roost_loadgen::report::Report;
use serde_json::Value;

const GUIDE: &str = include_str!("../../docs/LOADGEN.md");

fn names(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                found.push(name.clone());
                // A network counter has the kernel's name.
                if name != "network" {
                    names(value, found);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, found)),
        _ => (),
    }
}

#[test]
fn the_guide_names_every_field() {
    let mut found = Vec::new();
    names(&serde_json::to_value(Report::example()).expect("JSON"), &mut found);
    assert!(found.len() > 80, "{found:?}");
    let missing: Vec<_> = found.iter().filter(|name| !GUIDE.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/LOADGEN.md does not name {missing:?}");
}
