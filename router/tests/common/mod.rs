//! A gateway for tests: shards that keep what the router tells them, so that a test can wait for it.
#![allow(dead_code, reason = "each test file uses its part")]

use buffa::Message as _;
use roost_proto::v1::{self, ServerFrame, client_frame, event, server_frame};
use roost_router::{Action, Config, Effect, Handle, Outlet, Request, SessionId, UserId};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Waits end in a failure after this long.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Keeps effects; takes at most `room` at a time.
pub struct Shards {
    effects: Mutex<Vec<Effect>>,
    arrived: Condvar,
    pub room: AtomicUsize,
}

impl Default for Shards {
    fn default() -> Self {
        Self { effects: Mutex::default(), arrived: Condvar::new(), room: AtomicUsize::new(usize::MAX) }
    }
}

impl Outlet for Shards {
    fn deliver(&self, _shard: u16, effects: &mut VecDeque<Effect>) {
        let room = self.room.load(Ordering::SeqCst).min(effects.len());
        self.effects.lock().unwrap().extend(effects.drain(..room));
        self.arrived.notify_all();
    }
}

impl Shards {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Waits until the effects of a session satisfy this, and returns them.
    pub fn wait(&self, session: SessionId, what: &str, enough: impl Fn(&[Effect]) -> bool) -> Vec<Effect> {
        let deadline = Instant::now() + DEADLINE;
        let mut effects = self.effects.lock().unwrap();
        loop {
            let mine: Vec<Effect> = effects.iter().filter(|e| e.session == session).cloned().collect();
            if enough(&mine) {
                return mine;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what} for {session:?} in time; it has {mine:?}");
            effects = self.arrived.wait_timeout(effects, left).unwrap().0;
        }
    }

    pub fn reply(&self, session: SessionId, id: u32) -> ServerFrame {
        let effects = self.wait(session, "reply", |effects| frames(effects).iter().any(|f| f.reply_to == id));
        frames(&effects).into_iter().find(|frame| frame.reply_to == id).unwrap()
    }

    pub fn events(&self, session: SessionId, count: usize) -> Vec<v1::Event> {
        events(&self.wait(session, "events", |effects| events(effects).len() >= count))
    }

    pub fn now(&self, session: SessionId) -> Vec<Effect> {
        self.wait(session, "anything", |_| true)
    }
}

pub fn frames(effects: &[Effect]) -> Vec<ServerFrame> {
    let frame = |effect: &Effect| match &effect.action {
        Action::Frame(frame) => Some((**frame).clone()),
        _ => None,
    };
    effects.iter().filter_map(frame).collect()
}

pub fn events(effects: &[Effect]) -> Vec<v1::Event> {
    let event = |effect: &Effect| match &effect.action {
        Action::Event(bytes) => Some(v1::Event::decode_from_slice(bytes).unwrap()),
        _ => None,
    };
    effects.iter().filter_map(event).collect()
}

pub fn session(slot: u32) -> SessionId {
    SessionId { gateway: 0, shard: (slot % 2) as u16, slot, generation: 1 }
}

pub fn config(dir: &std::path::Path, threads: usize) -> Config {
    Config { threads, ..Config::at(dir) }
}

/// A device that is connected.
#[derive(Clone)]
pub struct Client {
    pub handle: Handle,
    pub shards: Arc<Shards>,
    pub session: SessionId,
    pub user: UserId,
    pub device: u32,
}

impl Client {
    pub fn attach(handle: &Handle, shards: &Arc<Shards>, slot: u32, user: UserId, device: u32) -> Self {
        let client =
            Self { handle: handle.clone(), shards: shards.clone(), session: session(slot), user, device };
        client.submit(Request::Attach { session: client.session, user, device });
        client
    }

    pub fn welcome(&self) -> v1::Welcome {
        let is_first = |effects: &[Effect]| !effects.is_empty();
        let effects = self.shards.wait(self.session, "Welcome", is_first);
        match &effects[0].action {
            Action::Frame(frame) => match &frame.body {
                Some(server_frame::Body::Welcome(welcome)) => (**welcome).clone(),
                other => panic!("not a Welcome: {other:?}"),
            },
            other => panic!("not a Welcome: {other:?}"),
        }
    }

    pub fn submit(&self, mut request: Request) {
        let deadline = Instant::now() + DEADLINE;
        while let Err(full) = self.handle.submit(request) {
            assert!(Instant::now() < deadline, "the router takes no requests");
            request = full.0;
            std::thread::yield_now();
        }
    }

    pub fn frame(&self, id: u32, body: impl Into<client_frame::Body>) {
        let (session, user, device) = (self.session, self.user, self.device);
        self.submit(Request::Frame { session, user, device, id, body: body.into() });
    }

    pub fn send(&self, id: u32, to: UserId, client_id: &str, text: &str) {
        self.frame(id, send(to, client_id, text));
    }

    pub fn sent(&self, id: u32) -> v1::Sent {
        match self.shards.reply(self.session, id).body {
            Some(server_frame::Body::Sent(sent)) => *sent,
            other => panic!("not a Sent: {other:?}"),
        }
    }

    pub fn error(&self, id: u32) -> v1::Error {
        match self.shards.reply(self.session, id).body {
            Some(server_frame::Body::Error(error)) => *error,
            other => panic!("not an Error: {other:?}"),
        }
    }

    pub fn messages(&self, count: usize) -> Vec<v1::Message> {
        let is_message = |event: v1::Event| match event.body {
            Some(event::Body::Message(message)) => Some(*message),
            _ => None,
        };
        self.shards.events(self.session, count).into_iter().filter_map(is_message).collect()
    }
}

pub fn send(to: UserId, client_id: &str, text: &str) -> v1::Send {
    v1::Send {
        to: v1::Address { to: Some(v1::address::To::User(to)) }.into(),
        client_id: client_id.as_bytes().to_vec().into(),
        payload: text.as_bytes().to_vec().into(),
        ..v1::Send::default()
    }
}
