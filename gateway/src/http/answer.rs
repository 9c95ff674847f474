//! Refusals: a status and a JSON body `{"error": "<a sentence that helps>", "code": "NOT_FOUND"}`.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use roost_proto::v1::{self, Code};
use serde::Serialize;
use utoipa::openapi::{Ref, RefOr};
use utoipa::{ToResponse, ToSchema};

/// A refusal. Of what the client sent, `error` repeats a field and its value at most, never a password or a token.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: Cow<'static, str>,
    retry_after_s: Option<u64>,
}

/// Why a request was refused.
#[derive(Serialize, ToSchema)]
#[schema(as = Refusal, example = json!({ "error": "there is no user 1003.", "code": "NOT_FOUND" }))]
pub(super) struct RefusalBody<'a> {
    /// A sentence for people; it may change.
    error: &'a str,
    /// The contract's Code; left out where it has none for the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = super::openapi::code)]
    code: Option<Code>,
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

/// The contract's Error: its code is the status, its message the sentence.
impl From<v1::Error> for Refusal {
    fn from(error: v1::Error) -> Self {
        let status = error.code.as_known().map_or(StatusCode::INTERNAL_SERVER_ERROR, status_of);
        let wants_pause = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let seconds = u64::from(error.retry_after_ms).div_ceil(1000).max(1);
        Self {
            status,
            error: format!("{}.", error.message.trim_end_matches('.')).into(),
            retry_after_s: wants_pause.then_some(seconds),
        }
    }
}

/// What the `OpenAPI` document says of each; the component itself is made there.
impl<'r> ToResponse<'r> for Refusal {
    fn response() -> (&'r str, RefOr<utoipa::openapi::Response>) {
        ("Refusal", RefOr::Ref(Ref::from_response_name("Refusal")))
    }
}

/// The codes of the contract and their statuses, each its own.
const STATUSES: [(Code, StatusCode); 9] = [
    (Code::INTERNAL, StatusCode::INTERNAL_SERVER_ERROR),
    (Code::MALFORMED, StatusCode::BAD_REQUEST),
    (Code::UNAUTHENTICATED, StatusCode::UNAUTHORIZED),
    (Code::FORBIDDEN, StatusCode::FORBIDDEN),
    (Code::NOT_FOUND, StatusCode::NOT_FOUND),
    (Code::TOO_LARGE, StatusCode::PAYLOAD_TOO_LARGE),
    (Code::RATE_LIMITED, StatusCode::TOO_MANY_REQUESTS),
    (Code::UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE),
    (Code::CONFLICT, StatusCode::CONFLICT),
];

fn status_of(code: Code) -> StatusCode {
    let found = STATUSES.iter().find(|(known, _)| *known == code);
    found.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status)| *status)
}

fn code_of(status: StatusCode) -> Option<Code> {
    STATUSES.iter().find(|(_, known)| *known == status).map(|(code, _)| *code)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = RefusalBody { error: &self.error, code: code_of(self.status) };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 15.5.2 wants the scheme named.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
