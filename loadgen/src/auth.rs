//! Who a client says it is: a JWT of its own, a number in the query, or nothing.

use crate::options::Auth;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a minted token is valid: longer than any run that one looks at.
const TOKEN_LIFETIME: Duration = Duration::from_hours(8 * 24);

/// The device number of every simulated client.
pub const DEVICE: u32 = 1;

/// How clients prove who they are.
#[derive(Clone)]
pub enum Credentials {
    /// Nothing is said (any WebSocket server).
    Anonymous,
    /// `?user=42&device=1`, for a gateway started with `--auth none`.
    Query,
    /// `Authorization: Bearer` with a token signed by this key (HS256).
    Token(EncodingKey),
}

#[derive(Serialize)]
struct Claims {
    sub: String,
    dev: u32,
    exp: u64,
}

impl Credentials {
    /// Reads the secret: the key is the file's bytes without the trailing newline.
    ///
    /// # Errors
    /// One line for the user where the file cannot be read or is empty.
    pub fn load(secret_file: Option<&Path>, auth: Option<Auth>) -> Result<Self, String> {
        let Some(path) = secret_file else {
            return Ok(if auth.is_some() { Self::Query } else { Self::Anonymous });
        };
        let bytes = std::fs::read(path)
            .map_err(|error| format!("cannot read --secret-file {}: {error}", path.display()))?;
        let key = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if key.is_empty() {
            return Err(format!("--secret-file {} is empty", path.display()));
        }
        Ok(Self::Token(EncodingKey::from_secret(key)))
    }

    /// Whether the server will know a user behind each connection, and speak roost.v1 to it.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Anonymous)
    }

    /// The bearer token for this user, where one is used.
    ///
    /// # Errors
    /// Where signing fails.
    pub fn token(&self, user: u64) -> Result<Option<String>, String> {
        let Self::Token(key) = self else { return Ok(None) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = Claims { sub: user.to_string(), dev: DEVICE, exp: (now + TOKEN_LIFETIME).as_secs() };
        encode(&Header::default(), &claims, key)
            .map(Some)
            .map_err(|error| format!("cannot sign a token: {error}"))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Query => "Query",
            Self::Token(_) => "Token(..)",
        })
    }
}
