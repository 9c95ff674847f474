//! The client's request, RFC 6455 section 4.2.1.

use std::{borrow::Cow, mem::MaybeUninit};

use base64::{Engine, engine::general_purpose::STANDARD};
use httparse::{Header, Status};

use super::{HEADER_BYTES_MAX, HEADER_COUNT_MAX, Refusal};

/// A valid request for an upgrade, borrowed from the bytes it came in.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'a> {
    /// The path of the target, percent-encoded as it came; begins with `/`.
    pub path: &'a str,
    /// What follows the `?` of the target.
    pub query: Option<&'a str>,
    /// `Sec-WebSocket-Key`: 24 characters of base64, 16 bytes.
    pub key: &'a str,
    /// `Host`.
    pub host: &'a str,
    /// `Origin`, which browsers send.
    pub origin: Option<&'a str>,
    authorization: Option<&'a str>,
    protocols: Protocols<'a>,
}

/// Where the offered sub-protocols stand.
#[derive(Clone, Copy, Debug, Default)]
enum Protocols<'a> {
    #[default]
    None,
    /// In one header, as every client writes them.
    One(&'a str),
    /// In several; this is the request as it came, up to its empty line.
    Several(&'a [u8]),
}

impl<'a> Upgrade<'a> {
    /// The sub-protocols the client offers, in its order of preference; of one line or of several.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (one, several) = match self.protocols {
            Protocols::None => (None, &[][..]),
            Protocols::One(list) => (Some(list), &[][..]),
            Protocols::Several(head) => (None, head),
        };
        // The request line and fields in other character sets are passed over.
        let lines = several
            .split(|&byte| byte == b'\n')
            .filter_map(|line| str::from_utf8(line).ok()?.trim_end_matches('\r').split_once(':'))
            .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"))
            .map(|(_, value)| value);
        one.into_iter().chain(lines).flat_map(tokens)
    }

    /// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
    pub fn bearer(&self) -> Option<&'a str> {
        let (scheme, token) = self.authorization?.split_once(' ')?;
        let token = token.trim_matches(' ');
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    }

    /// The first parameter of that name in the query, decoded as a form (`%41` and `+`; what is not UTF-8 becomes
    /// U+FFFD).
    pub fn query_parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        form_urlencoded::parse(self.query?.as_bytes()).find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// Reads a request from the beginning of `buf`: the upgrade and the size of the request, after which frames begin.
/// `None` while the request is not complete.
///
/// # Errors
/// The [`Refusal`] to answer with: 400, 405, 426 or 431. Never 401, 404 or 503: those are the caller's to decide.
pub fn parse(buf: &[u8]) -> Result<Option<(Upgrade<'_>, usize)>, Refusal> {
    // Uninitialised: most heads fill a few of them.
    let mut headers = [const { MaybeUninit::uninit() }; HEADER_COUNT_MAX];
    let mut request = httparse::Request::new(&mut []);
    let head = &buf[..buf.len().min(HEADER_BYTES_MAX)];
    let request_bytes = match request.parse_with_uninit_headers(head, &mut headers) {
        Ok(Status::Complete(bytes)) => bytes,
        Ok(Status::Partial) if buf.len() >= HEADER_BYTES_MAX => return Err(Refusal::HeadersTooLarge),
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(malformed(error)),
    };
    let head = &buf[..request_bytes];
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Refusal::BadRequest("the request line is not complete"));
    };
    if has_bare_line_feed(head) {
        return Err(Refusal::BadRequest("every line must end with CR LF"));
    }
    if version < 1 {
        return Err(Refusal::BadRequest("the upgrade needs HTTP/1.1"));
    }
    if method != "GET" {
        return Err(Refusal::MethodNotAllowed);
    }
    let (path, query) = split_target(target)?;
    let fields = Fields::collect(request.headers, head)?;
    let host = fields.host.ok_or(Refusal::BadRequest("Host is missing"))?;
    let key = fields.check_upgrade()?;
    let Fields { origin, authorization, protocols, .. } = fields;
    let upgrade = Upgrade { path, query, key, host, origin, authorization, protocols };
    if !upgrade.protocols().all(is_token) {
        return Err(Refusal::BadRequest("Sec-WebSocket-Protocol is not a list of tokens"));
    }
    Ok(Some((upgrade, request_bytes)))
}

/// The header fields that decide, each at most once (RFC 9110 section 5.3), but for the two lists.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    origin: Option<&'a str>,
    authorization: Option<&'a str>,
    key: Option<&'a str>,
    version: Option<&'a str>,
    content_length: Option<&'a str>,
    transfer_encoding: Option<&'a str>,
    protocols: Protocols<'a>,
    /// `Upgrade` names `websocket`.
    upgrades_to_websocket: bool,
    /// `Connection` names `upgrade`.
    connection_upgrades: bool,
}

impl<'a> Fields<'a> {
    /// `head`: the request as it came.
    fn collect(headers: &[Header<'a>], head: &'a [u8]) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            let once = if is("host") {
                &mut fields.host
            } else if is("origin") {
                &mut fields.origin
            } else if is("authorization") {
                &mut fields.authorization
            } else if is("sec-websocket-key") {
                &mut fields.key
            } else if is("sec-websocket-version") {
                &mut fields.version
            } else if is("content-length") {
                &mut fields.content_length
            } else if is("transfer-encoding") {
                &mut fields.transfer_encoding
            } else {
                if is("upgrade") {
                    fields.upgrades_to_websocket |= text(header)?.any_token("websocket");
                } else if is("connection") {
                    fields.connection_upgrades |= text(header)?.any_token("upgrade");
                } else if is("sec-websocket-protocol") {
                    fields.protocols = match (fields.protocols, str::from_utf8(header.value)) {
                        // One in another character set is passed over.
                        (before, Err(_)) => before,
                        (Protocols::None, Ok(list)) => Protocols::One(list),
                        _ => Protocols::Several(head),
                    };
                }
                continue;
            };
            if once.replace(text(header)?).is_some() {
                return Err(Refusal::BadRequest("a header that may stand once stands twice"));
            }
        }
        Ok(fields)
    }

    /// Everything section 4.2.1 asks of the fields but Host; returns the key.
    fn check_upgrade(&self) -> Result<&'a str, Refusal> {
        if self.transfer_encoding.is_some() || self.content_length.is_some_and(|length| length != "0") {
            return Err(Refusal::BadRequest("an upgrade has no body"));
        }
        if !self.upgrades_to_websocket {
            return Err(Refusal::UpgradeRequired);
        }
        if !self.connection_upgrades {
            return Err(Refusal::BadRequest("Connection must name Upgrade"));
        }
        if self.version != Some("13") {
            return Err(Refusal::UpgradeRequired);
        }
        let key = self.key.ok_or(Refusal::BadRequest("Sec-WebSocket-Key is missing"))?;
        let mut nonce = [0; 18];
        match STANDARD.decode_slice(key, &mut nonce) {
            Ok(16) => Ok(key),
            _ => Err(Refusal::BadRequest("Sec-WebSocket-Key must be 16 bytes in base64")),
        }
    }
}

trait AnyToken {
    fn any_token(&self, token: &str) -> bool;
}

impl AnyToken for str {
    fn any_token(&self, token: &str) -> bool {
        tokens(self).any(|found| found.eq_ignore_ascii_case(token))
    }
}

/// The elements of a list header, empty ones left out (RFC 9110 section 5.6.1).
fn tokens(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|element| element.trim_matches([' ', '\t'])).filter(|element| !element.is_empty())
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn text<'a>(header: &Header<'a>) -> Result<&'a str, Refusal> {
    str::from_utf8(header.value)
        .ok()
        .filter(|value| value.is_ascii())
        .ok_or(Refusal::BadRequest("a header of the handshake is not ASCII"))
}

/// Path and query of a target in origin form or absolute form (RFC 9112 section 3.2). Of the characters that RFC 3986
/// leaves out, those are refused that browsers never leave as they are either.
fn split_target(target: &str) -> Result<(&str, Option<&str>), Refusal> {
    const NOT_ALLOWED: Refusal =
        Refusal::BadRequest("the target has a character that must be percent-encoded");
    if !target.is_ascii() || target.contains(['#', '"', '<', '>']) {
        return Err(NOT_ALLOWED);
    }
    let origin_form = if target.starts_with('/') { target } else { after_authority(target)? };
    let (path, query) = match origin_form.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin_form, None),
    };
    if path.contains('`') {
        return Err(NOT_ALLOWED);
    }
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// What follows scheme and authority of a target in absolute form.
fn after_authority(target: &str) -> Result<&str, Refusal> {
    const OTHER_FORM: Refusal = Refusal::BadRequest("the target must begin with /");
    let (scheme, rest) = target.split_once("://").ok_or(OTHER_FORM)?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let is_known = ["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    if is_known && is_authority(authority) { Ok(rest) } else { Err(OTHER_FORM) }
}

/// A host name or address with or without a port (RFC 3986 section 3.2), no user and nothing percent-encoded.
fn is_authority(authority: &str) -> bool {
    let is_name =
        |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let is_ipv6 = |host: &str| host.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte));
    let (host, is_valid, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, port))) => (host, is_ipv6(host), port),
        Some(None) => return false,
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (host, is_name(host), port)
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    is_valid && !host.is_empty() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// RFC 9112 section 2.2 lets a server take a bare LF for a line's end; one that does can be made to disagree with a
/// proxy about where a line ends.
fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

fn malformed(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadersTooLarge,
        httparse::Error::Version => Refusal::BadRequest("the HTTP version is not 1.1"),
        httparse::Error::HeaderName => {
            Refusal::BadRequest("a header name has a character that is not allowed")
        }
        httparse::Error::HeaderValue => {
            Refusal::BadRequest("a header value has a character that is not allowed")
        }
        httparse::Error::NewLine => Refusal::BadRequest("every line must end with CR LF"),
        httparse::Error::Status | httparse::Error::Token => {
            Refusal::BadRequest("the request line is not that of HTTP/1.1")
        }
    }
}
