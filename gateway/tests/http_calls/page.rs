//! `docs/HTTP.md` is true: its examples are what a real gateway says.
//!
//! A block ` ```http NAME ` is a request of NAME, its body, an empty line, the status of the answer and its body.

use std::{collections::HashMap, path::Path, time::Instant};

use roost_client::harness::Gateway;
use serde_json::Value;

use super::{
    openapi,
    rest::{Answer, DEADLINE, Rest},
};

/// Members whose values differ from run to run. Each value of the page stands for one value of the run.
const VARIABLE: [&str; 10] =
    ["id", "seq", "next", "group", "version", "acknowledged", "message", "sentAtMs", "atMs", "lastSeenMs"];

struct Example {
    /// Line of its first line, from 1.
    line: usize,
    name: String,
    method: String,
    path: String,
    body: String,
    status: u16,
    answer: String,
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/HTTP.md");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn examples() -> Vec<Example> {
    let page = page();
    let blocks = page.match_indices("```http ").map(|(at, fence)| {
        let block = page[at + fence.len()..].split("\n```").next().expect("a first part");
        let (name, rest) = block.split_once('\n').expect("an example");
        let (request, answer) = rest.split_once("\n\n").expect("a request and an answer");
        let (first, body) = request.split_once('\n').unwrap_or((request, ""));
        let (method, path) = first.split_once(' ').expect("a method and a path");
        let (status, answer) = answer.split_once('\n').unwrap_or((answer, ""));
        Example {
            line: page[..at].lines().count() + 1,
            name: name.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            body: body.to_owned(),
            status: status.parse().expect("a status"),
            answer: answer.to_owned(),
        }
    });
    blocks.collect()
}

/// A run of the page.
struct Play {
    callers: HashMap<String, Rest>,
    /// Values of the run by those of the page.
    meant: HashMap<String, String>,
}

impl Play {
    fn step(&mut self, example: &Example) {
        let translate =
            |text: &str| self.meant.iter().fold(text.to_owned(), |text, (page, run)| text.replace(page, run));
        let (path, body) = (translate(&example.path), translate(&example.body));
        let caller = self.callers.get(&example.name).unwrap_or_else(|| panic!("who is {}?", example.name));
        let mut got = caller.request(&example.method, &path, &body);
        // What one user did reaches another's stream a little later.
        let deadline = Instant::now() + DEADLINE;
        while example.method == "GET" && !self.is_answer(example, &got) && Instant::now() < deadline {
            got = caller.request("GET", &path, &body);
        }
        assert_eq!(got.status, example.status, "HTTP.md:{}: {}", example.line, got.body);
        if example.answer.is_empty() {
            return assert_eq!(got.body, "", "HTTP.md:{}", example.line);
        }
        let expected: Value = serde_json::from_str(&example.answer)
            .unwrap_or_else(|error| panic!("HTTP.md:{}: {error}", example.line));
        assert!(
            self.matches("", &expected, &got.json()),
            "HTTP.md:{}: the page says\n  {expected}\nand the gateway\n  {}",
            example.line,
            got.body
        );
    }

    fn is_answer(&self, example: &Example, got: &Answer) -> bool {
        let mut trial = Self { callers: HashMap::new(), meant: self.meant.clone() };
        let expected = serde_json::from_str(&example.answer).unwrap_or_default();
        got.status == example.status && trial.matches("", &expected, &got.json())
    }

    /// Equal but for variable values, which must stand for the same value wherever they come.
    fn matches(&mut self, key: &str, expected: &Value, got: &Value) -> bool {
        match (expected, got) {
            (Value::Object(expected), Value::Object(got)) => {
                expected.len() == got.len()
                    && expected
                        .iter()
                        .all(|(key, value)| got.get(key).is_some_and(|got| self.matches(key, value, got)))
            }
            (Value::Array(expected), Value::Array(got)) => {
                expected.len() == got.len()
                    && expected.iter().zip(got).all(|(expected, got)| self.matches(key, expected, got))
            }
            (Value::String(expected), Value::String(got)) if VARIABLE.contains(&key) => {
                self.meant.entry(expected.clone()).or_insert_with(|| got.clone()) == got
            }
            _ => expected == got,
        }
    }
}

#[test]
fn the_examples_of_the_page_are_what_a_gateway_says() {
    let gateway = Gateway::start(&[]).expect("the gateway starts");
    let named = [("alice", 1001), ("bob", 1002)];
    let callers: HashMap<_, _> =
        named.map(|(name, user)| (name.to_owned(), Rest::new(&gateway, user, 1))).into();
    for caller in callers.values() {
        caller.get("/v1/messages");
    }
    let mut play = Play { callers, meant: HashMap::new() };
    let examples = examples();
    assert!(examples.len() >= 14, "only {} examples were found", examples.len());
    for example in &examples {
        play.step(example);
    }
}

#[test]
fn the_page_names_every_call() {
    let gateway = Gateway::start(&[]).expect("the gateway starts");
    let page = page();
    for (_, path) in openapi::operations(&openapi::document(&gateway)) {
        let is_call = path.starts_with("/v1/") && path != "/v1/users" && path != "/v1/login";
        let name = path.replace("/v1/groups/{group}/admins/{user}", ".../admins/{user}");
        assert!(!is_call || page.contains(&name), "docs/HTTP.md does not name {path}");
    }
}
