//! Messages of the contract as bodies, in the canonical proto3 JSON mapping, and numbers in paths and queries.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use roost_proto::codec::{self, DecodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::Refusal;
use super::body;
use super::routes::Shared;
use crate::auth::{device_number, user_number};

/// A message of the contract from a request's body, and the room its bytes take up until it is handed on.
pub(super) struct Contract<M>(pub(super) M, pub(super) OwnedSemaphorePermit);

impl<M: DeserializeOwned + Send> FromRequest<Arc<Shared>> for Contract<M> {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let (bytes, room) = body::read_large(request, shared).await?;
        let message = codec::decode_json(&bytes).map_err(|error| match error {
            DecodeError::Json(reason) => {
                Refusal::bad_request(format!("The body is not what this route takes: {reason}."))
            }
            other => Refusal::bad_request(format!("The body is not what this route takes: {other}.")),
        })?;
        Ok(Self(message, room))
    }
}

/// Answers with a message of the contract.
pub(super) fn respond(status: StatusCode, message: &impl Serialize) -> Response {
    let mut text = Vec::new();
    if let Err(error) = serde_json::to_writer(&mut text, message) {
        tracing::error!(%error, "an answer cannot be written as JSON; this is a defect");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// A user number of a path or a query.
///
/// # Errors
/// 400 for anything that is none.
pub(super) fn user(name: &str, text: &str) -> Result<u64, Refusal> {
    user_number(text)
        .ok_or_else(|| out_of_range(name, text, "a number from 1 to 9223372036854775807, digits only"))
}

/// A device number of a path.
///
/// # Errors
/// 400 for anything that is none.
pub(super) fn device(name: &str, text: &str) -> Result<u32, Refusal> {
    let device = user_number(text).and_then(device_number);
    device.ok_or_else(|| out_of_range(name, text, "a number from 1 to 2147483647, digits only"))
}

/// A number of a path or a query: a group, a message, a place in the stream, a count.
///
/// # Errors
/// 400 for anything that is none.
pub(super) fn number<N: std::str::FromStr>(name: &str, text: &str) -> Result<N, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| {
        let bits = 8 * size_of::<N>();
        out_of_range(name, text, &format!("a number of at most {bits} bits, digits only"))
    })
}

fn out_of_range(name: &str, text: &str, needed: &str) -> Refusal {
    // The beginning is enough to find it by.
    let text: String = text.chars().take(40).map(|char| if char.is_control() { ' ' } else { char }).collect();
    Refusal::bad_request(format!("\"{name}\" is \"{text}\" and must be {needed}."))
}
