//! Sizes of what authentication reads. Owner: `auth`.

/// Longest token looked at, in bytes: an RS512-sized signature of a 4,096-bit key is 683 characters, claims and header
/// of common issuers stay under 2 KiB. A longer one is refused unread.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Longest secret or key file read, in bytes. A larger one is refused at start.
pub const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Keys taken from a JWKS file; more are refused at start, because a token without a `kid` tries each.
pub const KEYS_MAX: usize = 16;

/// Shortest HS256 key, in bytes (RFC 7518 section 3.2: at least the size of the hash).
pub const SECRET_BYTES_MIN: usize = 32;

/// Shortest RSA modulus, in bytes (RFC 7518 section 3.3: 2,048 bits).
pub const RSA_MODULUS_BYTES_MIN: usize = 256;

/// How far an issuer's clock may run ahead of ours, in seconds: applied to `nbf` only, an expired token is expired.
/// Further: the token is not valid yet.
pub const CLOCK_SKEW_S_MAX: u64 = 30;

/// Largest user number a token may name (`roost.proto`: 1 to 2^63-1). Larger: the token is refused.
pub const USER_MAX: u64 = i64::MAX as u64;

/// Largest device number a token may name (`roost.proto`: 1 to 2^31-1). Larger: the token is refused.
pub const DEVICE_MAX: u32 = i32::MAX as u32;

const _: () = assert!(TOKEN_BYTES_MAX > 683 + 2048, "a token signed with a 4,096-bit RSA key fits");
