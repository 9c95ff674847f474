//! What is answered where.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::accounts::{self, Accounts};
use super::answer::Refusal;
use super::calls::Calls;
use super::limits::{BODIES_BYTES_MAX, BODY_BYTES_MAX, REQUEST_MS_MAX};
use super::metrics::{HttpMetrics, MetricsSource};
use super::operators::{self, Operators};
use super::password::Passwords;
use super::throttle::Throttle;
use super::{HttpConfig, Services, devices, groups, messages, openapi, page};
use crate::auth::Keys;

/// What all requests share.
pub(super) struct Shared {
    pub(super) config: HttpConfig,
    pub(super) keys: Keys,
    pub(super) passwords: Passwords,
    pub(super) throttle: Throttle,
    pub(super) draining: AtomicBool,
    /// KiB of bodies of calls that may still be held.
    pub(super) bodies: Arc<Semaphore>,
    /// The document of `GET /openapi.json`.
    pub(super) openapi: Bytes,
    accounts: Option<Arc<dyn Accounts>>,
    calls: Option<Calls>,
    operators: Option<Operators>,
    /// Held by the one inquiry that the shards work on.
    pub(super) inquiries: tokio::sync::Mutex<()>,
    gateway_metrics: Arc<dyn MetricsSource>,
    metrics: HttpMetrics,
}

impl Shared {
    pub(super) fn new(config: HttpConfig, services: Services) -> Self {
        Self {
            throttle: Throttle::new(config.call_rate),
            config,
            keys: services.keys,
            passwords: Passwords::new(),
            draining: AtomicBool::new(false),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX / 1024)),
            openapi: openapi::complete(paths().into_openapi()).to_string().into(),
            accounts: services.accounts,
            calls: services.calls,
            operators: services.operators,
            inquiries: tokio::sync::Mutex::new(()),
            gateway_metrics: services.metrics,
            metrics: HttpMetrics::new(),
        }
    }

    /// A connection without a request was closed for another, or not.
    pub(super) fn count_crowded_out(&self, one: bool) {
        if one {
            self.metrics.count_crowded_out();
        }
    }

    /// The largest body of a call, bytes.
    pub(super) fn body_bytes_max(&self) -> usize {
        usize::try_from(self.config.message_bytes_max)
            .map_or(BODIES_BYTES_MAX, |max| max.min(BODIES_BYTES_MAX))
    }

    /// # Errors
    /// 404 where the backend has no message tier.
    pub(super) fn calls(&self) -> Result<&Calls, Refusal> {
        self.calls.as_ref().ok_or_else(|| {
            Refusal::new(StatusCode::NOT_FOUND, "This gateway runs a backend without messages.")
        })
    }

    /// # Errors
    /// 404 where operators are not served.
    pub(super) fn operators(&self) -> Result<&Operators, Refusal> {
        self.operators
            .as_ref()
            .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "This gateway has nothing for operators."))
    }

    /// # Errors
    /// 404 where the backend has no accounts.
    pub(super) fn accounts(&self) -> Result<Arc<dyn Accounts>, Refusal> {
        self.accounts.clone().ok_or_else(|| {
            Refusal::new(StatusCode::NOT_FOUND, "This gateway runs a backend without accounts.")
        })
    }
}

/// The routes of the `OpenAPI` document.
fn paths() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(accounts::sign_up))
        .routes(routes!(accounts::log_in))
        .routes(routes!(health))
        .routes(routes!(readiness))
        .routes(routes!(metrics))
        .routes(routes!(operators::connections))
        .routes(routes!(operators::figures))
        .merge(calls())
}

/// The routes of the message tier. What is read from a body is bounded by its extractor too.
fn calls() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(messages::send, messages::events))
        .routes(routes!(messages::ack))
        .routes(routes!(messages::read))
        .routes(routes!(messages::history))
        .routes(routes!(devices::list))
        .routes(routes!(devices::remove))
        .routes(routes!(devices::publish_keys))
        .routes(routes!(devices::fetch_keys))
        .routes(routes!(groups::create, groups::list))
        .routes(routes!(groups::info, groups::rename))
        .routes(routes!(groups::add, groups::remove))
        .routes(routes!(groups::add_one, groups::remove_one))
        .routes(routes!(groups::promote))
        .routes(routes!(groups::promote_one))
        .layer(DefaultBodyLimit::max(BODIES_BYTES_MAX))
}

/// All routes, for any number of connections.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let (documented, _) = paths().split_for_parts();
    documented
        .route("/openapi.json", get(openapi::serve))
        .route("/v1/config", get(config))
        .route("/v1/ws", any(sessions))
        .route("/admin", get(operators::admin))
        .route("/", get(page::index))
        .route("/{asset}", get(page::asset))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "There is nothing here."))
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "This route takes another method; see the Allow header.",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), around))
        .with_state(shared)
}

/// The host the client named, as it wrote it.
pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// Around every request: a deadline, the headers of every answer, and a count.
async fn around(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let deadline = Duration::from_millis(REQUEST_MS_MAX);
    let mut response = tokio::time::timeout(deadline, next.run(request))
        .await
        .unwrap_or_else(|_| Refusal::unavailable("The answer took too long; try again.").into_response());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    shared.metrics.count(response.status().as_u16());
    response
}

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, description = "It does", body = String)))]
async fn health() -> &'static str {
    "ok\n"
}

/// The gateway takes connections.
#[utoipa::path(get, path = "/readyz", tag = "operation", responses(
    (status = 200, description = "It does", body = String),
    (status = 503, response = Refusal)))]
async fn readiness(State(shared): State<Arc<Shared>>) -> Result<&'static str, Refusal> {
    if shared.draining.load(Ordering::Relaxed) {
        return Err(Refusal::unavailable("The gateway is draining."));
    }
    Ok("ready\n")
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text")))]
async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    metrics_text(&shared)
}

/// All families in the text form of `OpenMetrics`.
pub(super) fn metrics_text(shared: &Shared) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = shared.metrics.text(&*shared.gateway_metrics, shared.calls.as_ref().map_or(0, Calls::waiting));
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// What the page needs to know: `{"websocket": "ws://..."}`.
async fn config(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Json<Value> {
    Json(json!({ "websocket": shared.config.websocket.url(host(&headers)) }))
}

/// 404 for who takes this port for the WebSocket's.
async fn sessions(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Refusal {
    let url = shared.config.websocket.url(host(&headers));
    Refusal::new(StatusCode::NOT_FOUND, format!("This is the HTTP port: sessions are at {url}, not here."))
}
