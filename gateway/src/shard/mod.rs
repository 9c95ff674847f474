//! A shard: one thread, its rings, one slab. It ties the stages together and shares nothing but mailboxes.
//!
//! A turn: sleep in the rings, take completions under a budget, take effects from the mailbox under another, offer held
//! requests to the router again, sweep the slots that are due, and look at every connection that was touched. No turn
//! looks at every connection; it does look at every ring, for a load or two (`ring/set.rs`).

mod accept;
mod backlog;
mod bounds;
mod busy;
mod company;
mod drain;
mod effects;
mod goodbye;
mod greedy;
mod handshakes;
mod input;
mod inquiry;
mod life;
mod outboxes;
mod parked;
mod probe;
mod proxied;
mod publish;
mod relief;
mod slot;
mod stats;
mod trace;

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use quanta::Instant;
use roost_proto::tier::{Effect, Full, Request};
use rustc_hash::FxBuildHasher;

use crate::{
    admission::Gate,
    conn::{Ask, JsonEvent, Moment, Note, Rules},
    limits,
    mailbox::Receiver,
    ring::{Completion, GENERATIONS, Op, Ring},
    slab::Slab,
    timers::{Clock, Sweep, Tick},
};
use backlog::Backlog;
pub use bounds::Bounds;
use company::Company;
use drain::Drain;
pub use drain::DrainRule;
use greedy::Greedy;
pub use handshakes::Handshakes;
use handshakes::UnderWay;
use inquiry::Look;
pub use inquiry::{Answer, Desk, Found, Inquiry};
use outboxes::Outboxes;
use probe::Probe;
use proxied::Clients;
use relief::Relief;
use slot::{DIRTY, ENDED, FAILED, PAUSED, SENDING, Slot};
pub use stats::{CLOSE_CODES, Cell, LATENCY_US, Latencies, PEER_CLOSE_CODES, REFUSAL_STATUSES, Stats};
use trace::Step;

/// The way from a shard to the router; it must not block.
pub trait Uplink: Send {
    /// # Errors
    /// The router's queue is full; the request comes back.
    fn submit(&self, request: Request) -> Result<(), Full>;
}

/// What all shards of a process look at.
#[derive(Default)]
pub struct Shared {
    /// No more is accepted, and who is inside is sent away.
    pub draining: AtomicBool,
    /// How fast.
    pub drain: DrainRule,
    /// A drained shard ends; set by whoever waits for it.
    pub stopping: AtomicBool,
    /// Connections of the process that were let in, until they are closed; those being refused are not among them.
    pub connections: AtomicU64,
    /// Whether new sessions are let in.
    pub gate: Gate,
    /// `--proxy-protocol`: each connection begins with the header of a proxy.
    pub proxy_protocol: bool,
    /// What an operator wants to know.
    pub desk: Desk,
}

/// What a shard is made of.
pub struct Parts<R> {
    /// Its number.
    pub number: u16,
    /// Its rings, opened on this thread.
    pub ring: R,
    /// The rules of every connection.
    pub rules: Arc<Rules>,
    /// `--max-connections`, of the process.
    pub connections_max: u64,
    /// `--heartbeat-s`.
    pub heartbeat_s: u32,
    /// The router; `None` with `--backend echo`.
    pub uplink: Option<Box<dyn Uplink>>,
    /// What the router wants done.
    pub mailbox: Receiver<Effect>,
    /// Common to all shards.
    pub shared: Arc<Shared>,
    /// This shard's counters.
    pub stats: Arc<Stats>,
}

/// A running shard.
pub struct Shard<R> {
    parts: Parts<R>,
    slab: Slab<Slot>,
    outboxes: Outboxes,
    company: Company,
    clients: Clients,
    probe: Probe,
    /// Of [`Shared::desk`].
    inquiries_seen: u64,
    look: Option<Look>,
    clock: Clock,
    now: Tick,
    /// The same in a finer unit, for what connections may send.
    moment: Moment,
    /// Milliseconds of its age, when the turn began.
    now_ms: u64,
    sweep: Sweep,
    /// The tick in which an accept failed: the machine is out of files or memory, and trying again at once is no use.
    accept_failed: Option<Tick>,
    /// Occupied slots that are not [`ADMITTED`].
    refusing: u32,
    handshakes: UnderWay,
    relief: Relief,
    /// Once the process drains.
    drain: Option<Drain>,
    assembly_bytes: usize,
    backlog: Backlog,
    /// Connections that are not read until the backlog is empty.
    held: Vec<(u32, u32)>,
    /// Input of paused connections, by slot; its bytes are among `assembly_bytes`.
    parked: HashMap<u32, Vec<u8>, FxBuildHasher>,
    /// Bytes that came of connections after we said goodbye to them, by slot.
    discarded: HashMap<u32, usize, FxBuildHasher>,
    /// Connections that may go on with it in the next turn, by slot and generation; each at most once.
    resumed: Vec<(u32, u32)>,
    /// Connections received by multishot receive, by slot and generation.
    busy: Vec<(u32, u32)>,
    /// Connections that wait for a read buffer, each at most once.
    thirsty: VecDeque<u32>,
    greedy: Greedy,
    /// Connections to look at before the turn ends.
    dirty: Vec<u32>,
    asks: Vec<Ask>,
    notes: Vec<Note>,
    scratch: Vec<u8>,
    json_event: JsonEvent,
}

impl<R: Ring> Shard<R> {
    /// A shard that accepts from its first turn on.
    pub fn new(parts: Parts<R>) -> Self {
        let shard = Self {
            parts,
            slab: Slab::new(GENERATIONS),
            outboxes: Outboxes::default(),
            company: Company::default(),
            clients: Clients::default(),
            probe: Probe::default(),
            inquiries_seen: 0,
            look: None,
            clock: Clock::new(Instant::now()),
            now: Tick::default(),
            moment: Moment::default(),
            now_ms: 0,
            sweep: Sweep::default(),
            accept_failed: None,
            refusing: 0,
            handshakes: UnderWay::default(),
            relief: Relief::default(),
            drain: None,
            assembly_bytes: 0,
            backlog: Backlog::default(),
            held: Vec::new(),
            parked: HashMap::default(),
            discarded: HashMap::default(),
            resumed: Vec::new(),
            busy: Vec::new(),
            thirsty: VecDeque::new(),
            greedy: Greedy::default(),
            dirty: Vec::new(),
            asks: Vec::new(),
            notes: Vec::new(),
            scratch: Vec::new(),
            json_event: JsonEvent::default(),
        };
        shard.publish();
        shard
    }

    /// Runs until the process drains and every connection is gone, or `stopping` is set.
    ///
    /// # Errors
    /// The ring failed for good.
    pub fn run(mut self) -> io::Result<()> {
        let mut completions = Vec::new();
        while !self.finished() {
            self.turn(&mut completions)?;
        }
        Ok(())
    }

    /// One turn of the loop.
    ///
    /// # Errors
    /// The ring failed for good.
    pub fn turn(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        let before = Instant::now();
        self.parts.ring.wait(self.sleep(before), completions)?;
        self.parts.mailbox.awake();
        let instant = Instant::now();
        self.count_turn(completions, instant - before);
        self.moment = Moment::at(self.clock.age(instant));
        self.now_ms = self.clock.age(instant).as_millis() as u64;
        let ended = std::mem::replace(&mut self.now, self.clock.tick(instant));
        if self.now != ended {
            self.tick(ended, instant, completions);
        }
        for completion in completions.drain(..) {
            self.dispatch(completion);
        }
        self.take_effects();
        self.offer_backlog();
        self.inquire();
        if self.parts.shared.draining.load(Ordering::Relaxed) {
            self.drain(self.clock.age(instant));
        }
        self.sweep(self.clock.age(instant));
        self.read_thirsty();
        self.read_greedy();
        self.take_parked();
        self.relieve();
        self.send_due();
        self.settle_dirty();
        self.keep_accepting();
        self.publish();
        Ok(())
    }

    /// Once a tick, before its first completion is looked at: judges the busy and gives back what a storm left behind.
    fn tick(&mut self, ended: Tick, now: Instant, completions: &mut Vec<Completion>) {
        self.probe.rest(now);
        self.look_at_busy(ended);
        self.parts.ring.rest();
        self.outboxes.rest();
        self.company.rest();
        self.json_event.rest();
        self.greedy.rest();
        self.rest_handshakes();
        completions.shrink_to(limits::KEPT_LIST_ITEMS);
        self.dirty.shrink_to(limits::KEPT_LIST_ITEMS);
        self.held.shrink_to(limits::KEPT_LIST_ITEMS);
        self.thirsty.shrink_to(limits::KEPT_LIST_ITEMS);
        self.parked.shrink_to(limits::KEPT_LIST_ITEMS);
        self.discarded.shrink_to(limits::KEPT_LIST_ITEMS);
        self.backlog.rest();
        self.scratch.shrink_to(limits::KEPT_BUFFER_BYTES_MAX);
    }

    fn finished(&self) -> bool {
        let shared = &self.parts.shared;
        shared.stopping.load(Ordering::Relaxed)
            || (shared.draining.load(Ordering::Relaxed)
                && self.slab.live() == 0
                && self.backlog.is_empty()
                && self.parts.ring.occupancy().accepts == 0)
    }

    /// How long the rings may sleep: not at all when there is work already, briefly when the router could not take all,
    /// and not beyond the next slice of the sweep, nor beyond the time of an outbox that waits.
    fn sleep(&self, now: Instant) -> Duration {
        // First of all: who asks for a drain or a look after this sees it asleep, and wakes it.
        let may_sleep = self.parts.mailbox.may_sleep();
        let drain_begins = self.parts.shared.draining.load(Ordering::Relaxed) && self.drain.is_none();
        let waiting = !(self.thirsty.is_empty() && self.resumed.is_empty() && self.greedy.is_idle());
        if !may_sleep || drain_begins || waiting || self.is_looking() {
            return Duration::ZERO;
        }
        let age = self.clock.age(now);
        let sweep = self.sweep.due_in(self.slab.slots(), age);
        let sleep = self.company.due_in(age.as_millis() as u64).map_or(sweep, |due| due.min(sweep));
        let sleep =
            self.drain.as_ref().and_then(|drain| drain.due_in(age)).map_or(sleep, |due| due.min(sleep));
        let most_ms = match (self.backlog.is_empty(), self.is_pressed()) {
            (false, _) => limits::BACKLOG_RETRY_MS,
            (true, true) => limits::RELIEF_RETRY_MS,
            (true, false) => return sleep,
        };
        sleep.min(Duration::from_millis(most_ms))
    }

    fn dispatch(&mut self, completion: Completion) {
        let (slot, generation) = (completion.token.slot(), completion.token.generation());
        match completion.token.op() {
            Some(Op::Accept) => self.accepted(&completion),
            Some(Op::Poll) if self.slab.holds(slot, generation) => self.polled(slot, &completion),
            Some(Op::Read) if self.slab.holds(slot, generation) => self.read(slot, &completion),
            Some(Op::Receive) if self.slab.holds(slot, generation) => self.received(slot, &completion),
            Some(Op::Send) if self.slab.holds(slot, generation) => self.sent(slot, completion),
            Some(Op::Shutdown) if self.slab.holds(slot, generation) => self.shut(slot),
            Some(Op::Close) if self.slab.holds(slot, generation) => self.closed(slot),
            // The one who was asked about may be gone: the address is taken all the same.
            Some(Op::Peer) => self.told_peer(completion.token),
            // A cancellation shows in the completion it causes; a wake-up in the mailbox.
            _ => {
                if let Some(buffer) = completion.buffer {
                    self.parts.ring.recycle(buffer);
                }
            }
        }
    }

    fn sent(&mut self, slot: u32, completion: Completion) {
        let bytes = completion.sent.unwrap_or_default();
        let flags = &mut self.slab[slot].flags;
        flags.set(SENDING, false);
        // A short send is the last: the kernel goes on by itself (MSG_WAITALL) unless the socket failed.
        if usize::try_from(completion.result) != Ok(bytes.len()) {
            flags.set(ENDED | FAILED, true);
            self.drop_parked(slot);
        } else if flags.has(PAUSED) {
            // It is not read, so that it is not heard; but it takes.
            self.slab[slot].heard = self.now;
        }
        self.parts.stats.bytes_sent.add(completion.result.max(0) as u64);
        self.outboxes.arrived(bytes.len());
        self.outboxes.keep(bytes);
        self.touch_unsettled(slot);
    }

    /// Looks at `slot` before the turn ends, if there is anything to do for it.
    #[inline]
    fn touch_unsettled(&mut self, slot: u32) {
        if !self.slab[slot].is_settled() {
            self.touch(slot);
        }
    }

    /// Looks at `slot` before the turn ends.
    fn touch(&mut self, slot: u32) {
        let flags = &mut self.slab[slot].flags;
        if !flags.has(DIRTY) {
            flags.set(DIRTY, true);
            self.dirty.push(slot);
        }
    }

    /// Counts what the protocol noted of a connection, and tells it to the log.
    fn count_notes(&mut self, slot: u32) {
        if self.notes.is_empty() {
            return;
        }
        // Taken and put back, so that its memory serves every message.
        let mut notes = std::mem::take(&mut self.notes);
        for note in notes.drain(..) {
            let stats = &self.parts.stats;
            match note {
                Note::Upgraded => stats.upgraded.add(1),
                Note::Refused(status) => stats.refused(status).add(1),
                Note::Closed(code) => stats.closed(code).add(1),
                Note::ClosedByPeer(code) => stats.closed_by_peer(code).add(1),
                Note::Limited(limited) => stats.rate_limited[limited as usize].add(1),
                Note::Violation(_) => {}
            }
            self.trace(slot, Step::Noted(&note));
            if matches!(note, Note::Upgraded | Note::Refused(_)) {
                self.handshake_is_over(slot);
            }
        }
        self.notes = notes;
    }
}
