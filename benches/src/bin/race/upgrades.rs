//! Connections that come, are upgraded, and stay or go.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::client::{self, is_upgrade};
use crate::cpu::CpuClock;
use crate::frames;
use crate::server::Server;
use crate::table::Round;

/// Connections on their way at a time.
const AT_A_TIME: usize = 64;
/// Connections that are held before all are reset.
const HELD: usize = 2_000;
/// The longest wait for an answer, and for a server to be done with connections that were reset.
const SILENCE: Duration = Duration::from_secs(5);
/// A server that uses no more in [`STILL_FOR`] is done.
const STILL: Duration = Duration::from_micros(500);
const STILL_FOR: Duration = Duration::from_millis(20);

/// Upgrades while all stay: batches of [`HELD`], measured from the first connect to the last upgrade; the end of each batch, a
/// reset of all, is not measured.
///
/// # Errors
/// The server refused or broke a connection, or fell silent.
pub fn held(server: &Server, time: Duration) -> Result<Round> {
    let clocks = [CpuClock::of(server.pid)?, CpuClock::of(0)?];
    let mut sum = Round::default();
    while sum.elapsed() < time {
        let mut crowd = Crowd::new(server, false)?;
        let before = [clocks[0].used()?, clocks[1].used()?];
        let began = Instant::now();
        crowd.run(|upgrades| upgrades >= HELD as u64)?;
        let elapsed = began.elapsed();
        sum += Round::of(
            crowd.upgrades,
            elapsed,
            clocks[0].used_since(before[0])?,
            clocks[1].used_since(before[1])?,
        );
        crowd.reset();
        wait_until_still(clocks[0])?;
    }
    Ok(sum)
}

/// Upgrades of clients that say Close at once and wait for the server to close the connection.
///
/// # Errors
/// As [`held`].
pub fn churn(server: &Server, time: Duration) -> Result<Round> {
    let clocks = [CpuClock::of(server.pid)?, CpuClock::of(0)?];
    let mut crowd = Crowd::new(server, true)?;
    let before = [clocks[0].used()?, clocks[1].used()?];
    let began = Instant::now();
    crowd.run(|_| began.elapsed() > time)?;
    let (elapsed, client_cpu) = (began.elapsed(), clocks[1].used_since(before[1])?);
    wait_until_still(clocks[0])?;
    // Until the server is still, so that nothing it put off is left out; its sleep costs next to nothing.
    Ok(Round::of(crowd.ended, elapsed, clocks[0].used_since(before[0])?, client_cpu))
}

fn wait_until_still(clock: CpuClock) -> Result<()> {
    let deadline = Instant::now() + SILENCE;
    let mut used = clock.used()?;
    loop {
        std::thread::sleep(STILL_FOR);
        let more = clock.used_since(used)?;
        if more <= STILL {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the server does not come to rest");
        used += more;
    }
}

struct Crowd<'a> {
    server: &'a Server,
    poll: Poll,
    /// By the token; empty when it has gone.
    streams: Vec<Option<(TcpStream, bool)>>,
    free: Vec<usize>,
    leave: bool,
    coming: usize,
    upgrades: u64,
    ended: u64,
}

impl<'a> Crowd<'a> {
    fn new(server: &'a Server, leave: bool) -> Result<Self> {
        let poll = Poll::new()?;
        let (streams, free) = (Vec::new(), Vec::new());
        Ok(Self { server, poll, streams, free, leave, coming: 0, upgrades: 0, ended: 0 })
    }

    /// Keeps [`AT_A_TIME`] on their way until `done`, then until none is.
    fn run(&mut self, done: impl Fn(u64) -> bool) -> Result<()> {
        let mut events = Events::with_capacity(2 * AT_A_TIME);
        loop {
            let over = done(self.upgrades + if self.leave { 0 } else { self.coming as u64 });
            if over && self.coming == 0 {
                return Ok(());
            }
            while !over && self.coming < AT_A_TIME && !done(self.upgrades + self.coming as u64) {
                self.begin()?;
            }
            self.poll.poll(&mut events, Some(SILENCE))?;
            ensure!(!events.is_empty(), "the server is silent, and upgrades are due");
            for event in &events {
                self.take(event.token().0)?;
            }
        }
    }

    fn begin(&mut self) -> Result<()> {
        let stream = client::open(self.server.address, frames::REQUEST).context("a connect failed")?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let at = self.free.pop().unwrap_or_else(|| {
            self.streams.push(None);
            self.streams.len() - 1
        });
        self.poll.registry().register(&mut stream, Token(at), Interest::READABLE)?;
        self.streams[at] = Some((stream, false));
        self.coming += 1;
        Ok(())
    }

    fn take(&mut self, at: usize) -> Result<()> {
        let Some((stream, is_upgraded)) = &mut self.streams[at] else { return Ok(()) };
        let mut head = [0; 1_024];
        let ended = loop {
            match stream.read(&mut head) {
                Ok(0) => break true,
                // A head comes in one piece: it is written at once and smaller than any segment.
                Ok(read) if !*is_upgraded => {
                    is_upgrade(&head[..read])?;
                    *is_upgraded = true;
                    self.upgrades += 1;
                    if !self.leave {
                        self.coming -= 1;
                        break false;
                    }
                    stream.write_all(&frames::close())?;
                }
                // The server's Close.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == ErrorKind::ConnectionReset && *is_upgraded => break true,
                Err(error) => return Err(error).context("a connection broke"),
            }
        };
        if ended {
            ensure!(self.leave && *is_upgraded, "closed instead of upgraded");
            self.streams[at] = None;
            self.free.push(at);
            self.coming -= 1;
            self.ended += 1;
        }
        Ok(())
    }

    /// Resets all, so that their ports are free again at once.
    fn reset(self) {
        for (stream, _) in self.streams.iter().flatten() {
            // Were it refused, the port would be busy for a minute; there are enough.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}
