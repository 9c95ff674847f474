//! One attacker: connects, says its script, and comes back when the server has ended it, until the attack is over.

use super::script::{Head, Script};
use crate::limits::{
    ATTACK_PAUSE, ATTACK_READ_BYTES, ATTACK_UNREAD_AFTER, CONNECT_TIMEOUT, UPGRADE_ANSWER_BYTES_MAX,
};
use crate::net::{self, Way};
use crate::odd::{DRIPPED_THROUGH, drip_end};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The most that a Close frame of a server has, RFC 6455 section 5.5: the last bytes of a connection tell how it ended.
const TAIL_BYTES: usize = 2 + 125;

/// What became of the attackers of one attack.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Connections made.
    pub connections: u64,
    /// Connections that could not be made.
    pub unconnected: u64,
    /// Bytes that the kernel took from them.
    pub sent_bytes: u64,
    /// Bytes that they read.
    pub received_bytes: u64,
    /// Connections that the server ended, by what.
    pub ended_by: BTreeMap<String, u64>,
    /// Connections that stood when the attack was over.
    pub held: u64,
    /// Of these, those whose bytes the server did not take any more.
    pub unread: u64,
}

impl Tally {
    fn ended(&mut self, ended: io::Result<String>) {
        match ended {
            Ok(how) => *self.ended_by.entry(how).or_default() += 1,
            Err(_) => self.unconnected += 1,
        }
    }

    /// The attack is over.
    fn stands(&mut self, standing: &Standing) {
        self.held += u64::from(standing.connected.get());
        let waits = standing.waiting.get().is_some_and(|since| since.elapsed() > ATTACK_UNREAD_AFTER);
        self.unread += u64::from(waits);
    }
}

/// What all attackers of one attack share.
pub(super) struct Common {
    pub(super) target: SocketAddr,
    pub(super) tally: RefCell<Tally>,
    pub(super) over: watch::Receiver<bool>,
}

/// How one connection stands.
#[derive(Default)]
struct Standing {
    connected: Cell<bool>,
    /// Since when a write waits.
    waiting: Cell<Option<Instant>>,
}

/// Attacks until it is over.
pub(super) async fn attack(common: Rc<Common>, script: Rc<Script>, request: Vec<u8>, way: Way) {
    let mut over = common.over.clone();
    // Each round is a connection, or an attempt at one, and a pause; the attack's end bounds them.
    while !*over.borrow() {
        let standing = Standing::default();
        let ended = tokio::select! {
            ended = connection(&common, &standing, &script, &request, way) => Some(ended),
            _ = over.wait_for(|over| *over) => None,
        };
        let Some(ended) = ended else { return common.tally.borrow_mut().stands(&standing) };
        common.tally.borrow_mut().ended(ended);
        // Ends early with the attack.
        let _ = timeout(ATTACK_PAUSE, over.wait_for(|over| *over)).await;
    }
}

/// One connection, until the server ends it: how it did.
async fn connection(
    common: &Common,
    standing: &Standing,
    script: &Script,
    request: &[u8],
    way: Way,
) -> io::Result<String> {
    let connecting = timeout(CONNECT_TIMEOUT, net::connect(common.target, way)).await;
    let stream = connecting.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))?;
    stream.set_nonblocking(true)?;
    let stream = TcpStream::from_std(stream)?;
    common.tally.borrow_mut().connections += 1;
    standing.connected.set(true);
    let mut talk = Talk { common, standing, stream, tail: Vec::new() };
    let said = match &script.head {
        Head::Partial(head) => talk.say(head, script).await,
        Head::Whole => match talk.upgrade(request).await {
            Ok(None) => talk.say(&script.prefix, script).await,
            Ok(Some(how)) => return Ok(how),
            Err(error) => Err(error),
        },
    };
    Ok(talk.end(said, script))
}

struct Talk<'a> {
    common: &'a Common,
    standing: &'a Standing,
    stream: TcpStream,
    /// The last bytes that came.
    tail: Vec<u8>,
}

impl Talk<'_> {
    /// Upgrades; `Some` is how the server refused. What it sends behind its answer is not looked at.
    async fn upgrade(&self, request: &[u8]) -> io::Result<Option<String>> {
        self.write(request).await?;
        let mut answer = vec![0; UPGRADE_ANSWER_BYTES_MAX];
        let mut came = 0;
        // Each round has more of it, until the buffer is full.
        while came < answer.len() && !answer[..came].windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            self.stream.readable().await?;
            match self.stream.try_read(&mut answer[came..]) {
                Ok(0) => return Ok(Some(drip_end(Ok(&answer[..came])))),
                Ok(bytes) => came += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let how = drip_end(Ok(&answer[..came]));
        Ok((how != DRIPPED_THROUGH).then_some(how))
    }

    /// Says `first`, then the script's cycle without end, and reads meanwhile where the script says so. Returns with the connection's end.
    async fn say(&mut self, first: &[u8], script: &Script) -> io::Result<()> {
        let mut buffer = vec![0; if script.reads { ATTACK_READ_BYTES } else { 0 }];
        let (mut said, mut cycle) = (0, false);
        // Ends with the connection, or dropped with the attack.
        loop {
            let text = if cycle { &script.cycle[..] } else { first };
            if said == text.len() && !script.cycle.is_empty() {
                (said, cycle) = (0, true);
                continue;
            }
            let next = &text[said..text.len().min(said + script.chunk_bytes)];
            tokio::select! {
                ready = self.stream.readable(), if script.reads => {
                    ready?;
                    if self.read(&mut buffer)? == Some(0) {
                        return Ok(());
                    }
                }
                wrote = self.write_some(next), if !next.is_empty() => {
                    said += wrote?;
                    if !script.pause.is_zero() {
                        sleep(script.pause).await;
                    }
                }
                // One that neither reads nor has anything to say.
                () = std::future::pending(), if !script.reads && next.is_empty() => {}
            }
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write_some(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Writes as much as there is room for, once there is some.
    async fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        // Each round waits for room.
        loop {
            match self.stream.try_write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                wrote => {
                    self.standing.waiting.set(None);
                    self.common.tally.borrow_mut().sent_bytes += *wrote.as_ref().unwrap_or(&0) as u64;
                    // One that finds room each time must not keep the thread.
                    tokio::task::coop::consume_budget().await;
                    return wrote;
                }
            }
            if self.standing.waiting.get().is_none() {
                self.standing.waiting.set(Some(Instant::now()));
            }
            self.stream.writable().await?;
        }
    }

    /// Reads what there is: `Some(0)` is the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.try_read(buffer) {
            Ok(bytes) => {
                self.common.tally.borrow_mut().received_bytes += bytes as u64;
                self.tail.extend_from_slice(&buffer[bytes.saturating_sub(TAIL_BYTES)..bytes]);
                let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
                self.tail.drain(..surplus);
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How the connection ended. A server that closes in order while we still send resets the connection behind its Close frame, which
    /// is what is told then.
    fn end(&mut self, said: io::Result<()>, script: &Script) -> String {
        if script.reads && said.is_err() {
            let mut rest = vec![0; ATTACK_READ_BYTES];
            // Bounded by what the kernel still holds.
            while matches!(self.read(&mut rest), Ok(Some(1..))) {}
        }
        match (close_code(&self.tail), said) {
            (Some(code), _) => format!("close {code}"),
            (None, Ok(())) if script.head == Head::Whole => "FIN".to_owned(),
            (None, Ok(())) => drip_end(Ok(&self.tail)),
            (None, Err(error)) => drip_end(Err(error.kind())),
        }
    }
}

/// The code of the unmasked Close frame that these last bytes of a connection end with.
fn close_code(tail: &[u8]) -> Option<u16> {
    (0..tail.len()).find_map(|at| match &tail[at..] {
        [0x88, length, high, low, rest @ ..] if usize::from(*length) == 2 + rest.len() => {
            Some(u16::from_be_bytes([*high, *low]))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_frame_is_found_at_the_end_only() {
        let frame = [&[0x88, 5, 0x03, 0xf1][..], b"bye"].concat();
        assert_eq!(close_code(&[&[0x81, 1, b'x'][..], &frame].concat()), Some(1009));
        assert_eq!(close_code(&[&frame[..], b"x"].concat()), None);
        assert_eq!((close_code(b""), close_code(&frame[1..])), (None, None));
    }
}
