//! Reading a request's JSON body, bounded in size and time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::Refusal;
use super::limits::{BODY_BYTES_MAX, BODY_READ_MS_MAX};
use super::routes::Shared;
use crate::auth::{device_number, user_number};

/// The body of a request as JSON, whatever its Content-Type.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = read(request, state, BODY_BYTES_MAX).await?;
        // serde's message would repeat values of the body, which holds a password: only the place is told.
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            Refusal::bad_request(format!(
                "The body is not the JSON object this route takes (line {}, column {}); see docs/PROTOCOL.md.",
                error.line(),
                error.column()
            ))
        })
    }
}

/// The body of a call, at most as large as a WebSocket message, and its room among all bodies.
///
/// # Errors
/// As [`read`]; 503 where the bodies of other calls take all the room.
pub(super) async fn read_large(
    request: Request,
    shared: &Arc<Shared>,
) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
    let bytes_max = shared.body_bytes_max();
    let claimed = request.body().size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    let kib = claimed.unwrap_or(bytes_max).min(bytes_max).div_ceil(1024) as u32;
    let room = Arc::clone(&shared.bodies)
        .try_acquire_many_owned(kib)
        .map_err(|_| Refusal::unavailable("The gateway reads as many bodies as it takes; try again."))?;
    Ok((read(request, &(), bytes_max).await?, room))
}

/// A body of at most `bytes_max` bytes, which the route's `DefaultBodyLimit` must be too.
///
/// # Errors
/// 413 where it is larger, 408 where it takes too long, 400 where it ends early.
async fn read<S: Send + Sync>(request: Request, state: &S, bytes_max: usize) -> Result<Bytes, Refusal> {
    let too_large = || {
        let error = format!("The body is larger than {bytes_max} bytes.");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error)
    };
    // The layer's limit counts bytes that came; a length that says so is enough.
    if request.body().size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let deadline = Duration::from_millis(BODY_READ_MS_MAX);
    match tokio::time::timeout(deadline, Bytes::from_request(request, state)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::bad_request("The body ended too early; send it again.")),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "The body took too long; send it again.")),
    }
}

/// A user number, as a string or a JSON number.
///
/// # Errors
/// 400 for anything that is none.
pub(super) fn user(value: &Value) -> Result<u64, Refusal> {
    let user = match value {
        Value::String(text) => user_number(text),
        Value::Number(number) => user_number(&number.to_string()),
        Value::Null => return Err(Refusal::bad_request("\"user\" is missing.")),
        _ => None,
    };
    user.ok_or_else(|| {
        Refusal::bad_request("\"user\" must be a number from 1 to 9223372036854775807, digits only.")
    })
}

/// A password, which only text is.
///
/// # Errors
/// 400 for anything else.
pub(super) fn password(value: Value) -> Result<String, Refusal> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Err(Refusal::bad_request("\"password\" is missing.")),
        _ => Err(Refusal::bad_request("\"password\" must be text.")),
    }
}

/// A device number, as a JSON number or a string; 1 where there is none.
///
/// # Errors
/// 400 for anything that is none.
pub(super) fn device(value: &Value) -> Result<u32, Refusal> {
    let device = match value {
        Value::Null => Some(1),
        Value::String(text) => user_number(text).and_then(device_number),
        Value::Number(number) => number.as_u64().and_then(device_number),
        _ => None,
    };
    device.ok_or_else(|| Refusal::bad_request("\"device\" must be a number from 1 to 2147483647."))
}
