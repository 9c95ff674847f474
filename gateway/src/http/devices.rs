//! A user's devices and their public keys over HTTP.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use roost_proto::tier::{Answer, Call, DeviceState};
use roost_proto::v1::{self, server_frame};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::Refusal;
use super::caller::Caller;
use super::calls::defect;
use super::contract::{self, Contract, respond};
use super::openapi;
use super::routes::Shared;

/// The devices of a user.
#[derive(Serialize, ToSchema)]
pub(super) struct Devices {
    /// In the order of their first session.
    devices: Vec<Device>,
}

/// A device of a user.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    /// Its number.
    #[serde(rename = "device")]
    number: u32,
    /// Its place in the user's stream.
    #[schema(schema_with = openapi::number)]
    acknowledged: String,
    /// When it was last seen, Unix time in milliseconds; left out where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = openapi::number)]
    last_seen_ms: Option<String>,
    /// It has a session now.
    connected: bool,
    /// Its one-time keys that are left on the server.
    one_time_keys: u32,
}

impl From<DeviceState> for Device {
    fn from(state: DeviceState) -> Self {
        Self {
            number: state.device,
            acknowledged: state.acknowledged.to_string(),
            last_seen_ms: Some(state.last_seen_ms).filter(|ms| *ms > 0).map(|ms| ms.to_string()),
            connected: state.connected,
            one_time_keys: state.one_time_keys,
        }
    }
}

/// Lists the caller's devices.
#[utoipa::path(get, path = "/v1/devices", tag = "devices", security(("token" = [])),
    responses((status = 200, description = "The devices of the user", body = Devices)))]
pub(super) async fn list(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
) -> Result<Response, Refusal> {
    let Answer::Devices(devices) = shared.calls()?.call(who, Call::Devices).await? else {
        return Err(defect());
    };
    let devices = devices.into_iter().map(Device::from).collect();
    Ok(respond(StatusCode::OK, &Devices { devices }))
}

/// Removes a device of the caller.
///
/// Its session ends with GoAway and close code 4002, events wait for it no more. A token of it stays good until it expires: if the
/// device connects again, it is a new device.
#[utoipa::path(delete, path = "/v1/devices/{device}", tag = "devices", security(("token" = [])),
    params(("device" = u32, Path, description = "The device's number", minimum = 1, maximum = 2_147_483_647, example = 2)),
    responses(
        (status = 204, description = "It is removed"),
        (status = 404, response = Refusal)))]
pub(super) async fn remove(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Path(device): Path<String>,
) -> Result<StatusCode, Refusal> {
    let device = contract::device("device", &device)?;
    shared.calls()?.done(who, Call::RemoveDevice { device }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Publishes the public keys of the caller's device.
#[utoipa::path(put, path = "/v1/keys", tag = "keys", security(("token" = [])),
    request_body(content = ref("#/components/schemas/KeysPublish"),
        example = json!({ "identity": "aWRlbnRpdHk=", "signedPrekey": "cHJla2V5", "signature": "c2lnbmF0dXJl", "oneTime": ["MQ=="] })),
    responses((status = 204, description = "They are stored; one-time keys are added to those that are left")))]
pub(super) async fn publish_keys(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Contract(keys, _room): Contract<v1::KeysPublish>,
) -> Result<StatusCode, Refusal> {
    shared.calls()?.frame(who, keys).await.map(|_| StatusCode::NO_CONTENT)
}

/// Fetches a bundle of keys for each device of a user; each takes one of its one-time keys, if any is left.
#[utoipa::path(get, path = "/v1/users/{user}/keys", tag = "keys", security(("token" = [])),
    params(("user" = u64, Path, description = "Whose keys", minimum = 1, example = 1002)),
    responses(
        (status = 200, description = "A bundle a device", body = ref("#/components/schemas/KeyBundles")),
        (status = 404, response = Refusal)))]
pub(super) async fn fetch_keys(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Path(user): Path<String>,
) -> Result<Response, Refusal> {
    let user = contract::user("user", &user)?;
    match shared.calls()?.frame(who, v1::KeysFetch { user }).await? {
        Some(server_frame::Body::Keys(keys)) => Ok(respond(StatusCode::OK, &*keys)),
        _ => Err(defect()),
    }
}
