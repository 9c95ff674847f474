//! Who calls: the token of a request.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};

use super::answer::Refusal;
use super::routes::Shared;
use crate::conn::Identity;

/// The user and the device a request's token speaks for. It stands before the body, so that nobody's body is read.
pub(super) struct Caller(pub(super) Identity);

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let refused = |reason| Refusal::new(StatusCode::UNAUTHORIZED, reason);
        let token = bearer(&parts.headers)
            .ok_or_else(|| refused("A token is needed: send it as \"Authorization: Bearer TOKEN\"."))?;
        let now_s = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let who = shared.keys.verify(token, now_s).map_err(|error| refused(error.reason()))?;
        shared.throttle.caller(who.user)?;
        Ok(Self(who))
    }
}

/// RFC 6750 section 2.1; the scheme in any case (RFC 9110 section 11.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_ascii())
}
