//! What is answered where.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::accounts::{self, Accounts};
use super::answer::Refusal;
use super::limits::{BODY_BYTES_MAX, REQUEST_MS_MAX};
use super::metrics::{HttpMetrics, MetricsSource};
use super::password::Passwords;
use super::throttle::Throttle;
use super::{HttpConfig, Services, page};
use crate::auth::Keys;

/// What all requests share.
pub(super) struct Shared {
    pub(super) config: HttpConfig,
    pub(super) keys: Keys,
    pub(super) passwords: Passwords,
    pub(super) throttle: Throttle,
    pub(super) draining: AtomicBool,
    accounts: Option<Arc<dyn Accounts>>,
    gateway_metrics: Arc<dyn MetricsSource>,
    metrics: HttpMetrics,
}

impl Shared {
    pub(super) fn new(config: HttpConfig, services: Services) -> Self {
        Self {
            config,
            keys: services.keys,
            passwords: Passwords::new(),
            throttle: Throttle::new(),
            draining: AtomicBool::new(false),
            accounts: services.accounts,
            gateway_metrics: services.metrics,
            metrics: HttpMetrics::new(),
        }
    }

    /// # Errors
    /// 404 where the backend has no accounts.
    pub(super) fn accounts(&self) -> Result<Arc<dyn Accounts>, Refusal> {
        self.accounts.clone().ok_or_else(|| {
            Refusal::new(StatusCode::NOT_FOUND, "This gateway runs a backend without accounts.")
        })
    }
}

/// All routes, for any number of connections.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/users", post(accounts::sign_up))
        .route("/v1/login", post(accounts::log_in))
        .route("/v1/config", get(config))
        .route("/v1/ws", any(sessions))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
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

async fn health() -> &'static str {
    "ok\n"
}

async fn readiness(State(shared): State<Arc<Shared>>) -> Result<&'static str, Refusal> {
    if shared.draining.load(Ordering::Relaxed) {
        return Err(Refusal::unavailable("The gateway is draining."));
    }
    Ok("ready\n")
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = shared.metrics.text(&*shared.gateway_metrics);
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
