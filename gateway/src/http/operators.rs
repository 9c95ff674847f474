//! What operators see and users do not: a user's connections, the figures, the live page. They show a credential of their own.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::Refusal;
use super::caller::bearer;
use super::routes::{self, Shared};
use super::{contract, openapi, page};
use crate::auth::OperatorToken;

/// What [`Connections::of_user`] returns; `None` where a shard did not answer in time.
pub type ConnectionsFuture = Pin<Box<dyn Future<Output = Option<UserConnections>> + Send>>;

/// Who knows the gateway's connections.
pub trait Connections: Send + Sync + 'static {
    /// The connections of a user.
    fn of_user(&self, user: u64) -> ConnectionsFuture;
}

/// What operators are served from.
#[derive(Clone)]
pub struct Operators {
    /// Verifies them.
    pub token: OperatorToken,
    /// Knows the connections.
    pub connections: Arc<dyn Connections>,
}

/// The connections of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct UserConnections {
    /// At most 64 of each shard.
    pub connections: Vec<Connection>,
    /// There are more.
    pub more: bool,
}

/// One connection. Shard, slot and generation name it as the log does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The shard that has it.
    pub shard: u16,
    /// Its place there.
    pub slot: u32,
    /// Which holder of the place it is.
    pub generation: u32,
    /// The device its token names.
    pub device: u32,
    /// IP address and port of its peer, which may be a proxy's; left out where the kernel does not tell (before Linux 6.8).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<SocketAddr>,
    /// `attaching`, `open`, `flushing`, `lingering` or `ending`.
    pub state: &'static str,
    /// When it was accepted, Unix time in seconds.
    pub connected_at_s: u64,
    /// Seconds since something came from it.
    pub silent_s: u64,
    /// Bytes that wait to be sent to it; those the kernel has are not among them.
    pub queued_bytes: u64,
    /// It says so much that it is received by multishot receive.
    pub busy: bool,
    /// It is not read, because it takes too little or the router's queue is full.
    pub paused: bool,
}

/// Somebody who has shown the operators' token.
pub(super) struct Operator;

impl FromRequestParts<Arc<Shared>> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let operators = shared.operators()?;
        // Nowhere but in this header: what stands in a URL comes into logs and histories.
        match bearer(&parts.headers) {
            Some(token) if operators.token.verify(token) => Ok(Self),
            Some(_) => {
                Err(refused("This is not the operators' token; it is in operator-token in the data folder."))
            }
            None => {
                Err(refused("The operators' token is needed: send it as \"Authorization: Bearer TOKEN\"."))
            }
        }
    }
}

fn refused(reason: &'static str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, reason)
}

/// Whom to look for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OfUser {
    /// User number.
    #[param(schema_with = openapi::number)]
    user: String,
}

/// The connections of a user.
#[utoipa::path(get, path = "/debug/connections", tag = "operation", params(OfUser), security(("operator" = [])), responses(
    (status = 200, description = "Those there are now", body = UserConnections),
    (status = 400, response = Refusal),
    (status = 401, response = Refusal),
    (status = 503, response = Refusal)))]
pub(super) async fn connections(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    query: Result<Query<OfUser>, QueryRejection>,
) -> Result<Json<UserConnections>, Refusal> {
    let Query(OfUser { user }) =
        query.map_err(|_| Refusal::bad_request("\"user\" is needed, once: ?user=1001."))?;
    let user = contract::user("user", &user)?;
    // One inquiry at a time: each looks at every slot.
    let _turn = shared.inquiries.lock().await;
    let found = shared.operators()?.connections.of_user(user).await;
    found.map(Json).ok_or_else(|| Refusal::unavailable("A shard did not answer in time; try again."))
}

/// The metrics, for operators where `/metrics` is kept from the outside.
#[utoipa::path(get, path = "/admin/figures", tag = "operation", security(("operator" = [])), responses(
    (status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"),
    (status = 401, response = Refusal)))]
pub(super) async fn figures(_: Operator, State(shared): State<Arc<Shared>>) -> Response {
    routes::metrics_text(&shared)
}

/// `GET /admin`: the page, which has no figures and no secrets of its own.
pub(super) async fn admin(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    shared.operators()?;
    Ok(page::admin(&shared, &headers))
}
