//! Every status of the HTTP service, through a real socket, with accounts kept in memory.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use roost_gateway::auth::Keys;
use roost_gateway::conn::Identity;
use roost_gateway::http::{
    AccountFuture, AccountOutcome, Accounts, AccountsUnavailable, HttpConfig, HttpService, Services,
    WebSocketAddress, limits, start,
};
use serde_json::{Value, json};

/// Long enough for any answer of a loaded machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// A number that appears between the look and the creation, and one that cannot be stored.
const TAKEN_LATE: u64 = 999;
const NOT_STORABLE: u64 = 998;

/// Accounts in memory that can be told to fail, or to hold reads back.
#[derive(Default)]
struct FakeAccounts {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    hashes: HashMap<u64, String>,
    broken: bool,
    held: bool,
    reads: usize,
}

impl FakeAccounts {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait_until(&self, condition: impl Fn(&State) -> bool) {
        let state = self.state.lock().unwrap();
        let (_state, timeout) =
            self.changed.wait_timeout_while(state, DEADLINE, |state| !condition(state)).unwrap();
        assert!(!timeout.timed_out(), "waited in vain");
    }
}

impl Accounts for FakeAccounts {
    fn create(&self, user: u64, password_hash: String) -> AccountFuture {
        let outcome = match user {
            TAKEN_LATE => AccountOutcome::Exists,
            NOT_STORABLE => AccountOutcome::Unavailable,
            _ => {
                self.set(|state| drop(state.hashes.insert(user, password_hash)));
                AccountOutcome::Created
            }
        };
        Box::pin(async move { outcome })
    }

    fn password_hash(&self, user: u64) -> Result<Option<String>, AccountsUnavailable> {
        self.set(|state| state.reads += 1);
        self.wait_until(|state| !state.held);
        let state = self.state.lock().unwrap();
        if state.broken { Err(AccountsUnavailable) } else { Ok(state.hashes.get(&user).cloned()) }
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    fn error(&self) -> String {
        let error = self.json()["error"].as_str().expect("an error").to_owned();
        assert!(error.ends_with('.'), "a sentence: {error}");
        error
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

struct Fixture {
    service: HttpService,
    accounts: Arc<FakeAccounts>,
    keys: Keys,
    _data: tempfile::TempDir,
}

fn fixture_with(websocket: WebSocketAddress, with_accounts: bool) -> Fixture {
    let data = tempfile::tempdir().expect("a temporary directory");
    let keys = Keys::load(data.path(), None).expect("keys");
    let accounts = Arc::new(FakeAccounts::default());
    let mut registry = Registry::default();
    let connections: Counter = Counter::default();
    registry.register("roost_connections_opened", "Connections opened", connections.clone());
    connections.inc_by(7);
    let services = Services {
        keys: keys.clone(),
        accounts: with_accounts.then(|| Arc::clone(&accounts) as Arc<dyn Accounts>),
        calls: None,
        operators: None,
        metrics: Arc::new(registry),
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let config = HttpConfig {
        websocket,
        token_ttl_s: 600,
        message_bytes_max: 131_072,
        call_rate: None,
        proxy_protocol: false,
    };
    let service = start(config, listener, services).expect("started");
    Fixture { service, accounts, keys, _data: data }
}

fn bound(address: &str) -> WebSocketAddress {
    WebSocketAddress::Bound(address.parse().expect("an address"))
}

fn fixture() -> Fixture {
    fixture_with(bound("127.0.0.1:9000"), true)
}

fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    // A refusal may come, and the connection go, before all of a large request is written.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..count]);
    }
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: chat.test:9080\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Fixture {
    fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        exchange(self.service.address(), request(method, path, headers, body).as_bytes())
    }

    fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", "")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, "", &body.to_string())
    }

    fn sign_up(&self, user: u64) -> Answer {
        self.post("/v1/users", &json!({ "user": user.to_string(), "password": "correct horse" }))
    }

    fn identity(&self, answer: &Answer, after_s: u64) -> Option<Identity> {
        assert_eq!(answer.status, 200, "{}", answer.body);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        self.keys.verify(answer.json()["token"].as_str().expect("a token"), now.as_secs() + after_s).ok()
    }
}

#[test]
fn signing_up_and_in_gives_a_token_that_verifies() {
    let fixture = fixture();
    let created = fixture.sign_up(42);
    assert_eq!((created.status, created.json()), (201, json!({ "user": "42" })));
    let hash = fixture.accounts.state.lock().unwrap().hashes[&42].clone();
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");

    let answer =
        fixture.post("/v1/login", &json!({ "user": "42", "password": "correct horse", "device": 7 }));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(fixture.identity(&answer, 0), Some(Identity { user: 42, device: 7 }));
    assert_eq!(fixture.identity(&answer, 601), None, "good for the configured time");

    let as_number = fixture.post("/v1/login", &json!({ "user": 42, "password": "correct horse" }));
    assert_eq!(fixture.identity(&as_number, 0), Some(Identity { user: 42, device: 1 }));
}

#[test]
fn a_taken_number_is_409() {
    let fixture = fixture();
    assert_eq!(fixture.sign_up(42).status, 201);
    let again = fixture.post("/v1/users", &json!({ "user": 42, "password": "another password" }));
    assert_eq!(again.status, 409);
    assert!(again.error().contains("sign in"));
    assert_eq!(fixture.sign_up(TAKEN_LATE).status, 409);
    let with_the_first = fixture.post("/v1/login", &json!({ "user": 42, "password": "correct horse" }));
    assert_eq!(with_the_first.status, 200, "the first password stays");
}

#[test]
fn an_unknown_number_and_a_wrong_password_get_one_answer() {
    let fixture = fixture();
    assert_eq!(fixture.sign_up(42).status, 201);
    let wrong = fixture.post("/v1/login", &json!({ "user": "42", "password": "wrong horse" }));
    let unknown = fixture.post("/v1/login", &json!({ "user": "43", "password": "wrong horse" }));
    assert_eq!((wrong.status, unknown.status), (401, 401));
    assert_eq!(wrong.error(), unknown.error());
}

#[test]
fn bad_requests_are_400_and_never_repeat_the_password() {
    let fixture = fixture();
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "\"secret!!\"",
        r#"{"user":"042","password":"secret!!"}"#,
        r#"{"user":"+42","password":"secret!!"}"#,
        r#"{"user":0,"password":"secret!!"}"#,
        r#"{"user":-1,"password":"secret!!"}"#,
        r#"{"user":4.2,"password":"secret!!"}"#,
        r#"{"user":"9223372036854775808","password":"secret!!"}"#,
        r#"{"user":["42"],"password":"secret!!"}"#,
        r#"{"user":"42","password":"secret!"}"#,
    ];
    for body in bodies {
        let answer = fixture.request("POST", "/v1/users", "", body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(!answer.error().contains("secret"), "{}", answer.body);
    }
    for (body, reason) in [
        (r#"{"user":"42"}"#, "\"password\" is missing"),
        (r#"{"user":"42","password":null}"#, "\"password\" is missing"),
        (r#"{"password":"secret!!"}"#, "\"user\" is missing"),
        (r#"{"user":"42","password":77777777}"#, "\"password\" must be text"),
        (r#"{"user":"42","password":["secret!!"]}"#, "\"password\" must be text"),
        (r#"{"user":{"secret":1},"password":"secret!!"}"#, "\"user\" must be a number"),
        (r#"{"user":"42","user":"43","password":"secret!!"}"#, "not the JSON object"),
    ] {
        for path in ["/v1/users", "/v1/login"] {
            let answer = fixture.request("POST", path, "", body);
            assert_eq!(answer.status, 400, "{path} {body}");
            assert!(answer.error().contains(reason), "{path} {body}: {}", answer.body);
            assert!(!answer.body.contains("secret") && !answer.body.contains("7777"), "{}", answer.body);
        }
    }
    let long = "x".repeat(limits::PASSWORD_BYTES_MAX + 1);
    assert_eq!(fixture.post("/v1/users", &json!({ "user": "42", "password": long })).status, 400);
    for device in [json!(0), json!(-1), json!("x"), json!(2_147_483_648_u64), json!([])] {
        let body = json!({ "user": "42", "password": "secret!!", "device": device });
        assert_eq!(fixture.post("/v1/login", &body).status, 400, "{device}");
    }
    assert_eq!(fixture.accounts.state.lock().unwrap().reads, 0, "nothing went as far as the store");
}

#[test]
fn the_longest_password_is_taken() {
    let fixture = fixture();
    let body = json!({ "user": "42", "password": "x".repeat(limits::PASSWORD_BYTES_MAX) });
    assert_eq!(fixture.post("/v1/users", &body).status, 201);
    assert_eq!(fixture.post("/v1/login", &body).status, 200);
}

#[test]
fn a_large_body_is_413() {
    let fixture = fixture();
    let answer = fixture.request("POST", "/v1/users", "", &" ".repeat(limits::BODY_BYTES_MAX + 1));
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("4096"));
    // Told from the length alone, without waiting for the rest.
    let head =
        "POST /v1/users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\n";
    assert_eq!(exchange(fixture.service.address(), head.as_bytes()).status, 413);
}

#[test]
fn a_body_that_does_not_come_is_408() {
    let fixture = fixture();
    let head =
        "POST /v1/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 40\r\n\r\n{\"user\":";
    let answer = exchange(fixture.service.address(), head.as_bytes());
    assert_eq!(answer.status, 408);
    assert!(answer.error().contains("too long"));
}

#[test]
fn many_and_large_headers_are_431() {
    let fixture = fixture();
    assert_eq!(fixture.request("GET", "/healthz", &"X: y\r\n".repeat(limits::HEADERS_MAX), "").status, 431);
    let large = format!("X: {}\r\n", "y".repeat(2 * limits::HEADER_BYTES_MAX));
    assert_eq!(fixture.request("GET", "/healthz", &large, "").status, 431);
}

#[test]
fn log_ins_of_one_number_are_429_past_the_limit() {
    let fixture = fixture();
    let attempt = |user: u64| fixture.post("/v1/login", &json!({ "user": user, "password": "wrong horse" }));
    let refused = (0..4 * limits::USER_BURST)
        .map(|_| attempt(42))
        .find(|answer| answer.status != 401)
        .expect("a limit");
    assert_eq!(refused.status, 429);
    let retry_after_s: u64 = refused.header("retry-after").expect("a time").parse().expect("seconds");
    assert!(retry_after_s >= 1);
    assert!(refused.error().contains("wait"));
    assert_eq!(attempt(43).status, 401, "another number has its own allowance");
}

#[test]
fn sign_ups_from_one_address_are_429_past_the_limit() {
    let fixture = fixture();
    // A store that fails spares the test the hashing.
    fixture.accounts.set(|state| state.broken = true);
    let refused = (1000..1000 + 4 * u64::from(limits::ADDRESS_BURST))
        .map(|user| fixture.sign_up(user))
        .find(|answer| answer.status != 503)
        .expect("a limit");
    assert_eq!(refused.status, 429);
    assert!(refused.error().contains("address"));
}

#[test]
fn a_failing_store_is_503() {
    let fixture = fixture();
    let unavailable = fixture.sign_up(NOT_STORABLE);
    assert_eq!(unavailable.status, 503);
    assert!(unavailable.error().contains("try again"));
    fixture.accounts.set(|state| state.broken = true);
    assert_eq!(fixture.sign_up(42).status, 503);
    let log_in = fixture.post("/v1/login", &json!({ "user": "42", "password": "correct horse" }));
    assert_eq!(log_in.status, 503);
}

#[test]
fn the_service_answers_while_passwords_are_checked() {
    let fixture = fixture();
    fixture.accounts.set(|state| state.held = true);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| fixture.sign_up(42).status);
        fixture.accounts.wait_until(|state| state.reads == 1);
        assert_eq!(fixture.get("/healthz").status, 200);
        fixture.accounts.set(|state| state.held = false);
        assert_eq!(held.join().expect("no panic"), 201);
    });
}

#[test]
fn readiness_ends_with_the_drain_and_health_does_not() {
    let fixture = fixture();
    assert_eq!((fixture.get("/healthz").status, fixture.get("/readyz").status), (200, 200));
    fixture.service.drain();
    let draining = fixture.get("/readyz");
    assert_eq!(draining.status, 503);
    assert!(draining.error().contains("draining"));
    assert_eq!(fixture.get("/healthz").status, 200);
}

#[test]
fn metrics_are_open_metrics() {
    let fixture = fixture();
    assert_eq!(fixture.get("/nothing").status, 404);
    let metrics = fixture.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    assert!(metrics.body.contains("\nroost_connections_opened_total 7\n"), "{}", metrics.body);
    assert!(metrics.body.contains("\nroost_http_requests_total{status=\"404\"} 1\n"), "{}", metrics.body);
    assert!(metrics.body.ends_with("\n# EOF\n") && metrics.body.matches("# EOF").count() == 1);
}

#[test]
fn the_page_is_served_with_a_strict_policy() {
    let fixture = fixture();
    let page = fixture.get("/");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("connect-src 'self' ws://127.0.0.1:9000;"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    let etag = format!("If-None-Match: {}\r\n", page.header("etag").expect("an etag"));
    let again = fixture.request("GET", "/", &etag, "");
    assert_eq!((again.status, &*again.body), (304, ""));
    assert_eq!(fixture.get("/Cargo.toml").status, 404);
    assert_eq!(fixture.get("/..%2fCargo.toml").status, 404);
}

#[test]
fn whatever_the_page_names_is_served() {
    let fixture = fixture();
    let mut unseen = vec![String::new()];
    let mut seen = Vec::new();
    while let Some(name) = unseen.pop() {
        let asset = fixture.get(&format!("/{name}"));
        assert_eq!(asset.status, 200, "{name}");
        for mark in ["href=\"", "src=\"", "from \"./"] {
            let named = asset.body.split(mark).skip(1).filter_map(|rest| rest.split('"').next());
            unseen.extend(named.map(str::to_owned).filter(|name| !seen.contains(name)));
        }
        seen.push(name);
    }
    for name in ["style.css", "icon.svg", "app.js", "wire.js"] {
        assert!(seen.iter().any(|seen| seen == name), "{name} is not reached from the page: {seen:?}");
    }
}

#[test]
fn the_page_learns_where_the_websocket_is() {
    assert_eq!(fixture().get("/v1/config").json()["websocket"], "ws://127.0.0.1:9000/v1/ws");
    let any = fixture_with(bound("0.0.0.0:9001"), true);
    assert_eq!(any.get("/v1/config").json()["websocket"], "ws://chat.test:9001/v1/ws");
    let page = any.get("/");
    assert!(page.header("content-security-policy").expect("a policy").contains(" ws://chat.test:9001;"));
}

#[test]
fn other_paths_and_methods_are_404_and_405() {
    let fixture = fixture();
    assert!(fixture.get("/v1/nothing").error().contains("nothing here"));
    let sessions = fixture.get("/v1/ws");
    assert_eq!(sessions.status, 404);
    assert!(sessions.error().contains("sessions are at ws://127.0.0.1:9000/v1/ws,"), "{}", sessions.body);
    let answer = fixture.get("/v1/users");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert!(answer.error().contains("method"));
}

#[test]
fn a_backend_without_accounts_says_so() {
    let fixture = fixture_with(bound("127.0.0.1:9000"), false);
    let answer = fixture.sign_up(42);
    assert_eq!(answer.status, 404);
    assert!(answer.error().contains("without accounts"));
}

#[test]
fn stopping_finishes_requests_in_flight_and_ends_idle_connections() {
    let Fixture { service, accounts, keys: _, _data } = fixture();
    let address = service.address();
    let mut idle = TcpStream::connect(address).expect("connected");
    idle.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    accounts.set(|state| state.held = true);
    let body = r#"{"user":"42","password":"correct horse"}"#;
    let sign_up = request("POST", "/v1/users", "", body);
    let in_flight = std::thread::spawn(move || exchange(address, sign_up.as_bytes()).status);
    accounts.wait_until(|state| state.reads == 1);

    let stopping = std::thread::spawn(move || service.stop());
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "the listener stays open");
        std::thread::yield_now();
    }
    accounts.set(|state| state.held = false);
    assert_eq!(in_flight.join().expect("no panic"), 201);
    assert_eq!(idle.read(&mut [0; 16]).expect("closed in order"), 0);
    stopping.join().expect("stopped");
}
