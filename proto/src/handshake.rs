//! The opening handshake from the server's side: RFC 6455 section 4.2 over HTTP/1.1 (RFC 9112).

mod refusal;
mod request;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};

pub use crate::limits::{HEADER_BYTES_MAX, HEADER_COUNT_MAX};
pub use refusal::Refusal;
pub use request::{Upgrade, parse};

/// What a server adds to the key (RFC 6455 section 1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key` (RFC 6455 section 4.2.2): 28 characters of base64.
pub fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize())
}

/// Appends the whole answer 101 to `out`, with the sub-protocol the server chose of those the client offered.
pub fn write_accept(key: &str, sub_protocol: Option<&str>, out: &mut Vec<u8>) {
    let accept = accept_key(key);
    let (name, protocol, line_end) = match sub_protocol {
        Some(protocol) => ("Sec-WebSocket-Protocol: ", protocol, "\r\n"),
        None => ("", "", ""),
    };
    for part in [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        &accept,
        "\r\n",
        name,
        protocol,
        line_end,
        "\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{accept_key, write_accept};

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn the_key_of_the_rfc_is_accepted_as_the_rfc_says() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_answer_names_the_protocol_only_where_one_was_chosen() {
        let mut out = Vec::new();
        write_accept("dGhlIHNhbXBsZSBub25jZQ==", Some("chat"), &mut out);
        assert_eq!(
            String::from_utf8(out).expect("ASCII"),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
        );
        let mut out = Vec::new();
        write_accept("dGhlIHNhbXBsZSBub25jZQ==", None, &mut out);
        assert!(out.ends_with(b"xOo=\r\n\r\n"));
    }
}
