//! Where the page finds the gateway's WebSocket, which listens on a port of its own.

use std::net::SocketAddr;

use axum::http::Uri;
use axum::http::uri::Authority;

use super::limits::PUBLIC_URL_BYTES_MAX;

/// Where the page finds the gateway's WebSocket.
#[derive(Debug, Clone)]
pub enum WebSocketAddress {
    /// The address the gateway is bound to. Behind 0.0.0.0 or ::, the page takes the host name it was itself called by.
    Bound(SocketAddr),
    /// A URL such as `wss://chat.example.org/v1/ws`, for gateways behind a proxy; see [`WebSocketAddress::public`].
    Public(String),
}

impl WebSocketAddress {
    /// The address behind which a proxy reaches the gateway, such as `wss://chat.example.org/v1/ws`.
    ///
    /// # Errors
    /// A line for the operator where the text is no `ws://` or `wss://` URL, or has a user, a query or a fragment: the page adds
    /// a query of its own, and tells everybody the rest.
    pub fn public(text: &str) -> Result<Self, String> {
        let refused =
            |why: &str| Err(format!("{text:?} {why}; give a URL such as wss://chat.example.org/v1/ws"));
        if text.len() > PUBLIC_URL_BYTES_MAX {
            return Err(format!("the URL is longer than {PUBLIC_URL_BYTES_MAX} bytes"));
        }
        if !["ws://", "wss://"].iter().any(|scheme| starts_with_ignoring_case(text, scheme)) {
            return refused("does not begin with ws:// or wss://");
        }
        if text.contains('#') {
            return refused("has a fragment (#), which a WebSocket URL must not have (RFC 6455 section 3)");
        }
        let Ok(uri) = text.parse::<Uri>() else { return refused("is no URL") };
        let (Some(authority), path) = (uri.authority(), uri.path()) else { return refused("names no host") };
        if authority.as_str().contains('@') {
            return refused("names a user, and everybody would learn that");
        }
        if authority.host().is_empty() || host_name(authority.as_str()).is_none() {
            return refused("names no host");
        }
        if authority.as_str().len() > authority.host().len()
            && authority.port_u16().is_none_or(|port| port == 0)
        {
            return refused("has no valid port behind its host");
        }
        if uri.query().is_some() {
            return refused("has a query (?), where the page puts its token");
        }
        if path == "/" {
            return refused(
                "has no path: the gateway's sessions are at /v1/ws unless the proxy says otherwise",
            );
        }
        Ok(Self::Public(text.to_owned()))
    }

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

fn starts_with_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
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
        let address = WebSocketAddress::public("wss://chat.example.org/v1/ws").expect("a URL");
        assert_eq!(address.url(Some("other")), "wss://chat.example.org/v1/ws");
        assert_eq!(address.csp_source(Some("other")), "wss://chat.example.org");
    }

    #[test]
    fn public_urls_are_checked() {
        for url in
            ["ws://10.0.0.1:8443/v1/ws", "wss://[2001:db8::1]:443/chat/v1/ws", "WSS://chat.example.org/v1/ws"]
        {
            assert_eq!(WebSocketAddress::public(url).expect("a URL").url(None), url);
        }
        let long = format!("wss://chat.example.org/{}", "a".repeat(PUBLIC_URL_BYTES_MAX));
        for (url, reason) in [
            ("", "does not begin with ws://"),
            ("wss://chat example/v1/ws", "is no URL"),
            ("chat.example.org", "does not begin with ws://"),
            ("chat.example.org/v1/ws", "does not begin with ws://"),
            ("https://chat.example.org/v1/ws", "does not begin with ws://"),
            ("/v1/ws", "does not begin with ws://"),
            ("wss:///v1/ws", "is no URL"),
            ("wss://:443/v1/ws", "host"),
            ("wss://chat.example.org:0/v1/ws", "port"),
            ("wss://chat.example.org:99999/v1/ws", "port"),
            ("wss://me@chat.example.org/v1/ws", "names a user"),
            ("wss://chat.example.org/v1/ws?x=1", "has a query"),
            ("wss://chat.example.org/v1/ws#x", "has a fragment"),
            ("wss://chat.example.org", "has no path"),
            (&long, "longer than"),
        ] {
            let error = WebSocketAddress::public(url).expect_err(url);
            assert!(error.contains(reason), "{error}");
        }
    }
}
