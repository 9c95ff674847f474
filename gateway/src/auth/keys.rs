//! Verifying and issuing tokens: JWTs (RFC 7519) with the algorithm pinned to the key's type.

use std::path::Path;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::Value;

use super::error::{KeyError, TokenError};
use super::limits::{CLOCK_SKEW_S_MAX, KEYS_MAX, RSA_MODULUS_BYTES_MIN, TOKEN_BYTES_MAX};
use super::number::{device_number, user_number};
use super::secret;
use crate::conn::Identity;

/// The keys of one gateway. Cheap to clone, and `verify` takes no lock: shards share one.
#[derive(Clone)]
pub struct Keys {
    inner: Arc<Inner>,
}

struct Inner {
    signing: EncodingKey,
    trusted: Vec<TrustedKey>,
}

/// A key and the one algorithm it is used with, whatever a token's header says.
struct TrustedKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    validation: Validation,
}

impl Keys {
    /// Reads `<data>/secret` (made where it is not there) and `jwt_key_file`: one Ed25519 or RSA public key as PEM
    /// (RFC 7468), or a JWKS (RFC 7517 section 5). Tokens of both the gateway and that issuer are taken then.
    ///
    /// # Errors
    /// A file cannot be read or used; the message says which and what to do.
    pub fn load(data: &Path, jwt_key_file: Option<&Path>) -> Result<Self, KeyError> {
        let secret = secret::signing_key(data)?;
        let mut trusted = vec![TrustedKey::new(None, Algorithm::HS256, DecodingKey::from_secret(&secret))];
        if let Some(path) = jwt_key_file {
            let (bytes, _) = secret::read_bounded(path)?;
            let keys = read_key_file(&bytes)
                .map_err(|reason| KeyError::Unusable { path: path.to_owned(), reason })?;
            trusted.extend(keys);
        }
        Ok(Self { inner: Arc::new(Inner { signing: EncodingKey::from_secret(&secret), trusted }) })
    }

    /// Whom the token speaks for, at `now_s` (Unix time, seconds).
    ///
    /// # Errors
    /// The token is refused; see [`TokenError::reason`].
    pub fn verify(&self, token: &str, now_s: u64) -> Result<Identity, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let claims = self.signed_claims(token)?;
        identity(&claims, now_s)
    }

    /// A token for `user` on `device`, signed with the gateway's secret, valid from `now_s` (Unix time, seconds) for `ttl_s`
    /// seconds.
    pub fn issue(&self, user: u64, device: u32, now_s: u64, ttl_s: u64) -> String {
        let claims = serde_json::json!({
            "sub": user.to_string(),
            "dev": device,
            "iat": now_s,
            "exp": now_s.saturating_add(ttl_s),
        });
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.inner.signing)
            .expect("HMAC takes a key of any length, and these claims are JSON")
    }

    /// The claims, once one of the keys of the header's algorithm (and `kid`, where both name one) fits the signature.
    fn signed_claims(&self, token: &str) -> Result<Value, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| match error.kind() {
            // serde refuses names of algorithms it does not know, "none" among them.
            ErrorKind::Json(error) if error.is_data() => TokenError::Algorithm,
            _ => TokenError::Malformed,
        })?;
        // RFC 7515 section 4.1.11: what one does not understand there changes what the token means.
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let mut verdict = TokenError::Algorithm;
        for trusted in self.inner.trusted.iter().filter(|trusted| trusted.fits(&header)) {
            match jsonwebtoken::decode::<Value>(token, &trusted.key, &trusted.validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => verdict = refusal(error.kind()),
            }
            if verdict != TokenError::BadSignature {
                break;
            }
        }
        Err(verdict)
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("trusted", &self.inner.trusted.len()).finish_non_exhaustive()
    }
}

impl TrustedKey {
    fn new(id: Option<String>, algorithm: Algorithm, key: DecodingKey) -> Self {
        let mut validation = Validation::new(algorithm);
        // Times are checked in `identity`, against the caller's clock. An `aud` claim is refused by the library's
        // default, as RFC 7519 section 4.1.3 asks of a reader that is no audience.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        Self { id, algorithm, key, validation }
    }

    fn fits(&self, header: &Header) -> bool {
        let id_fits = match (&self.id, &header.kid) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        id_fits && self.algorithm == header.alg
    }
}

fn refusal(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::BadSignature,
        ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        ErrorKind::InvalidAudience => TokenError::Audience,
        _ => TokenError::Malformed,
    }
}

/// Reads the claims of a token whose signature fits.
fn identity(claims: &Value, now_s: u64) -> Result<Identity, TokenError> {
    let expiry_s = numeric_date(&claims["exp"]).ok_or(TokenError::NoExpiry)?;
    if now_s >= expiry_s {
        return Err(TokenError::Expired);
    }
    match &claims["nbf"] {
        Value::Null => {}
        date => match numeric_date(date) {
            Some(from_s) if from_s <= now_s.saturating_add(CLOCK_SKEW_S_MAX) => {}
            _ => return Err(TokenError::NotYetValid),
        },
    }
    let user = claims["sub"].as_str().and_then(user_number).ok_or(TokenError::BadSubject)?;
    let device = match &claims["dev"] {
        Value::Null => 1,
        device => device.as_u64().and_then(device_number).ok_or(TokenError::BadDevice)?,
    };
    Ok(Identity { user, device })
}

/// A `NumericDate` (RFC 7519 section 2) in whole seconds; fractions are cut off.
fn numeric_date(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|&date| date >= 0.0).map(|date| date as u64))
}

fn read_key_file(bytes: &[u8]) -> Result<Vec<TrustedKey>, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    if text.contains("PRIVATE KEY") {
        return Err("it holds a private key, and the gateway only needs the public one");
    }
    if text.contains("-----BEGIN ") {
        return Ok(vec![read_pem(bytes)?]);
    }
    let set: JwkSet = serde_json::from_str(text).map_err(|_| "it is neither PEM nor a JWKS")?;
    let keys: Vec<_> = set.keys.iter().filter_map(read_jwk).collect();
    match keys.len() {
        0 => Err("its JWKS has no signing key for EdDSA (Ed25519) or RS256 (2048 bits or more)"),
        1..=KEYS_MAX => Ok(keys),
        _ => Err("its JWKS has too many keys"),
    }
}

fn read_pem(pem: &[u8]) -> Result<TrustedKey, &'static str> {
    if let Ok(key) = DecodingKey::from_ed_pem(pem) {
        // The library slices 32 bytes out of the key when it verifies.
        let usable = key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == 32);
        return if usable {
            Ok(TrustedKey::new(None, Algorithm::EdDSA, key))
        } else {
            Err("its Ed25519 key is not 32 bytes")
        };
    }
    let key = DecodingKey::from_rsa_pem(pem).map_err(|_| "its PEM is no Ed25519 or RSA public key")?;
    // A PKCS #1 RSAPublicKey is the modulus and a few bytes of framing and exponent.
    if key.try_get_as_bytes().map_or(0, <[u8]>::len) < RSA_MODULUS_BYTES_MIN {
        return Err("its RSA key is shorter than 2048 bits");
    }
    Ok(TrustedKey::new(None, Algorithm::RS256, key))
}

/// `None` for keys that verify no signature here: RFC 7517 section 5 has readers pass over those. Symmetric keys are among
/// them, because a secret in a file of public keys is none.
fn read_jwk(jwk: &Jwk) -> Option<TrustedKey> {
    if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let algorithm = match &jwk.algorithm {
        // The library slices 32 bytes out of the key when it verifies.
        AlgorithmParameters::OctetKeyPair(pair)
            if pair.curve == EllipticCurve::Ed25519 && key.try_get_as_bytes().ok()?.len() == 32 =>
        {
            Algorithm::EdDSA
        }
        // The modulus is base64: four characters for three bytes.
        AlgorithmParameters::RSA(rsa) if rsa.n.len() * 3 / 4 >= RSA_MODULUS_BYTES_MIN => Algorithm::RS256,
        _ => return None,
    };
    let named_otherwise =
        jwk.common.key_algorithm.is_some_and(|named| named.to_string() != format!("{algorithm:?}"));
    (!named_otherwise).then(|| TrustedKey::new(jwk.common.key_id.clone(), algorithm, key))
}

#[cfg(test)]
#[path = "keys_test.rs"]
mod tests;
