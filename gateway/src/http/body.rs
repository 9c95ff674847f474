//! Reading a request's JSON body, bounded in size and time.

use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answer::Refusal;
use super::limits::{BODY_BYTES_MAX, BODY_READ_MS_MAX};
use crate::auth::{device_number, user_number};

/// The body of a request as JSON, whatever its Content-Type.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let too_large = || {
            let error = format!("The body is larger than {BODY_BYTES_MAX} bytes.");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error)
        };
        // The layer's limit counts bytes that came; a length that says so is enough.
        if request.body().size_hint().lower() > BODY_BYTES_MAX as u64 {
            return Err(too_large());
        }
        let deadline = Duration::from_millis(BODY_READ_MS_MAX);
        let bytes = match tokio::time::timeout(deadline, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return Err(too_large());
            }
            Ok(Err(_)) => return Err(Refusal::bad_request("The body ended too early; send it again.")),
            Err(_) => {
                return Err(Refusal::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "The body took too long; send it again.",
                ));
            }
        };
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
