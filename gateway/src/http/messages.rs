//! Messages over HTTP: sending, reading the stream, acknowledging, history.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use roost_proto::codec;
use roost_proto::tier::{Answer, Call};
use roost_proto::v1::{self, address::To, server_frame};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::answer::Refusal;
use super::caller::Caller;
use super::calls::defect;
use super::contract::{self, Contract, respond};
use super::limits::{IDEMPOTENCY_KEY_BYTES_MAX, PAGE_EVENTS};
use super::openapi;
use super::routes::Shared;

/// Bytes of the contract's `client_id`.
const CLIENT_ID_BYTES: usize = 16;

/// Sends a message.
///
/// 201 means that it is durable, as `Sent` does over WebSocket. A `clientId` that was used before is answered with the first
/// message's `Sent` and 200. Without a `clientId` one is made of the `Idempotency-Key`, the first 16 bytes of its SHA-256, or else
/// of random bytes, and told in the answer; only with one of the two it is safe to send again after a failure.
#[utoipa::path(post, path = "/v1/messages", tag = "messages", security(("token" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "At most 255 bytes; used where the body has no clientId")),
    request_body(content = ref("#/components/schemas/Send"),
        example = json!({ "to": { "user": "1002" }, "clientId": "aHR0cC0x", "payload": "aGVsbG8sIEJvYg==" })),
    responses(
        (status = 201, description = "Accepted and durable", body = ref("#/components/schemas/Sent")),
        (status = 200, description = "Accepted before, with this clientId", body = ref("#/components/schemas/Sent")),
        (status = 404, response = Refusal)))]
pub(super) async fn send(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Contract(mut send, _room): Contract<v1::Send>,
) -> Result<Response, Refusal> {
    if send.client_id.is_empty() {
        send.client_id = client_id(&headers)?.to_vec().into();
    }
    match shared.calls()?.frame(who, send).await? {
        Some(server_frame::Body::Sent(sent)) => {
            let status = if sent.duplicate { StatusCode::OK } else { StatusCode::CREATED };
            Ok(respond(status, &*sent))
        }
        _ => Err(defect()),
    }
}

/// Of the `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), or random.
fn client_id(headers: &HeaderMap) -> Result<[u8; CLIENT_ID_BYTES], Refusal> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(rand::random()) };
    if !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
        return Err(Refusal::bad_request(format!(
            "\"Idempotency-Key\" has {} bytes and must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX}.",
            key.len()
        )));
    }
    let digest = Sha256::digest(key.as_bytes());
    let mut id = [0; CLIENT_ID_BYTES];
    id.copy_from_slice(&digest[..CLIENT_ID_BYTES]);
    Ok(id)
}

/// Where to read a stream.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Events past this `seq`; left out: past the device's acknowledged place
    #[param(value_type = Option<u64>, minimum = 0)]
    after: Option<String>,
    /// At most so many events, 100 unless given; the server may answer with fewer
    #[param(value_type = Option<u32>, minimum = 1)]
    limit: Option<String>,
}

/// A page of a user's stream.
#[derive(Serialize, ToSchema)]
pub(super) struct EventPage {
    /// By rising `seq`; without what this device itself sent.
    #[schema(schema_with = openapi::events)]
    events: Vec<v1::Event>,
    /// Where to go on reading, and up to where to acknowledge once all is handled.
    #[schema(schema_with = openapi::number)]
    next: String,
    /// There are more past `next`.
    more: bool,
}

/// Reads the user's stream past a place, as this device would get it.
///
/// Nothing is acknowledged by reading. A device that was never seen before is registered: from then on what is new waits for it.
#[utoipa::path(get, path = "/v1/messages", tag = "messages", security(("token" = [])), params(EventsQuery),
    responses((status = 200, description = "Events, perhaps none", body = EventPage)))]
pub(super) async fn events(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query.map_err(|_| bad_query())?;
    let after = query.after.as_deref().map(|text| contract::number("after", text)).transpose()?;
    let limit = query.limit.as_deref().map(|text| contract::number("limit", text)).transpose()?;
    let call = Call::Events { after, limit: limit.unwrap_or(PAGE_EVENTS) };
    let Answer::Events { events, next, more } = shared.calls()?.call(who, call).await? else {
        return Err(defect());
    };
    let events = events.iter().map(|event| codec::decode_event(event)).collect::<Result<_, _>>();
    let events = events.map_err(|error| {
        tracing::error!(user = who.user, %error, "an event in the store cannot be read; it was not delivered");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "An event in the store cannot be read.")
    })?;
    Ok(respond(StatusCode::OK, &EventPage { events, next: next.to_string(), more }))
}

/// Acknowledges everything up to a place in the stream, for this device.
#[utoipa::path(post, path = "/v1/ack", tag = "messages", security(("token" = [])),
    request_body(content = ref("#/components/schemas/Ack"), example = json!({ "upTo": "1" })),
    responses((status = 204, description = "The device's place has moved, if it was behind")))]
pub(super) async fn ack(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Contract(ack, _room): Contract<v1::Ack>,
) -> Result<StatusCode, Refusal> {
    shared.calls()?.frame(who, ack).await.map(|_| StatusCode::NO_CONTENT)
}

/// Marks messages as read.
#[utoipa::path(post, path = "/v1/read", tag = "messages", security(("token" = [])),
    request_body(content = ref("#/components/schemas/Read"), example = json!({ "message": ["7530075590339067908"] })),
    responses((status = 204, description = "Their senders are told, once; others' messages are passed over")))]
pub(super) async fn read(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Contract(read, _room): Contract<v1::Read>,
) -> Result<StatusCode, Refusal> {
    shared.calls()?.frame(who, read).await.map(|_| StatusCode::NO_CONTENT)
}

/// Which conversation, and where in it.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// The conversation with this user; either `user` or `group` is needed
    #[param(value_type = Option<u64>, minimum = 1)]
    user: Option<String>,
    /// The conversation of this group
    #[param(value_type = Option<u64>, minimum = 1)]
    group: Option<String>,
    /// Messages before this one; left out: the newest
    #[param(value_type = Option<u64>, minimum = 0)]
    before: Option<String>,
    /// At most so many
    #[param(value_type = Option<u32>, minimum = 1)]
    limit: Option<String>,
}

/// Pages through a conversation, newest first, where the server keeps history.
#[utoipa::path(get, path = "/v1/history", tag = "messages", security(("token" = [])), params(HistoryQuery),
    responses(
        (status = 200, description = "Messages, newest first", body = ref("#/components/schemas/History")),
        (status = 403, response = Refusal),
        (status = 404, response = Refusal)))]
pub(super) async fn history(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query.map_err(|_| bad_query())?;
    let with = match (&query.user, &query.group) {
        (Some(user), None) => To::User(contract::user("user", user)?),
        (None, Some(group)) => To::Group(contract::number("group", group)?),
        _ => return Err(Refusal::bad_request("One of \"user\" and \"group\" is needed, and not both.")),
    };
    let before = query.before.as_deref().map(|text| contract::number("before", text)).transpose()?;
    let limit = query.limit.as_deref().map(|text| contract::number("limit", text)).transpose()?;
    let fetch = v1::HistoryFetch {
        with: v1::Address { to: Some(with) }.into(),
        before: before.unwrap_or_default(),
        limit: limit.unwrap_or(PAGE_EVENTS),
    };
    match shared.calls()?.frame(who, fetch).await? {
        Some(server_frame::Body::History(history)) => Ok(respond(StatusCode::OK, &*history)),
        _ => Err(defect()),
    }
}

pub(super) fn bad_query() -> Refusal {
    Refusal::bad_request("The query cannot be read: give each parameter once, as NAME=VALUE.")
}
