//! The `OpenAPI` document: paths from the handlers, schemas from the contract, served at `/openapi.json`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, Ref, RefOr, Schema};

use super::answer::RefusalBody;
use super::routes::Shared;

const SCHEMA_PREFIX: &str = "#/components/schemas/";

/// What every call of the message tier may be refused with, besides what its own handler names.
const REFUSALS_OF_CALLS: [&str; 6] = ["400", "401", "403", "413", "429", "503"];

/// The handlers' document, completed with what they refer to: the contract's messages, refusals, the token.
pub(super) fn complete(paths: OpenApi) -> Value {
    let mut document = serde_json::to_value(paths).unwrap_or_default();
    document["openapi"] = "3.1.0".into();
    document["info"] = json!({
        "title": "Roost",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "The HTTP twins of the calls a client makes over WebSocket. Bodies are the messages of roost.proto in the \
            canonical proto3 JSON mapping: 64-bit numbers are strings, bytes are base64, fields with their default value may be \
            missing.",
        "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
    });
    document["components"]["securitySchemes"]["token"] = json!({
        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
        "description": "The token of POST /v1/login, or one that another issuer has signed.",
    });
    document["components"]["securitySchemes"]["operator"] = json!({
        "type": "http", "scheme": "bearer",
        "description": "The operators' token, in operator-token in the data folder; no user's token is one.",
    });
    document["components"]["responses"]["Refusal"] = json!({
        "description": "Refused: the sentence says why",
        "headers": { "Retry-After": {
            "description": "With 429 and 503: seconds after which to try again",
            "schema": { "type": "integer", "minimum": 1 },
        } },
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Refusal" } } },
    });
    let refusal = serde_json::to_value(<RefusalBody<'_> as utoipa::PartialSchema>::schema());
    document["components"]["schemas"]["Refusal"] = refusal.unwrap_or_default();
    for operation in
        operations(&mut document).filter(|operation| operation["security"][0].get("token").is_some())
    {
        for status in REFUSALS_OF_CALLS {
            let refusal = json!({ "$ref": "#/components/responses/Refusal" });
            operation["responses"].as_object_mut().map(|all| all.entry(status).or_insert(refusal));
        }
    }
    add_contract(&mut document);
    document
}

/// `GET /openapi.json`.
pub(super) async fn serve(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], shared.openapi.clone()).into_response()
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    paths.filter_map(Value::as_object_mut).flat_map(|item| {
        let is_operation = |key: &str| ["get", "put", "post", "delete", "patch"].contains(&key);
        item.iter_mut().filter(move |(key, _)| is_operation(key)).map(|(_, operation)| operation)
    })
}

/// Adds the contract's schemas that something refers to, and those they refer to.
fn add_contract(document: &mut Value) {
    let contract: Map<String, Value> = serde_json::from_str(roost_proto::JSON_SCHEMAS).unwrap_or_default();
    let mut wanted = BTreeSet::new();
    references(document, &mut wanted);
    while let Some(name) = wanted.pop_first() {
        let Some(schema) = contract.get(&name).filter(|_| document["components"]["schemas"][&name].is_null())
        else {
            continue;
        };
        references(schema, &mut wanted);
        document["components"]["schemas"][&name] = schema.clone();
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            let name =
                members.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix(SCHEMA_PREFIX));
            found.extend(name.map(str::to_owned));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// A 64-bit number, as the contract's JSON writes it.
pub(super) fn number() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]+$")).into()
}

/// An array of the contract's Event.
pub(super) fn events() -> RefOr<Schema> {
    array("Event")
}

/// An array of the contract's `GroupInfo`.
pub(super) fn groups() -> RefOr<Schema> {
    array("GroupInfo")
}

/// The contract's Code.
pub(super) fn code() -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name("Code"))
}

fn array(of: &str) -> RefOr<Schema> {
    ArrayBuilder::new().items(RefOr::Ref(Ref::from_schema_name(of))).into()
}
