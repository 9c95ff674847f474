//! What operators see, and that nobody else does.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use roost_client::harness::Gateway;
use roost_proto::codec::Encoding;
use serde_json::Value;

/// Long enough for any shard of a loaded machine to forget a connection.
const DEADLINE: Duration = Duration::from_mins(1);
const ROUTES: [&str; 2] = ["/debug/connections?user=1001", "/admin/figures"];

fn token(gateway: &Gateway) -> String {
    fs::read_to_string(gateway.data().join("operator-token")).expect("a token").trim_end().to_owned()
}

fn get(gateway: &Gateway, path: &str, authorization: &str) -> (u16, String) {
    let header =
        if authorization.is_empty() { String::new() } else { format!("Authorization: {authorization}\r\n") };
    gateway.request_with("GET", path, &header, "").expect("answered")
}

fn connections(gateway: &Gateway, user: u64) -> Vec<Value> {
    let bearer = format!("Bearer {}", token(gateway));
    let (status, body) = get(gateway, &format!("/debug/connections?user={user}"), &bearer);
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["more"], false);
    body["connections"].as_array().expect("connections").clone()
}

#[test]
fn nobody_but_who_shows_the_operators_token_sees_anything() {
    let gateway = Gateway::start(&["--shards", "1"]).expect("started");
    let file = gateway.data().join("operator-token");
    assert_eq!(fs::metadata(&file).expect("made").permissions().mode() & 0o777, 0o600);
    let (token, user) = (token(&gateway), gateway.token(1001, 1).expect("a token"));
    let secret = fs::read_to_string(gateway.data().join("secret")).expect("a secret");
    assert_ne!(secret.trim_end(), token);
    for path in ROUTES {
        let others = [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            format!("Bearer {user}"),
            format!("Bearer {}", secret.trim_end()),
            format!("Bearer {}", &token[1..]),
            format!("Bearer {token}x"),
            format!("Basic {token}"),
            token.clone(),
        ];
        for authorization in others {
            let (status, body) = get(&gateway, path, &authorization);
            assert_eq!(status, 401, "{path} {authorization:?}: {body}");
            assert!(!body.contains(&token) && body.contains("token"), "{body}");
        }
        // Nowhere but in the header.
        let joint = if path.contains('?') { '&' } else { '?' };
        for name in ["access_token", "token"] {
            assert_eq!(get(&gateway, &format!("{path}{joint}{name}={token}"), "").0, 401);
        }
        assert_eq!(get(&gateway, path, &format!("bearer {token}")).0, 200, "{path}");
    }
    // It opens nothing that is a user's.
    assert_eq!(get(&gateway, "/v1/devices", &format!("Bearer {token}")).0, 401);
    let operator = roost_client::Credentials::Bearer(token);
    assert!(roost_client::Client::upgrade(gateway.ws, Encoding::Json, &operator).is_err());
}

#[test]
fn a_users_connections_are_found_on_all_shards_with_where_they_come_from() {
    let gateway = Gateway::start(&["--shards", "2"]).expect("started");
    let mut sessions: Vec<_> =
        (1..=12).map(|device| gateway.connect(1001, device, Encoding::Json).expect("a session").0).collect();
    let _other = gateway.connect(1002, 1, Encoding::Proto).expect("a session");
    let found = connections(&gateway, 1001);
    assert_eq!(found.len(), 12, "{found:?}");
    let now_s = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    for (device, session) in (1..).zip(&mut sessions) {
        let one = found.iter().find(|one| one["device"] == device).unwrap_or_else(|| panic!("no {device}"));
        let address = session.socket().get_ref().local_addr().expect("connected").to_string();
        assert_eq!(one["address"], address, "{one}");
        assert_eq!((&one["state"], &one["queuedBytes"]), (&"open".into(), &0.into()), "{one}");
        assert_eq!((&one["busy"], &one["paused"]), (&false.into(), &false.into()), "{one}");
        let connected_at_s = one["connectedAtS"].as_u64().expect("a time");
        assert!((now_s - 120..=now_s + 2).contains(&connected_at_s), "{one}");
        assert!(one["silentS"].as_u64().is_some_and(|s| s < 120), "{one}");
        assert!(one["shard"].as_u64().is_some_and(|shard| shard < 2) && one["generation"].is_u64(), "{one}");
    }
    let mut names: Vec<_> = found.iter().map(|one| (one["shard"].as_u64(), one["slot"].as_u64())).collect();
    names.dedup();
    assert_eq!(names.len(), 12, "each is another");
    assert!(connections(&gateway, 4_711).is_empty());

    // Looking up an address takes a descriptor for a moment, and gives it back.
    let files = || fs::read_dir(format!("/proc/{}/fd", gateway.pid())).expect("listed").count();
    let before = files();
    (0..5).for_each(|_| assert_eq!(connections(&gateway, 1001).len(), 12));
    assert!(files() <= before + 2, "{} descriptors, {before} before", files());

    drop(sessions);
    let deadline = Instant::now() + DEADLINE;
    while !connections(&gateway, 1001).is_empty() {
        assert!(Instant::now() < deadline, "the connections are still there");
    }
}

#[test]
fn what_is_no_user_is_400_and_names_the_value() {
    let gateway = Gateway::start(&["--shards", "1"]).expect("started");
    let bearer = format!("Bearer {}", token(&gateway));
    for query in ["", "?user=", "?user=0", "?user=alice", "?user=1&user=2", "?device=1"] {
        let (status, body) = get(&gateway, &format!("/debug/connections{query}"), &bearer);
        assert_eq!(status, 400, "{query}: {body}");
        assert!(body.contains("user"), "{body}");
    }
}

#[test]
fn a_token_file_of_the_operators_own_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let own = "correct-horse-battery-staple-0123456789";
    fs::write(&file, own).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode");
    let gateway = Gateway::start(&["--operator-token-file", file.to_str().expect("UTF-8")]).expect("started");
    assert_eq!(get(&gateway, ROUTES[1], &format!("Bearer {own}")).0, 200);
    assert!(!gateway.data().join("operator-token").exists());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("mode");
    let error =
        Gateway::start(&["--operator-token-file", file.to_str().expect("UTF-8")]).expect_err("refused");
    assert!(format!("{error:#}").contains("chmod 600"), "{error:#}");
}

#[test]
fn the_figures_of_operators_are_the_metrics() {
    let gateway = Gateway::start(&["--shards", "1", "--backend", "echo"]).expect("started");
    // The first answer is counted when it has left.
    get(&gateway, "/metrics", "");
    let (status, figures) = get(&gateway, "/admin/figures", &format!("Bearer {}", token(&gateway)));
    assert_eq!(status, 200);
    let (_, metrics) = get(&gateway, "/metrics", "");
    let names = |text: &str| {
        text.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&figures), names(&metrics));
    let (status, page) = get(&gateway, "/admin", "");
    assert!(status == 200 && page.contains("admin.js") && !page.contains(&token(&gateway)));
}
