//! A whole shard with open sessions, on a clock that stands still but for what is counted.

use std::{
    cell::RefCell,
    collections::VecDeque,
    num::NonZeroU32,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quanta::Mock;
use roost_gateway::{
    conn::{Authenticate, Backend, Identity, Rate, Rates, Rules},
    mailbox::{self, Sender},
    ring::Completion,
    shard::{Parts, Shard, Uplink},
};
use roost_proto::{
    codec::Encoding,
    handshake::{Refusal, Upgrade},
    tier::{Action, Effect, Full, Request, SessionId},
    v1,
};

use crate::{
    feed::{Feed, FeedRing},
    frames,
};

/// Everybody is let in: log-in is not what is counted.
struct Anybody;

impl Authenticate for Anybody {
    fn authenticate(&self, _: &Upgrade<'_>) -> Result<Identity, Refusal> {
        Ok(Identity { user: 7, device: 1 })
    }
}

/// A router that remembers who is there, counts what it is asked, and forgets it.
#[derive(Clone, Default)]
struct Sink {
    sessions: Arc<Mutex<Vec<SessionId>>>,
    frames: Arc<AtomicU64>,
}

impl Uplink for Sink {
    fn submit(&self, request: Request) -> Result<(), Full> {
        match request {
            Request::Attach { session, .. } => self.sessions.lock().expect("no panic").push(session),
            _ => {
                self.frames.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// A shard and its open sessions.
pub struct Chat<'a> {
    shard: Shard<FeedRing>,
    feed: Rc<RefCell<Feed>>,
    router: Sink,
    mailbox: Sender<Effect>,
    time: &'a Mock,
    completions: Vec<Completion>,
}

impl<'a> Chat<'a> {
    /// So many sessions, upgraded and, but with `None` (the echo backend), welcomed in this encoding.
    pub fn open(sessions: u32, encoding: Option<Encoding>, time: &'a Mock) -> Self {
        let feed = Rc::new(RefCell::new(Feed::default()));
        let (sender, mailbox) = mailbox::mailbox(MAILBOX_EFFECTS).expect("an eventfd");
        let router = Sink::default();
        let backend = match encoding {
            Some(_) => Backend::Router(Box::new(Anybody)),
            None => Backend::Echo,
        };
        let shard = Shard::new(Parts {
            number: 0,
            ring: FeedRing::new(Rc::clone(&feed)),
            rules: Arc::new(Rules {
                backend,
                message_bytes_max: 64 << 10,
                assembly_bytes_max: 1 << 20,
                rates: Rates { frames: Some(rate(2_000, 10_000)), bytes: Some(rate(1 << 20, 16 << 20)) },
            }),
            connections_max: u64::MAX,
            heartbeat_s: 240,
            uplink: encoding.map(|_| Box::new(router.clone()) as Box<dyn Uplink>),
            mailbox,
            shared: Arc::default(),
            stats: Arc::default(),
        });
        let mut chat = Self { shard, feed, router, mailbox: sender, time, completions: Vec::new() };
        chat.feed.borrow_mut().accept(sessions);
        chat.turn();
        chat.receive(&frames::head(encoding));
        // The ticks of their handshakes are over, so that none of its reads counts among those that make them busy.
        chat.time.increment(Duration::from_secs(1));
        chat.turn();
        let welcome = v1::ServerFrame { body: Some(v1::Welcome::default().into()), ..Default::default() };
        let mut welcomes = chat.effects(|| Action::Frame(Box::new(welcome.clone())));
        assert_eq!(welcomes.len() as u32, encoding.map_or(0, |_| sessions), "every session is open");
        chat.deliver(&mut welcomes);
        chat
    }

    /// A turn, a millisecond after the last.
    fn turn(&mut self) {
        self.time.increment(Duration::from_millis(1));
        self.shard.turn(&mut self.completions).expect("these rings do not fail");
    }

    /// Every session receives `input`: the poll fires or the receive completes, it is read, and answers are sent.
    pub fn receive(&mut self, input: &[u8]) {
        self.feed.borrow_mut().arrive(input);
        while !self.feed.borrow().is_at_rest() {
            self.turn();
        }
    }

    /// The shard takes these effects and sends what they bring.
    pub fn deliver(&mut self, effects: &mut VecDeque<Effect>) {
        while !effects.is_empty() {
            self.mailbox.send_from(effects);
            self.turn();
        }
        while !self.feed.borrow().is_at_rest() {
            self.turn();
        }
    }

    /// An action for each session.
    pub fn effects(&self, action: impl Fn() -> Action) -> VecDeque<Effect> {
        let sessions = self.router.sessions.lock().expect("no panic");
        sessions.iter().map(|&session| Effect { session, action: action() }).collect()
    }

    /// Frames that the router was handed.
    pub fn handed_on(&self) -> u64 {
        self.router.frames.load(Ordering::Relaxed)
    }

    /// Sends so far.
    pub fn sends(&self) -> u64 {
        self.feed.borrow().sends
    }
}

fn rate(per_s: u32, burst: u32) -> Rate {
    Rate::new(Duration::from_secs(1) / per_s, NonZeroU32::new(burst).expect("some"))
}

const MAILBOX_EFFECTS: usize = 16_384;
