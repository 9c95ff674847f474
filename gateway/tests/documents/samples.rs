//! `GET /metrics` of a running gateway, taken apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use roost_client::harness::Gateway;

/// Long enough for any counter of a loaded machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// A family as it is served.
#[derive(Debug, Default)]
pub struct Served {
    pub kind: String,
    pub help: String,
    pub samples: Vec<Sample>,
}

/// One line: name with its suffix, labels, value.
#[derive(Debug)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// All families by name.
pub fn families(gateway: &Gateway) -> BTreeMap<String, Served> {
    let (status, text) = gateway.request("GET", "/metrics", "").expect("metrics");
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends with it");
    let mut families = BTreeMap::<String, Served>::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            name.clone_into(&mut current);
            let family = families.entry(current.clone()).or_default();
            assert!(family.help.is_empty(), "{name} is there twice");
            help.trim_end_matches('.').clone_into(&mut family.help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            assert_eq!(name, current);
            kind.clone_into(&mut families.entry(current.clone()).or_default().kind);
        } else if !line.starts_with('#') {
            let sample = sample(line);
            assert!(sample.name.starts_with(&current), "{line} is not of {current}");
            families.entry(current.clone()).or_default().samples.push(sample);
        }
    }
    families
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
    let labels = labels.map(|label| {
        let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("no label: {line}"));
        (name.to_owned(), value.trim_matches('"').to_owned())
    });
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    Sample { name: name.to_owned(), labels: labels.collect(), value }
}

/// The samples with this name and these labels, together.
pub fn sum(families: &BTreeMap<String, Served>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |sample: &&Sample| {
        let label =
            |(label, value): &(&str, &str)| sample.labels.get(*label).is_some_and(|found| found == value);
        sample.name == name && labels.iter().all(label)
    };
    let found: Vec<f64> =
        families.values().flat_map(|family| &family.samples).filter(has).map(|s| s.value).collect();
    assert!(!found.is_empty(), "no sample {name} with {labels:?}");
    found.iter().sum()
}

/// Waits until they are as many as that.
pub fn reaches(gateway: &Gateway, name: &str, labels: &[(&str, &str)], least: f64) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let seen = sum(&families(gateway), name, labels);
        if seen >= least {
            return;
        }
        assert!(Instant::now() < deadline, "{name} {labels:?} stays at {seen}");
    }
}

/// The labels that the samples of a family have, without the bound of a histogram's bucket.
pub fn labels(served: &Served) -> BTreeSet<&str> {
    served
        .samples
        .iter()
        .flat_map(|sample| sample.labels.keys())
        .map(String::as_str)
        .filter(|l| *l != "le")
        .collect()
}
