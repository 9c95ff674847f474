//! What can be wrong with a token, told to the peer, and with a key file, told to the operator.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::limits::{KEY_FILE_BYTES_MAX, KEYS_MAX, SECRET_BYTES_MIN};

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// There is none.
    Missing,
    /// Longer than `limits::TOKEN_BYTES_MAX`.
    TooLong,
    /// Not a JWT in compact form (RFC 7519), or its claims are not JSON.
    Malformed,
    /// Its algorithm is none of those this gateway has a key for.
    Algorithm,
    /// Its header has a `crit`, and this gateway knows no extension that must be understood.
    Critical,
    /// Signed with another key, or altered.
    BadSignature,
    /// It has no `exp`, or one that is no number of seconds.
    NoExpiry,
    /// `exp` has passed.
    Expired,
    /// `nbf` lies in the future.
    NotYetValid,
    /// It names an audience, and this gateway is none.
    Audience,
    /// `sub` is no user number.
    BadSubject,
    /// `dev` is no device number.
    BadDevice,
}

/// A word for each [`TokenError`], in its order, for the metrics.
pub const TOKEN_ERRORS: [&str; 12] = [
    "missing",
    "too_long",
    "malformed",
    "algorithm",
    "critical",
    "bad_signature",
    "no_expiry",
    "expired",
    "not_yet_valid",
    "audience",
    "bad_subject",
    "bad_device",
];

const _: () = assert!(TokenError::BadDevice as usize + 1 == TOKEN_ERRORS.len(), "a word for each");

impl TokenError {
    /// A sentence for the body of the 401. It says what to do and never repeats the token.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => {
                "A token is needed: send it as \"Authorization: Bearer\" or as the query parameter access_token."
            }
            Self::TooLong => "The token is longer than 4096 bytes.",
            Self::Malformed => "The token is not a JWT in compact form (RFC 7519).",
            Self::Algorithm => "The token's algorithm is not one this gateway has a key for.",
            Self::Critical => "The token's header asks for extensions (\"crit\") this gateway does not know.",
            Self::BadSignature => "The token's signature does not fit; sign in again.",
            Self::NoExpiry => "The token has no \"exp\" claim in seconds.",
            Self::Expired => "The token has expired; sign in again.",
            Self::NotYetValid => "The token is not valid yet; check the issuer's clock.",
            Self::Audience => "The token is meant for another audience.",
            Self::BadSubject => {
                "The token's \"sub\" must be a user number in decimal, 1 to 9223372036854775807."
            }
            Self::BadDevice => "The token's \"dev\" must be a device number, 1 to 2147483647.",
        }
    }
}

impl std::fmt::Display for TokenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for TokenError {}

/// Why the gateway cannot start with the keys it was given. Names the file, never its contents.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The secret could not be made.
    #[error("cannot create the secret {path}: {cause}; {}", create_advice(cause))]
    Create {
        /// The secret file.
        path: PathBuf,
        /// What the system said. No `source`: the message tells it, and a chain of causes would repeat it.
        cause: io::Error,
    },
    /// A file is there and cannot be read.
    #[error("cannot read {path}: {cause}; {}", read_advice(cause))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said, as in `Create`.
        cause: io::Error,
    },
    /// Others than its owner may read or write the secret.
    #[error("{path} is open to others (mode {mode:04o}); run: chmod 600 {path}")]
    Exposed {
        /// The secret file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The secret is empty or too short to be one.
    #[error(
        "{path} holds {bytes} bytes where at least {SECRET_BYTES_MIN} are needed; remove it to have a new one \
         made (tokens signed with the old one end), or restore it from a backup"
    )]
    Short {
        /// The secret file.
        path: PathBuf,
        /// Its length without the trailing newline.
        bytes: usize,
    },
    /// The file cannot be a key file.
    #[error("{path} is larger than {KEY_FILE_BYTES_MAX} bytes; is it the right file?")]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// The file is no key this gateway can use.
    #[error(
        "{path}: {reason}; give an Ed25519 or RSA public key in PEM form, or a JWKS with at most {KEYS_MAX} such keys"
    )]
    Unusable {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

fn create_advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::PermissionDenied => "make the data directory writable for the user the gateway runs as",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "something that is no directory stands in its way; name another data directory"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on its disk",
        _ => "name a data directory on a disk that can be written to",
    }
}

fn read_advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "name a file that is there",
        ErrorKind::IsADirectory => "name a file, not a directory",
        ErrorKind::PermissionDenied => "make it readable for the user the gateway runs as",
        _ => "check its disk, or bring it back from a backup",
    }
}
