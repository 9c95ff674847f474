//! `POST /v1/users` and `POST /v1/login`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::answer::Refusal;
use super::body::{self, JsonBody};
use super::limits::{PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN};
use super::openapi;
use super::routes::Shared;
use super::server::Peer;

pub use roost_proto::tier::AccountOutcome;

/// What [`Accounts::create`] returns.
pub type AccountFuture = Pin<Box<dyn Future<Output = AccountOutcome> + Send>>;

/// The store cannot be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the account store cannot be read")]
pub struct AccountsUnavailable;

/// Where accounts are kept.
pub trait Accounts: Send + Sync + 'static {
    /// Keeps a new account with this PHC string; done when it is durable.
    fn create(&self, user: u64, password_hash: String) -> AccountFuture;

    /// The PHC string of a user, `None` where there is no such account. Called on a blocking thread.
    ///
    /// # Errors
    /// The store cannot be read.
    fn password_hash(&self, user: u64) -> Result<Option<String>, AccountsUnavailable>;
}

/// Fields of any type, or none: [`body`] says which one is wrong.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct NewUser {
    /// A number from 1 to 2^63-1, as text or as a number.
    #[schema(schema_with = openapi::number)]
    user: Value,
    /// 8 to 1,024 bytes.
    #[schema(value_type = String)]
    password: Value,
}

/// As [`NewUser`].
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct Login {
    /// A number from 1 to 2^63-1, as text or as a number.
    #[schema(schema_with = openapi::number)]
    user: Value,
    /// The account's.
    #[schema(value_type = String)]
    password: Value,
    /// A number from 1 to 2^31-1; 1 where there is none.
    #[schema(value_type = u32)]
    device: Value,
}

/// A user that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct Created {
    /// Its number.
    #[schema(schema_with = openapi::number)]
    user: String,
}

/// A token for a device.
#[derive(Serialize, ToSchema)]
pub(super) struct LoggedIn {
    /// The token, a JWT.
    token: String,
    /// The user it speaks for.
    #[schema(schema_with = openapi::number)]
    user: String,
    /// The device it speaks for.
    device: u32,
    /// When it expires, Unix time in seconds.
    expires_at_s: u64,
}

/// Makes an account.
#[utoipa::path(post, path = "/v1/users", tag = "accounts",
    request_body(content = NewUser, example = json!({ "user": "1001", "password": "correct horse" })),
    responses(
        (status = 201, description = "The account", body = Created),
        (status = 400, response = Refusal),
        (status = 409, response = Refusal),
        (status = 429, response = Refusal),
        (status = 503, response = Refusal)))]
pub(super) async fn sign_up(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    JsonBody(NewUser { user, password }): JsonBody<NewUser>,
) -> Result<(StatusCode, Json<Created>), Refusal> {
    let accounts = shared.accounts()?;
    let user = body::user(&user)?;
    let password = body::password(password)?;
    check_length(&password)?;
    shared.throttle.address(peer.ip())?;
    let reader = Arc::clone(&accounts);
    let hash = shared.passwords.run(move |passwords| match reader.password_hash(user) {
        // Asked before hashing: that a number is taken is no secret here, and a hash is dear.
        Ok(Some(_)) => Err(taken()),
        Ok(None) => passwords.hash(&password),
        Err(AccountsUnavailable) => Err(store_unavailable()),
    });
    match accounts.create(user, hash.await?).await {
        AccountOutcome::Created => Ok((StatusCode::CREATED, Json(Created { user: user.to_string() }))),
        AccountOutcome::Exists => Err(taken()),
        AccountOutcome::Unavailable => Err(store_unavailable()),
    }
}

/// Gives a token for a device of the user.
///
/// An unknown number and a wrong password get the same answer after the same work.
#[utoipa::path(post, path = "/v1/login", tag = "accounts",
    request_body(content = Login, example = json!({ "user": "1001", "password": "correct horse", "device": 1 })),
    responses(
        (status = 200, description = "The token", body = LoggedIn),
        (status = 400, response = Refusal),
        (status = 401, response = Refusal),
        (status = 429, response = Refusal),
        (status = 503, response = Refusal)))]
pub(super) async fn log_in(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    JsonBody(Login { user, password, device }): JsonBody<Login>,
) -> Result<Json<LoggedIn>, Refusal> {
    let accounts = shared.accounts()?;
    let user = body::user(&user)?;
    let password = body::password(password)?;
    let device = body::device(&device)?;
    shared.throttle.address(peer.ip())?;
    shared.throttle.user(user)?;
    let fits = shared.passwords.run(move |passwords| {
        let hash = accounts.password_hash(user).map_err(|AccountsUnavailable| store_unavailable())?;
        Ok(passwords.verify(&password, hash.as_deref()))
    });
    if !fits.await? {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "The number or the password is wrong."));
    }
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let token = shared.keys.issue(user, device, now_s, shared.config.token_ttl_s);
    let expires_at_s = now_s.saturating_add(shared.config.token_ttl_s);
    Ok(Json(LoggedIn { token, user: user.to_string(), device, expires_at_s }))
}

fn check_length(password: &str) -> Result<(), Refusal> {
    if (PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Ok(());
    }
    Err(Refusal::bad_request(format!(
        "The password must be {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes long."
    )))
}

fn taken() -> Refusal {
    Refusal::new(
        StatusCode::CONFLICT,
        "This number has an account already; sign in, or choose another number.",
    )
}

fn store_unavailable() -> Refusal {
    Refusal::unavailable("The accounts cannot be reached now; nothing was changed, try again.")
}
