//! Refusals: a status and a JSON body `{"error": "<a sentence that helps>"}`.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A refusal. `error` never repeats what the client sent.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: Cow<'static, str>,
    retry_after_s: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<Cow<'static, str>>) -> Self {
        Self { status, error: error.into(), retry_after_s: None }
    }

    pub(super) fn bad_request(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// 429, with the seconds after which another attempt is welcome.
    pub(super) fn too_many(error: &'static str, retry_after_s: u64) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            error: error.into(),
            retry_after_s: Some(retry_after_s),
        }
    }

    /// 503 for what will pass.
    pub(super) fn unavailable(error: &'static str) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, error: error.into(), retry_after_s: Some(1) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.error }))).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
