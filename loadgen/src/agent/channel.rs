//! The way between coordinator and agent: TCP, and on it Noise `NNpsk0` (the Noise protocol framework, revision 34, sections 7.5 and 9) whose
//! key is the shared secret. Each Noise message has its length before it, two bytes, most significant first.
//!
//! Nothing of a peer is read as a message of ours before its handshake has shown that it knows the secret.

use super::limits::{
    HANDSHAKE_MAX, MESSAGE_BYTES_MAX, NOISE_BYTES_MAX, SECRET_BYTES_MAX, SECRET_BYTES_MIN, SILENCE_MAX,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use snow::{Builder, HandshakeState, StatelessTransportState};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// Both ends have to mean this protocol; another one with the same secret is no peer.
const PROLOGUE: &[u8] = b"roost-loadgen agent 1";

/// Both messages of the handshake: an ephemeral key of 32 bytes and a tag of 16.
const HANDSHAKE_BYTES: usize = 48;

/// What coordinator and agents share.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret of a file: its bytes without the newline at the end.
    ///
    /// # Errors
    /// One line for the user where the file cannot be read, or holds too little or too much. `flag` names the option.
    pub fn load(path: &Path, flag: &str) -> Result<Self, String> {
        let told = |what: &str| format!("{flag} {}: {what}", path.display());
        let file = std::fs::File::open(path).map_err(|error| told(&format!("cannot read it: {error}")))?;
        let mut bytes = Vec::new();
        let read = file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| told(&format!("cannot read it: {error}")))?;
        let key = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX as usize).contains(&key.len()) {
            return Err(told(&format!(
                "a shared secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, and this has {}; make one with: head -c 32 /dev/urandom | \
                 base64 > FILE",
                key.len()
            )));
        }
        Ok(Self::of(key))
    }

    /// The secret of these bytes.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::new().chain_update(PROLOGUE).chain_update(key).finalize().into())
    }

    fn builder(&self) -> Result<Builder<'_>, snow::Error> {
        let pattern = PATTERN.parse()?;
        Builder::new(pattern).prologue(PROLOGUE)?.psk(0, &self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The end that messages go into; may be shared by threads.
#[derive(Debug)]
pub struct Sender {
    noise: Arc<StatelessTransportState>,
    writing: Mutex<Writing>,
}

#[derive(Debug)]
struct Writing {
    stream: TcpStream,
    /// The number of the next message, which is its nonce.
    number: u64,
    buffer: Vec<u8>,
}

/// The end that messages come out of.
#[derive(Debug)]
pub struct Receiver {
    noise: Arc<StatelessTransportState>,
    stream: TcpStream,
    number: u64,
    sealed: Vec<u8>,
    opened: Vec<u8>,
}

/// Begins the handshake, as the coordinator does.
///
/// # Errors
/// In a sentence, what the other end did. `InvalidData` where it answered with what this secret does not open; [`is_closed`] where it closed
/// the connection instead of answering.
pub fn call(mut stream: TcpStream, secret: &Secret) -> io::Result<(Sender, Receiver)> {
    let mut noise = secret.builder().and_then(Builder::build_initiator).map_err(|error| broken(&error))?;
    prepare(&stream)?;
    let answered = speak(&mut noise, &mut stream).and_then(|()| listen(&mut noise, &mut stream));
    answered.map_err(|error| match error.kind() {
        ErrorKind::InvalidData => io::Error::new(
            error.kind(),
            "it refused the handshake: it has another secret, or is no roost-loadgen agent",
        ),
        _ if is_closed(&error) => io::Error::new(
            error.kind(),
            "it closed the connection before it answered: too many others call it at once, or it is no roost-loadgen agent; look at what it \
             says, and who else reaches its port",
        ),
        _ => timeless(error),
    })?;
    split(noise, stream)
}

/// Whether the error is that the other end closed the connection.
pub fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Answers the handshake, as an agent does.
///
/// # Errors
/// In a sentence, what the other end did.
pub fn answer(mut stream: TcpStream, secret: &Secret) -> io::Result<(Sender, Receiver)> {
    let mut noise = secret.builder().and_then(Builder::build_responder).map_err(|error| broken(&error))?;
    prepare(&stream)?;
    listen(&mut noise, &mut stream).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => {
            // An answer that opens with no secret: the other end can tell this from a connection that was closed for want of a place. It may
            // have hung up.
            let _ = stream.write_all(&[0; HANDSHAKE_BYTES]);
            io::Error::new(error.kind(), "it has another secret, or is no roost-loadgen coordinator")
        }
        _ => timeless(error),
    })?;
    speak(&mut noise, &mut stream)?;
    split(noise, stream)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(SILENCE_MAX))
}

fn speak(noise: &mut HandshakeState, stream: &mut TcpStream) -> io::Result<()> {
    let mut message = [0; HANDSHAKE_BYTES];
    let length = noise.write_message(&[], &mut message).map_err(|error| broken(&error))?;
    stream.write_all(&message[..length])
}

fn listen(noise: &mut HandshakeState, stream: &mut TcpStream) -> io::Result<()> {
    let mut message = [0; HANDSHAKE_BYTES];
    let end = Instant::now() + HANDSHAKE_MAX;
    let mut read = 0;
    while read < message.len() {
        // One deadline for all of it: a byte now and then does not hold the place of others.
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        read += match stream.read(&mut message[read..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(some) if Instant::now() < end => some,
            Ok(_) => return Err(ErrorKind::TimedOut.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
    }
    noise.read_message(&message, &mut []).map(|_| ()).map_err(|error| broken(&error))
}

fn split(noise: HandshakeState, stream: TcpStream) -> io::Result<(Sender, Receiver)> {
    let noise = Arc::new(noise.into_stateless_transport_mode().map_err(|error| broken(&error))?);
    let writing = Writing { stream: stream.try_clone()?, number: 0, buffer: vec![0; 2 + NOISE_BYTES_MAX] };
    let sender = Sender { noise: noise.clone(), writing: Mutex::new(writing) };
    Ok((sender, Receiver { noise, stream, number: 0, sealed: Vec::new(), opened: vec![0; NOISE_BYTES_MAX] }))
}

impl Sender {
    /// Sends a message. After an error the channel is of no use.
    ///
    /// # Errors
    /// `InvalidInput` where the message is longer than [`MESSAGE_BYTES_MAX`]; else what the socket returns.
    pub fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let plain = postcard::to_stdvec(message).map_err(io::Error::other)?;
        if plain.len() > MESSAGE_BYTES_MAX {
            let told = format!("a message of {} bytes is more than {MESSAGE_BYTES_MAX}", plain.len());
            return Err(io::Error::new(ErrorKind::InvalidInput, told));
        }
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Writing { stream, number, buffer } = &mut *writing;
        let length =
            self.noise.write_message(*number, &plain, &mut buffer[2..]).map_err(|error| broken(&error))?;
        buffer[..2].copy_from_slice(&(length as u16).to_be_bytes());
        *number += 1;
        stream.write_all(&buffer[..2 + length]).map_err(timeless)
    }

    /// Ends the connection both ways: a receiver that waits, here or there, hears of it.
    pub fn hang_up(&self) {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have ended already.
        let _ = writing.stream.shutdown(std::net::Shutdown::Both);
    }
}

impl Receiver {
    /// How long [`Self::receive`] waits from now on.
    ///
    /// # Errors
    /// What setsockopt(2) returns.
    pub fn patience(&self, longest: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(longest))
    }

    /// Waits for the next message. After an error the channel is of no use.
    ///
    /// # Errors
    /// `InvalidData` where it was changed on its way or is none of ours; else what the socket returns.
    pub fn receive<M: DeserializeOwned>(&mut self) -> io::Result<M> {
        let mut length = [0; 2];
        self.stream.read_exact(&mut length).map_err(timeless)?;
        self.sealed.resize(usize::from(u16::from_be_bytes(length)), 0);
        self.stream.read_exact(&mut self.sealed).map_err(timeless)?;
        let opened = self
            .noise
            .read_message(self.number, &self.sealed, &mut self.opened)
            .map_err(|error| broken(&error))?;
        self.number += 1;
        postcard::from_bytes(&self.opened[..opened]).map_err(|error| {
            io::Error::new(
                ErrorKind::InvalidData,
                format!("it sent a message that is none of ours ({error})"),
            )
        })
    }
}

fn broken(error: &snow::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("its message cannot be opened ({error:?})"))
}

/// What the kernel calls EAGAIN after a timeout, and the end of a stream, in words.
fn timeless(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            io::Error::new(ErrorKind::TimedOut, "it has been silent for too long")
        }
        ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it closed the connection"),
        _ => error,
    }
}
