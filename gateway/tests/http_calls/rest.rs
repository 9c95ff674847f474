//! A small HTTP client for tests: one connection a request, a token, JSON.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use roost_client::harness::Gateway;
use serde_json::{Value, json};

/// Waits end in a failure after this long.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Every call, with numbers for its path.
pub const CALLS: [(&str, &str); 18] = [
    ("POST", "/v1/messages"),
    ("GET", "/v1/messages"),
    ("POST", "/v1/ack"),
    ("POST", "/v1/read"),
    ("GET", "/v1/history?user=7"),
    ("GET", "/v1/devices"),
    ("DELETE", "/v1/devices/7"),
    ("PUT", "/v1/keys"),
    ("GET", "/v1/users/7/keys"),
    ("POST", "/v1/groups"),
    ("GET", "/v1/groups"),
    ("GET", "/v1/groups/7"),
    ("PATCH", "/v1/groups/7"),
    ("POST", "/v1/groups/7/members"),
    ("DELETE", "/v1/groups/7/members"),
    ("PUT", "/v1/groups/7/members/7"),
    ("DELETE", "/v1/groups/7/members/7"),
    ("POST", "/v1/groups/7/admins"),
];

/// Speaks for a device, or for nobody.
#[derive(Clone)]
pub struct Rest {
    address: SocketAddr,
    headers: Vec<(String, String)>,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Rest {
    pub fn new(gateway: &Gateway, user: u64, device: u32) -> Self {
        let token = gateway.token(user, device).expect("a token");
        Self::nobody(gateway).with(&[("Authorization", &format!("Bearer {token}"))])
    }

    pub fn nobody(gateway: &Gateway) -> Self {
        Self { address: gateway.http, headers: Vec::new() }
    }

    /// The same with more headers.
    pub fn with(&self, headers: &[(&str, &str)]) -> Self {
        let mut more = self.clone();
        more.headers.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        more
    }

    pub fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        let headers: String =
            self.headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: roost\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        // A refusal may come, and the connection go, before all of a large request is written.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            answer.extend_from_slice(&chunk[..count]);
        }
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) =
            answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, &body.to_string())
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, "")
    }

    /// Sends a text to a user.
    pub fn say(&self, to: u64, text: &str) -> Answer {
        self.say_bytes(to, text.as_bytes())
    }

    pub fn say_bytes(&self, to: u64, payload: &[u8]) -> Answer {
        let payload = BASE64_STANDARD.encode(payload);
        self.post("/v1/messages", &json!({ "to": { "user": to.to_string() }, "payload": payload }))
    }

    /// Reads the stream from the device's place until its first page satisfies this.
    pub fn events_until(&self, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let page = self.get("/v1/messages").json();
            let events = page["events"].as_array().unwrap_or_else(|| panic!("no events: {page}")).clone();
            if enough(&events) {
                return events;
            }
            assert!(Instant::now() < deadline, "waited in vain: {page}");
            std::thread::yield_now();
        }
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.body))
    }

    /// The sentence of a refusal.
    pub fn error(&self) -> String {
        let error = text(&self.json()["error"]);
        assert!(error.ends_with('.'), "a sentence: {error}");
        error
    }

    /// The contract's code of a refusal.
    pub fn code(&self) -> String {
        text(&self.json()["code"])
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

pub fn from_base64(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(text(value)).expect("base64")
}
