//! `/openapi.json` is an `OpenAPI` 3.1 document, names each route and no other, and its examples work.

use std::{collections::BTreeSet, fs, path::Path};

use super::rest::{self, Answer, Rest, text};
use roost_client::harness::Gateway;
use serde_json::{Value, json};

/// The schema of `OpenAPI` 3.1 documents, <https://spec.openapis.org/oas/3.1/schema/2022-10-07> (Apache-2.0).
const OPENAPI_SCHEMA: &str = include_str!("data/openapi-3.1.schema.json");

/// Routes of browsers: the page and its parts, and who takes this port for the WebSocket's.
const UNDOCUMENTED: [&str; 6] = ["/", "/admin", "/openapi.json", "/v1/config", "/v1/ws", "/{asset}"];

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

fn gateway() -> Gateway {
    Gateway::start(&[]).expect("the gateway starts")
}

pub fn document(gateway: &Gateway) -> Value {
    let answer = Rest::nobody(gateway).get("/openapi.json");
    assert_eq!((answer.status, answer.header("content-type").as_deref()), (200, Some("application/json")));
    answer.json()
}

/// Method and path of each operation.
pub fn operations(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("operations").keys();
        methods.map(|method| (method.clone(), path.clone()))
    });
    operations.collect()
}

/// The path with 7 in each of its places.
fn with_numbers(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "7" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// What is wrong with a value by a schema of the document.
fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let schema = json!({ "allOf": [schema], "components": document["components"] });
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn it_is_an_openapi_3_1_document_whose_references_lead_somewhere() {
    let document = document(&gateway());
    let schema: Value = serde_json::from_str(OPENAPI_SCHEMA).expect("JSON");
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let faults: Vec<_> =
        validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.iter().any(|reference| reference.ends_with("/Event")), "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn each_operation_of_the_document_is_a_route_and_the_reverse() {
    let gateway = gateway();
    let operations = operations(&document(&gateway));
    let paths: BTreeSet<_> = operations.iter().map(|(_, path)| path).collect();
    for path in paths {
        for method in METHODS {
            let answer = Rest::nobody(&gateway).request(&method.to_uppercase(), &with_numbers(path), "{}");
            let is_route = !answer.body.contains("There is nothing here") && answer.status != 405;
            let is_documented = operations.contains(&(method.to_owned(), path.clone()));
            assert_eq!(is_route, is_documented, "{method} {path}: {} {}", answer.status, answer.body);
        }
    }
    for (method, path) in rest::CALLS {
        let path = path.split('?').next().expect("a path");
        let is_it = |(known, template): &(String, String)| {
            known.eq_ignore_ascii_case(method) && with_numbers(template) == path
        };
        assert!(operations.iter().any(is_it), "{method} {path} is not in the document");
    }
}

#[test]
fn every_handler_is_routed_and_every_other_route_is_known() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let files = fs::read_dir(&source).expect("a folder").map(|file| file.expect("a file").path());
    let sources: Vec<_> = files.map(|file| fs::read_to_string(file).expect("a source file")).collect();
    let documented: usize = sources.iter().map(|source| source.matches("#[utoipa::path(").count()).sum();
    assert_eq!(documented, operations(&document(&gateway())).len(), "a documented handler has no route");
    let routes = fs::read_to_string(source.join("routes.rs")).expect("routes.rs");
    let mut plain: Vec<_> =
        routes.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    plain.sort_unstable();
    assert_eq!(plain, UNDOCUMENTED, "a route without a handler in the document");
}

/// The document and what the examples are played with.
struct Play {
    gateway: Gateway,
    document: Value,
    caller: Rest,
}

impl Play {
    /// Does what the document says of an operation, with its example, and checks the answer against it.
    fn step(&self, method: &str, path: &str, query: &str, places: &[(&str, &str)], status: u16) -> Answer {
        let operation = &self.document["paths"][path][method];
        assert!(operation.is_object(), "{method} {path} is not in the document");
        let body = &operation["requestBody"]["content"]["application/json"];
        let schema = &body["schema"];
        let body = body["example"].as_object().map(|body| Value::Object(body.clone()));
        let wants_body = operation.get("requestBody").is_some();
        assert_eq!(wants_body, body.is_some(), "{method} {path} has no example");
        if let Some(body) = &body {
            assert_eq!(faults(&self.document, schema, body), [""; 0], "{method} {path}: {body}");
        }
        let mut filled = path.to_owned();
        for (name, value) in places {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let answer = self.caller.request(&method.to_uppercase(), &format!("{filled}{query}"), &body);
        assert_eq!(answer.status, status, "{method} {filled}: {}", answer.body);
        self.check(&operation["responses"][status.to_string()], &answer, &format!("{method} {path}"));
        answer
    }

    fn check(&self, response: &Value, answer: &Answer, what: &str) {
        assert!(response.is_object(), "{what}: {} is not in the document", answer.status);
        let reference = response["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        let response = reference.and_then(|to| self.document.pointer(to)).unwrap_or(response);
        match response["content"].as_object().and_then(|content| content.get("application/json")) {
            Some(content) => {
                let value = answer.json();
                assert_eq!(faults(&self.document, &content["schema"], &value), [""; 0], "{what}: {value}");
            }
            None if answer.status == 204 => assert_eq!(answer.body, "", "{what}"),
            None => {}
        }
    }
}

impl Play {
    /// A group from its first member to its last.
    fn groups(&self) {
        let made = self.step("post", "/v1/groups", "", &[], 201);
        let group = text(&made.json()["group"]);
        let one = [("group", &group[..])];
        let member = |user| [("group", &group[..]), ("user", user)];
        self.step("get", "/v1/groups/{group}", "", &one, 200);
        self.step("get", "/v1/groups/{group}", "", &[("group", "7")], 404);
        let renamed = self.step("patch", "/v1/groups/{group}", "", &one, 200).json();
        assert_eq!(renamed["name"], "old friends");
        let listed = self.step("get", "/v1/groups", "", &[], 200).json();
        assert_eq!((&listed["groups"], &listed["more"]), (&json!([renamed]), &json!(false)));
        self.step("post", "/v1/groups/{group}/members", "", &one, 200);
        self.step("delete", "/v1/groups/{group}/members", "", &one, 200);
        let members = self.step("put", "/v1/groups/{group}/members/{user}", "", &member("1003"), 200).json();
        assert_eq!(members["member"].as_array().map(Vec::len), Some(3), "{members}");
        self.step("put", "/v1/groups/{group}/members/{user}", "", &member("4711"), 404);
        self.step("post", "/v1/groups/{group}/admins", "", &one, 200);
        self.step("put", "/v1/groups/{group}/admins/{user}", "", &member("1003"), 200);
        self.step("delete", "/v1/groups/{group}/members/{user}", "", &member("1003"), 200);
        self.step("delete", "/v1/groups/{group}/members/{user}", "", &member("1001"), 200);
        self.step("patch", "/v1/groups/{group}", "", &one, 404);
    }
}

#[test]
fn every_example_works_and_every_answer_is_what_the_document_says() {
    let gateway = gateway();
    let document = document(&gateway);
    for user in [1002, 1003] {
        Rest::new(&gateway, user, 1).get("/v1/messages");
    }
    let mut play = Play { caller: Rest::nobody(&gateway), gateway, document };
    play.step("post", "/v1/users", "", &[], 201);
    play.step("post", "/v1/users", "", &[], 409);
    let token = text(&play.step("post", "/v1/login", "", &[], 200).json()["token"]);
    play.step("get", "/v1/devices", "", &[], 401);
    play.caller = play.caller.with(&[("Authorization", &format!("Bearer {token}"))]);

    play.step("post", "/v1/messages", "", &[], 201);
    play.step("post", "/v1/messages", "", &[], 200);
    Rest::new(&play.gateway, 1002, 1).say(1001, "back");
    play.caller.events_until(|events| !events.is_empty());
    play.step("get", "/v1/messages", "?after=0&limit=10", &[], 200);
    play.step("get", "/v1/messages", "?after=x", &[], 400);
    play.step("post", "/v1/ack", "", &[], 204);
    play.step("post", "/v1/read", "", &[], 204);
    play.step("get", "/v1/history", "?user=1002", &[], 403);

    Rest::new(&play.gateway, 1001, 2).get("/v1/messages");
    play.step("get", "/v1/devices", "", &[], 200);
    play.step("delete", "/v1/devices/{device}", "", &[("device", "2")], 204);
    play.step("delete", "/v1/devices/{device}", "", &[("device", "2")], 404);
    play.step("put", "/v1/keys", "", &[], 204);
    let bob = Rest::new(&play.gateway, 1002, 1);
    let keys = bob.request(
        "PUT",
        "/v1/keys",
        r#"{"identity":"aQ==","signedPrekey":"cA==","signature":"cw==","oneTime":["MQ=="]}"#,
    );
    assert_eq!(keys.status, 204, "{}", keys.body);
    let bundles = play.step("get", "/v1/users/{user}/keys", "", &[("user", "1002")], 200).json();
    assert_eq!(bundles["device"][0]["oneTime"], "MQ==", "{bundles}");
    play.step("get", "/v1/users/{user}/keys", "", &[("user", "4711")], 404);
    play.groups();
    for probe in ["/healthz", "/readyz", "/metrics"] {
        play.step("get", probe, "", &[], 200);
    }
}
