//! The answers other than 101.

/// Why there is no upgrade. Each is an HTTP answer whose text body says why, after which the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: the request is malformed.
    BadRequest(&'static str),
    /// 401: there is no valid token.
    Unauthorized(&'static str),
    /// 404: nothing is served at this path.
    NotFound,
    /// 405: the method is not GET.
    MethodNotAllowed,
    /// 426: not a WebSocket upgrade, or not of version 13 (RFC 6455 section 4.2.2).
    UpgradeRequired,
    /// 431: more than [`HEADER_BYTES_MAX`](super::HEADER_BYTES_MAX) or [`HEADER_COUNT_MAX`](super::HEADER_COUNT_MAX).
    HeadersTooLarge,
    /// 503: the gateway is full or draining.
    Unavailable {
        /// When to come back, seconds (`Retry-After`).
        retry_after_s: u32,
    },
}

impl Refusal {
    /// The HTTP status code.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized(_) => 401,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::UpgradeRequired => 426,
            Self::HeadersTooLarge => 431,
            Self::Unavailable { .. } => 503,
        }
    }

    /// What the body says, without its newline.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(reason) | Self::Unauthorized(reason) => reason,
            Self::NotFound => "nothing is served at this path",
            Self::MethodNotAllowed => "a WebSocket is opened with GET",
            Self::UpgradeRequired => {
                "this address speaks WebSocket: send Upgrade: websocket and Sec-WebSocket-Version: 13"
            }
            Self::HeadersTooLarge => "the request has more than 8192 bytes or 64 header lines",
            Self::Unavailable { .. } => "no room for another connection now: try again later",
        }
    }

    /// Appends the whole HTTP/1.1 response to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let phrase = match self {
            Self::BadRequest(_) => "Bad Request",
            Self::Unauthorized(_) => "Unauthorized",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::UpgradeRequired => "Upgrade Required",
            Self::HeadersTooLarge => "Request Header Fields Too Large",
            Self::Unavailable { .. } => "Service Unavailable",
        };
        let headers = match self {
            Self::Unauthorized(_) => "WWW-Authenticate: Bearer\r\n".to_owned(),
            Self::MethodNotAllowed => "Allow: GET\r\n".to_owned(),
            // Whoever sends Upgrade names it in Connection (RFC 9110 section 7.8).
            Self::UpgradeRequired => {
                "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".to_owned()
            }
            Self::Unavailable { retry_after_s } => format!("Retry-After: {retry_after_s}\r\n"),
            Self::BadRequest(_) | Self::NotFound | Self::HeadersTooLarge => String::new(),
        };
        let (status, reason) = (self.status(), self.reason());
        let response = format!(
            "HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n{headers}\r\n{reason}\n",
            reason.len() + 1
        );
        out.extend_from_slice(response.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal;
    use crate::limits::{HEADER_BYTES_MAX, HEADER_COUNT_MAX};

    #[test]
    fn every_refusal_is_one_whole_response() {
        for (refusal, status, header) in [
            (Refusal::BadRequest("no key"), 400, None),
            (Refusal::Unauthorized("no token"), 401, Some("WWW-Authenticate: Bearer")),
            (Refusal::NotFound, 404, None),
            (Refusal::MethodNotAllowed, 405, Some("Allow: GET")),
            (Refusal::UpgradeRequired, 426, Some("Sec-WebSocket-Version: 13")),
            (Refusal::HeadersTooLarge, 431, None),
            (Refusal::Unavailable { retry_after_s: 7 }, 503, Some("Retry-After: 7")),
        ] {
            let mut out = Vec::new();
            refusal.write(&mut out);
            let text = String::from_utf8(out).expect("ASCII");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
            let lines: Vec<&str> = head.split("\r\n").collect();
            assert!(lines[0].starts_with(&format!("HTTP/1.1 {status} ")), "{}", lines[0]);
            assert!(lines.contains(&"Connection: close"));
            assert!(lines.contains(&format!("Content-Length: {}", body.len()).as_str()));
            assert_eq!(body, format!("{}\n", refusal.reason()));
            assert!(header.is_none_or(|header| lines.contains(&header)), "{head}");
        }
    }

    #[test]
    fn the_body_of_431_names_the_limits() {
        let reason = Refusal::HeadersTooLarge.reason();
        assert!(
            reason.contains(&HEADER_BYTES_MAX.to_string()) && reason.contains(&HEADER_COUNT_MAX.to_string())
        );
    }
}
