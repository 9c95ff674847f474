//! The opening handshake of phantoms (RFC 6455 section 4.1): requests that differ only in key and token, and the check
//! of each answer.

use super::limits::{RESPONSE_BYTES_MAX, RESPONSE_HEADERS_MAX};
use super::tcp::mix;
use crate::auth::{Credentials, DEVICE};
use crate::options::{Encoding, Options};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::Write as _;
use thiserror::Error;
use tungstenite::handshake::derive_accept_key;

/// Bytes of a key in base64 (RFC 6455 section 4.1: 16 bytes).
const KEY_BYTES: usize = 24;

/// Why the handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Another status than 101.
    #[error("the server answered the upgrade with {0} {1}")]
    Status(u16, String),
    /// Sec-WebSocket-Accept does not answer our key.
    #[error("the server's Sec-WebSocket-Accept does not fit the key")]
    Accept,
    /// The answer is no switch to WebSocket, or none of HTTP.
    #[error("the server's answer to the upgrade is malformed: {0}")]
    Malformed(&'static str),
}

impl Refusal {
    /// Whether trying again will not help.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Status(status, _) => (400..500).contains(status) && *status != 429,
            Self::Accept => true,
            Self::Malformed(_) => false,
        }
    }
}

/// What all upgrade requests of a run share.
pub struct Upgrade {
    /// The request up to the user's part of the query.
    start: String,
    /// The headers that never change.
    headers: String,
    credentials: Credentials,
    sub_protocol: Option<&'static str>,
    seed: u64,
}

impl Upgrade {
    /// The requests of a run; `encoding` where chat frames are spoken.
    pub fn new(options: &Options, encoding: Option<Encoding>) -> Self {
        let target = &options.target;
        let sub_protocol = encoding.map(Encoding::sub_protocol);
        let mut headers = format!(
            "Host: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            target.authority
        );
        if let Some(name) = sub_protocol {
            headers.push_str("Sec-WebSocket-Protocol: ");
            headers.push_str(name);
            headers.push_str("\r\n");
        }
        let start = format!("GET {}", target.path);
        Self {
            start,
            headers,
            credentials: options.credentials.clone(),
            sub_protocol,
            seed: options.cli.seed,
        }
    }

    /// Appends the request of a client's `incarnation`-th connection to `out`.
    ///
    /// # Errors
    /// Where no token can be signed.
    pub fn write(&self, out: &mut Vec<u8>, client: u32, user: u64, incarnation: u16) -> Result<(), String> {
        out.extend_from_slice(self.start.as_bytes());
        if matches!(self.credentials, Credentials::Query) {
            let mark = if self.start.contains('?') { '&' } else { '?' };
            // Writing to a Vec never fails.
            let _ = write!(out, "{mark}user={user}&device={DEVICE}");
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        out.extend_from_slice(self.headers.as_bytes());
        out.extend_from_slice(b"Sec-WebSocket-Key: ");
        out.extend_from_slice(&self.key(client, incarnation));
        out.extend_from_slice(b"\r\n");
        if let Some(token) = self.credentials.token(user)? {
            out.extend_from_slice(b"Authorization: Bearer ");
            out.extend_from_slice(token.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// The key of a connection: computed, so that nothing has to be kept, and different for each.
    fn key(&self, client: u32, incarnation: u16) -> [u8; KEY_BYTES] {
        let number = u64::from(client) << 16 | u64::from(incarnation);
        let first = mix(self.seed ^ mix(number));
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&first.to_le_bytes());
        nonce[8..].copy_from_slice(&mix(first).to_le_bytes());
        let mut key = [0; KEY_BYTES];
        // 16 bytes are always 24 in base64.
        let _ = STANDARD.encode_slice(nonce, &mut key);
        key
    }

    /// Reads the server's answer to the request of that connection. `None`: it is not complete. Otherwise its length;
    /// frames may follow behind it.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn check(&self, answer: &[u8], client: u32, incarnation: u16) -> Result<Option<usize>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; RESPONSE_HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(answer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if answer.len() <= RESPONSE_BYTES_MAX => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(Refusal::Malformed("its header is too long")),
            Err(_) => return Err(Refusal::Malformed("no HTTP")),
        };
        let status = response.code.unwrap_or_default();
        if status != 101 {
            return Err(Refusal::Status(status, response.reason.unwrap_or_default().to_owned()));
        }
        let value = |name: &str| {
            let mut named = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            named.next().map(|header| header.value.trim_ascii())
        };
        if !value("Upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
            return Err(Refusal::Malformed("no Upgrade: websocket"));
        }
        let named = |value: &[u8]| {
            value.split(|&byte| byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        };
        if !value("Connection").is_some_and(named) {
            return Err(Refusal::Malformed("no Connection: Upgrade"));
        }
        let accept = derive_accept_key(&self.key(client, incarnation));
        if value("Sec-WebSocket-Accept") != Some(accept.as_bytes()) {
            return Err(Refusal::Accept);
        }
        if value("Sec-WebSocket-Protocol") != self.sub_protocol.map(str::as_bytes) {
            return Err(Refusal::Malformed("another sub-protocol than we asked for"));
        }
        if value("Sec-WebSocket-Extensions").is_some() {
            return Err(Refusal::Malformed("an extension nobody asked for"));
        }
        Ok(Some(length))
    }
}
