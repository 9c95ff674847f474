//! A partition: the streams of its users and the order of its conversations, as a deterministic state machine. Commands
//! and the time come in, effects and a batch of writes go out. It opens no file, reads no clock, starts no thread.
//!
//! The runtime applies commands to a batch, calls `flush`, commits the batch, and then calls `committed` (the effects may
//! leave) or `rollback` (nothing happened). Between two batches, `refill` reads waiting events for open windows.

mod account;
mod ack;
mod attach;
mod cache;
mod calls;
mod days;
mod feed;
mod forward;
mod groups;
mod history;
mod keys;
mod output;
mod presence;
mod read;
mod roster;
mod send;
mod sessions;
mod stream;
mod sweep;
mod trim;
mod undo;
mod users;
mod whisper;
mod window;
mod witness;

pub use attach::{CLOSE_POLICY, CLOSE_REPLACED};
pub use calls::CLOSE_REMOVED;
pub use groups::{group_home, group_receiver, joining};
pub use output::Output;
pub use send::receiver;
pub use window::Skip;

use crate::{
    api::{SessionId, UserId},
    config::Rules,
    error::StoreError,
    log::{self, command::Body},
    record::{self, State},
    store::{Batch, Store},
};
use buffa::Message;
use days::Days;
use groups::Groups;
use output::{error, frame};
use presence::Presence;
use roster::Rosters;
use rustc_hash::FxHashMap;
use sessions::{Key, Sessions};
use std::collections::VecDeque;
use sweep::Sweeper;
use trim::Untrimmed;
use users::Users;
use window::Window;

/// What a command reads and writes.
pub struct Tx<'a> {
    /// Committed state.
    pub store: &'a dyn Store,
    /// Writes of this batch so far; reads look here first.
    pub batch: &'a mut Batch,
    /// The command's time, Unix milliseconds.
    pub now_ms: u64,
    /// What comes of it.
    pub out: &'a mut Output,
}

/// The forwards to one other partition: `acked <= sent <= written`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The other has everything up to here; deleted from the outbox.
    pub acked: u64,
    /// Handed to the other's thread up to here since the start. Kept by the runtime.
    pub sent: u64,
    /// In the outbox up to here.
    pub written: u64,
}

/// One of a store's partitions.
pub struct Partition {
    number: u16,
    rules: Rules,
    /// The newest seq: milliseconds << 12 | counter. Message ids are seqs with this partition's number behind them.
    clock: u64,
    /// The same as it is stored: what is past it is of this batch.
    stored_clock: u64,
    /// By partition: the last forward applied from there.
    inbound: Vec<u64>,
    /// What this batch moved of those: from, where it stood before; newest last.
    inbound_undo: Vec<(u16, u64)>,
    /// By partition: the forwards to there.
    outgoing: Vec<Outgoing>,
    users: Users,
    /// Users whose record is `State::Changed`, each once.
    changed: Vec<UserId>,
    /// The newest event of each user that got one in this batch.
    appended: FxHashMap<UserId, u64>,
    /// Users with a device that is `registering`, each once.
    registering: Vec<UserId>,
    /// Registrations that a batch which failed took out of the cache and that could not be put back yet.
    unplaced: Vec<(UserId, record::Device)>,
    /// Devices that were registering when this batch removed them.
    removed: Vec<(UserId, record::Device)>,
    presence: Presence,
    groups: Groups,
    rosters: Rosters,
    /// Users: memory that is used again.
    members: Vec<UserId>,
    sessions: Sessions,
    /// Of those sessions that have events in flight or are queued in `refill`.
    windows: FxHashMap<Key, Window>,
    /// How to take back what this batch did to sessions, newest last.
    undo: Vec<undo::Undo>,
    /// Sessions with an open window and events on disk; each at most once (`Window::queued`).
    refill: VecDeque<Key>,
    days: Days,
    untrimmed: Untrimmed,
    /// Numbers of sessions: memory that is used again.
    numbers: Vec<u32>,
    sweeper: Sweeper,
    /// All sessions in the table's places below this one are to look for waiting events too.
    looks: usize,
}

impl Partition {
    /// Reads partition `number` of `count` from its store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(number: u16, count: u16, rules: Rules, store: &dyn Store) -> Result<Self, StoreError> {
        let mut partition = Self {
            number,
            rules,
            clock: 0,
            stored_clock: 0,
            inbound: vec![0; usize::from(count)],
            inbound_undo: Vec::new(),
            outgoing: vec![Outgoing::default(); usize::from(count)],
            users: Users::default(),
            changed: Vec::new(),
            appended: FxHashMap::default(),
            registering: Vec::new(),
            unplaced: Vec::new(),
            removed: Vec::new(),
            presence: Presence::default(),
            groups: Groups::default(),
            rosters: Rosters::default(),
            members: Vec::new(),
            sessions: Sessions::default(),
            windows: FxHashMap::default(),
            undo: Vec::new(),
            refill: VecDeque::new(),
            days: Days::default(),
            untrimmed: Untrimmed::default(),
            numbers: Vec::new(),
            sweeper: Sweeper::default(),
            looks: 0,
        };
        partition.reload(store)?;
        for outgoing in &mut partition.outgoing {
            outgoing.sent = outgoing.acked;
        }
        Ok(partition)
    }

    /// While a batch is being committed: this reads only, and tells nothing that the batch changes.
    pub fn goes_aside(&mut self, command: &Body, store: &dyn Store, now_ms: u64) -> bool {
        let (origin, notes_day) = match command {
            Body::Attach(attach) => (&attach.origin, true),
            Body::Events(events) => (&events.origin, true),
            Body::Devices(devices) => (&devices.origin, false),
            // What is being committed may change who reads what a group said.
            Body::History(history) => return history::is_of_pair(&history.fetch),
            _ => return false,
        };
        if self.appended.contains_key(&origin.user) || self.load(origin.user, store).is_err() {
            return false;
        }
        let record = self.users.get(origin.user).filter(|record| record.state == State::Stored);
        // An event of a group may be among what is being committed.
        let record = record.filter(|record| record.memberships == 0 || self.rosters.fresh.is_empty());
        let device = record.and_then(|record| record.device(origin.device));
        device.is_some_and(|device| !notes_day || device.seen_day == stream::day_of(now_ms))
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Sessions attached.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Pairs of a session and a user whose presence it follows.
    pub fn followers(&self) -> usize {
        self.presence.followers()
    }

    /// Memory of the session table, bytes.
    pub fn sessions_bytes(&self) -> usize {
        self.sessions.bytes()
    }

    /// Applies one command. After an error the batch must be rolled back.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn apply(&mut self, command: &Body, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        match command {
            Body::Attach(attach) => self.attach(&attach.origin, tx),
            Body::Detach(detach) => self.detach(&detach.origin, tx),
            Body::Send(send) => self.send(send, tx),
            Body::Ack(ack) => self.ack(&ack.origin, ack.up_to, tx),
            Body::Read(read) => self.read(&read.origin, &read.message, tx),
            Body::KeysPublish(publish) => self.publish_keys(&publish.origin, &publish.keys, tx),
            Body::KeysFetch(fetch) => self.fetch_keys(&fetch.origin, fetch.user, tx),
            Body::Watch(watch) => self.watch(&watch.origin, &watch.user, tx),
            Body::Typing(typing) => self.typing(&typing.origin, &typing.typing, tx),
            Body::Whisper(whisper) => self.hear_whisper(whisper, tx),
            Body::CreateAccount(account) => self.create_account(account.user, &account.password_hash, tx),
            Body::Inbound(inbound) => self.inbound(inbound, tx),
            Body::Taken(taken) => {
                self.taken(taken.to as u16, taken.up_to, tx);
                Ok(())
            }
            Body::Group(command) => self.group_command(command, tx),
            Body::Skip(skip) => self.skip(skip.user, skip.device, skip.up_to, tx),
            Body::Tick(_) => self.tick(tx),
            Body::History(history) => self.history(history, tx),
            Body::Events(events) => self.events(events, tx),
            Body::Devices(devices) => self.devices(&devices.origin, tx),
            Body::RemoveDevice(remove) => self.remove_device(&remove.origin, remove.device, tx),
            Body::Groups(groups) => self.groups(groups, tx),
        }
    }

    /// What is done when time has passed, whatever else happens.
    fn tick(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.answer_asks(tx)?;
        self.tell_presence(tx)?;
        self.watch_feeds(tx)?;
        self.note_days(tx)?;
        self.trim_rest(tx)?;
        self.sweep(tx)
    }

    /// Writes the records that this batch changed, and registrations.
    pub fn flush(&self, batch: &mut Batch) {
        self.flush_users(batch);
        if self.clock != self.stored_clock {
            let record = log::PartitionRecord { clock: self.clock };
            batch.put(record::clock(self.number), record.encode_to_bytes());
        }
    }

    /// What was flushed is durable.
    pub fn committed(&mut self) {
        self.undo.clear();
        self.inbound_undo.clear();
        self.appended.clear();
        self.stored_clock = self.clock;
        self.groups.committed();
        self.rosters.committed();
        self.users_are_stored();
    }

    /// The commands so far changed nothing that must be stored (`has_changes`): their effects may leave, and a batch that
    /// fails later does not take them back. Registrations go with a later batch.
    pub fn settled(&mut self) {
        self.undo.clear();
        self.groups.settled();
        self.rosters.settled();
        self.users_are_settled();
    }

    /// The batch is not durable: everything is again as the store has it, and sessions are as they were before the batch, or
    /// since `settled`. Sessions that were welcomed at once stay, and so do their registrations; sessions that went are gone.
    ///
    /// # Errors
    /// The store cannot be read. What tells other partitions that something is durable (`inbound_cursor`) is taken back all the
    /// same; nothing may be written before `recovered`.
    pub fn rollback(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        self.undo_in_memory();
        self.take_back_users(store)?;
        self.reload(store)
    }

    /// The store works again after a batch failed, which may have been stored after all or not: everything is as the store has
    /// it, and all sessions look for waiting events.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn recovered(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        self.undo_in_memory();
        self.groups = Groups::default();
        self.rosters.forget();
        self.reread_users(store)?;
        self.reload(store)?;
        self.sessions.all_are_behind();
        self.days.forget();
        self.looks = self.sessions.len();
        Ok(())
    }

    /// What needs no store, and comes before all that does: where the store cannot be read either, a cursor that was not
    /// stored would tell the source to delete what is nowhere else.
    fn undo_in_memory(&mut self) {
        self.undo_sessions();
        self.undo_inbound();
        self.groups.rollback();
        self.rosters.rollback();
        self.appended.clear();
        self.stored_clock = self.clock;
    }

    fn reload(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let clock = store.get(&record::clock(self.number))?;
        let clock = clock.map(record::decode::<log::PartitionRecord>).transpose()?;
        self.clock = clock.map_or(0, |record| record.clock);
        self.stored_clock = self.clock;
        for other in 0..self.outgoing.len() {
            let peer = other as u16;
            self.inbound[other] = record::number(store.get(&record::inbound(self.number, peer))?)?;
            let acked = record::number(store.get(&record::taken(self.number, peer))?)?;
            let mut written = acked;
            let (first, last) =
                (record::outbox(self.number, peer, acked + 1), record::outbox(self.number, peer, u64::MAX));
            store.scan(&first, &last, &mut |key, _| {
                written = record::last_u64(key);
                true
            })?;
            let sent = self.outgoing[other].sent.clamp(acked, written);
            self.outgoing[other] = Outgoing { acked, sent, written };
        }
        Ok(())
    }
}

/// The partition that is home of a user: the finaliser of `SplitMix64` spreads neighbouring telephone numbers.
pub fn home(user: UserId, partitions: u16) -> u16 {
    let mut x = user.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) % u64::from(partitions.max(1))) as u16
}

/// The partition that orders what two users say to each other: the home of the smaller number.
pub fn pair_home(one: UserId, other: UserId, partitions: u16) -> u16 {
    home(one.min(other), partitions)
}

/// The session a command came from.
pub fn session_of(origin: &log::Origin) -> SessionId {
    SessionId {
        gateway: origin.gateway as u16,
        shard: origin.shard as u16,
        slot: origin.slot,
        generation: origin.generation,
    }
}

#[cfg(test)]
mod tests;
