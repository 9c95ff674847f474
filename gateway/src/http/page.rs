//! The web page of `client/web/`, embedded in the binary.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answer::Refusal;
use super::routes::Shared;

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// Of the bytes; browsers ask each time and mostly hear 304, so a new gateway's page is never mixed with an old one's.
    etag: String,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    const HTML: &str = "text/html; charset=utf-8";
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    const STYLE: &str = "text/css; charset=utf-8";
    const ICON: &str = "image/svg+xml";
    macro_rules! asset {
        ($name:literal, $content_type:expr) => {
            Asset::new($name, $content_type, include_bytes!(concat!("../../../client/web/", $name)))
        };
    }
    vec![
        asset!("index.html", HTML),
        asset!("style.css", STYLE),
        asset!("icon.svg", ICON),
        asset!("app.js", SCRIPT),
        asset!("account.js", SCRIPT),
        asset!("connection.js", SCRIPT),
        asset!("session.js", SCRIPT),
        asset!("history.js", SCRIPT),
        asset!("view.js", SCRIPT),
        asset!("wire.js", SCRIPT),
        asset!("admin.html", HTML),
        asset!("admin.css", STYLE),
        asset!("admin.js", SCRIPT),
        asset!("figures.js", SCRIPT),
        asset!("panels.js", SCRIPT),
    ]
});

impl Asset {
    fn new(name: &'static str, content_type: &'static str, bytes: &'static [u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Self { name, content_type, bytes, etag: format!("\"{:016x}\"", hasher.finish()) }
    }
}

/// `GET /`.
pub(super) async fn index(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    serve("index.html", &shared, &headers)
}

/// The operators' page.
pub(super) fn admin(shared: &Shared, headers: &HeaderMap) -> Response {
    serve("admin.html", shared, headers)
}

/// `GET /{asset}`.
pub(super) async fn asset(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    serve(&name, &shared, &headers)
}

fn serve(name: &str, shared: &Shared, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return Refusal::new(StatusCode::NOT_FOUND, "There is nothing here.").into_response();
    };
    let fresh =
        headers.get(header::IF_NONE_MATCH).is_some_and(|etag| etag.as_bytes() == asset.etag.as_bytes());
    let mut response =
        if fresh { StatusCode::NOT_MODIFIED.into_response() } else { asset.bytes.into_response() };
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    for (name, value) in [
        (header::ETAG, asset.etag.clone()),
        (header::CONTENT_SECURITY_POLICY, content_security_policy(shared, headers)),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.insert(name, value);
        }
    }
    response
}

/// Everything from this origin, the gateway's WebSocket beside it, and nothing else.
fn content_security_policy(shared: &Shared, headers: &HeaderMap) -> String {
    let websocket = shared.config.websocket.csp_source(super::routes::host(headers));
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {websocket}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}
