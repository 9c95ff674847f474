//! Accounts, the calls of the message tier, health, metrics and the web page over HTTP/1.1, on a thread of its own beside the shards.

mod accounts;
mod answer;
mod body;
mod caller;
mod calls;
mod contract;
mod devices;
mod groups;
pub mod limits;
mod messages;
mod metrics;
mod openapi;
mod operators;
mod page;
mod password;
mod places;
mod proxied;
mod routes;
mod server;
mod throttle;
mod waiting;
mod websocket_address;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Keys;

pub use accounts::{AccountFuture, AccountOutcome, Accounts, AccountsUnavailable};
pub use calls::{Calls, Tier};
pub use metrics::MetricsSource;
pub use operators::{Connection, Connections, ConnectionsFuture, Operators, UserConnections};
pub use server::{HttpService, start};
pub use waiting::Waiting;
pub use websocket_address::WebSocketAddress;

/// What the operator decides about the HTTP service.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where the page finds the gateway's WebSocket.
    pub websocket: WebSocketAddress,
    /// How long tokens of `POST /v1/login` are good, in seconds (`limits::TOKEN_TTL_S` unless configured).
    pub token_ttl_s: u64,
    /// Largest body of a call, in bytes, as of a WebSocket message; `limits::BODIES_BYTES_MAX` where that is less.
    pub message_bytes_max: u64,
    /// How often a user may call: a period in which one more call is allowed, and calls at once. `None`: at any rate.
    pub call_rate: Option<(Duration, NonZeroU32)>,
    /// Each connection begins with the header of a proxy, which tells the client's address.
    pub proxy_protocol: bool,
}

/// What the HTTP service serves from.
#[derive(Clone)]
pub struct Services {
    /// Signs the tokens of `POST /v1/login`.
    pub keys: Keys,
    /// Where accounts are kept; `None` where the backend has none (`--backend echo`), and the routes answer 404.
    pub accounts: Option<Arc<dyn Accounts>>,
    /// The message tier; `None` where the backend has none, and its routes answer 404.
    pub calls: Option<Calls>,
    /// What operators are served from; `None`: their routes answer 404.
    pub operators: Option<Operators>,
    /// The gateway's own families for `GET /metrics`.
    pub metrics: Arc<dyn MetricsSource>,
}
