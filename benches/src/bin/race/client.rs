//! The closed loop: who has an echo sends the next message.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as Blocking};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::cells::Echo;
use crate::cpu::CpuClock;
use crate::frames;
use crate::server::{Server, Wire};
use crate::table::Round;

const READ_BYTES: usize = 64 * 1_024;
const EVENTS: usize = 1_024;
/// Longer without any event, and the server has lost something.
const SILENCE: Duration = Duration::from_secs(5);

/// Runs one load against one server.
///
/// # Errors
/// What came back is not what was sent, or the server broke a connection or fell silent.
pub fn echo(server: &Server, load: Echo, warm_up: Duration, measured: Duration) -> Result<Round> {
    let mut client = Client::connect(server, load)?;
    client.run(warm_up)?;
    let clocks = [CpuClock::of(server.pid)?, CpuClock::of(0)?];
    let before = [clocks[0].used()?, clocks[1].used()?];
    let (answers, began) = (client.answers, Instant::now());
    client.run(measured)?;
    let elapsed = began.elapsed();
    let [server_cpu, client_cpu] = [clocks[0].used_since(before[0])?, clocks[1].used_since(before[1])?];
    Ok(Round::of(client.answers - answers, elapsed, server_cpu, client_cpu))
}

/// Connects and says hello in the server's protocol. The stream blocks until then, so that the server sets the pace.
pub fn open(address: SocketAddr, hello: &[u8]) -> io::Result<Blocking> {
    let mut stream = Blocking::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(hello)?;
    Ok(stream)
}

/// Reads the answer to an upgrade, to its empty line; nothing may follow.
fn upgraded(stream: &mut Blocking) -> Result<()> {
    let mut head = [0; 1_024];
    let mut length = 0;
    while !head[..length].ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut head[length..])?;
        ensure!(read > 0, "closed instead of upgraded");
        length += read;
    }
    is_upgrade(&head[..length])
}

/// Whether that is the answer to [`frames::REQUEST`].
pub fn is_upgrade(head: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(head);
    ensure!(text.starts_with("HTTP/1.1 101 ") && text.contains(frames::ACCEPT), "no upgrade: {text}");
    Ok(())
}

struct Connection {
    stream: TcpStream,
    /// Bytes of the echo that has begun to come.
    begun: usize,
}

struct Client {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    /// Messages, as many as may be in flight; each write is a beginning of it.
    requests: Vec<u8>,
    request_bytes: usize,
    /// Echoes one after the other, more than a read brings: what comes has to be a part of it.
    echoes: Vec<u8>,
    echo_bytes: usize,
    buffer: Vec<u8>,
    answers: u64,
}

impl Client {
    fn connect(server: &Server, load: Echo) -> Result<Self> {
        let (request, mut echo) = frames::pair(load.payload_bytes);
        if server.wire == Wire::Bare {
            // To the bare echo a frame is so many bytes, and their end comes back.
            let dropped = request.len() - echo.len();
            echo.copy_from_slice(&request[dropped..]);
        }
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(load.connections);
        for number in 0..load.connections {
            let stream = match server.wire {
                Wire::WebSocket => {
                    let mut stream = open(server.address, frames::REQUEST)?;
                    upgraded(&mut stream)?;
                    stream
                }
                Wire::Bare => open(server.address, &crate::bare::hello(request.len(), echo.len()))?,
            };
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            connections.push(Connection { stream, begun: 0 });
        }
        let mut client = Self {
            poll,
            events: Events::with_capacity(EVENTS),
            connections,
            request_bytes: request.len(),
            requests: request.repeat(load.in_flight),
            echo_bytes: echo.len(),
            echoes: echo.repeat(READ_BYTES / echo.len() + 2),
            buffer: vec![0; READ_BYTES],
            answers: 0,
        };
        (0..load.connections).try_for_each(|at| client.send(at, load.in_flight))?;
        Ok(client)
    }

    fn run(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        while Instant::now() < end {
            self.poll.poll(&mut events, Some(SILENCE))?;
            ensure!(!events.is_empty(), "the server is silent, and echoes are due");
            for event in &events {
                self.take(event.token().0)?;
            }
        }
        self.events = events;
        Ok(())
    }

    /// Reads what is there, compares it and sends a message for each echo that is whole.
    fn take(&mut self, at: usize) -> Result<()> {
        let mut whole = 0;
        loop {
            let connection = &mut self.connections[at];
            let read = match connection.stream.read(&mut self.buffer) {
                Ok(0) => bail!("the server has closed a connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("a connection broke"),
            };
            let due = &self.echoes[connection.begun..connection.begun + read];
            ensure!(due == &self.buffer[..read], "what came back is not what was sent");
            connection.begun += read;
            whole += connection.begun / self.echo_bytes;
            connection.begun %= self.echo_bytes;
            // Less than there was room for: more will be told.
            if read < READ_BYTES {
                break;
            }
        }
        self.answers += whole as u64;
        self.send(at, whole)
    }

    fn send(&mut self, at: usize, count: usize) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let bytes = &self.requests[..count * self.request_bytes];
        // Far less than a socket's buffer is in flight.
        let written = self.connections[at].stream.write(bytes)?;
        ensure!(written == bytes.len(), "a socket took {written} of {} bytes", bytes.len());
        Ok(())
    }
}
