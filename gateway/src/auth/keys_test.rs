use std::fs;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW_S: u64 = 1_795_000_000;
const ED_PRIVATE: &[u8] = include_bytes!("testdata/ed25519.pem");
const ED_PUBLIC: &str = include_str!("testdata/ed25519.pub.pem");
const RSA_PRIVATE: &[u8] = include_bytes!("testdata/rsa.pem");
const RSA_PUBLIC: &str = include_str!("testdata/rsa.pub.pem");

struct Fixture {
    keys: Keys,
    data: tempfile::TempDir,
}

/// Keys with a fresh secret and, where given, a key file of these contents.
fn try_load(key_file: Option<&str>) -> Result<Fixture, KeyError> {
    let data = tempfile::tempdir().expect("a temporary directory");
    let path = key_file.map(|contents| {
        let path = data.path().join("issuer");
        fs::write(&path, contents).expect("written");
        path
    });
    Keys::load(data.path(), path.as_deref()).map(|keys| Fixture { keys, data })
}

fn load(key_file: Option<&str>) -> Fixture {
    try_load(key_file).expect("usable keys")
}

impl Fixture {
    fn secret(&self) -> EncodingKey {
        let text = fs::read_to_string(self.data.path().join("secret")).expect("the secret");
        EncodingKey::from_secret(text.trim_end().as_bytes())
    }

    fn verdict(&self, claims: &Value) -> Result<Identity, TokenError> {
        self.keys.verify(&sign(Algorithm::HS256, &self.secret(), claims), NOW_S)
    }
}

fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, key).expect("signed")
}

fn claims() -> Value {
    json!({ "sub": "42", "dev": 7, "exp": NOW_S + 60 })
}

const FORTY_TWO: Identity = Identity { user: 42, device: 7 };

#[test]
fn issued_tokens_are_taken_until_they_expire() {
    let Fixture { keys, data } = load(None);
    let token = keys.issue(i64::MAX as u64, 3, NOW_S, 60);
    let identity = Identity { user: i64::MAX as u64, device: 3 };
    assert_eq!(keys.verify(&token, NOW_S), Ok(identity));
    assert_eq!(keys.verify(&token, NOW_S + 59), Ok(identity));
    assert_eq!(keys.verify(&token, NOW_S + 60), Err(TokenError::Expired));
    let restarted = Keys::load(data.path(), None).expect("the same secret");
    assert_eq!(restarted.verify(&token, NOW_S), Ok(identity));
    assert_eq!(load(None).keys.verify(&token, NOW_S), Err(TokenError::BadSignature));
}

#[test]
fn each_claim_is_checked() {
    let fixture = load(None);
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        fixture.verdict(&claims)
    };
    assert_eq!(fixture.verdict(&claims()), Ok(FORTY_TWO));
    assert_eq!(with("dev", Value::Null), Ok(Identity { user: 42, device: 1 }));
    assert_eq!(with("iat", json!(1)), Ok(FORTY_TWO));
    assert_eq!(with("exp", json!(NOW_S as f64 + 1.5)), Ok(FORTY_TWO));
    for sub in [
        json!("0"),
        json!("042"),
        json!("+42"),
        json!(" 42"),
        json!("9223372036854775808"),
        json!(42),
        Value::Null,
    ] {
        assert_eq!(with("sub", sub.clone()), Err(TokenError::BadSubject), "{sub}");
    }
    for device in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!("1"),
        json!(2_147_483_648_u64),
        json!(4_294_967_297_u64),
        json!([]),
    ] {
        assert_eq!(with("dev", device.clone()), Err(TokenError::BadDevice), "{device}");
    }
    for expiry in [Value::Null, json!("soon"), json!(-1), json!({})] {
        assert_eq!(with("exp", expiry.clone()), Err(TokenError::NoExpiry), "{expiry}");
    }
    assert_eq!(with("exp", json!(NOW_S)), Err(TokenError::Expired));
    assert_eq!(with("nbf", json!(NOW_S + CLOCK_SKEW_S_MAX)), Ok(FORTY_TWO));
    assert_eq!(with("nbf", json!(NOW_S + CLOCK_SKEW_S_MAX + 1)), Err(TokenError::NotYetValid));
    assert_eq!(with("nbf", json!("soon")), Err(TokenError::NotYetValid));
    assert_eq!(with("aud", json!("elsewhere")), Err(TokenError::Audience));
}

#[test]
fn claims_that_are_no_object_are_refused() {
    let fixture = load(None);
    for claims in [json!([]), json!("sub"), json!(1), Value::Null] {
        assert!(fixture.verdict(&claims).is_err(), "{claims}");
    }
}

#[test]
fn ed25519_and_rsa_issuers_are_taken_beside_the_secret() {
    let ed_key = EncodingKey::from_ed_pem(ED_PRIVATE).expect("a key");
    let rsa_key = EncodingKey::from_rsa_pem(RSA_PRIVATE).expect("a key");
    let ed = load(Some(ED_PUBLIC));
    let rsa = load(Some(RSA_PUBLIC));
    let ed_token = sign(Algorithm::EdDSA, &ed_key, &claims());
    let rsa_token = sign(Algorithm::RS256, &rsa_key, &claims());
    assert_eq!(ed.keys.verify(&ed_token, NOW_S), Ok(FORTY_TWO));
    assert_eq!(rsa.keys.verify(&rsa_token, NOW_S), Ok(FORTY_TWO));
    assert_eq!(ed.verdict(&claims()), Ok(FORTY_TWO));
    assert_eq!(ed.keys.verify(&rsa_token, NOW_S), Err(TokenError::Algorithm));
    assert_eq!(rsa.keys.verify(&ed_token, NOW_S), Err(TokenError::Algorithm));
    assert_eq!(load(None).keys.verify(&ed_token, NOW_S), Err(TokenError::Algorithm));
    let rs512 = sign(Algorithm::RS512, &rsa_key, &claims());
    assert_eq!(rsa.keys.verify(&rs512, NOW_S), Err(TokenError::Algorithm));
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    for public in [ED_PUBLIC, RSA_PUBLIC] {
        let fixture = load(Some(public));
        for secret in [public.as_bytes(), public.trim_end().as_bytes()] {
            let forged = sign(Algorithm::HS256, &EncodingKey::from_secret(secret), &claims());
            assert_eq!(fixture.keys.verify(&forged, NOW_S), Err(TokenError::BadSignature));
        }
    }
}

#[test]
fn unsigned_tokens_and_other_algorithms_are_refused() {
    let fixture = load(None);
    let body = URL_SAFE_NO_PAD.encode(claims().to_string());
    for algorithm in ["none", "None", "NONE", "", "HS257"] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": algorithm, "typ": "JWT" }).to_string());
        let token = format!("{header}.{body}.");
        assert_eq!(fixture.keys.verify(&token, NOW_S), Err(TokenError::Algorithm), "{algorithm:?}");
    }
    let hs512 = sign(Algorithm::HS512, &fixture.secret(), &claims());
    assert_eq!(fixture.keys.verify(&hs512, NOW_S), Err(TokenError::Algorithm));
}

#[test]
fn extensions_that_must_be_understood_are_refused() {
    let fixture = load(None);
    let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::HS256) };
    let token = jsonwebtoken::encode(&header, &claims(), &fixture.secret()).expect("signed");
    assert_eq!(fixture.keys.verify(&token, NOW_S), Err(TokenError::Critical));
}

#[test]
fn a_jwks_is_read_by_key_id() {
    // The key of RFC 8037 appendix A.2, and our own under another id.
    let ours = jsonwebtoken::jwk::Jwk::from_encoding_key(
        &EncodingKey::from_ed_pem(ED_PRIVATE).expect("a key"),
        Algorithm::EdDSA,
    )
    .expect("a JWK");
    let mut ours = serde_json::to_value(ours).expect("JSON");
    ours["kid"] = json!("ours");
    let others = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "theirs", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    let symmetric = json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" });
    let fixture = load(Some(&json!({ "keys": [others, symmetric, ours] }).to_string()));
    let key = EncodingKey::from_ed_pem(ED_PRIVATE).expect("a key");
    let token = |kid: Option<&str>| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims(), &key).expect("signed")
    };
    assert_eq!(fixture.keys.verify(&token(Some("ours")), NOW_S), Ok(FORTY_TWO));
    assert_eq!(fixture.keys.verify(&token(None), NOW_S), Ok(FORTY_TWO));
    assert_eq!(fixture.keys.verify(&token(Some("theirs")), NOW_S), Err(TokenError::BadSignature));
    assert_eq!(fixture.keys.verify(&token(Some("unknown")), NOW_S), Err(TokenError::Algorithm));
    let with_symmetric = sign(Algorithm::HS256, &EncodingKey::from_secret(b"secret"), &claims());
    assert_eq!(fixture.keys.verify(&with_symmetric, NOW_S), Err(TokenError::BadSignature));
}

#[test]
fn unusable_key_files_are_refused_at_start() {
    let short_x = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }] }).to_string();
    let empty = json!({ "keys": [] }).to_string();
    let many = json!({ "keys": vec![json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }); KEYS_MAX + 1] }).to_string();
    let private = String::from_utf8_lossy(RSA_PRIVATE);
    for (contents, reason) in [
        ("", "neither PEM nor a JWKS"),
        (&*private, "private key"),
        (include_str!("testdata/rsa1024.pub.pem"), "shorter than 2048 bits"),
        (include_str!("testdata/ec.pub.pem"), "no Ed25519 or RSA public key"),
        (&*short_x, "no signing key"),
        (&*empty, "no signing key"),
        (&*many, "too many keys"),
    ] {
        let error = try_load(Some(contents)).err().expect(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let data = tempfile::tempdir().expect("a temporary directory");
    let error = Keys::load(data.path(), Some(&data.path().join("gone"))).expect_err("no file");
    // As the gateway prints it: with the chain of causes.
    let error = format!("{:#}", anyhow::Error::from(error));
    assert!(error.contains("cannot read") && error.contains("gone"), "{error}");
    assert_eq!(error.matches("No such file").count(), 1, "{error}");
    assert!(error.ends_with("name a file that is there"), "{error}");
}

#[test]
fn sizes_are_bounded() {
    let Fixture { keys, .. } = load(None);
    assert_eq!(keys.verify("", NOW_S), Err(TokenError::Missing));
    assert_eq!(keys.verify(&"a".repeat(TOKEN_BYTES_MAX), NOW_S), Err(TokenError::Malformed));
    assert_eq!(keys.verify(&"a".repeat(TOKEN_BYTES_MAX + 1), NOW_S), Err(TokenError::TooLong));
    assert!(TokenError::TooLong.reason().contains(&TOKEN_BYTES_MAX.to_string()));
}

proptest! {
    #[test]
    fn no_text_is_taken_for_a_token(text in "[ -~]{0,80}(\\.[ -~]{0,80}){0,3}") {
        prop_assert!(load(None).keys.verify(&text, NOW_S).is_err());
    }

    #[test]
    fn an_altered_token_is_refused(place in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]") {
        let keys = load(None).keys;
        let token = keys.issue(42, 7, NOW_S, 60);
        let place = place.index(token.len());
        let altered = format!("{}{with}{}", &token[..place], &token[place + 1..]);
        prop_assume!(altered != token);
        prop_assert!(keys.verify(&altered, NOW_S).is_err());
    }
}
