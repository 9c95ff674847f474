//! What is written, and what becomes of it.

use super::*;

const MACHINE: Machine = Machine {
    files_max: 20_000,
    system_files_left: None,
    lockable: None,
    memory_left: 24 << 30,
    in_memory_group: false,
};

fn resolve(arguments: &[&str]) -> Result<Config, String> {
    let all = std::iter::once("roost-gateway").chain(arguments.iter().copied());
    Options::try_parse_from(all)
        .map_err(|error| error.to_string())?
        .resolve(&MACHINE)
        .map_err(|error| error.to_string())
}

fn with_file(text: &str, arguments: &[&str]) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), text).expect("written");
    let path = file.path().to_str().expect("UTF-8").to_owned();
    resolve(&[&["--config", &path], arguments].concat()).map_err(|error| error.replace(&path, "roost.toml"))
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = resolve(&[]).expect("defaults");
    assert_eq!(config.listen.to_string(), "127.0.0.1:9000");
    assert_eq!(config.http.to_string(), "127.0.0.1:9080");
    assert_eq!(config.data, Path::new("./roost-data"));
    assert_eq!((config.backend, config.auth), (BackendKind::Router, AuthKind::Token));
}

#[test]
fn the_command_line_stands_over_the_file() {
    let config = with_file("shards = 3\nheartbeat_s = 30\n", &["--shards", "5"]).expect("both are right");
    assert_eq!((config.shards, config.heartbeat_s), (5, 30));
}

#[test]
fn history_is_kept_for_days_or_forever() {
    assert_eq!(resolve(&[]).expect("defaults").history_days, HistoryDays(0));
    for (text, days) in [("30", 30), ("\"forever\"", u32::MAX)] {
        let config = with_file(&format!("history_days = {text}\n"), &[]).expect("right");
        assert_eq!(config.history_days, HistoryDays(days));
    }
    assert_eq!(resolve(&["--history-days", "forever"]).expect("right").history_days, HistoryDays(u32::MAX));
    let error = with_file("history_days = \"always\"\n", &[]).expect_err("no number");
    assert!(error.starts_with("roost.toml:1: history_days = \"always\": a number of days"), "{error}");
}

#[test]
fn more_connections_than_the_machine_holds_are_refused_with_the_reason_and_what_lifts_it() {
    let room = resolve(&[]).expect("defaults").max_connections;
    assert!(room > 5_000_000, "five million on 24 GiB, not {room}");
    assert_eq!(resolve(&["--max-connections", &room.to_string()]).expect("fits").max_connections, room);
    let error = resolve(&["--max-connections", &(room + 1).to_string()]).expect_err("one too many");
    assert!(error.contains(&format!("can hold {room} connections; the lowest limit is memory")), "{error}");
    assert!(error.contains("24576 MiB available") && error.contains("end what else holds memory"), "{error}");
}

#[test]
fn limits_stand_in_the_file_and_can_be_switched_off() {
    let limit = |setting: crate::rates::Setting| setting.0.map(|l| (l.period.as_micros(), l.burst.get()));
    let defaults = resolve(&[]).expect("defaults").limits;
    let text = "[limits]\nsends = { per_s = 0.5, burst = 9 }\nsignals = \"off\"\nconnection_bytes = 0\n";
    let limits = with_file(text, &[]).expect("all are right").limits;
    assert_eq!(limit(limits.sends), Some((2_000_000, 9)));
    assert_eq!((limit(limits.signals), limit(limits.connection_bytes)), (None, None));
    assert_eq!(limits.key_fetches, defaults.key_fetches);
    for (line, part) in [
        ("sends = { per_s = 0, burst = 5 }", "per_s = 0: must be between 0.001 and 100000000"),
        ("sends = { per_s = 2, burst = 18001 }", "burst = 18001: must be between 1 and 18000"),
        ("sends = { per_s = 2, burst = 0 }", "burst = 0: must be between 1 and 18000"),
        ("sends = { per_s = 2 }", "missing field `burst`"),
        ("sends = 5", "expected { per_s = N, burst = N }, or 0 or \"off\" for no limit"),
        ("sends = \"on\"", "expected { per_s = N, burst = N }, or 0 or \"off\" for no limit"),
        ("sents = \"off\"", "unknown field `sents`"),
    ] {
        let error = with_file(&format!("shards = 1\n[limits]\n{line}\n"), &[]).expect_err(line);
        assert!(error.starts_with(&format!("roost.toml:3: {line}: ")) && error.contains(part), "{error}");
    }
}

#[test]
fn errors_name_file_key_and_value() {
    let error = with_file("heartbeat_s = 30\nshards = \"many\"\n", &[]).expect_err("not a number");
    assert!(error.starts_with("roost.toml:2: shards = \"many\": ") && !error.contains('\n'), "{error}");
    let error = with_file("sharts = 3\n", &[]).expect_err("unknown key");
    assert!(error.contains("roost.toml:1: sharts = 3: ") && error.contains("unknown field"), "{error}");
    let error = resolve(&["--config", "/nonexistent/roost.toml"]).expect_err("no file");
    assert!(error.contains("/nonexistent/roost.toml: cannot be read"), "{error}");
    for (arguments, part) in [
        (["--shards", "0"], "shards = 0: must be between 1 and 256"),
        (["--heartbeat-s", "999999"], "heartbeat_s = 999999"),
        (["--max-message-bytes", "0"], "max_message_bytes = 0"),
        (["--max-connections", "99999999999"], "max_connections = 99999999999: "),
    ] {
        let error = resolve(&arguments).expect_err("out of range");
        assert!(error.contains(part), "{error}");
    }
}
