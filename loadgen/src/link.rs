//! One client's connection: a tokio-uring socket under a [`WsClient`]. One read is pending at any time. What a session sends leaves
//! with one send(2) when the session has done its part ([`Link::kick`]): a socket nearly always has room, and the call costs less than
//! an operation with a task. Where it has none, a write through the ring takes over, and what is sent meanwhile leaves with the next one.

use crate::limits::{CONNECT_TIMEOUT, OUT_BYTES_MAX, READ_BUFFER_BYTES};
use crate::meters::Meters;
use crate::net::{self, Way};
use crate::preflight::attribution;
use crate::ws::{WsClient, WsError};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use quanta::Clock;
use std::cell::{Cell, RefCell};
use std::io;
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use thiserror::Error;
use tokio::sync::Notify;
use tokio_uring::net::TcpStream;
use tungstenite::Message;
use tungstenite::handshake::client::Request;

/// Why there is no connection, or no longer one.
#[derive(Debug, Error)]
pub enum LinkError {
    /// No TCP connection.
    #[error("cannot connect to {0}: {1}{place}", place = attribution::behind(.1))]
    Connect(SocketAddr, io::Error),
    /// Connected, but the handshake did not end in time.
    #[error("no handshake within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// The peer ended the connection instead of answering the upgrade.
    #[error(
        "connection ended before the handshake was done [the server's end: it, or something before it, ended the connection; a server \
         that is out of files or connections does that]"
    )]
    EndedEarly,
    /// A read or write failed.
    #[error("connection broke: {0}{place}", place = attribution::behind(.0))]
    Io(#[from] io::Error),
    /// The peer ended the connection without a close frame.
    #[error("connection ended without a close frame")]
    Ended,
    /// What the WebSocket layer says.
    #[error("{0}")]
    WebSocket(#[from] WsError),
}

impl LinkError {
    /// Whether trying again will not help.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::WebSocket(error) if error.is_final())
    }
}

struct State {
    ws: WsClient,
    /// Scheduled times of the messages in the output.
    marks: Vec<u64>,
    /// The buffer of the last write, to be used again.
    spare: Vec<u8>,
    writing: bool,
    closing: bool,
}

/// An open connection. Dropped: the socket closes once its operations have ended.
pub struct Link {
    stream: TcpStream,
    state: RefCell<State>,
    read_buffer: Cell<Vec<u8>>,
    meters: Rc<RefCell<Meters>>,
    clock: Clock,
    /// Whether it is not read for now, and who waits for that to end.
    stalled: Cell<bool>,
    resumed: Notify,
    /// The socket took some of what waited for it.
    drained: Notify,
    /// The zero of the marks; moved when the measured part begins.
    origin: Rc<Cell<quanta::Instant>>,
}

/// A connection as a session sees it.
pub trait Outlet {
    /// Whether there is room for another message.
    fn has_room(&self) -> bool;
    /// Sends a message, with all that its session sends at this moment. `scheduled_us`: its time, where it is one of the schedule
    /// that is sent for the first time.
    ///
    /// # Errors
    /// That the connection is closed.
    fn send(&self, message: Message, scheduled_us: Option<u64>) -> Result<(), WsError>;
    /// Ends the connection without a word.
    fn cut(&self);
}

impl Outlet for Rc<Link> {
    fn has_room(&self) -> bool {
        Link::has_room(self)
    }

    fn send(&self, message: Message, scheduled_us: Option<u64>) -> Result<(), WsError> {
        Link::send(self, message, scheduled_us)
    }

    fn cut(&self) {
        Link::cut(self);
    }
}

/// What a link needs of its worker.
#[derive(Clone)]
pub struct LinkContext {
    /// Where lag and write times go.
    pub meters: Rc<RefCell<Meters>>,
    /// The worker's clock.
    pub clock: Clock,
    /// The zero of the run's time.
    pub origin: Rc<Cell<quanta::Instant>>,
}

impl Link {
    /// Connects and completes the opening handshake.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn open(
        target: SocketAddr,
        way: Way,
        request: Request,
        context: &LinkContext,
    ) -> Result<Rc<Self>, LinkError> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, net::connect(target, way)).await;
        let stream = connecting
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| LinkError::Connect(target, error))?;
        let stream = TcpStream::from_std(stream);
        let mut ws = WsClient::new(request)?;
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        let done = tokio::time::timeout(CONNECT_TIMEOUT, handshake(&stream, &mut ws, &mut buffer)).await;
        if done.is_err() {
            // The read that was left behind ends with the connection and gives its buffer back.
            let _ = stream.shutdown(Shutdown::Both);
        }
        done.map_err(|_| LinkError::Timeout)??;
        let state = State { ws, marks: Vec::new(), spare: Vec::new(), writing: false, closing: false };
        Ok(Rc::new(Self {
            stream,
            state: RefCell::new(state),
            read_buffer: Cell::new(buffer),
            meters: context.meters.clone(),
            clock: context.clock.clone(),
            stalled: Cell::new(false),
            resumed: Notify::new(),
            drained: Notify::new(),
            origin: context.origin.clone(),
        }))
    }

    /// The next message, control messages included. One caller at a time.
    ///
    /// # Errors
    /// See [`LinkError`]; the connection is of no use afterwards.
    pub async fn next(self: &Rc<Self>) -> Result<Message, LinkError> {
        // Ends with a message, an error or the connection's end; each round takes bytes from the socket.
        loop {
            while self.stalled.get() {
                self.resumed.notified().await;
            }
            if let Some(message) = self.state.borrow_mut().ws.read()? {
                return Ok(message);
            }
            self.kick();
            // Answers to pings count as well: a server that sends more of them than it takes answers is not read meanwhile.
            while self.is_full() {
                self.drained.notified().await;
            }
            let (read, buffer) = self.stream.read(self.read_buffer.take()).await;
            let bytes = read?;
            if bytes == 0 {
                return Err(LinkError::Ended);
            }
            self.state.borrow_mut().ws.received(&buffer[..bytes])?;
            self.read_buffer.set(buffer);
        }
    }

    /// Whether there is room for another message.
    pub fn has_room(&self) -> bool {
        self.state.borrow_mut().ws.output_bytes() < OUT_BYTES_MAX
    }

    /// More waits for the socket than may, and a write is under way.
    fn is_full(&self) -> bool {
        self.state.borrow().writing && !self.has_room()
    }

    /// Writes a message to the output, which leaves with the next [`Self::kick`]. `scheduled_us`: its time, where it is one of the
    /// schedule that is sent for the first time.
    ///
    /// # Errors
    /// That the connection is closed.
    pub fn send(&self, message: Message, scheduled_us: Option<u64>) -> Result<(), WsError> {
        let mut state = self.state.borrow_mut();
        state.ws.send(message)?;
        state.marks.extend(scheduled_us);
        Ok(())
    }

    /// Says goodbye with a close frame; the server's answer ends the reading.
    pub fn close(self: &Rc<Self>) {
        let close = Message::Close(None);
        self.state.borrow_mut().closing = true;
        match self.send(close, None) {
            Ok(()) => self.kick(),
            Err(_) => self.cut(),
        }
    }

    /// Ends the connection without a word; a pending read ends with it.
    pub fn cut(&self) {
        self.state.borrow_mut().closing = true;
        self.end();
    }

    /// Stops reading, or reads again. A read that is under way takes one buffer more.
    pub fn stall(&self, stalled: bool) {
        if self.stalled.replace(stalled) && !stalled {
            self.resumed.notify_one();
        }
    }

    /// Ends both ways; the reading side sees it, and tells why.
    fn end(&self) {
        // Not connected any more: what was wanted.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.stall(false);
        self.drained.notify_one();
    }

    /// Whether this side wanted the end.
    pub fn is_closing(&self) -> bool {
        self.state.borrow().closing
    }

    /// Hands the output to the socket, where there is any and no write is under way; what the socket has no room for goes through the
    /// ring.
    pub fn kick(self: &Rc<Self>) {
        let state = &mut *self.state.borrow_mut();
        if state.writing || state.ws.output_bytes() == 0 {
            return;
        }
        self.record_leaving(state);
        let begun = self.clock.now();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.stream.as_raw_fd(), state.ws.output(), flags) {
            Ok(bytes) => {
                let took_us = self.clock.now().saturating_duration_since(begun).as_micros() as u64;
                self.meters.borrow_mut().write.saturating_record(took_us);
                state.ws.written(bytes);
            }
            Err(Errno::EAGAIN | Errno::EINTR) => (),
            Err(_) => return self.end(),
        }
        if state.ws.output_bytes() > 0 {
            state.writing = true;
            tokio_uring::spawn(self.clone().flush());
        }
    }

    async fn flush(self: Rc<Self>) {
        // Ends when the output is empty; what fills it is bounded by OUT_BYTES_MAX and by what one read brings.
        loop {
            let bytes = {
                let mut state = self.state.borrow_mut();
                let spare = mem::take(&mut state.spare);
                let bytes = state.ws.take_output(spare);
                if bytes.is_empty() {
                    state.spare = bytes;
                    state.writing = false;
                    return;
                }
                self.record_leaving(&mut state);
                bytes
            };
            let begun = self.clock.now();
            let (written, mut buffer) = self.stream.write_all(bytes).await;
            let took_us = self.clock.now().saturating_duration_since(begun).as_micros() as u64;
            self.meters.borrow_mut().write.saturating_record(took_us);
            buffer.clear();
            let mut state = self.state.borrow_mut();
            state.spare = buffer;
            if written.is_err() {
                state.writing = false;
                drop(state);
                return self.end();
            }
            self.drained.notify_one();
        }
    }

    /// The marked messages leave now.
    fn record_leaving(&self, state: &mut State) {
        let now_us = self.clock.now().saturating_duration_since(self.origin.get()).as_micros() as u64;
        let mut meters = self.meters.borrow_mut();
        for scheduled_us in state.marks.drain(..) {
            meters.left(now_us.saturating_sub(scheduled_us));
        }
    }
}

async fn handshake(stream: &TcpStream, ws: &mut WsClient, buffer: &mut Vec<u8>) -> Result<(), LinkError> {
    let (written, _) = stream.write_all(ws.take_output(Vec::new())).await;
    written?;
    // The header limits of tungstenite and the caller's timeout bound this.
    while !ws.is_open() {
        let (read, filled) = stream.read(mem::take(buffer)).await;
        let bytes = read?;
        if bytes == 0 {
            return Err(LinkError::EndedEarly);
        }
        ws.received(&filled[..bytes])?;
        *buffer = filled;
    }
    Ok(())
}
