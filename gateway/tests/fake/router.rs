//! The tier behind the shard: a router that is full now and then, answers every frame, and has much to say unasked, also to sessions
//! that are gone. Each frame it says to a session bears the session's name and a number, so that one that arrives at another
//! connection, is lost or comes twice is seen.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use buffa::Message as _;
use roost_gateway::{
    conn::{Authenticate, Identity},
    shard::Uplink,
};
use roost_proto::{
    codec::Encoding,
    handshake::{Refusal, Upgrade},
    tier::{Action, Answer, Effect, Full, Request, SessionId},
    v1::{self, server_frame::Body},
};

use super::Fate;

/// Bytes of what is said in a flood: a few of them make a connection that takes nothing exceed its limit.
const FLOOD_BYTES: usize = 300 * 1_024;

/// Lets everybody in who names a user.
pub struct Anybody;

impl Authenticate for Anybody {
    fn authenticate(&self, upgrade: &Upgrade<'_>) -> Result<Identity, Refusal> {
        let user = upgrade.query_parameter("user").and_then(|user| user.parse().ok());
        Ok(Identity { user: user.ok_or(Refusal::NotFound)?, device: 1 })
    }
}

/// What the router knows of a session.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its name.
    pub session: SessionId,
    /// Whose it is.
    pub user: u64,
    /// Times it began and ended.
    pub attached: u32,
    /// See `attached`.
    pub detached: u32,
    /// The frames it sent, by number.
    pub frames: Vec<u32>,
    /// Numbers said to it so far.
    pub said: u64,
    /// It was told to go.
    pub closed: bool,
}

/// What lies before the router: sessions, in the order in which they began, and effects on their way.
#[derive(Default)]
pub struct Desk {
    /// All there ever were.
    pub sessions: Vec<Seen>,
    /// Not in the mailbox yet.
    pub effects: VecDeque<Effect>,
}

/// A router, shared by the shard (as its way up) and by the test.
#[derive(Clone)]
pub struct MoodyRouter {
    fate: Arc<Mutex<Fate>>,
    desk: Arc<Mutex<Desk>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MoodyRouter {
    /// One without sessions.
    pub fn new(fate: Fate) -> Self {
        Self { fate: Arc::new(Mutex::new(fate)), desk: Arc::default() }
    }

    /// What it knows.
    pub fn desk(&self) -> MutexGuard<'_, Desk> {
        locked(&self.desk)
    }

    /// Says something to somebody, unasked; `encoding` of a user's session.
    pub fn say(&self, encoding: impl Fn(u64) -> Encoding) {
        let (mut fate, mut desk) = (locked(&self.fate), locked(&self.desk));
        if desk.sessions.is_empty() || !fate.happens(40) {
            return;
        }
        let at = fate.pick(desk.sessions.len());
        let json = encoding(desk.sessions[at].user) == Encoding::Json;
        match fate.pick(64) {
            0..20 => desk.say(at, |tag, n| Action::Frame(Box::new(frame(0, tag, n)))),
            20..30 => desk.say(at, |tag, n| Action::Event(message(tag, n, 30).into())),
            30..40 => desk.say(at, |tag, n| Action::Event(receipt(tag, n).into())),
            // More than the mailbox holds.
            40..44 => {
                for _ in 0..20 {
                    desk.say(at, |tag, n| Action::Event(message(tag, n, 5_000).into()));
                }
            }
            44 if fate.happens(60) => {
                (0..16)
                    .for_each(|_| desk.say(at, |tag, n| Action::Event(message(tag, n, FLOOD_BYTES).into())));
            }
            45..47 => desk.close(at, 1013),
            47 => desk.close(at, 4_000),
            48..50 => desk.push(at, Action::Frame(Box::new(welcome()))),
            50 => desk.push(at, Action::Answer(Box::new(Answer::Devices(Vec::new())))),
            51 if json => desk.push(at, Action::Event(b"\xFFno event".to_vec().into())),
            52..60 => desk.say_to_nobody(at, &mut fate),
            _ => {}
        }
    }
}

impl Uplink for MoodyRouter {
    fn submit(&self, request: Request) -> Result<(), Full> {
        if locked(&self.fate).happens(77) {
            return Err(Full(request));
        }
        let mut desk = locked(&self.desk);
        match request {
            Request::Attach { session, user, .. } => {
                assert!(desk.sessions.iter().all(|seen| seen.session != session), "a session begins once");
                desk.sessions.push(Seen {
                    session,
                    user,
                    attached: 1,
                    detached: 0,
                    frames: Vec::new(),
                    said: 0,
                    closed: false,
                });
                let at = desk.sessions.len() - 1;
                desk.push(at, Action::Frame(Box::new(welcome())));
            }
            Request::Detach { session, user, .. } => {
                let at = desk.of(session, user);
                desk.sessions[at].detached += 1;
            }
            Request::Frame { session, user, id, .. } => {
                let at = desk.of(session, user);
                let seen = &mut desk.sessions[at];
                assert_eq!(seen.detached, 0, "frames come between attach and detach");
                seen.frames.push(id);
                desk.say(at, |tag, n| Action::Frame(Box::new(frame(id, tag, n))));
            }
            Request::Call { .. } => panic!("a shard makes no calls"),
        }
        Ok(())
    }
}

impl Desk {
    fn of(&self, session: SessionId, user: u64) -> usize {
        let at = self.sessions.iter().position(|seen| seen.session == session);
        let at = at.expect("a session begins before anything else");
        assert_eq!(self.sessions[at].user, user, "a session is one user's");
        at
    }

    fn push(&mut self, at: usize, action: Action) {
        self.effects.push_back(Effect { session: self.sessions[at].session, action });
    }

    fn say(&mut self, at: usize, action: impl FnOnce(u64, u64) -> Action) {
        let seen = &mut self.sessions[at];
        seen.said += 1;
        let action = action(tag(seen.session), seen.said);
        self.push(at, action);
    }

    fn close(&mut self, at: usize, code: u16) {
        self.sessions[at].closed = true;
        self.push(at, Action::Close { code, reason: "the router has had enough" });
    }

    /// To an earlier or a later holder of a slot, or to a slot that there never was. Number 0 must arrive nowhere.
    fn say_to_nobody(&mut self, at: usize, fate: &mut Fate) {
        let mut session = self.sessions[at].session;
        match fate.pick(3) {
            0 => session.generation = session.generation.wrapping_sub(1),
            1 => session.generation += 1_000,
            _ => session.slot = fate.one_of(&[session.slot + 1_000, 16_384, u32::MAX - 1, u32::MAX]),
        }
        // The one who was guessed may exist by now.
        if self.sessions.iter().all(|seen| seen.session != session) {
            let action = Action::Frame(Box::new(frame(0, 0, 0)));
            self.effects.push_back(Effect { session, action });
        }
    }
}

/// What names a session in the frames said to it.
pub fn tag(session: SessionId) -> u64 {
    u64::from(session.slot) << 32 | u64::from(session.generation)
}

/// The first frame of a session.
pub fn welcome() -> v1::ServerFrame {
    v1::ServerFrame { reply_to: 0, body: Some(v1::Welcome::default().into()) }
}

fn frame(reply_to: u32, tag: u64, number: u64) -> v1::ServerFrame {
    let sent = v1::Sent { id: tag, sent_at_ms: number, ..Default::default() };
    v1::ServerFrame { reply_to, body: Some(sent.into()) }
}

/// An event: a message of so many bytes.
pub fn message(tag: u64, number: u64, bytes: usize) -> Vec<u8> {
    let message = v1::Message { id: tag, payload: vec![7; bytes].into(), ..Default::default() };
    v1::Event { seq: number, body: Some(message.into()) }.encode_to_vec()
}

fn receipt(tag: u64, number: u64) -> Vec<u8> {
    let receipt = v1::Receipt { by: tag, ..Default::default() };
    v1::Event { seq: number, body: Some(receipt.into()) }.encode_to_vec()
}

/// The tag and the number of a frame that the router said, `None` for one of the gateway's own.
fn said(frame: &v1::ServerFrame) -> Option<(u64, u64)> {
    match frame.body.as_ref()? {
        Body::Sent(sent) => Some((sent.id, sent.sent_at_ms)),
        Body::Event(event) => match event.body.as_ref()? {
            v1::event::Body::Message(message) => Some((message.id, event.seq)),
            v1::event::Body::Receipt(receipt) => Some((receipt.by, event.seq)),
            v1::event::Body::Group(_) => None,
        },
        _ => None,
    }
}

impl Seen {
    /// A session's frames arrive in order, each once and none of another's, and the Welcome comes first. How many came.
    pub fn check(&self, frames: &[v1::ServerFrame]) -> u64 {
        let mut expected = 1;
        for (place, frame) in frames.iter().enumerate() {
            let is_welcome = matches!(frame.body, Some(Body::Welcome(_)));
            assert!(
                place > 0 || is_welcome || matches!(frame.body, Some(Body::GoAway(_))),
                "{frame:?} first"
            );
            if let Some(said) = said(frame) {
                assert_eq!(said, (tag(self.session), expected), "session {:?}", self.session);
                expected += 1;
            }
        }
        assert!(expected - 1 <= self.said);
        expected - 1
    }
}
