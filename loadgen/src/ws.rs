//! The WebSocket side of one client, without I/O: tungstenite over an adapter in memory. Bytes in, messages and bytes
//! out. The frame codec of roost-proto has no part in it, so that gateway and generator cannot share a mistake.

use crate::limits::{WS_MESSAGE_BYTES_MAX, WS_READ_BUFFER_BYTES};
use std::io::{self, Read, Write};
use std::mem;
use thiserror::Error;
use tungstenite::handshake::client::{ClientHandshake, Request, generate_key};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::http::{Response, StatusCode};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

/// Why a connection is of no use.
#[derive(Debug, Error)]
pub enum WsError {
    /// The server answered the upgrade with something else than 101.
    #[error("the server answered the upgrade with {status}: {body}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// The beginning of its explanation.
        body: String,
    },
    /// RFC 6455 was broken, the handshake's check value was wrong, or a limit was passed.
    #[error("{0}")]
    Protocol(Box<tungstenite::Error>),
    /// The close handshake is done.
    #[error("closed")]
    Closed,
}

impl From<tungstenite::Error> for WsError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => Self::Closed,
            tungstenite::Error::Http(response) => Self::refused(&response),
            other => Self::Protocol(Box::new(other)),
        }
    }
}

impl WsError {
    fn refused(response: &Response<Option<Vec<u8>>>) -> Self {
        let body = response.body().as_deref().unwrap_or_default();
        let body = String::from_utf8_lossy(&body[..body.len().min(120)]).trim().to_owned();
        Self::Refused { status: response.status(), body }
    }

    /// Whether trying again will not help: the server understood and said no.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS)
    }
}

/// Bytes that came and bytes that are to go.
#[derive(Debug, Default)]
struct Pipe {
    input: Vec<u8>,
    /// `input[..taken]` was read already; `taken <= input.len()`, and both are 0 once all was.
    taken: usize,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let waiting = &self.input[self.taken..];
        if waiting.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes = waiting.len().min(into.len());
        into[..bytes].copy_from_slice(&waiting[..bytes]);
        self.taken += bytes;
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
        Ok(bytes)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum State {
    Handshake(Box<MidHandshake<ClientHandshake<Pipe>>>),
    Open(Box<WebSocket<Pipe>>),
    Ended,
}

/// One client's end of a WebSocket connection.
pub struct WsClient {
    state: State,
}

impl WsClient {
    /// Begins the opening handshake (RFC 6455 section 4.1); the request is in the output afterwards.
    ///
    /// # Errors
    /// Where the request is not one for a WebSocket.
    pub fn new(request: Request) -> Result<Self, WsError> {
        let config = WebSocketConfig::default()
            .read_buffer_size(WS_READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(WS_MESSAGE_BYTES_MAX))
            .max_frame_size(Some(WS_MESSAGE_BYTES_MAX));
        let handshake = ClientHandshake::start(Pipe::default(), request, Some(config))?;
        let mut client = Self { state: State::Handshake(Box::new(handshake)) };
        client.advance()?;
        Ok(client)
    }

    /// Whether the server agreed: Sec-WebSocket-Accept was checked.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Takes bytes from the socket.
    ///
    /// # Errors
    /// Where they end the handshake without a connection.
    pub fn received(&mut self, bytes: &[u8]) -> Result<(), WsError> {
        if let Some(pipe) = self.pipe() {
            pipe.input.extend_from_slice(bytes);
        }
        self.advance()
    }

    /// The next message, once all of it has come. Pings are answered on the way.
    ///
    /// # Errors
    /// What broke the connection, or that it is closed.
    pub fn read(&mut self) -> Result<Option<Message>, WsError> {
        let State::Open(socket) = &mut self.state else { return Ok(None) };
        match socket.read() {
            Ok(message) => Ok(Some(message)),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a message to the output.
    ///
    /// # Errors
    /// That the connection is not, or no longer, open.
    pub fn send(&mut self, message: Message) -> Result<(), WsError> {
        let State::Open(socket) = &mut self.state else { return Err(WsError::Closed) };
        Ok(socket.send(message)?)
    }

    /// Bytes that wait for the socket.
    pub fn output_bytes(&mut self) -> usize {
        self.pipe().map_or(0, |pipe| pipe.output.len())
    }

    /// The bytes that wait for the socket.
    pub fn output(&mut self) -> &[u8] {
        self.pipe().map_or(&[], |pipe| &pipe.output)
    }

    /// The socket took the first `bytes` of them.
    pub fn written(&mut self, bytes: usize) {
        if let Some(pipe) = self.pipe() {
            pipe.output.drain(..bytes);
        }
    }

    /// Takes the bytes for the socket and leaves `spare`, which is empty, in their place.
    pub fn take_output(&mut self, spare: Vec<u8>) -> Vec<u8> {
        self.pipe().map_or_else(Vec::new, |pipe| mem::replace(&mut pipe.output, spare))
    }

    fn pipe(&mut self) -> Option<&mut Pipe> {
        match &mut self.state {
            State::Handshake(handshake) => Some(handshake.get_mut().get_mut()),
            State::Open(socket) => Some(socket.get_mut()),
            State::Ended => None,
        }
    }

    fn advance(&mut self) -> Result<(), WsError> {
        let handshake = match mem::replace(&mut self.state, State::Ended) {
            State::Handshake(handshake) => handshake,
            other => {
                self.state = other;
                return Ok(());
            }
        };
        match handshake.handshake() {
            Ok((socket, _response)) => self.state = State::Open(Box::new(socket)),
            Err(HandshakeError::Interrupted(handshake)) => self.state = State::Handshake(Box::new(handshake)),
            Err(HandshakeError::Failure(error)) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The upgrade request (RFC 6455 section 4.1) with a fresh key.
///
/// # Errors
/// Where path or authority make no valid request.
pub fn upgrade_request(
    authority: &str,
    path: &str,
    sub_protocol: Option<&str>,
    token: Option<&str>,
) -> Result<Request, String> {
    let mut request = Request::builder()
        .uri(format!("ws://{authority}{path}"))
        .header("Host", authority)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key());
    if let Some(name) = sub_protocol {
        request = request.header("Sec-WebSocket-Protocol", name);
    }
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    request.body(()).map_err(|error| format!("no upgrade request can be made for {authority}{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::handshake::derive_accept_key;

    fn begun() -> (WsClient, String) {
        let mut client = WsClient::new(upgrade_request("a:1", "/v1/ws", None, Some("t")).unwrap()).unwrap();
        let request = String::from_utf8(client.take_output(Vec::new())).unwrap();
        assert!(request.starts_with("GET /v1/ws HTTP/1.1\r\n") && request.contains("Bearer t"), "{request}");
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = derive_accept_key(key.as_bytes());
        (client, accept)
    }

    fn response(accept: &str) -> String {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
    }

    #[test]
    fn a_connection_opens_piece_by_piece_and_carries_messages_both_ways() {
        let (mut client, accept) = begun();
        // Smaller pieces are an attack to tungstenite.
        for piece in response(&accept).as_bytes().chunks(40) {
            assert!(!client.is_open());
            client.received(piece).unwrap();
        }
        assert!(client.is_open());
        for byte in [0x82, 2, 7, 8] {
            assert_eq!(client.read().unwrap(), None);
            client.received(&[byte]).unwrap();
        }
        assert_eq!(client.read().unwrap(), Some(Message::binary(vec![7, 8])));
        client.send(Message::binary(vec![1; 10])).unwrap();
        assert_eq!(client.take_output(Vec::new()).len(), 2 + 4 + 10, "header, mask, payload");
    }

    #[test]
    fn a_wrong_accept_value_and_a_refusal_are_told_apart() {
        let (mut client, _) = begun();
        let error = client.received(response("AAAAAAAAAAAAAAAAAAAAAAAAAAA=").as_bytes()).unwrap_err();
        assert!(matches!(error, WsError::Protocol(_)) && !error.is_final(), "{error}");

        let (mut client, _) = begun();
        let refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 9\r\n\r\nno token\n";
        let error = client.received(refusal).unwrap_err();
        assert!(error.is_final());
        assert!(error.to_string().contains("401 Unauthorized: no token"), "{error}");
    }
}
