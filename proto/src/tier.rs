//! What a gateway hands to the message tier behind it and what it gets back: the seam between `gateway/` and `router/`.
//!
//! It stands here so that neither imports the other; a gateway on another machine will speak the same.

use crate::v1::{GroupInfo, ServerFrame, client_frame};
use bytes::Bytes;

/// A user's number, 1 to 2^63-1 (`roost.proto`).
pub type UserId = u64;
/// A device's number within its user, 1 to 2^31-1 (`roost.proto`).
pub type DeviceId = u32;

/// Where a session lives: gateway, shard, slot of the shard's slab, and the slot's generation, so that a late
/// effect can never reach a successor in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// Number of the gateway process (0 in the embedded default).
    pub gateway: u16,
    /// Shard within the gateway.
    pub shard: u16,
    /// Slot within the shard's slab.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
}

/// What a gateway asks of the router.
#[derive(Debug)]
pub enum Request {
    /// A session was authenticated; answered by `Welcome`, then by the events past the device's cursor.
    Attach {
        /// The session.
        session: SessionId,
        /// Its user.
        user: UserId,
        /// Its device.
        device: DeviceId,
    },
    /// The session's connection is gone. Idempotent; a session that was replaced is ignored.
    Detach {
        /// The session.
        session: SessionId,
        /// Its user.
        user: UserId,
        /// Its device.
        device: DeviceId,
    },
    /// A frame with a body (heartbeats end in the gateway).
    Frame {
        /// The session it came from.
        session: SessionId,
        /// Its user.
        user: UserId,
        /// Its device.
        device: DeviceId,
        /// `ClientFrame.id`: 0 wants no answer.
        id: u32,
        /// What it asks.
        body: client_frame::Body,
    },
    /// A request of a user's device that needs no attached session: over HTTP, say. It has exactly one answer, by its `session`,
    /// which names whoever waits for it and is never attached: `Action::Frame` with `reply_to` = `id`, or `Action::Answer`.
    Call {
        /// Where the answer goes.
        session: SessionId,
        /// Its user.
        user: UserId,
        /// Its device.
        device: DeviceId,
        /// Not 0: the answer bears it.
        id: u32,
        /// What it asks.
        call: Call,
    },
}

/// What can be asked without a session.
#[derive(Debug)]
pub enum Call {
    /// A frame of the contract; answered as in a session, by `Action::Frame`.
    Frame(client_frame::Body),
    /// The events of the user's stream past a place, as this device would get them; no cursor moves. Answered by
    /// `Answer::Events`.
    Events {
        /// Events past this `seq`; none: past the device's cursor.
        after: Option<u64>,
        /// At most so many; the router has a limit of its own.
        limit: u32,
    },
    /// The user's devices; answered by `Answer::Devices`.
    Devices,
    /// Forgets a device of the user, and closes its session; answered by an empty frame.
    RemoveDevice {
        /// Which.
        device: DeviceId,
    },
    /// The groups the user is a member of; answered by `Answer::Groups`.
    Groups {
        /// Those whose number is above this one.
        after: u64,
    },
}

/// What a [`Call`] is answered with where the contract has no frame for it.
#[derive(Debug, Clone)]
pub enum Answer {
    /// For `Call::Events`.
    Events {
        /// Encoded `roost.v1.Event`s, by rising `seq`.
        events: Vec<Bytes>,
        /// Where to go on: nothing for this device stands between the last event and here.
        next: u64,
        /// More events are there past `next`.
        more: bool,
    },
    /// For `Call::Devices`: in the order of their first session.
    Devices(Vec<DeviceState>),
    /// For `Call::Groups`: as many as the router answers at once.
    Groups {
        /// By rising number.
        groups: Vec<GroupInfo>,
        /// There are more past the last of them.
        more: bool,
    },
}

/// A device of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceState {
    /// Its number.
    pub device: DeviceId,
    /// Its place in the stream.
    pub acknowledged: u64,
    /// When it was last seen, Unix milliseconds; 0 where that is not known.
    pub last_seen_ms: u64,
    /// It has a session now.
    pub connected: bool,
    /// Its one-time keys that are left on the server.
    pub one_time_keys: u32,
}

impl Request {
    /// It changes nothing that has to be stored, as a rule, so that it need not wait behind what does.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Attach { .. } => true,
            Self::Frame { body, .. } | Self::Call { call: Call::Frame(body), .. } => {
                matches!(body, client_frame::Body::History(_))
            }
            Self::Call { call, .. } => !matches!(call, Call::RemoveDevice { .. }),
            Self::Detach { .. } => false,
        }
    }
}

/// What the router wants a shard to do, after the batch that caused it is durable.
#[derive(Debug, Clone)]
pub struct Effect {
    /// For this session; dropped by the shard where the generation has moved on.
    pub session: SessionId,
    /// What to do.
    pub action: Action,
}

/// One thing a shard does for a session.
#[derive(Debug, Clone)]
pub enum Action {
    /// Send this frame (Welcome, Sent, Error, ...).
    Frame(Box<ServerFrame>),
    /// Send `ServerFrame { event }`: the bytes are the encoded `roost.v1.Event`, encoded once for all sessions.
    Event(Bytes),
    /// Send `GoAway` with the reason and close with this RFC 6455 close code.
    Close {
        /// Close code, RFC 6455 section 7.4.
        code: u16,
        /// For the `GoAway` and the close frame; at most 123 bytes.
        reason: &'static str,
    },
    /// The answer to a call; never for a shard's session.
    Answer(Box<Answer>),
}

/// The way back to the shards. Called from router threads; it must not block.
pub trait Outlet: Send + Sync + 'static {
    /// Hands effects over in order, taking those it has room for from the front of `effects` (all of one shard).
    /// What stays is offered again; meanwhile the router stops taking requests (limits: `effects_held_max`).
    fn deliver(&self, shard: u16, effects: &mut std::collections::VecDeque<Effect>);
}

/// The router's queue is full: the request comes back, to be offered again. The shard stops reading meanwhile.
#[derive(Debug)]
pub struct Full(pub Request);

/// How an account's creation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountOutcome {
    /// Durable now.
    Created,
    /// The number is taken.
    Exists,
    /// Not stored (disk full or failing); try again.
    Unavailable,
}
