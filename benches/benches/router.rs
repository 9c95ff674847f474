//! One router partition: applying Send and Ack in memory, and with each batch made durable by fjall.
//!
//! `cargo bench -p roost-benches --bench router`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use roost_proto::v1;
use roost_router::{
    Action, Config,
    limits::PARTITIONS_MAX,
    log::{Ack, Attach, Group, Origin, Send, command::Body},
    partition::{Output, Partition, Tx, home},
    store::{Batch, FjallStore, MemoryStore, Store},
};
use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

const USERS: u64 = 1000;
const PAYLOAD_BYTES: usize = 300;

/// A partition that is home of all users, each with a connected device.
struct World {
    partition: Partition,
    store: Box<dyn Store>,
    batch: Batch,
    out: Output,
    now_ms: u64,
    messages: u64,
}

fn origin(user: u64) -> Origin {
    Origin { slot: user as u32, user, device: 1, id: 1, ..Origin::default() }
}

impl World {
    fn new(store: Box<dyn Store>) -> Self {
        let partition =
            Partition::open(0, 1, Config::default().rules(), &*store).expect("an empty store opens");
        let mut world = Self {
            partition,
            store,
            batch: Batch::default(),
            out: Output::default(),
            now_ms: 1_795_000_000_000,
            messages: 0,
        };
        for user in 1..=USERS {
            world.apply(&Attach { origin: origin(user).into() }.into());
        }
        world.commit();
        world
    }

    fn apply(&mut self, command: &Body) {
        let mut tx =
            Tx { store: &*self.store, batch: &mut self.batch, now_ms: self.now_ms, out: &mut self.out };
        self.partition.apply(command, &mut tx).expect("the store reads");
    }

    fn commit(&mut self) {
        self.partition.flush(&mut self.batch);
        if !self.batch.is_empty() {
            self.store.commit(&self.batch).expect("the store commits");
        }
        self.batch.clear();
        self.partition.committed();
        black_box(&self.out.effects);
        self.out.clear();
        self.now_ms += 1;
    }

    fn sends(&mut self, count: u64) -> Vec<Body> {
        let payload = bytes::Bytes::from(vec![7; PAYLOAD_BYTES]);
        (0..count)
            .map(|_| {
                self.messages += 1;
                let (from, to) = (self.messages % USERS + 1, (self.messages * 7) % USERS + 1);
                let send = v1::Send {
                    to: v1::Address { to: Some(v1::address::To::User(to)) }.into(),
                    client_id: self.messages.to_be_bytes().to_vec().into(),
                    payload: payload.clone(),
                    ..v1::Send::default()
                };
                Send { origin: origin(from).into(), send: send.into(), receiver_known: true }.into()
            })
            .collect()
    }

    fn run(&mut self, commands: &[Body]) {
        for command in commands {
            self.apply(command);
        }
        self.commit();
    }

    fn settle(&mut self) {
        for _ in 0..2 {
            let acks = acks(USERS);
            self.run(&acks);
        }
    }
}

/// Receivers acknowledge all they have; their receipts are acknowledged by the senders in the next round.
fn acks(count: u64) -> Vec<Body> {
    (0..count)
        .map(|n| {
            // From user 2 on: user 1 is only written to by itself.
            let user = (n + 1) % USERS + 1;
            Ack { origin: origin(user).into(), up_to: u64::MAX }.into()
        })
        .collect()
}

/// Times the batches of one kind and leaves the others out.
fn measure(world: &mut World, iterations: u64, batch: u64, timed_is_send: bool) -> Duration {
    let mut total = Duration::ZERO;
    for round in 0..iterations {
        if timed_is_send {
            let sends = world.sends(batch);
            let begin = Instant::now();
            world.run(&sends);
            total += begin.elapsed();
            if round % 64 == 63 {
                world.settle();
            }
        } else {
            let sends = world.sends(USERS.max(batch));
            world.run(&sends);
            let acks = acks(batch);
            let begin = Instant::now();
            world.run(&acks);
            total += begin.elapsed();
            world.settle();
        }
    }
    total
}

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("router/memory");
    for (name, is_send) in [("send", true), ("ack", false)] {
        group.throughput(Throughput::Elements(1000));
        group.bench_function(BenchmarkId::new(name, 1000), |b| {
            let mut world = World::new(Box::new(MemoryStore::default()));
            b.iter_custom(|iterations| measure(&mut world, iterations, 1000, is_send));
        });
    }
    group.finish();
}

fn fjall(c: &mut Criterion) {
    let mut group = c.benchmark_group("router/fjall");
    group.sample_size(20);
    for (name, is_send) in [("send", true), ("ack", false)] {
        for batch in [1, 32, 1000] {
            group.throughput(Throughput::Elements(batch));
            group.bench_function(BenchmarkId::new(name, batch), |b| {
                let dir = tempfile::tempdir().expect("a temporary directory");
                let store = FjallStore::open(dir.path(), 1).expect("a new store opens");
                let mut world = World::new(Box::new(store));
                b.iter_custom(|iterations| measure(&mut world, iterations, batch, is_send));
            });
        }
    }
    group.finish();
}

/// Devices connect, of users that are new or that were here before, a thousand a commit.
fn attach(c: &mut Criterion) {
    const BATCH: u64 = 1000;
    let mut group = c.benchmark_group("router/attach");
    group.throughput(Throughput::Elements(BATCH)).sample_size(20);
    for (name, is_new) in [("new", true), ("known", false)] {
        group.bench_function(BenchmarkId::new(name, BATCH), |b| {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let store = FjallStore::open(dir.path(), 1).expect("a new store opens");
            let mut world = World::new(Box::new(store));
            let mut newest = USERS;
            b.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    let first = if is_new { newest + 1 } else { 1 };
                    let commands: Vec<Body> = (first..first + BATCH)
                        .map(|user| Attach { origin: origin(user).into() }.into())
                        .collect();
                    newest += BATCH;
                    let begin = Instant::now();
                    world.run(&commands);
                    total += begin.elapsed();
                }
                total
            });
        });
    }
    group.finish();
}

/// A group of the largest size, its members spread over the partitions of one router thread, all of them connected.
struct Room {
    partitions: Vec<Partition>,
    store: FjallStore,
    batch: Batch,
    out: Output,
    now_ms: u64,
    group: u64,
    messages: u64,
}

const PARTITIONS: u16 = 16;
const MEMBERS: u64 = 1024;

impl Room {
    fn new(folder: &Path) -> Self {
        let store = FjallStore::open(folder, PARTITIONS).expect("a new store opens");
        let open = |number| Partition::open(number, PARTITIONS, Config::default().rules(), &store);
        let partitions = (0..PARTITIONS).map(open).collect::<Result<_, _>>().expect("an empty store opens");
        let (batch, out) = (Batch::default(), Output::default());
        let mut room =
            Self { partitions, store, batch, out, now_ms: 1_795_000_000_000, group: 0, messages: 0 };
        for user in 1..=MEMBERS {
            room.apply(home(user, PARTITIONS), &Attach { origin: origin(user).into() }.into());
        }
        let create = v1::group_command::Create { name: "all".into(), member: (1..=MEMBERS).collect() };
        let command = v1::GroupCommand { command: Some(create.into()), ..Default::default() };
        let command = Group { origin: origin(1).into(), command: command.into(), unknown: 0 };
        room.apply(home(1, PARTITIONS), &command.into());
        let made = room.out.effects.iter().find_map(|effect| match &effect.action {
            Action::Frame(frame) => match &frame.body {
                Some(v1::server_frame::Body::Group(info)) => Some(info.group),
                _ => None,
            },
            _ => None,
        });
        room.group = made.expect("the group is made");
        room.commit();
        room.settle();
        room
    }

    /// As a router thread does with partitions that are all its own.
    fn apply(&mut self, at: u16, command: &Body) {
        let mut tx =
            Tx { store: &self.store, batch: &mut self.batch, now_ms: self.now_ms, out: &mut self.out };
        self.partitions[usize::from(at)].apply(command, &mut tx).expect("the store reads");
        while !tx.out.forwards.is_empty() {
            for (_, to, forward) in std::mem::take(&mut tx.out.forwards) {
                self.partitions[usize::from(to)].take_local(&forward, &mut tx).expect("the store reads");
            }
        }
    }

    /// Returns how many events leave.
    fn commit(&mut self) -> usize {
        self.partitions.iter().for_each(|partition| partition.flush(&mut self.batch));
        self.store.commit(&self.batch).expect("the store commits");
        self.batch.clear();
        self.partitions.iter_mut().for_each(Partition::committed);
        let events =
            self.out.effects.iter().filter(|effect| matches!(effect.action, Action::Event(_))).count();
        black_box(&self.out.effects);
        self.out.clear();
        self.now_ms += 1;
        events
    }

    fn say(&mut self, count: u64) -> Vec<Body> {
        let payload = bytes::Bytes::from(vec![7; PAYLOAD_BYTES]);
        (0..count)
            .map(|_| {
                self.messages += 1;
                let send = v1::Send {
                    to: v1::Address { to: Some(v1::address::To::Group(self.group)) }.into(),
                    client_id: self.messages.to_be_bytes().to_vec().into(),
                    payload: payload.clone(),
                    ..v1::Send::default()
                };
                let from = self.messages % MEMBERS + 1;
                Send { origin: origin(from).into(), send: send.into(), receiver_known: false }.into()
            })
            .collect()
    }

    /// Everybody acknowledges all, and the receipts that come of it.
    fn settle(&mut self) {
        while {
            for user in 1..=MEMBERS {
                let ack = Ack { origin: origin(user).into(), up_to: u64::MAX };
                self.apply(home(user, PARTITIONS), &ack.into());
            }
            self.commit() > 0 || self.partitions.iter().any(Partition::wants_refill) && self.refill() > 0
        } {}
    }

    fn refill(&mut self) -> usize {
        let mut effects = Vec::new();
        for partition in &mut self.partitions {
            while partition.wants_refill() {
                partition.refill(&self.store, self.now_ms, &mut effects).expect("the store reads");
            }
        }
        effects.len()
    }
}

/// Messages to a group of 1,024: each is stored once a partition and handed to all members but the one who said it. What is
/// timed is from the Sends to the effects, with the commit; Acks and receipts come between.
fn fanout(c: &mut Criterion) {
    let mut group = c.benchmark_group("router/fanout");
    group.sample_size(20);
    for batch in [1, 8, 64] {
        group.throughput(Throughput::Elements(batch * (MEMBERS - 1)));
        group.bench_function(BenchmarkId::new("deliveries", batch), |b| {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let mut room = Room::new(dir.path());
            let at = (room.group % u64::from(PARTITIONS_MAX)) as u16;
            b.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for round in 0..iterations {
                    let sends = room.say(batch);
                    let begin = Instant::now();
                    for send in &sends {
                        room.apply(at, send);
                    }
                    let events = room.commit();
                    total += begin.elapsed();
                    assert_eq!(events as u64, batch * (MEMBERS - 1), "every window has room");
                    if (round + 1) * batch % 128 == 0 || round + 1 == iterations {
                        room.settle();
                    }
                }
                total
            });
        });
    }
    group.finish();
}

criterion_group!(benches, memory, fjall, attach, fanout);
criterion_main!(benches);
