//! One connection as a protocol: bytes in, bytes and asks out. It opens no socket, reads no clock, sees no ring.
//!
//! `allowance` counts what it may send, `proxy` reads whose connection a proxy passes on, `upgrade` answers the opening handshake, `session` speaks WebSocket after it.

mod allowance;
mod json_event;
mod proxy;
mod session;
mod upgrade;

pub use allowance::{Allowance, Limited, Moment, RATE_LIMITED, Rate, Rates};
pub use json_event::JsonEvent;
pub use proxy::{BadProxyHeader, Proxied, parse_proxy, proxy_bytes_wanted};
pub use session::{SHORT_OF_MEMORY, close_code};
pub use upgrade::PATH;

use std::{fmt, num::NonZeroU64};

use roost_proto::{
    codec::Encoding,
    frame::{Decoder, MessageKind, Violation},
    handshake::{Refusal, Upgrade},
    v1::client_frame,
};

/// Who a session belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User number, 1 to 2^63-1.
    pub user: u64,
    /// Device number, 1 to 2^31-1.
    pub device: u32,
}

/// Decides from the opening handshake who is there.
pub trait Authenticate: Send + Sync {
    /// # Errors
    /// The refusal to answer with, 401 in most cases.
    fn authenticate(&self, upgrade: &Upgrade<'_>) -> Result<Identity, Refusal>;
}

/// What stands behind the gateway (`--backend`).
pub enum Backend {
    /// Messages come back as they are; no authentication, any path, any sub-protocol.
    Echo,
    /// The product: authenticated sessions at `/v1/ws`, frames of `roost.proto`.
    Router(Box<dyn Authenticate>),
}

/// What is the same for every connection of a process.
pub struct Rules {
    /// What stands behind.
    pub backend: Backend,
    /// A message with more bytes is refused with close code 1009.
    pub message_bytes_max: u64,
    /// Bytes of partial messages and heads a shard may hold together.
    pub assembly_bytes_max: usize,
    /// What a connection of the product may send.
    pub rates: Rates,
}

/// What a connection asks of the tier behind the gateway.
#[derive(Debug, PartialEq)]
pub enum Ask {
    /// The upgrade was answered with 101; the session begins.
    Attach,
    /// A frame with a body.
    Frame {
        /// `ClientFrame.id`.
        id: u32,
        /// What it asks.
        body: client_frame::Body,
    },
}

/// What is to become of the connection after its input was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    Stay,
    /// All that was to be said is in the output: send it, then a FIN, then wait a while for the peer's.
    Finish,
    /// The peer said goodbye first and our answer is in the output: send it and close, RFC 6455 section 7.1.1.
    Over,
}

/// How an upgrade or a session ended, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Answered with 101.
    Upgraded,
    /// Refused with this HTTP status.
    Refused(u16),
    /// We closed with this code.
    Closed(u16),
    /// The peer closed with this code; 1005 where it gave none.
    ClosedByPeer(u16),
    /// A frame was beyond this limit.
    Limited(Limited),
    /// A frame was against the protocol; the close that follows says so.
    Violation(Violation),
}

/// Where output, asks and notes of one [`Conn::receive`] go.
pub struct Turn<'a> {
    /// Bytes to send, appended.
    pub out: &'a mut Vec<u8>,
    /// Asks, appended in order.
    pub asks: &'a mut Vec<Ask>,
    /// Notes for the counters.
    pub notes: &'a mut Vec<Note>,
    /// Whole messages that came in it.
    pub messages: u64,
    /// Bytes of partial input the shard's connections hold together; kept right by [`Conn`].
    pub assembly_bytes: &'a mut usize,
    /// Reused for encoding.
    pub scratch: &'a mut Vec<u8>,
    /// The time of the shard's turn.
    pub now: Moment,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing but (a part of) the request head came.
    #[default]
    Handshake,
    /// As `Handshake`, but there is no room: its upgrade will be answered with 503.
    Refusing,
    /// Upgraded, and the router was asked to begin the session. What comes before it has done so is kept as it came:
    /// the Welcome is the first frame of a session, whatever the client sends with its upgrade.
    Attaching,
    /// Messages flow.
    Open,
    /// We have sent a Close frame or a refusal: input is discarded, nothing more is said.
    Closed,
}

/// Input that is not whole yet; only such a connection holds memory of its own.
struct Partial {
    decoder: Decoder,
    kind: MessageKind,
    bytes: Vec<u8>,
}

/// The protocol's state of one connection.
#[derive(Default)]
pub struct Conn {
    /// [`Identity`] in two fields: as one it would end in four bytes that nobody uses.
    user: Option<NonZeroU64>,
    partial: Option<Box<Partial>>,
    allowance: Allowance,
    device: u32,
    phase: Phase,
    encoding: EncodingCell,
}

#[derive(Clone, Copy, Default)]
enum EncodingCell {
    Proto,
    #[default]
    Json,
}

impl Conn {
    /// A connection that was just accepted; `full` when it is one too many.
    pub fn accepted(full: bool) -> Self {
        Self { phase: if full { Phase::Refusing } else { Phase::Handshake }, ..Self::default() }
    }

    /// An upgrade that is still under way will be answered with 503.
    pub fn refuse_upgrade(&mut self) {
        if self.phase == Phase::Handshake {
            self.phase = Phase::Refusing;
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Who it is, once upgraded with authentication.
    pub fn identity(&self) -> Option<Identity> {
        self.user.map(|user| Identity { user: user.get(), device: self.device })
    }

    /// The encoding its sub-protocol chose.
    pub fn encoding(&self) -> Encoding {
        match self.encoding {
            EncodingCell::Proto => Encoding::Proto,
            EncodingCell::Json => Encoding::Json,
        }
    }

    /// Takes bytes from the socket (unmasking them in place).
    pub fn receive(&mut self, input: &mut [u8], rules: &Rules, turn: &mut Turn<'_>) -> Next {
        match self.phase {
            Phase::Handshake | Phase::Refusing => self.receive_head(input, rules, turn),
            Phase::Attaching => self.hold_frames(input, rules, turn),
            Phase::Open => self.receive_frames(input, rules, turn),
            Phase::Closed => Next::Stay,
        }
    }

    /// The router has begun the session. Returns the bytes that came before, to be received now.
    pub fn attached(&mut self, assembly_bytes: &mut usize) -> Vec<u8> {
        self.phase = Phase::Open;
        let early = self.partial.take().map(|partial| partial.bytes).unwrap_or_default();
        *assembly_bytes -= early.capacity();
        early
    }

    /// Bytes wait for the session to begin: no more should be read.
    pub fn is_early(&self) -> bool {
        self.phase == Phase::Attaching && self.partial.is_some()
    }

    /// Bytes that it holds of input that is not whole.
    pub fn partial_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.bytes.capacity())
    }

    /// Says goodbye with a Close frame (an upgrade that is still under way just ends) and takes no more input.
    pub fn close(&mut self, code: u16, reason: &str, turn: &mut Turn<'_>) -> Next {
        if matches!(self.phase, Phase::Attaching | Phase::Open) {
            roost_proto::frame::encode_close(code, reason, turn.out);
            turn.notes.push(Note::Closed(code));
        }
        self.end(turn.assembly_bytes);
        Next::Finish
    }

    /// Gives back what it holds; nothing is said any more.
    pub fn end(&mut self, assembly_bytes: &mut usize) {
        self.drop_partial(assembly_bytes);
        self.phase = Phase::Closed;
    }

    fn drop_partial(&mut self, assembly_bytes: &mut usize) {
        if let Some(partial) = self.partial.take() {
            *assembly_bytes -= partial.bytes.capacity();
        }
    }

    /// Appends to the partial input; false when the shard's assembly memory is used up.
    fn assemble(&mut self, bytes: &[u8], rules: &Rules, assembly_bytes: &mut usize) -> bool {
        let partial = self.partial.get_or_insert_with(|| Box::new(Partial::new(rules.message_bytes_max)));
        let before = partial.bytes.capacity();
        if *assembly_bytes + bytes.len() > rules.assembly_bytes_max {
            return false;
        }
        partial.bytes.extend_from_slice(bytes);
        *assembly_bytes += partial.bytes.capacity() - before;
        true
    }
}

impl Partial {
    fn new(message_bytes_max: u64) -> Self {
        Self { decoder: Decoder::new(message_bytes_max), kind: MessageKind::Binary, bytes: Vec::new() }
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Conn").field("phase", &self.phase).finish_non_exhaustive()
    }
}
