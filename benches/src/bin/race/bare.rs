//! A TCP echo on the gateway's rings, without WebSocket: what the kernel and our use of it leave to be reached.
//!
//! A client says first how long its messages are and how long their echoes (two little-endian u32); an echo is the end of its
//! message. So a client of the bare echo moves the same number of bytes in the same pieces as one of a WebSocket echo, whose frames
//! are four bytes shorter on the way back, and whatever else differs is WebSocket and the gateway.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use roost_gateway::{
    limits, mailbox,
    ring::{Completion, Descriptor, Op, Ring, Token, Uring},
};

/// How the bare echo serves.
#[derive(Args)]
pub struct Options {
    /// 0 picks a free one, which the ready line tells
    #[arg(long)]
    port: u16,
    /// Multishot receive into provided buffers, as the gateway has it for busy connections; without it a multishot poll and reads,
    /// as for all others
    #[arg(long)]
    receive: bool,
}

/// What a client says first.
pub fn hello(message_bytes: usize, echo_bytes: usize) -> [u8; HELLO_BYTES] {
    let mut hello = [0; HELLO_BYTES];
    hello[..4].copy_from_slice(&(message_bytes as u32).to_le_bytes());
    hello[4..].copy_from_slice(&(echo_bytes as u32).to_le_bytes());
    hello
}

const HELLO_BYTES: usize = 8;
const SPARE_BUFFERS_MAX: usize = 8_192;

/// Serves until it is killed.
///
/// # Errors
/// The port is taken, or the kernel gives no ring.
pub fn serve(options: &Options) -> Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // Accepted connections inherit it, as the gateway's do.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], options.port)).into())?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    let listener = TcpListener::from(socket);
    println!("ready port={}", listener.local_addr()?.port());
    let (_sender, receiver) = mailbox::mailbox::<()>(1)?;
    let ring = Uring::open(listener, receiver.wake_descriptor()?, limits::RING_PLACES_MAX)
        .context("a ring cannot be opened")?;
    let mut echo = BareEcho::new(ring, options.receive);
    let mut completions = Vec::new();
    loop {
        echo.turn(&mut completions)?;
    }
}

/// A message's framing, as the client has told it.
#[derive(Clone, Copy, Default)]
struct Framing {
    /// Bytes of the hello that have come.
    told: usize,
    hello: [u8; HELLO_BYTES],
    message_bytes: usize,
    /// Of each message, bytes at its beginning that do not come back.
    dropped_bytes: usize,
    /// Bytes of the message that has begun to come.
    begun: usize,
}

impl Framing {
    /// Appends what comes back of `input`, cut anywhere. False: the client does not speak this.
    fn echo(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> bool {
        if self.told < HELLO_BYTES {
            let (hello, rest) = input.split_at(input.len().min(HELLO_BYTES - self.told));
            self.hello[self.told..self.told + hello.len()].copy_from_slice(hello);
            self.told += hello.len();
            input = rest;
            let number = |at: usize| {
                self.hello[at..].iter().take(4).rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
            };
            let (message_bytes, echo_bytes) = (number(0), number(4));
            if self.told == HELLO_BYTES && (message_bytes == 0 || echo_bytes > message_bytes) {
                return false;
            }
            (self.message_bytes, self.dropped_bytes) =
                (message_bytes, message_bytes.saturating_sub(echo_bytes));
        }
        while !input.is_empty() {
            let (piece, rest) = input.split_at(input.len().min(self.message_bytes - self.begun));
            let dropped = self.dropped_bytes.saturating_sub(self.begun).min(piece.len());
            out.extend_from_slice(&piece[dropped..]);
            self.begun = (self.begun + piece.len()) % self.message_bytes;
            input = rest;
        }
        true
    }
}

/// Its poll or its multishot receive is armed.
const ARMED: u8 = 1;
/// That was cancelled.
const CANCELLED: u8 = 2;
/// The poll has fired, and it was not read since.
const READABLE: u8 = 4;
/// A read is in flight.
const READING: u8 = 8;
/// A send is in flight.
const SENDING: u8 = 16;
/// It is to be looked at before the turn ends.
const DIRTY: u8 = 32;
/// The client has gone.
const ENDED: u8 = 64;

struct Connection {
    descriptor: Descriptor,
    framing: Framing,
    out: Vec<u8>,
    flags: u8,
}

impl Connection {
    fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    /// Sets it where that is so; takes it back never.
    fn add(&mut self, flag: u8, on: bool) {
        self.set(flag, on || self.has(flag));
    }
}

struct BareEcho<R> {
    ring: R,
    receive: bool,
    connections: Vec<Option<Connection>>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    /// Waiting for a read buffer.
    thirsty: VecDeque<u32>,
    spare: Vec<Vec<u8>>,
}

impl<R: Ring> BareEcho<R> {
    fn new(ring: R, receive: bool) -> Self {
        let (connections, free, dirty, thirsty, spare) = Default::default();
        Self { ring, receive, connections, free, dirty, thirsty, spare }
    }

    /// As a shard's turn: one wait, all completions, then one look at each connection that they touched.
    fn turn(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        self.ring.accept(true);
        let sleep = if self.thirsty.is_empty() { Duration::from_secs(1) } else { Duration::ZERO };
        self.ring.wait(sleep, completions)?;
        for completion in completions.drain(..) {
            self.take(completion);
        }
        for _ in 0..self.thirsty.len() {
            let slot = self.thirsty.pop_front().expect("as many as were counted");
            self.touch(slot);
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.drain(..).for_each(|slot| self.settle(slot));
        self.dirty = dirty;
        Ok(())
    }

    fn take(&mut self, completion: Completion) {
        let (slot, result) = (completion.token.slot(), completion.result);
        if completion.token.op() == Some(Op::Accept) {
            if let Some(descriptor) = completion.descriptor {
                self.accepted(descriptor);
            }
            return;
        }
        let Some(connection) = self.connections.get_mut(slot as usize).and_then(Option::as_mut) else {
            return;
        };
        match completion.token.op() {
            Some(Op::Poll) => {
                connection.set(ARMED, completion.more);
                connection.add(READABLE, result > 0);
            }
            Some(Op::Read) => {
                connection.set(READING, false);
                connection.add(READABLE, result == limits::RECEIVE_BUFFER_BYTES as i32);
                connection.add(ENDED, result <= 0 && result != -libc::EAGAIN);
            }
            Some(Op::Receive) => {
                connection.set(ARMED, completion.more);
                connection.add(ENDED, result <= 0 && result != -libc::ENOBUFS);
            }
            Some(Op::Send) => {
                connection.set(SENDING, false);
                let mut bytes = completion.sent.unwrap_or_default();
                connection.add(ENDED, usize::try_from(result) != Ok(bytes.len()));
                if self.spare.len() < SPARE_BUFFERS_MAX {
                    bytes.clear();
                    self.spare.push(bytes);
                }
            }
            Some(Op::Close) => {
                self.connections[slot as usize] = None;
                self.free.push(slot);
                return;
            }
            _ => return,
        }
        if let Some(buffer) = completion.buffer {
            let input = self.ring.buffer(buffer, result.max(0) as usize);
            if connection.out.capacity() == 0 {
                connection.out = self.spare.pop().unwrap_or_default();
            }
            let is_spoken = connection.framing.echo(input, &mut connection.out);
            connection.add(ENDED, !is_spoken);
            self.ring.recycle(buffer);
        }
        self.touch(slot);
    }

    fn accepted(&mut self, descriptor: Descriptor) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() as u32 - 1
        });
        let framing = Framing::default();
        self.connections[slot as usize] = Some(Connection { descriptor, framing, out: Vec::new(), flags: 0 });
        self.touch(slot);
    }

    fn touch(&mut self, slot: u32) {
        if let Some(connection) = &mut self.connections[slot as usize]
            && !connection.has(DIRTY)
        {
            connection.set(DIRTY, true);
            self.dirty.push(slot);
        }
    }

    /// Sends, arms, reads or closes, whichever is due.
    fn settle(&mut self, slot: u32) {
        let Some(connection) = &mut self.connections[slot as usize] else { return };
        connection.set(DIRTY, false);
        let (descriptor, token) = (connection.descriptor, |op| Token::new(op, 0, slot));
        if connection.has(ENDED) {
            if connection.has(ARMED) && !connection.has(CANCELLED) {
                connection.set(CANCELLED, true);
                self.ring.cancel(descriptor, token(if self.receive { Op::Receive } else { Op::Poll }));
            } else if !connection.has(ARMED | READING | SENDING) {
                self.ring.close(descriptor, token(Op::Close));
            }
            return;
        }
        if !connection.out.is_empty() && !connection.has(SENDING) {
            connection.set(SENDING, true);
            self.ring.send(descriptor, token(Op::Send), std::mem::take(&mut connection.out));
        }
        if !connection.has(ARMED) {
            let armed = if self.receive {
                self.ring.receive(descriptor, token(Op::Receive))
            } else {
                self.ring.poll(descriptor, token(Op::Poll));
                true
            };
            connection.set(ARMED, armed);
            // No ring has buffers for it: a client that is told so is better than one that waits.
            connection.set(ENDED, !armed);
        }
        if connection.has(READABLE) && !connection.has(READING) {
            if self.ring.read(descriptor, token(Op::Read)) {
                connection.set(READABLE, false);
                connection.set(READING, true);
            } else {
                self.thirsty.push_back(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_each_message_comes_back_however_it_is_cut() {
        let (messages, echoes) = (b"0123abcdef0123ghijkl", b"abcdefghijkl");
        let stream = [&hello(10, 6)[..], messages].concat();
        for cut in 1..stream.len() {
            let (mut framing, mut out) = (Framing::default(), Vec::new());
            assert!(stream.chunks(cut).all(|piece| framing.echo(piece, &mut out)), "cut at {cut}");
            assert_eq!(out, echoes, "cut at {cut}");
        }
        let mut out = Vec::new();
        for (message, echo) in [(0, 0), (4, 5)] {
            assert!(!Framing::default().echo(&hello(message, echo), &mut out), "{message}, {echo}");
        }
    }
}
