//! `docs/PROTOCOL.md` is true: its JSON conversation is what a real gateway says, and its Python program runs.
//!
//! Blocks of the page are told apart by their info string: `json http POST /path` is a request and `json http 201` its
//! answer, `json client NAME` a frame that session NAME sends, `json server NAME` the next frame it receives, and so for
//! each of several names. A Welcome opens NAME's session (anew), a `GoAway` comes because the test sends SIGTERM.

mod page;
mod python;

use std::{
    collections::{BTreeSet, HashMap},
    io::Write as _,
};

use page::{Block, Role};
use roost_client::{Client, Credentials, harness::Gateway};
use roost_proto::{
    codec::{self, Encoding},
    v1,
};
use serde_json::Value;
use tempfile::NamedTempFile;
use tungstenite::Message;

/// Members whose values differ from run to run. Each value of the page stands for one value of the run.
const VARIABLE: [&str; 9] =
    ["id", "group", "sentAtMs", "atMs", "timeMs", "lastSeenMs", "token", "expires_at_s", "retryAfterMs"];

/// Those that are places in a user's stream: a value of the page stands for one value of each user's.
const PLACES: [&str; 4] = ["seq", "upTo", "acknowledged", "head"];

/// How the page's gateway differs from one without a configuration: it keeps history, and says when that is asked for too often. One
/// thread answers a command to a group before it tells the event.
const CONFIG: &str =
    "history_days = 30\nrouter_threads = 1\n[limits]\nhistory_fetches = { per_s = 0.001, burst = 2 }\n";

#[test]
fn every_frame_of_the_page_is_canonical_json_of_the_contract() {
    let mut frames = 0;
    for block in page::blocks() {
        let bytes = block.text.as_bytes();
        let mut again = Vec::new();
        match block.role {
            Role::Client(_) => {
                let frame = codec::decode_client_frame(Encoding::Json, bytes);
                let frame = frame.unwrap_or_else(|error| block.fail(&error));
                codec::encode_client_frame(Encoding::Json, &frame, &mut again);
            }
            Role::Server(_) => {
                let frame = codec::decode_server_frame(Encoding::Json, bytes);
                let frame = frame.unwrap_or_else(|error| block.fail(&error));
                codec::encode_server_frame(Encoding::Json, &frame, &mut again);
            }
            Role::Request(_) | Role::Answer(_) => continue,
        }
        let again: Value = serde_json::from_slice(&again).expect("the codec writes JSON");
        assert_eq!(block.value(), again, "PROTOCOL.md:{}: not what the codec writes", block.line);
        frames += 1;
    }
    assert!(frames >= 30, "only {frames} frames were found: the blocks' info strings have changed");
}

#[test]
fn the_page_is_a_conversation_with_a_real_gateway() {
    let mut play = Play::new();
    for block in page::blocks() {
        play.step(&block);
    }
    assert!(play.draining, "the page ends with GoAway");
    let bob = play.sessions.get_mut("bob").expect("Bob was connected");
    let end = end_of(bob);
    assert!(end.contains("1001"), "GoAway is followed by close code 1001: {end}");
}

/// A run of the page.
struct Play {
    gateway: Gateway,
    sessions: HashMap<String, Client>,
    /// The user of each session.
    users: HashMap<String, u64>,
    /// Values of the run by those of the page; places by their user, others by none.
    meant: HashMap<(Option<u64>, Value), Value>,
    answer: Option<(u16, String)>,
    draining: bool,
}

impl Play {
    fn new() -> Self {
        let mut config = NamedTempFile::new().expect("a file");
        config.write_all(CONFIG.as_bytes()).expect("written");
        let path = config.path().to_str().expect("UTF-8");
        let gateway = Gateway::start(&["--config", path]).expect("the gateway starts");
        let (sessions, users, meant) = Default::default();
        Self { gateway, sessions, users, meant, answer: None, draining: false }
    }

    fn step(&mut self, block: &Block) {
        match &block.role {
            Role::Request(path) => {
                self.answer = Some(self.gateway.request("POST", path, &block.text).expect("answered"));
            }
            Role::Answer(status) => {
                let answer = self.answer.take();
                let (got, body) = answer.unwrap_or_else(|| block.fail(&"an answer without a request"));
                assert_eq!(got, *status, "PROTOCOL.md:{}: {body}", block.line);
                self.same(block, None, &serde_json::from_str(&body).expect("the answer is JSON"));
            }
            Role::Client(name) => {
                let text = self.translate(self.users.get(name).copied(), block.value()).to_string();
                self.session(name, block).socket().send(Message::text(text)).expect("sent");
            }
            Role::Server(names) => {
                for name in names {
                    self.bring_about(name, &block.value());
                    let got = next_frame(self.session(name, block));
                    self.same(block, self.users.get(name).copied(), &got);
                }
            }
        }
    }

    fn session(&mut self, name: &str, block: &Block) -> &mut Client {
        self.sessions.get_mut(name).unwrap_or_else(|| block.fail(&"this session has had no Welcome"))
    }

    /// Some frames come because of what is no frame.
    fn bring_about(&mut self, name: &str, frame: &Value) {
        if let Some(welcome) = frame.get("welcome") {
            let user = welcome["user"].as_str().and_then(|user| user.parse().ok()).expect("a user");
            let device = welcome["device"].as_u64().expect("a device") as u32;
            let token = self.gateway.token(user, device).expect("a token");
            self.sessions.remove(name);
            let client = Client::upgrade(self.gateway.ws, Encoding::Json, &Credentials::Bearer(token));
            self.sessions.insert(name.to_owned(), client.expect("connected"));
            self.users.insert(name.to_owned(), user);
        } else if frame.get("goAway").is_some() {
            self.gateway.signal("TERM").expect("signalled");
            self.draining = true;
        }
    }

    /// Values of the page in a client's frame become those of the run.
    fn translate(&self, user: Option<u64>, value: Value) -> Value {
        match value {
            Value::Object(members) => {
                members.into_iter().map(|(key, value)| (key, self.translate(user, value))).collect()
            }
            Value::Array(elements) => {
                elements.into_iter().map(|element| self.translate(user, element)).collect()
            }
            Value::String(_) => {
                let meant = |of| self.meant.get(&(of, value.clone())).cloned();
                meant(user).or_else(|| meant(None)).unwrap_or(value)
            }
            other => other,
        }
    }

    fn same(&mut self, block: &Block, user: Option<u64>, got: &Value) {
        let expected = block.value();
        assert!(
            self.matches(user, None, &expected, got),
            "PROTOCOL.md:{}: the page says\n  {expected}\nand the gateway\n  {got}",
            block.line
        );
    }

    /// Equal but for variable values, which must stand for the same value wherever they come.
    fn matches(&mut self, user: Option<u64>, key: Option<&str>, expected: &Value, got: &Value) -> bool {
        match (expected, got) {
            (Value::Object(expected), Value::Object(got)) => {
                expected.len() == got.len()
                    && expected.iter().all(|(key, value)| {
                        got.get(key).is_some_and(|got| self.matches(user, Some(key), value, got))
                    })
            }
            (Value::Array(expected), Value::Array(got)) => {
                // Receipt.message holds ids of messages; other arrays have variable values only within their objects.
                let key = key.filter(|key| *key == "message").map(|_| "id");
                expected.len() == got.len()
                    && expected.iter().zip(got).all(|(expected, got)| self.matches(user, key, expected, got))
            }
            _ if key.is_some_and(|key| VARIABLE.contains(&key) || PLACES.contains(&key)) => {
                let same_type =
                    (expected.is_string(), expected.is_number()) == (got.is_string(), got.is_number());
                let of = user.filter(|_| key.is_some_and(|key| PLACES.contains(&key)));
                same_type && self.meant.entry((of, expected.clone())).or_insert_with(|| got.clone()) == got
            }
            _ => expected == got,
        }
    }
}

/// The next frame as the gateway wrote it.
fn next_frame(client: &mut Client) -> Value {
    match client.socket().read().expect("a frame within 20 s") {
        Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
        other => panic!("not a text message but {other:?}"),
    }
}

#[test]
fn every_frame_of_the_contract_is_in_the_page() {
    let (mut up, mut down) = (BTreeSet::new(), BTreeSet::new());
    for block in page::blocks() {
        let found = match block.role {
            Role::Client(_) => &mut up,
            Role::Server(_) => &mut down,
            Role::Request(_) | Role::Answer(_) => continue,
        };
        for (body, value) in block.value().as_object().into_iter().flatten() {
            // Events and commands to groups are told apart one level further down.
            let kinds = value.as_object().into_iter().flat_map(serde_json::Map::keys);
            found.extend(kinds.map(|kind| format!("{body}.{kind}")).chain([body.clone()]));
        }
    }
    let commands = ["create", "add", "remove", "promote", "rename", "info"].map(|c| format!("group.{c}"));
    let asked = "send ack read typing watch keysPublish keysFetch history send.sealed".split(' ');
    let told = "welcome event.message event.receipt event.group sent presence typing group keys history error goAway";
    assert_eq!(asked.map(str::to_owned).chain(commands).find(|body| !up.contains(body)), None);
    assert_eq!(told.split(' ').find(|body| !down.contains(*body)), None);
}

#[test]
fn history_is_refused_by_a_gateway_that_was_not_told_to_keep_it() {
    let gateway = Gateway::start(&[]).expect("the gateway starts");
    let (mut client, _) = gateway.connect(1001, 1, Encoding::Json).expect("a session");
    let fetch = r#"{"id": 16, "history": {"with": {"user": "1002"}, "limit": 2}}"#;
    client.socket().send(Message::text(fetch)).expect("sent");
    assert_eq!(next_frame(&mut client)["error"]["code"], "FORBIDDEN");
}

#[test]
fn every_error_code_is_in_the_page() {
    let named: Vec<String> = page::rows("Errors").into_iter().map(|mut row| row.swap_remove(0)).collect();
    let known: Vec<String> = (0..=v1::Code::CONFLICT as i32).map(code_name).collect();
    assert_eq!(named, known, "all of them, in the contract's order");
}

/// The name of an error code as JSON writes it; the default, which JSON leaves out, by hand.
fn code_name(number: i32) -> String {
    let text = format!("{{\"error\":{{\"code\":{number}}}}}");
    let frame = codec::decode_server_frame(Encoding::Json, text.as_bytes()).expect("a frame");
    let mut bytes = Vec::new();
    codec::encode_server_frame(Encoding::Json, &frame, &mut bytes);
    let value: Value = serde_json::from_slice(&bytes).expect("JSON");
    value["error"]["code"].as_str().unwrap_or("INTERNAL").to_owned()
}

#[test]
fn connections_end_with_the_close_codes_of_the_page() {
    let gateway = Gateway::start(&[]).expect("the gateway starts");
    let connect = |device| gateway.connect(1001, device, Encoding::Json).expect("a session").0;
    let mut ends = Vec::new();

    let (mut first, _second) = (connect(1), connect(1));
    ends.push((4001, end_of(&mut first)));

    let mut binary = connect(2);
    binary.socket().send(Message::binary(b"{}".to_vec())).expect("sent");
    ends.push((1003, end_of(&mut binary)));

    let mut large = connect(3);
    let text = format!("{{\"id\":1,\"later\":\"{}\"}}", "x".repeat(131_072));
    // The gateway may say so before it has taken all of it.
    let _ = large.socket().send(Message::text(text));
    ends.push((1009, end_of(&mut large)));

    for device in 4..=32 {
        drop(connect(device));
    }
    let token = gateway.token(1001, 33).expect("a token");
    let surplus = Client::upgrade(gateway.ws, Encoding::Json, &Credentials::Bearer(token));
    let mut surplus = surplus.expect("upgraded");
    let refusal = next_frame(&mut surplus);
    assert_eq!(refusal["error"]["code"], "FORBIDDEN", "{refusal}");
    ends.push((1008, end_of(&mut surplus)));

    let rows = page::rows("Close codes");
    for (code, end) in ends {
        assert!(end.contains(&code.to_string()), "{code}: {end}");
        assert!(rows.iter().any(|row| row[0] == code.to_string()), "{code} is not in the page");
    }
}

/// How a connection ended; what comes before is dropped.
fn end_of(client: &mut Client) -> String {
    const FRAMES_MAX: usize = 64;
    let end = (0..FRAMES_MAX).find_map(|_| client.receive().err());
    format!("{:#}", end.expect("it ends"))
}
