//! A blocking client: one connection, frames up, frames down.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use roost_proto::{
    codec::{self, Encoding},
    v1::{self, client_frame, event, server_frame},
};
use tungstenite::{Message, WebSocket, client::IntoClientRequest, http::HeaderValue};

/// How a client says who it is.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A token in the `Authorization` header.
    Bearer(String),
    /// A token in the query, as browsers must.
    Query(String),
    /// `--auth none`: user and device.
    Claimed(u64, u32),
}

/// One session with a gateway.
#[derive(Debug)]
pub struct Client {
    socket: WebSocket<TcpStream>,
    encoding: Encoding,
    next_id: u32,
}

impl Client {
    /// Connects, upgrades and waits for the Welcome.
    ///
    /// # Errors
    /// No connection, a refused upgrade, or another first frame.
    pub fn connect(
        address: SocketAddr,
        encoding: Encoding,
        who: &Credentials,
    ) -> Result<(Self, v1::Welcome)> {
        let mut client = Self::upgrade(address, encoding, who)?;
        match client.receive()?.body {
            Some(server_frame::Body::Welcome(welcome)) => Ok((client, *welcome)),
            other => bail!("the first frame is not a Welcome but {other:?}"),
        }
    }

    /// Connects and upgrades; the Welcome is still to be received.
    ///
    /// # Errors
    /// No connection, or a refused upgrade.
    pub fn upgrade(address: SocketAddr, encoding: Encoding, who: &Credentials) -> Result<Self> {
        let query = match who {
            Credentials::Bearer(_) => String::new(),
            Credentials::Query(token) => format!("?access_token={token}"),
            Credentials::Claimed(user, device) => format!("?user={user}&device={device}"),
        };
        let mut request = format!("ws://{address}/v1/ws{query}").into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", HeaderValue::from_static(encoding.sub_protocol()));
        if let Credentials::Bearer(token) = who {
            headers.insert("Authorization", HeaderValue::from_str(&format!("Bearer {token}"))?);
        }
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let (socket, _) = tungstenite::client(request, stream).context("upgrade")?;
        Ok(Self { socket, encoding, next_id: 1 })
    }

    /// Sends a frame that wants an answer; returns its id.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn ask(&mut self, body: impl Into<client_frame::Body>) -> Result<u32> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&v1::ClientFrame { id, body: Some(body.into()) })?;
        Ok(id)
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, frame: &v1::ClientFrame) -> Result<()> {
        let mut bytes = Vec::new();
        codec::encode_client_frame(self.encoding, frame, &mut bytes);
        self.socket.send(match self.encoding {
            Encoding::Proto => Message::Binary(bytes.into()),
            Encoding::Json => Message::Text(String::from_utf8(bytes)?.into()),
        })?;
        Ok(())
    }

    /// The next frame; waits at most 20 s.
    ///
    /// # Errors
    /// Nothing came, the connection was closed (the error says how), or the bytes are no frame.
    pub fn receive(&mut self) -> Result<v1::ServerFrame> {
        loop {
            match self.socket.read().context("waiting for a frame")? {
                Message::Binary(bytes) => return Ok(codec::decode_server_frame(Encoding::Proto, &bytes)?),
                Message::Text(text) => {
                    return Ok(codec::decode_server_frame(Encoding::Json, text.as_bytes())?);
                }
                Message::Close(close) => {
                    bail!(
                        "closed with {:?}",
                        close.map(|close| (u16::from(close.code), close.reason.to_string()))
                    )
                }
                _ => {}
            }
        }
    }

    /// The next frame that is an event; others are dropped.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn event(&mut self) -> Result<v1::Event> {
        loop {
            if let Some(server_frame::Body::Event(event)) = self.receive()?.body {
                return Ok(*event);
            }
        }
    }

    /// The next event that is a message.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn message(&mut self) -> Result<(u64, v1::Message)> {
        loop {
            let event = self.event()?;
            if let Some(event::Body::Message(message)) = event.body {
                return Ok((event.seq, *message));
            }
        }
    }

    /// The answer to `id`; other frames are dropped.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn answer(&mut self, id: u32) -> Result<v1::ServerFrame> {
        loop {
            let frame = self.receive()?;
            if frame.reply_to == id {
                return Ok(frame);
            }
        }
    }

    /// Sends a text to a user and waits for its Sent.
    ///
    /// # Errors
    /// As [`Self::receive`], or an Error came instead.
    pub fn say(&mut self, to: u64, client_id: &[u8], payload: &[u8]) -> Result<v1::Sent> {
        let id = self.ask(send_to(to, client_id, payload))?;
        match self.answer(id)?.body {
            Some(server_frame::Body::Sent(sent)) => Ok(*sent),
            other => bail!("not sent but {other:?}"),
        }
    }

    /// The WebSocket beneath, for tests that break rules.
    pub fn socket(&mut self) -> &mut WebSocket<TcpStream> {
        &mut self.socket
    }
}

/// A `Send` of a text to a user.
pub fn send_to(user: u64, client_id: &[u8], payload: &[u8]) -> v1::Send {
    v1::Send {
        to: v1::Address { to: Some(v1::address::To::User(user)) }.into(),
        client_id: client_id.to_vec().into(),
        payload: payload.to_vec().into(),
        ..Default::default()
    }
}
