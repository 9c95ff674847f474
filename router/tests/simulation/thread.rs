//! A router thread, as `runtime/thread.rs` and its neighbours wire it: gather, apply, commit, let out; and what it does when
//! the store fails.

use crate::{PARTITIONS, disk::Disk, random::Rng, wire::Wires};
use roost_router::{
    Action, Effect, Rules, StoreError,
    log::{self, Forward, Origin, command::Body},
    partition::{Output, Partition, Tx, home, joining, receiver, session_of},
    record,
    store::{Batch, Store},
};
use std::collections::{BTreeMap, VecDeque};

/// How a turn of a thread ends, unless the disk has its own opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Well,
    /// Commands were applied, and nothing else happened.
    DiesApplying,
    /// The batch was about to be committed.
    DiesBefore,
    /// The last write is torn.
    DiesDuring,
    /// The batch is durable, and nothing that waited for it left.
    DiesAfter,
}

/// What the world sees of the process, in this order.
pub enum Seen {
    Effect(Effect),
    /// These partitions had a Tick, and noted the day of whoever is connected.
    Ticked(Vec<u16>),
    /// Whatever these partitions told before is durable.
    Durable(Vec<u16>),
    /// The process died.
    Died,
}

pub struct Item {
    pub partition: u16,
    pub body: Body,
    settled: bool,
}

impl Item {
    pub fn new(partition: u16, body: Body) -> Self {
        Self { partition, body, settled: false }
    }

    /// Who waits for an answer.
    fn origin(&self) -> Option<&Origin> {
        match &self.body {
            Body::Attach(attach) => attach.origin.as_option(),
            Body::Send(send) => send.origin.as_option(),
            Body::Group(group) => group.origin.as_option(),
            Body::Ack(ack) => ack.origin.as_option(),
            Body::Read(read) => read.origin.as_option(),
            Body::KeysPublish(publish) => publish.origin.as_option(),
            Body::KeysFetch(fetch) => fetch.origin.as_option(),
            Body::RemoveDevice(remove) => remove.origin.as_option(),
            _ => None,
        }
    }
}

pub struct Thread {
    pub count: usize,
    pub partitions: Vec<Partition>,
    pub items: VecDeque<Item>,
    /// What needs no write, as a rule.
    pub reads: VecDeque<Item>,
    /// For the next batch, before all else.
    pub deferred: Vec<Item>,
    pub batch: Batch,
    pub out: Output,
    pub remote: Vec<(u16, u16, u64, Forward)>,
    /// The newest forward heard in this batch, by source and target.
    pub heard: BTreeMap<(u16, u16), u64>,
    pub failing: bool,
}

/// What a thread's turn happens in.
pub struct Around<'a> {
    pub disk: &'a Disk,
    pub now_ms: u64,
    pub rng: &'a mut Rng,
    pub seen: &'a mut Vec<Seen>,
    pub wires: &'a mut Wires,
}

fn has_unsent(partition: &Partition) -> bool {
    (0..PARTITIONS).any(|to| {
        let outgoing = partition.outgoing(to);
        outgoing.sent < outgoing.written
    })
}

impl Thread {
    pub fn new(index: usize, count: usize, disk: &Disk, rules: Rules) -> Self {
        let open = |number| Partition::open(number, PARTITIONS, rules, disk).unwrap();
        Self {
            count,
            partitions: (0..PARTITIONS).filter(|n| usize::from(*n) % count == index).map(open).collect(),
            items: VecDeque::new(),
            reads: VecDeque::new(),
            deferred: Vec::new(),
            batch: Batch::default(),
            out: Output::default(),
            remote: Vec::new(),
            heard: BTreeMap::new(),
            failing: false,
        }
    }

    /// It has nothing to do, for all that it knows.
    pub fn is_idle(&self) -> bool {
        let rests = |p: &Partition| !p.wants_refill() && p.registrations() == 0 && !has_unsent(p);
        self.items.is_empty()
            && self.reads.is_empty()
            && self.deferred.is_empty()
            && !self.failing
            && self.partitions.iter().all(rests)
    }

    pub fn partition(&mut self, number: u16) -> &mut Partition {
        &mut self.partitions[usize::from(number) / self.count]
    }

    fn is_mine(&self, partition: u16) -> bool {
        self.partitions.iter().any(|mine| mine.number() == partition)
    }

    /// True: the process died.
    pub fn process(&mut self, mut items: Vec<Item>, fate: Fate, around: &mut Around<'_>) -> bool {
        if fate == Fate::DiesApplying {
            let some = around.rng.below(items.len() as u64 + 1) as usize;
            for item in &mut items[..some] {
                // What comes of it is lost with the process.
                let _ = self.apply(item, around);
            }
            return true;
        }
        let applied = items.iter_mut().try_for_each(|item| self.apply(item, around));
        self.let_out_at_once(around);
        let ticks = items.iter().filter(|item| matches!(item.body, Body::Tick(_)));
        around.seen.push(Seen::Ticked(ticks.map(|item| item.partition).collect()));
        match applied.and_then(|()| self.commit(fate, around)) {
            Ok(true) => return true,
            Ok(false) => {
                self.let_out(around);
                around.wires.owe(self);
            }
            Err(_) => {
                self.failing = true;
                self.roll_back(around.disk);
                items.retain(|item| !item.settled);
                self.process_failing(items, around);
            }
        }
        false
    }

    /// True: the process died.
    fn commit(&mut self, fate: Fate, around: &mut Around<'_>) -> Result<bool, StoreError> {
        if fate == Fate::DiesBefore {
            return Ok(true);
        }
        let registers = self.partitions.iter().any(|p| p.registrations() > 0);
        // Registrations may wait for more.
        if !self.has_changes() && (!registers || around.rng.one_in(2)) {
            self.partitions.iter_mut().for_each(Partition::settled);
            return Ok(fate == Fate::DiesAfter);
        }
        for partition in &self.partitions {
            partition.flush(&mut self.batch);
        }
        let numbers = self.partitions.iter().map(Partition::number).collect();
        if fate == Fate::DiesDuring {
            if around.disk.tear(&self.batch, around.rng) {
                around.seen.push(Seen::Durable(numbers));
            }
            return Ok(true);
        }
        if !self.batch.is_empty() {
            if around.rng.one_in(3) {
                self.serve_aside(around);
            }
            around.disk.commit(&self.batch)?;
            self.batch.clear();
        }
        self.partitions.iter_mut().for_each(Partition::committed);
        around.seen.push(Seen::Durable(numbers));
        Ok(fate == Fate::DiesAfter)
    }

    /// The commit takes long: who is known comes back and reads on.
    fn serve_aside(&mut self, around: &mut Around<'_>) {
        let (out, batch) = (std::mem::take(&mut self.out), std::mem::take(&mut self.batch));
        while let Some(mut item) = self.reads.pop_front() {
            let partition = &mut self.partitions[usize::from(item.partition) / self.count];
            let goes = partition.goes_aside(&item.body, around.disk, around.now_ms);
            if !goes || self.apply(&mut item, around).is_err() {
                self.deferred.push(item);
            }
            assert!(self.batch.is_empty(), "what goes aside writes nothing");
            self.let_out_at_once(around);
            around.seen.extend(self.out.effects.drain(..).map(Seen::Effect));
            self.out.clear();
        }
        self.refill(around);
        (self.out, self.batch) = (out, batch);
    }

    fn has_changes(&self) -> bool {
        !self.batch.is_empty() || self.partitions.iter().any(Partition::has_changes)
    }

    fn apply(&mut self, item: &mut Item, around: &Around<'_>) -> Result<(), StoreError> {
        match &mut item.body {
            Body::Send(send) => {
                let to = receiver(&send.send);
                send.receiver_known = to.map_or(Ok(false), |user| self.knows(user, around.disk))?;
            }
            Body::Group(group) => {
                group.unknown = 0;
                for user in joining(&group.command) {
                    if group.unknown == 0 && !self.knows(*user, around.disk)? {
                        group.unknown = *user;
                    }
                }
            }
            _ => {}
        }
        let at_once = self.out.at_once.len();
        let mut tx =
            Tx { store: around.disk, batch: &mut self.batch, now_ms: around.now_ms, out: &mut self.out };
        self.partitions[usize::from(item.partition) / self.count].apply(&item.body, &mut tx)?;
        while !tx.out.forwards.is_empty() {
            for (from, to, forward) in std::mem::take(&mut tx.out.forwards) {
                let is_mine = usize::from(from) % self.count == usize::from(to) % self.count;
                let source = &mut self.partitions[usize::from(from) / self.count];
                if is_mine && source.outbox_is_empty(to) {
                    self.partitions[usize::from(to) / self.count].take_local(&forward, &mut tx)?;
                } else {
                    let seq = source.enqueue(to, &forward, &mut tx);
                    self.remote.push((from, to, seq, forward));
                }
            }
        }
        item.settled = self.out.at_once.len() > at_once;
        Ok(())
    }

    fn knows(&self, user: u64, disk: &Disk) -> Result<bool, StoreError> {
        let number = home(user, PARTITIONS);
        if self.is_mine(number) && self.partitions[usize::from(number) / self.count].has_at_hand(user) {
            return Ok(true);
        }
        Ok(disk.get(&record::user(number, user))?.is_some())
    }

    fn let_out_at_once(&mut self, around: &mut Around<'_>) {
        around.seen.extend(self.out.at_once.drain(..).map(Seen::Effect));
    }

    fn let_out(&mut self, around: &mut Around<'_>) {
        around.seen.extend(self.out.effects.drain(..).map(Seen::Effect));
        self.out.clear();
        for (from, to, seq, forward) in std::mem::take(&mut self.remote) {
            around.wires.hand_over(self.partition(from), to, seq, forward);
        }
    }

    /// What the store has, and nothing of what this batch did.
    fn roll_back(&mut self, disk: &Disk) {
        self.out.clear();
        self.batch.clear();
        self.remote.clear();
        for partition in &mut self.partitions {
            // Where it cannot be read back, `try_recover` does before anything is written.
            let _ = partition.rollback(disk);
        }
    }

    pub fn try_recover(&mut self, disk: &Disk) -> bool {
        let read_anew =
            |partitions: &mut Vec<Partition>| partitions.iter_mut().try_for_each(|p| p.recovered(disk));
        if disk.recover().and_then(|()| read_anew(&mut self.partitions)).is_err() {
            return false;
        }
        self.failing = false;
        for partition in &mut self.partitions {
            for to in 0..PARTITIONS {
                partition.set_sent(to, 0);
            }
        }
        true
    }

    /// What needs no write goes on, all else is refused.
    pub fn process_failing(&mut self, items: Vec<Item>, around: &mut Around<'_>) {
        for mut item in items {
            let applied = self.apply(&mut item, around).is_ok();
            self.let_out_at_once(around);
            if applied && !self.has_changes() {
                self.partitions.iter_mut().for_each(Partition::settled);
                self.let_out(around);
            } else {
                self.roll_back(around.disk);
                self.refuse(&item, around);
            }
        }
        around.wires.owe(self);
    }

    fn refuse(&mut self, item: &Item, around: &mut Around<'_>) {
        let Some(origin) = item.origin() else { return };
        let session = session_of(origin);
        self.out.unavailable(session, origin.id, 1);
        if matches!(item.body, Body::Attach(_)) {
            let action = Action::Close { code: 1013, reason: "the store is not available" };
            self.out.effects.push(Effect { session, action });
        }
        around.seen.extend(self.out.effects.drain(..).map(Seen::Effect));
    }

    pub fn refill(&mut self, around: &mut Around<'_>) {
        let mut effects = Vec::new();
        for partition in self.partitions.iter_mut().filter(|partition| partition.wants_refill()) {
            match partition.refill(around.disk, around.now_ms, &mut effects) {
                Ok(skips) => self.items.extend(skips.into_iter().map(|skip| {
                    let body = log::Skip { user: skip.user, device: skip.device, up_to: skip.up_to };
                    Item::new(partition.number(), body.into())
                })),
                Err(_) => self.failing = true,
            }
        }
        around.seen.extend(effects.into_iter().map(Seen::Effect));
    }
}
