//! Random users, devices, sends, acknowledgements, losses and crashes against partitions, with a plain model beside them.
//!
//! A failing seed is named in the panic; `ROOST_SEED=n cargo test -p roost-router --test simulation` replays it.

use buffa::Message as _;
use roost_proto::v1::{self, event, server_frame};
use roost_router::{
    Action, Config, Effect, Rules, SessionId,
    log::{self, Forward, Origin, command::Body},
    partition::{Output, Partition, Tx, home, pair_home},
    record::Space,
    store::{Batch, FjallStore, MemoryStore, Store},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

const PARTITIONS: u16 = 5;
const USERS: u64 = 5;
const STEPS: usize = 250;

/// `SplitMix64`: the same seed gives the same run.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % n
    }
}

enum Wire {
    Forward(u16, u16, u64, Forward),
    Taken(u16, u16, u64),
}

/// A device and what its program remembers across crashes of the server.
#[derive(Default)]
struct Device {
    user: u64,
    number: u32,
    /// 0: not connected.
    generation: u32,
    last_seq: u64,
    acked: u64,
    events: BTreeMap<u64, v1::Event>,
    /// Sends without an answer, by `client_id`.
    waiting: BTreeMap<u64, u64>,
    /// It connects for the first time in the midst of it all.
    is_late: bool,
    /// Where the last Welcome said that it starts, while it may still be forgotten.
    told: Option<u64>,
    /// Where it starts for good: it was told so before a commit that succeeded.
    start: Option<u64>,
}

#[derive(Default)]
struct Model {
    /// Answered by Sent: id -> (from, from device, to).
    accepted: BTreeMap<u64, (u64, u32, u64)>,
    by_client_id: BTreeMap<(u64, u64), u64>,
    /// Read frames whose answer came.
    read: BTreeSet<(u64, u64)>,
}

struct Sim {
    rng: Rng,
    threads: u16,
    store: Arc<dyn Store>,
    /// The same, where it can fail.
    memory: Option<Arc<MemoryStore>>,
    failing: bool,
    partitions: Vec<Partition>,
    batch: Batch,
    out: Output,
    remote: Vec<(u16, u16, u64, Forward)>,
    heard: BTreeSet<(u16, u16)>,
    skips: Vec<(u16, Body)>,
    wire: VecDeque<Wire>,
    devices: Vec<Device>,
    model: Model,
    generation: u32,
    client_id: u64,
    now_ms: u64,
    pending_reads: BTreeMap<(usize, u32), Vec<u64>>,
    pending_acks: BTreeMap<(usize, u32), u64>,
    frame_id: u32,
}

fn rules() -> Rules {
    Rules { heartbeat_s: 1, window_events_max: 3, window_bytes_max: 400, ..Config::default().rules() }
}

fn open(store: &dyn Store) -> Vec<Partition> {
    (0..PARTITIONS).map(|n| Partition::open(n, PARTITIONS, rules(), store).unwrap()).collect()
}

impl Sim {
    fn new(seed: u64, store: Arc<dyn Store>, memory: Option<Arc<MemoryStore>>) -> Self {
        let mut rng = Rng(seed);
        let mut devices = Vec::new();
        for user in 1..=USERS {
            for number in 1..=1 + rng.below(3) as u32 {
                let is_late = rng.below(3) == 0;
                devices.push(Device { user, number, is_late, ..Device::default() });
            }
        }
        let threads = 1 + rng.below(3) as u16;
        let partitions = open(&*store);
        let mut sim = Self {
            rng,
            threads,
            store,
            memory,
            failing: false,
            partitions,
            batch: Batch::default(),
            out: Output::default(),
            remote: Vec::new(),
            heard: BTreeSet::new(),
            skips: Vec::new(),
            wire: VecDeque::new(),
            devices,
            model: Model::default(),
            generation: 0,
            client_id: 0,
            now_ms: 1_000_000,
            pending_reads: BTreeMap::new(),
            pending_acks: BTreeMap::new(),
            frame_id: 0,
        };
        for n in 0..sim.devices.len() {
            if !sim.devices[n].is_late {
                sim.attach(n);
            }
        }
        sim.calm_commit();
        sim
    }

    fn origin(&mut self, n: usize) -> Origin {
        self.frame_id += 1;
        let d = &self.devices[n];
        Origin {
            slot: n as u32,
            generation: d.generation,
            user: d.user,
            device: d.number,
            id: self.frame_id,
            ..Origin::default()
        }
    }

    fn apply(&mut self, partition: u16, body: &Body) {
        let mut tx =
            Tx { store: &*self.store, batch: &mut self.batch, now_ms: self.now_ms, out: &mut self.out };
        self.partitions[usize::from(partition)].apply(body, &mut tx).unwrap();
        for (from, to, forward) in std::mem::take(&mut tx.out.forwards) {
            if from % self.threads == to % self.threads
                && self.partitions[usize::from(from)].outbox_is_empty(to)
            {
                self.partitions[usize::from(to)].take_local(&forward, &mut tx).unwrap();
            } else {
                let seq = self.partitions[usize::from(from)].enqueue(to, &forward, &mut tx);
                self.remote.push((from, to, seq, forward));
            }
        }
        // A Welcome waits for no commit.
        let at_once = std::mem::take(&mut self.out.at_once);
        self.observe(at_once);
        if self.failing {
            self.apply_failing();
        }
    }

    /// What a thread does while its store fails: what needs no write is done, the rest is taken back.
    fn apply_failing(&mut self) {
        if self.has_changes() {
            self.roll_back();
        } else {
            self.partitions.iter_mut().for_each(Partition::settled);
            let effects = std::mem::take(&mut self.out.effects);
            self.observe(effects);
        }
    }

    fn has_changes(&self) -> bool {
        !self.batch.is_empty() || self.partitions.iter().any(Partition::has_changes)
    }

    fn roll_back(&mut self) {
        self.batch.clear();
        self.out.clear();
        self.remote.clear();
        self.heard.clear();
        let store = self.store.clone();
        self.partitions.iter_mut().for_each(|p| p.rollback(&*store).unwrap());
    }

    fn attach(&mut self, n: usize) {
        self.generation += 1;
        self.devices[n].generation = self.generation;
        let origin = self.origin(n);
        let user = self.devices[n].user;
        self.apply(home(user, PARTITIONS), &log::Attach { origin: origin.into() }.into());
    }

    fn detach(&mut self, n: usize) {
        let origin = self.origin(n);
        self.devices[n].generation = 0;
        self.apply(home(origin.user, PARTITIONS), &log::Detach { origin: origin.into() }.into());
    }

    fn send(&mut self, n: usize, to: u64, client_id: u64) {
        self.devices[n].waiting.insert(client_id, to);
        let size = self.rng.below(200) as usize;
        let send = v1::Send {
            to: v1::Address { to: Some(v1::address::To::User(to)) }.into(),
            client_id: client_id.to_be_bytes().to_vec().into(),
            payload: vec![1; size].into(),
            ..v1::Send::default()
        };
        let origin = self.origin(n);
        let partition = pair_home(origin.user, to, PARTITIONS);
        self.apply(
            partition,
            &log::Send { origin: origin.into(), send: send.into(), receiver_known: true }.into(),
        );
    }

    fn ack(&mut self, n: usize, up_to: u64) {
        let origin = self.origin(n);
        self.pending_acks.insert((n, origin.id), up_to);
        self.apply(home(origin.user, PARTITIONS), &log::Ack { origin: origin.into(), up_to }.into());
    }

    fn read(&mut self, n: usize, message: Vec<u64>) {
        let origin = self.origin(n);
        self.pending_reads.insert((n, origin.id), message.clone());
        self.apply(home(origin.user, PARTITIONS), &log::Read { origin: origin.into(), message }.into());
    }

    fn step(&mut self) {
        self.now_ms = (self.now_ms + self.rng.below(4)).saturating_sub(self.rng.below(2));
        let n = self.rng.below(self.devices.len() as u64) as usize;
        match self.rng.below(20) {
            0 => self.attach(n),
            1 => self.detach(n),
            2..=8 => {
                self.client_id += 1;
                let (to, client_id) = (1 + self.rng.below(USERS), self.client_id);
                self.send(n, to, client_id);
            }
            // Sent again, though it was perhaps answered.
            9 => {
                let again = self.devices[n].waiting.iter().next().map(|(id, to)| (*id, *to));
                if let Some((client_id, to)) = again {
                    self.send(n, to, client_id);
                }
            }
            10..=14 if self.devices[n].generation != 0 => {
                let device = &self.devices[n];
                let seen: Vec<u64> = device.events.range(device.acked..).map(|(seq, _)| *seq).collect();
                if !seen.is_empty() {
                    let up_to = seen[self.rng.below(seen.len() as u64) as usize];
                    self.ack(n, up_to);
                }
            }
            15 => {
                let seen: Vec<u64> = self.messages(n).into_iter().map(|m| m.id).collect();
                if !seen.is_empty() && self.devices[n].generation != 0 {
                    let message = seen[self.rng.below(seen.len() as u64) as usize];
                    self.read(n, vec![message, 12345]);
                }
            }
            16..=18 => self.deliver_wire(3),
            _ => self.commit(),
        }
    }

    fn messages(&self, n: usize) -> Vec<v1::Message> {
        let message = |event: &v1::Event| match &event.body {
            Some(event::Body::Message(m)) => Some((**m).clone()),
            _ => None,
        };
        self.devices[n].events.values().filter_map(message).collect()
    }

    fn deliver_wire(&mut self, count: usize) {
        for _ in 0..count {
            match self.wire.pop_front() {
                Some(Wire::Forward(from, to, seq, forward)) => {
                    self.heard.insert((from, to));
                    let inbound = log::Inbound { from: u32::from(from), seq, forward: forward.into() };
                    self.apply(to, &inbound.into());
                }
                Some(Wire::Taken(from, to, up_to)) => {
                    self.apply(from, &log::Taken { to: u32::from(to), up_to }.into());
                }
                None => {}
            }
        }
    }

    /// Ends the batch: mostly well, sometimes with a crash before or after the commit, sometimes it fails. A batch of nothing
    /// but registrations is at times left open.
    fn commit(&mut self) {
        let fate = self.rng.below(30);
        let skips = std::mem::take(&mut self.skips);
        for (n, body) in &skips {
            self.apply(*n, body);
        }
        if fate == 0 {
            return self.crash();
        }
        if !self.has_changes() && self.rng.below(2) == 0 {
            self.partitions.iter_mut().for_each(Partition::settled);
            return self.let_out();
        }
        self.partitions.iter().for_each(|p| p.flush(&mut self.batch));
        if fate <= 3
            && let Some(memory) = self.memory.clone()
        {
            self.skips = skips;
            return self.fail(&memory);
        }
        self.store.commit(&self.batch).unwrap();
        if fate == 4 {
            return self.crash();
        }
        self.batch.clear();
        self.partitions.iter_mut().for_each(Partition::committed);
        self.let_out();
        self.registered();
    }

    /// Whoever was welcomed before this commit is registered.
    fn registered(&mut self) {
        for device in &mut self.devices {
            device.start = device.start.or(device.told);
        }
    }

    /// The commit fails, devices come and go meanwhile, and the store comes back with what failed or without it.
    fn fail(&mut self, memory: &MemoryStore) {
        memory.failed_commits_land(self.rng.below(2) == 0);
        memory.fail(true);
        self.store.commit(&self.batch).unwrap_err();
        self.roll_back();
        self.failing = true;
        for _ in 0..self.rng.below(8) {
            let n = self.rng.below(self.devices.len() as u64) as usize;
            match self.rng.below(4) {
                0 | 1 => self.attach(n),
                2 => self.detach(n),
                _ if self.devices[n].generation != 0 => self.ack(n, self.devices[n].last_seq),
                _ => {}
            }
        }
        self.failing = false;
        memory.fail(false);
        self.store.recover().unwrap();
        if self.rng.below(4) == 0 {
            return self.crash();
        }
        let store = self.store.clone();
        self.partitions.iter_mut().for_each(|p| p.recovered(&*store).unwrap());
        self.resend();
        self.refill();
    }

    fn let_out(&mut self) {
        let effects = std::mem::take(&mut self.out.effects);
        self.out.clear();
        self.observe(effects);
        for (from, to, seq, forward) in std::mem::take(&mut self.remote) {
            self.partitions[usize::from(from)].set_sent(to, seq);
            self.wire.push_back(Wire::Forward(from, to, seq, forward));
        }
        for (from, to) in std::mem::take(&mut self.heard) {
            let up_to = self.partitions[usize::from(to)].inbound_cursor(from);
            // The answer is lost at times; a later one covers it.
            if self.rng.below(4) != 0 {
                self.wire.push_back(Wire::Taken(from, to, up_to));
            }
        }
        self.refill();
    }

    fn refill(&mut self) {
        let mut effects = Vec::new();
        for n in 0..PARTITIONS {
            while self.partitions[usize::from(n)].wants_refill() {
                for skip in
                    self.partitions[usize::from(n)].refill(&*self.store, self.now_ms, &mut effects).unwrap()
                {
                    let skip = log::Skip { user: skip.user, device: skip.device, up_to: skip.up_to };
                    self.skips.push((n, skip.into()));
                }
            }
        }
        self.observe(effects);
    }

    fn crash(&mut self) {
        self.batch.clear();
        self.out.clear();
        self.remote.clear();
        self.heard.clear();
        self.skips.clear();
        self.wire.clear();
        self.pending_reads.clear();
        self.pending_acks.clear();
        self.devices.iter_mut().for_each(|d| (d.generation, d.told) = (0, d.start));
        self.threads = 1 + self.rng.below(3) as u16;
        self.partitions = open(&*self.store);
        self.resend();
    }

    /// What outboxes hold goes out again, doubled with what may still be under way.
    fn resend(&mut self) {
        for from in 0..PARTITIONS {
            for to in 0..PARTITIONS {
                let outgoing = self.partitions[usize::from(from)].outgoing(to);
                for seq in outgoing.acked + 1..=outgoing.written {
                    let value = self.store.get(&roost_router::record::outbox(from, to, seq)).unwrap();
                    let forward =
                        Forward::decode_from_slice(&value.expect("an outbox has no holes")).unwrap();
                    self.wire.push_back(Wire::Forward(from, to, seq, forward));
                }
                self.partitions[usize::from(from)].set_sent(to, outgoing.written);
            }
        }
    }

    fn observe(&mut self, effects: Vec<Effect>) {
        for Effect { session: SessionId { slot, generation, .. }, action } in effects {
            let n = slot as usize;
            if self.devices[n].generation != generation {
                continue;
            }
            match action {
                Action::Event(bytes) => self.observe_event(n, &v1::Event::decode_from_slice(&bytes).unwrap()),
                Action::Frame(frame) => self.observe_frame(n, &frame),
                Action::Close { .. } => panic!("a current session was closed"),
                Action::Answer(_) => panic!("a session was given the answer to a call"),
            }
        }
    }

    fn observe_event(&mut self, n: usize, event: &v1::Event) {
        let device = &mut self.devices[n];
        assert!(event.seq > device.acked, "event {} came again after Ack {}", event.seq, device.acked);
        if let Some(before) = device.events.get(&event.seq) {
            assert_eq!(before, event, "a place in the stream changed");
            return;
        }
        assert!(event.seq > device.last_seq, "out of order: {} after {}", event.seq, device.last_seq);
        device.last_seq = event.seq;
        device.events.insert(event.seq, event.clone());
        if let Some(event::Body::Message(m)) = &event.body {
            assert_ne!(
                (m.from, m.from_device),
                (device.user, device.number),
                "a device was told what it said"
            );
        }
    }

    fn observe_frame(&mut self, n: usize, frame: &v1::ServerFrame) {
        match &frame.body {
            Some(server_frame::Body::Welcome(welcome)) => {
                let device = &mut self.devices[n];
                assert!(welcome.acknowledged <= welcome.head && device.last_seq <= welcome.head);
                device.told = device.told.or(Some(welcome.acknowledged));
            }
            Some(server_frame::Body::Sent(sent)) => {
                let client_id = u64::from_be_bytes(sent.client_id[..].try_into().unwrap());
                let (user, device) = (self.devices[n].user, self.devices[n].number);
                let id = *self.model.by_client_id.entry((user, client_id)).or_insert(sent.id);
                assert_eq!(id, sent.id, "one client_id, two messages");
                if let Some(to) = self.devices[n].waiting.remove(&client_id) {
                    self.model.accepted.insert(sent.id, (user, device, to));
                }
            }
            None => {
                if let Some(up_to) = self.pending_acks.remove(&(n, frame.reply_to)) {
                    self.devices[n].acked = self.devices[n].acked.max(up_to);
                }
                if let Some(messages) = self.pending_reads.remove(&(n, frame.reply_to)) {
                    self.model.read.extend(messages.iter().map(|message| (self.devices[n].user, *message)));
                }
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Everybody comes back, resends what was not answered, and acknowledges all.
    fn heal(&mut self) {
        self.rng = Rng(u64::MAX);
        for n in 0..self.devices.len() {
            self.attach(n);
        }
        self.calm_commit();
        for n in 0..self.devices.len() {
            for (client_id, to) in self.devices[n].waiting.clone() {
                self.send(n, to, client_id);
            }
        }
        for _ in 0..400 {
            self.calm_commit();
            self.resend();
            let under_way = self.wire.len();
            self.deliver_wire(under_way);
            for n in 0..self.devices.len() {
                let up_to = self.devices[n].last_seq;
                self.ack(n, up_to);
            }
        }
        self.calm_commit();
    }

    fn calm_commit(&mut self) {
        for (n, body) in std::mem::take(&mut self.skips) {
            self.apply(n, &body);
        }
        self.partitions.iter().for_each(|p| p.flush(&mut self.batch));
        self.store.commit(&self.batch).unwrap();
        self.batch.clear();
        self.partitions.iter_mut().for_each(Partition::committed);
        let effects = std::mem::take(&mut self.out.effects);
        self.out.clear();
        self.remote.clear();
        self.observe(effects);
        self.registered();
        for (from, to) in std::mem::take(&mut self.heard) {
            let up_to = self.partitions[usize::from(to)].inbound_cursor(from);
            self.wire.push_back(Wire::Taken(from, to, up_to));
        }
        self.refill();
    }

    fn check(&self) {
        for (n, device) in self.devices.iter().enumerate() {
            assert!(device.waiting.is_empty(), "a Send was not answered: {:?}", device.waiting);
            let messages = self.messages(n);
            let ids: Vec<u64> = messages.iter().map(|m| m.id).collect();
            let expected = self.expected(device);
            assert_eq!(
                ids.len(),
                expected.len(),
                "device {}:{} has doubles or losses: {ids:?}, not {expected:?}, start {:?} {:?}",
                device.user,
                device.number,
                device.start,
                self.devices
                    .iter()
                    .filter(|d| d.user == device.user)
                    .map(|d| (
                        d.number,
                        d.start,
                        d.is_late,
                        d.events
                            .iter()
                            .map(|(s, e)| (
                                *s,
                                match &e.body {
                                    Some(event::Body::Message(m)) => m.id,
                                    _ => 0,
                                }
                            ))
                            .collect::<Vec<_>>()
                    ))
                    .collect::<Vec<_>>()
            );
            assert_eq!(ids.iter().copied().collect::<BTreeSet<_>>(), expected);
            let mut newest: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            for (id, message) in ids.iter().zip(&messages) {
                let Some(v1::address::To::User(to)) = message.to.as_option().unwrap().to else {
                    panic!("no user")
                };
                let before = newest.insert((message.from.min(to), message.from.max(to)), *id);
                assert!(before < Some(*id), "a conversation is out of order");
            }
            self.check_receipts(device);
        }
    }

    /// The messages a device must have. Where all were there from the start, that is what was accepted; where devices came
    /// later, it is what any of them got, past where the device starts.
    fn expected(&self, device: &Device) -> BTreeSet<u64> {
        let own = |from: u64, by: u32| (from, by) == (device.user, device.number);
        let of_user = || self.devices.iter().enumerate().filter(|(_, other)| other.user == device.user);
        if !of_user().any(|(_, other)| other.is_late) {
            let accepted = self.model.accepted.iter().filter(|(_, (from, by, to))| {
                (*to == device.user || *from == device.user) && !own(*from, *by)
            });
            return accepted.map(|(id, _)| *id).collect();
        }
        let mut stream = BTreeMap::new();
        for (seq, event) in of_user().flat_map(|(_, other)| &other.events) {
            if let Some(event::Body::Message(message)) = &event.body {
                stream.insert(*seq, (message.id, message.from, message.from_device));
            }
        }
        let known: BTreeSet<u64> = stream.values().map(|(id, ..)| *id).collect();
        for (id, (from, _, to)) in &self.model.accepted {
            assert!(
                *to != device.user || *from == *to || known.contains(id),
                "message {id} reached no device"
            );
        }
        let start = device.start.expect("all devices are registered in the end");
        // A first device whose registration was lost in a crash may have seen what waited, and come back as a later one.
        let before = device.events.range(..=start).filter_map(|(seq, _)| stream.get(seq)).map(|(id, ..)| *id);
        let past = stream.range(start + 1..).map(|(_, message)| message);
        past.filter(|(_, from, by)| !own(*from, *by)).map(|(id, ..)| *id).chain(before).collect()
    }

    fn check_receipts(&self, device: &Device) {
        let mut marks: BTreeMap<(i32, u64), usize> = BTreeMap::new();
        for event in device.events.values() {
            if let Some(event::Body::Receipt(receipt)) = &event.body {
                for message in &receipt.message {
                    assert_eq!(self.model.accepted[message].2, receipt.by);
                    *marks.entry((receipt.mark.to_i32(), *message)).or_default() += 1;
                }
            }
        }
        assert!(marks.values().all(|count| *count == 1), "a receipt came twice: {marks:?}");
        if device.start != Some(0) {
            // Some receipts were before its time.
            return;
        }
        let sent = self.model.accepted.iter().filter(|(_, (from, _, to))| *from == device.user && to != from);
        for (id, (_, _, to)) in sent {
            assert!(marks.contains_key(&(0, *id)), "message {id} was not reported as delivered");
            let is_read = self.model.read.contains(&(*to, *id));
            assert!(!is_read || marks.contains_key(&(1, *id)), "message {id} was not reported as read");
        }
    }
}

fn run(seed: u64, store: Arc<dyn Store>, memory: Option<Arc<MemoryStore>>) -> Sim {
    let mut sim = Sim::new(seed, store, memory);
    for _ in 0..STEPS {
        sim.step();
    }
    sim.heal();
    sim.check();
    sim
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("ROOST_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}

fn named<T>(seed: u64, run: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .unwrap_or_else(|_| panic!("seed {seed} failed: ROOST_SEED={seed} replays it"))
}

#[test]
fn nothing_is_lost_doubled_or_disordered() {
    for seed in seeds(2000) {
        named(seed, || {
            let store = Arc::new(MemoryStore::default());
            let sim = run(seed, store.clone(), Some(store.clone()));
            assert!(!sim.model.accepted.is_empty());
            // Nothing leaks: all was acknowledged by every device.
            assert_eq!((store.len(Space::Events), store.len(Space::Outbox)), (0, 0));
            assert_eq!(store.len(Space::Sent), sim.model.accepted.len());
        });
    }
}

#[test]
fn the_same_over_a_store_on_disk() {
    for seed in seeds(3) {
        named(seed, || {
            let dir = tempfile::tempdir().unwrap();
            run(seed, Arc::new(FjallStore::open(dir.path(), PARTITIONS).unwrap()), None);
        });
    }
}
