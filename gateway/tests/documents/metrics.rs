//! docs/METRICS.md, the families of the code and `GET /metrics` agree, and what is counted moves.

use std::{collections::BTreeSet, fmt::Write as _};

use roost_client::{Credentials, harness::Gateway};
use roost_gateway::families::{ALL, Family, Kind};
use roost_proto::codec::Encoding;
use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

use super::{
    is_current,
    samples::{families, labels, reaches, sum},
};

const INTRODUCTION: &str = "\
# Metrics

`GET /metrics` at the HTTP address answers with all of them in the text format of OpenMetrics 1.0, for Prometheus and what understands it. This page is
generated from `gateway/src/families.rs` (`ROOST_REGENERATE=1 cargo test -p roost-gateway --test documents`), and a test holds it against a
running gateway. [grafana/roost.json](grafana/roost.json) is a dashboard over them; [OPERATIONS.md](OPERATIONS.md) says which to be woken for.

Samples of counters end in `_total`, those of histograms in `_bucket`, `_sum` and `_count`. Each shard writes its own counters and nobody else does,
so counting costs no locked instruction; they are added up when somebody asks. With `--backend echo` those of the router are missing.
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut part = "";
    for family in ALL {
        if family.part != part {
            part = family.part;
            write!(
                page,
                "\n## {part}\n\n| family | type | unit | labels | meaning |\n|---|---|---|---|---|\n"
            )
            .expect("a string");
        }
        let labels = family.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let Family { name, kind, unit, help, .. } = family;
        let help = help.replace('|', "\\|");
        writeln!(page, "| `{name}` | {} | {unit} | {labels} | {help} |", kind.name()).expect("a string");
    }
    page
}

#[test]
fn the_page_is_what_the_code_says() {
    is_current("docs/METRICS.md", &page());
}

#[test]
fn names_follow_the_rules_of_openmetrics_and_say_their_unit() {
    let names: BTreeSet<_> = ALL.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), ALL.len(), "a name is there twice");
    for family in ALL {
        let Family { name, unit, help, .. } = family;
        assert!(name.starts_with("roost_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        for suffix in ["_total", "_count", "_sum", "_bucket", "_info"] {
            assert!(
                !name.ends_with(suffix) || *name == "roost_build_info",
                "{name}: {suffix} is added by its kind"
            );
        }
        for (word, of) in [("bytes", "bytes"), ("seconds", "seconds"), ("us", "microseconds")] {
            assert_eq!(name.split('_').any(|part| part == word), *unit == of, "{name} and its unit {unit}");
        }
        assert!(help.starts_with(char::is_alphanumeric) && !help.ends_with('.'), "{name}: {help}");
    }
}

#[test]
fn a_running_gateway_serves_exactly_the_families_of_the_code() {
    for backend in ["router", "echo"] {
        let gateway = Gateway::start(&["--backend", backend]).expect("started");
        // The first answer is counted when it has left.
        families(&gateway);
        let served = families(&gateway);
        let expected: Vec<_> =
            ALL.iter().filter(|family| backend == "router" || family.part != "Router").collect();
        let names: BTreeSet<_> = expected.iter().map(|family| family.name).collect();
        assert_eq!(served.keys().map(String::as_str).collect::<BTreeSet<_>>(), names, "--backend {backend}");
        for family in expected {
            let found = &served[family.name];
            assert_eq!(
                (found.kind.as_str(), found.help.as_str()),
                (family.kind.name(), family.help),
                "{}",
                family.name
            );
            // Without PSI in the kernel it has no samples.
            if found.samples.is_empty() && family.name == "roost_pressure_seconds" {
                continue;
            }
            assert_eq!(labels(found), family.labels.iter().copied().collect(), "labels of {}", family.name);
            if family.kind == Kind::Counter {
                let total = format!("{}_total", family.name);
                assert!(found.samples.iter().all(|sample| sample.name == total), "{}", family.name);
            }
        }
    }
}

#[test]
fn what_sessions_do_is_counted() {
    let gateway = Gateway::start(&["--shards", "1"]).expect("started");
    let (mut alice, _) = gateway.connect(1, 1, Encoding::Proto).expect("a session");
    let (bob, _) = gateway.connect(2, 1, Encoding::Proto).expect("a session");
    alice.say(2, b"1", b"hello").expect("sent");
    reaches(&gateway, "roost_send_seconds_count", &[], 1.0);
    reaches(&gateway, "roost_router_commit_seconds_count", &[], 1.0);
    reaches(&gateway, "roost_router_sessions", &[], 2.0);
    reaches(&gateway, "roost_router_partition_sessions", &[], 2.0);
    let leave = CloseFrame { code: CloseCode::Normal, reason: "bye".into() };
    alice.socket().close(Some(leave)).expect("closed");
    reaches(&gateway, "roost_closed_by_peer_total", &[("code", "1000")], 1.0);
    drop(bob);
    reaches(&gateway, "roost_lost_total", &[("shard", "0")], 1.0);
    reaches(&gateway, "roost_ended_total", &[("shard", "0")], 2.0);

    let forged = format!("{}x", gateway.token(1, 1).expect("a token"));
    for (token, reason) in [(forged.as_str(), "bad_signature"), ("", "missing"), ("x", "malformed")] {
        let refused = Credentials::Query(token.to_owned());
        assert!(roost_client::Client::upgrade(gateway.ws, Encoding::Proto, &refused).is_err());
        reaches(&gateway, "roost_tokens_refused_total", &[("reason", reason)], 1.0);
    }
    reaches(&gateway, "roost_refused_total", &[("status", "401")], 3.0);
}

#[test]
fn the_process_and_the_machine_are_told_of() {
    let gateway = Gateway::start(&["--shards", "1", "--router-threads", "2"]).expect("started");
    let served = families(&gateway);
    let value = |name: &str| sum(&served, name, &[]);
    let now_s = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
    let age_s = now_s - value("process_start_time_seconds");
    assert!((-2.0..600.0).contains(&age_s), "started {age_s} s ago");
    assert!(value("process_cpu_seconds_total") >= 0.0 && value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_threads") >= 5.0 && value("process_open_fds") >= 5.0);
    assert!(value("process_open_fds") < value("process_max_fds"));
    assert!(value("roost_store_free_bytes") <= value("roost_store_disk_bytes"));
    assert!(value("roost_store_disk_bytes") > 0.0);
    assert!((value("roost_build_info") - 1.0).abs() < 1e-9);
    assert!(value("roost_draining") < 1.0);
    assert!((value("roost_router_partitions") - 16.0).abs() < 1e-9);
    assert_eq!(served["roost_router_queue_requests"].samples.len(), 2);
    // Nothing comes, so that the only shard is asleep, and turns when its sweep is due.
    reaches(&gateway, "roost_turns_total", &[], 2.0);
    let served = families(&gateway);
    let asleep_s = sum(&served, "roost_asleep_seconds_total", &[]);
    assert!(asleep_s > 0.0 && asleep_s < age_s + 62.0, "{asleep_s}");
}
