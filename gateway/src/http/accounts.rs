//! `POST /v1/users` and `POST /v1/login`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::body::{self, JsonBody};
use super::limits::{PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN};
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
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct NewUser {
    user: Value,
    password: Value,
}

/// As [`NewUser`].
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Login {
    user: Value,
    password: Value,
    device: Value,
}

/// `POST /v1/users {"user","password"}` -> 201 | 400 | 409 | 429 | 503.
pub(super) async fn sign_up(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    JsonBody(NewUser { user, password }): JsonBody<NewUser>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
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
        AccountOutcome::Created => Ok((StatusCode::CREATED, Json(json!({ "user": user.to_string() })))),
        AccountOutcome::Exists => Err(taken()),
        AccountOutcome::Unavailable => Err(store_unavailable()),
    }
}

/// `POST /v1/login {"user","password","device"}` -> 200 `{"token"}` | 400 | 401 | 429 | 503. An unknown number and a wrong
/// password get the same answer after the same work.
pub(super) async fn log_in(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    JsonBody(Login { user, password, device }): JsonBody<Login>,
) -> Result<Json<Value>, Refusal> {
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
    Ok(Json(
        json!({ "token": token, "user": user.to_string(), "device": device, "expires_at_s": expires_at_s }),
    ))
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
