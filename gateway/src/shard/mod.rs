//! A shard: one thread, one ring, one slab. It ties the stages together and shares nothing but mailboxes.
//!
//! A turn: sleep in the ring, take all completions, take effects from the mailbox under a budget, offer held requests
//! to the router again, look at every connection that was touched, and once a tick sweep a slice of the slab.

mod effects;
mod input;
mod life;
mod slot;
mod stats;

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use quanta::Instant;
use roost_proto::tier::{Effect, Full, Request};

use crate::{
    conn::{Ask, Note, Rules},
    limits,
    mailbox::Receiver,
    ring::{Completion, Descriptor, GENERATIONS, Op, Ring, Token},
    slab::Slab,
    timers::{Clock, Sweep, Tick},
};
use slot::{ADMITTED, DIRTY, ENDED, Outboxes, RECEIVING, SENDING, Slot};
pub use stats::{CLOSE_CODES, Cell, REFUSAL_STATUSES, Stats};

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
    /// A drained shard ends; set by whoever waits for it.
    pub stopping: AtomicBool,
    /// Connections of the process that were let in, until they are closed; those being refused are not among them.
    pub connections: AtomicU64,
}

/// What a shard is made of.
pub struct Parts<R> {
    /// Its number.
    pub number: u16,
    /// Its ring, opened on this thread.
    pub ring: R,
    /// Places in the ring's table of direct descriptors.
    pub descriptors: u32,
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
    clock: Clock,
    now: Tick,
    swept: Tick,
    sweep: Sweep,
    accepting: bool,
    /// The tick in which an accept failed: the machine is out of files or memory, and trying again at once is no use.
    accept_failed: Option<Tick>,
    drained: bool,
    assembly_bytes: usize,
    /// Requests the router had no room for, in order.
    backlog: VecDeque<Request>,
    /// Connections that are not read until the backlog is empty.
    held: Vec<(u32, u32)>,
    /// Connections to look at before the turn ends.
    dirty: Vec<u32>,
    asks: Vec<Ask>,
    notes: Vec<Note>,
    scratch: Vec<u8>,
}

impl<R: Ring> Shard<R> {
    /// A shard that accepts from its first turn on.
    pub fn new(parts: Parts<R>) -> Self {
        Self {
            parts,
            slab: Slab::new(GENERATIONS),
            outboxes: Outboxes::default(),
            clock: Clock::new(Instant::now()),
            now: Tick::default(),
            swept: Tick::default(),
            sweep: Sweep::default(),
            accepting: false,
            accept_failed: None,
            drained: false,
            assembly_bytes: 0,
            backlog: VecDeque::new(),
            held: Vec::new(),
            dirty: Vec::new(),
            asks: Vec::new(),
            notes: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Runs until the process drains and every connection is gone, or `stopping` is set.
    ///
    /// # Errors
    /// The ring failed for good.
    pub fn run(mut self) -> io::Result<()> {
        let mut completions = Vec::with_capacity(limits::RING_COMPLETIONS as usize);
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
        self.parts.ring.wait(self.sleep(), completions)?;
        self.parts.mailbox.awake();
        self.now = self.clock.tick(Instant::now());
        for completion in completions.drain(..) {
            self.dispatch(completion);
        }
        self.take_effects();
        self.offer_backlog();
        if self.parts.shared.draining.load(Ordering::Relaxed) {
            self.drain();
        }
        if self.now != self.swept {
            self.swept = self.now;
            self.sweep();
        }
        self.settle_dirty();
        self.keep_accepting();
        self.publish();
        Ok(())
    }

    fn finished(&self) -> bool {
        let shared = &self.parts.shared;
        shared.stopping.load(Ordering::Relaxed)
            || (shared.draining.load(Ordering::Relaxed) && self.slab.live() == 0 && self.backlog.is_empty())
    }

    /// How long the ring may sleep: not at all when the mailbox has work, briefly when the router could not take all.
    fn sleep(&self) -> Duration {
        if !self.parts.mailbox.may_sleep() {
            return Duration::ZERO;
        }
        if self.backlog.is_empty() {
            Duration::from_secs(limits::TICK_S)
        } else {
            Duration::from_millis(limits::BACKLOG_RETRY_MS)
        }
    }

    fn dispatch(&mut self, completion: Completion) {
        let (slot, generation) = (completion.token.slot(), completion.token.generation());
        match completion.token.op() {
            Some(Op::Accept) => self.accepted(&completion),
            Some(Op::Receive) if self.slab.holds(slot, generation) => self.received(slot, &completion),
            Some(Op::Send) if self.slab.holds(slot, generation) => self.sent(slot, completion),
            Some(Op::Shutdown) if self.slab.holds(slot, generation) => self.shut(slot),
            Some(Op::Close) if self.slab.holds(slot, generation) => self.closed(slot),
            // A cancellation shows in the completion it causes; a wake-up in the mailbox.
            _ => {
                if let Some(buffer) = completion.buffer {
                    self.parts.ring.recycle(buffer);
                }
            }
        }
    }

    fn accepted(&mut self, completion: &Completion) {
        if !completion.more {
            self.accepting = false;
        }
        if completion.result < 0 {
            // ENFILE and the like: the table or the machine is full. `keep_accepting` tries again in the next tick.
            if completion.result != -libc::ECANCELED {
                self.parts.stats.accept_errors.add(1);
                self.accept_failed = Some(self.now);
            }
            return;
        }
        let admitted = self.admit();
        let descriptor = Descriptor(completion.result as u32);
        let (slot, generation) = self.slab.insert(Slot::accepted(descriptor, !admitted, self.now));
        self.slab[slot].flags.set(ADMITTED, admitted);
        self.slab[slot].flags.set(RECEIVING, true);
        self.parts.ring.receive(descriptor, Token::new(Op::Receive, generation, slot));
        self.parts.stats.accepted.add(1);
    }

    /// Counts one more connection, if `--max-connections` has room. One that is refused takes no place: the next client
    /// need not wait until it is gone.
    fn admit(&self) -> bool {
        let (shared, most) = (&self.parts.shared, self.parts.connections_max);
        let one_more = |count| (count < most).then_some(count + 1);
        !shared.draining.load(Ordering::Relaxed)
            && shared.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// Accepts while there are places in the table; a client beyond them waits in the backlog instead of being reset.
    fn keep_accepting(&mut self) {
        let room = self.slab.live() + limits::DESCRIPTOR_HEADROOM / 4 < self.parts.descriptors;
        let wanted = room
            && self.accept_failed != Some(self.now)
            && !self.parts.shared.draining.load(Ordering::Relaxed);
        let token = Token::new(Op::Accept, 0, 0);
        if wanted && !self.accepting {
            self.parts.ring.accept(token);
        } else if !wanted && self.accepting {
            self.parts.ring.cancel(token);
            // The completion says so again; until then no second accept may be armed.
            return;
        }
        self.accepting = wanted;
    }

    fn sent(&mut self, slot: u32, completion: Completion) {
        let bytes = completion.sent.unwrap_or_default();
        let flags = &mut self.slab[slot].flags;
        flags.set(SENDING, false);
        // A short send is the last: the kernel goes on by itself (MSG_WAITALL) unless the socket failed.
        flags.set(ENDED, flags.has(ENDED) || usize::try_from(completion.result) != Ok(bytes.len()));
        self.parts.stats.bytes_sent.add(completion.result.max(0) as u64);
        self.outboxes.keep(bytes);
        self.touch(slot);
    }

    /// Looks at `slot` before the turn ends.
    fn touch(&mut self, slot: u32) {
        let flags = &mut self.slab[slot].flags;
        if !flags.has(DIRTY) {
            flags.set(DIRTY, true);
            self.dirty.push(slot);
        }
    }

    fn count_notes(&mut self) {
        let stats = &self.parts.stats;
        for note in self.notes.drain(..) {
            match note {
                Note::Upgraded => stats.upgraded.add(1),
                Note::Refused(status) => stats.refused(status).add(1),
                Note::Message => stats.messages_received.add(1),
                Note::Closed(code) => stats.closed(code).add(1),
            }
        }
    }

    fn publish(&self) {
        let stats = &self.parts.stats;
        stats.connections.set(u64::from(self.slab.live()));
        stats.outboxes.set(self.outboxes.in_use() as u64);
        stats.assembly_bytes.set(self.assembly_bytes as u64);
        stats.backlog_requests.set(self.backlog.len() as u64);
        stats.mailbox_effects.set(self.parts.mailbox.waiting() as u64);
    }
}
