//! Who a client says it is: a JWT of its own, a number in the query, or nothing.

use crate::limits::SECRET_LOOK_EVERY;
use crate::options::Auth;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde::Serialize;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
    /// Reads the secret: the key is the file's bytes without the trailing newline. A file that is not there yet is waited
    /// for, at most for `longest`: the gateway makes it when it starts for the first time. `waiting` is called once then.
    ///
    /// # Errors
    /// One line for the user where the file cannot be read or is empty.
    pub fn load(
        secret_file: Option<&Path>,
        auth: Option<Auth>,
        longest: Duration,
        waiting: impl FnOnce(&Path),
    ) -> Result<Self, String> {
        let Some(path) = secret_file else {
            return Ok(if auth.is_some() { Self::Query } else { Self::Anonymous });
        };
        let bytes = read_when_there(path, longest, waiting).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!(
                "--secret-file {} is not there, and has not come within {} s (--ready-s); it is <data>/secret of a \
                 gateway that has been started",
                path.display(),
                longest.as_secs()
            ),
            _ => format!("cannot read --secret-file {}: {error}", path.display()),
        })?;
        let key = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if key.is_empty() {
            return Err(format!("--secret-file {} is empty", path.display()));
        }
        Ok(Self::with_key(key))
    }

    /// Tokens signed by this key.
    pub fn with_key(key: &[u8]) -> Self {
        Self::Token(EncodingKey::from_secret(key))
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

fn read_when_there(path: &Path, longest: Duration, waiting: impl FnOnce(&Path)) -> io::Result<Vec<u8>> {
    let end = Instant::now() + longest;
    let mut waiting = Some(waiting);
    loop {
        match std::fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && Instant::now() < end => {
                if let Some(tell) = waiting.take() {
                    tell(path);
                }
                std::thread::sleep(SECRET_LOOK_EVERY);
            }
            done => return done,
        }
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
