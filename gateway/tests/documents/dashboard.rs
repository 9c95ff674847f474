//! Every expression of docs/grafana/roost.json asks for samples that a gateway serves, by labels that they have.

use std::collections::{BTreeMap, BTreeSet};

use roost_gateway::families::{ALL, Family, Kind};
use serde_json::Value;

use super::read;

/// Functions and aggregations of `PromQL` that the dashboard uses; each stands before a parenthesis or a `by`.
const FUNCTIONS: [&str; 8] =
    ["count", "histogram_quantile", "label_values", "max", "min", "rate", "sum", "time"];
/// What Prometheus itself adds to each sample it scrapes.
const ADDED_LABELS: [&str; 2] = ["instance", "job"];

/// The names of a family's samples.
fn samples(family: &Family) -> Vec<String> {
    let suffixes: &[&str] = match family.kind {
        Kind::Counter => &["_total"],
        Kind::Gauge => &[""],
        Kind::Histogram => &["_bucket", "_sum", "_count"],
    };
    suffixes.iter().map(|suffix| format!("{}{suffix}", family.name)).collect()
}

/// What an expression names: samples, and labels in matchers and `by` clauses.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    samples: BTreeSet<String>,
    labels: BTreeSet<String>,
}

/// Reads the part of `PromQL` that the dashboard is written in; anything else in it is an error.
fn named(expression: &str) -> Named {
    let mut found = Named::default();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after.trim_start();
            if word == "by" {
                let (labels, after) = rest[1..].split_once(')').expect("a by clause ends");
                found.labels.extend(labels.split(',').map(|label| label.trim().to_owned()));
                rest = after;
            } else if rest.starts_with('(') || rest.starts_with("by ") {
                assert!(FUNCTIONS.contains(&word), "{word}() is no function of the dashboard: {expression}");
            } else if word != "instance" || !expression.starts_with("label_values") {
                found.samples.insert(word.to_owned());
            }
        } else if let Some(matchers) = rest.strip_prefix('{') {
            let (matchers, after) = matchers.split_once('}').expect("matchers end");
            let label =
                |matcher: &str| matcher.split(['=', '!']).next().unwrap_or_default().trim().to_owned();
            found.labels.extend(matchers.split(',').map(label));
            rest = after;
        } else if let Some(range) = rest.strip_prefix('[') {
            rest = range.split_once(']').expect("a range ends").1;
        } else {
            assert!("()+-*/,.<> ".contains(first) || first.is_ascii_digit(), "{first:?} in {expression}");
            rest = &rest[1..];
        }
    }
    found
}

/// All expressions of the dashboard: of panels, and of variables.
fn expressions(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let own = ["expr", "definition"]
                .iter()
                .filter_map(|key| members.get(*key)?.as_str())
                .map(str::to_owned);
            own.chain(members.values().flat_map(expressions)).collect()
        }
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_expression_asks_for_what_there_is() {
    let dashboard: Value = serde_json::from_str(&read("docs/grafana/roost.json")).expect("JSON");
    let served: BTreeMap<String, &Family> = ALL
        .iter()
        .flat_map(|family| samples(family).into_iter().map(move |sample| (sample, family)))
        .collect();
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 50, "only {} expressions were found", expressions.len());
    for expression in &expressions {
        let Named { samples, labels } = named(expression);
        let mut known: BTreeSet<&str> = ADDED_LABELS.into();
        for sample in &samples {
            let family = served.get(sample).unwrap_or_else(|| panic!("{sample} is not served: {expression}"));
            known.extend(family.labels);
            known.extend((family.kind == Kind::Histogram).then_some("le"));
        }
        for label in &labels {
            assert!(known.contains(label.as_str()), "no label {label}: {expression}");
        }
    }
    // What nobody looks at is worth a thought: all of it but some totals that others are made of.
    let used: BTreeSet<&str> = expressions
        .iter()
        .flat_map(|e| named(e).samples)
        .filter_map(|s| Some(served.get(&s)?.name))
        .collect();
    assert!(2 * used.len() > ALL.len(), "the dashboard shows {} of {} families", used.len(), ALL.len());
}

#[test]
fn names_are_found_in_the_dashboards_promql() {
    let found = named("1 - rate(roost_asleep_seconds_total{instance=~\"$instance\"}[$__rate_interval])");
    assert_eq!(found.samples, ["roost_asleep_seconds_total".to_owned()].into());
    assert_eq!(found.labels, ["instance".to_owned()].into());
    let found =
        named("histogram_quantile(0.5, sum by (le, shard) (rate(a_bucket[1m]))) / max(b{x!=\"y\", z=\"w\"})");
    assert_eq!(found.samples, ["a_bucket".to_owned(), "b".to_owned()].into());
    assert_eq!(found.labels, ["le", "shard", "x", "z"].map(str::to_owned).into());
    assert_eq!(named("label_values(roost_connections_max, instance)").samples.len(), 1);
}

#[test]
fn panels_have_places_and_numbers_of_their_own() {
    let dashboard: Value = serde_json::from_str(&read("docs/grafana/roost.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let unique = |key: &str| panels.iter().map(|panel| panel[key].to_string()).collect::<BTreeSet<_>>().len();
    assert_eq!((unique("id"), unique("gridPos")), (panels.len(), panels.len()));
    assert!(panels.iter().all(|panel| panel["title"].as_str().is_some_and(|title| !title.is_empty())));
}
