//! Where the page finds the gateway's WebSocket, which listens on a port of its own.

use std::net::SocketAddr;

use axum::http::uri::Authority;

/// Where the page finds the gateway's WebSocket.
#[derive(Debug, Clone)]
pub enum WebSocketAddress {
    /// The address the gateway is bound to. Behind 0.0.0.0 or ::, the page takes the host name it was itself called by.
    Bound(SocketAddr),
    /// A URL such as `wss://chat.example.org/v1/ws`, for gateways behind a proxy.
    Public(String),
}

impl WebSocketAddress {
    /// The URL for a page that was asked for with this `Host` header.
    pub(super) fn url(&self, host: Option<&str>) -> String {
        match self {
            Self::Public(url) => url.clone(),
            Self::Bound(address) if !address.ip().is_unspecified() => format!("ws://{address}/v1/ws"),
            Self::Bound(address) => {
                let name = host.and_then(host_name).unwrap_or_else(|| "localhost".to_owned());
                format!("ws://{name}:{}/v1/ws", address.port())
            }
        }
    }

    /// The source a `connect-src` needs for that URL. CSP has no notation for IPv6 literals (CSP level 3, section 2.3.1): their pages
    /// may connect anywhere by WebSocket.
    pub(super) fn csp_source(&self, host: Option<&str>) -> String {
        let url = self.url(host);
        let origin = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        let plain = origin.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:/".contains(&byte));
        if plain { origin } else { "ws: wss:".to_owned() }
    }
}

/// The host of a `Host` header, without its port, if it is a name or an address: it goes into a header and a URL.
fn host_name(header: &str) -> Option<String> {
    let authority: Authority = header.parse().ok()?;
    let host = authority.host();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-[]:".contains(&byte);
    let valid = !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed) && !header.contains('@');
    valid.then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(address: &str) -> WebSocketAddress {
        WebSocketAddress::Bound(address.parse().expect("an address"))
    }

    #[test]
    fn a_bound_address_is_named_as_it_is() {
        let address = bound("127.0.0.1:9000");
        assert_eq!(address.url(Some("localhost:9080")), "ws://127.0.0.1:9000/v1/ws");
        assert_eq!(address.csp_source(None), "ws://127.0.0.1:9000");
        assert_eq!(bound("[::1]:9000").url(None), "ws://[::1]:9000/v1/ws");
        assert_eq!(bound("[::1]:9000").csp_source(None), "ws: wss:");
    }

    #[test]
    fn behind_any_address_the_page_stays_with_its_host() {
        for any in ["0.0.0.0:9000", "[::]:9000"] {
            assert_eq!(bound(any).url(Some("chat.example.org:9080")), "ws://chat.example.org:9000/v1/ws");
            assert_eq!(bound(any).url(Some("[2001:db8::1]:9080")), "ws://[2001:db8::1]:9000/v1/ws");
            assert_eq!(bound(any).url(None), "ws://localhost:9000/v1/ws");
        }
    }

    #[test]
    fn a_forged_host_reaches_no_header() {
        for host in ["a b", "a;script-src *", "user@evil", "a/b", "'self'", "", &"a".repeat(300), "a\"b", "*"]
        {
            assert_eq!(bound("0.0.0.0:9000").csp_source(Some(host)), "ws://localhost:9000", "{host:?}");
        }
    }

    #[test]
    fn a_public_url_wins() {
        let address = WebSocketAddress::Public("wss://chat.example.org/v1/ws".to_owned());
        assert_eq!(address.url(Some("other")), "wss://chat.example.org/v1/ws");
        assert_eq!(address.csp_source(Some("other")), "wss://chat.example.org");
    }
}
