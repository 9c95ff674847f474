//! The process that serves: router threads driven by hand, so that each may die at any point.

use crate::{
    PARTITIONS,
    disk::Disk,
    random::Rng,
    thread::{Around, Fate, Item, Seen, Thread},
    wire::Wires,
};
use roost_router::{Rules, log::command::Body, partition::Partition};
use std::sync::Arc;

pub struct Host {
    pub disk: Arc<Disk>,
    pub seen: Vec<Seen>,
    threads: Vec<Thread>,
    wires: Wires,
}

impl Host {
    pub fn boot(disk: Arc<Disk>, threads: usize, rules: Rules) -> Self {
        let threads: Vec<_> = (0..threads).map(|index| Thread::new(index, threads, &disk, rules)).collect();
        let wires = Wires::new(threads.len());
        Self { disk, seen: Vec::new(), threads, wires }
    }

    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    pub fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.threads.iter().flat_map(|thread| &thread.partitions)
    }

    pub fn submit(&mut self, partition: u16, body: Body) {
        let thread = usize::from(partition) % self.threads.len();
        let thread = &mut self.threads[thread];
        let queue = if matches!(body, Body::Attach(_)) { &mut thread.reads } else { &mut thread.items };
        queue.push_back(Item::new(partition, body));
    }

    /// The `client_id` of each Send that no thread has taken from its queue.
    pub fn waiting_sends(&self) -> Vec<&[u8]> {
        let items = self.threads.iter().flat_map(|thread| thread.items.iter().chain(&thread.deferred));
        let client_id = |item| match item {
            &Item { body: Body::Send(ref send), .. } => Some(&send.send.client_id[..]),
            _ => None,
        };
        items.filter_map(client_id).collect()
    }

    /// A thread has nothing to do, for all that it knows.
    pub fn is_idle(&self, thread: usize) -> bool {
        self.wires.is_empty(thread) && self.threads[thread].is_idle()
    }

    /// Messages between threads may be lost, or come twice.
    pub fn disturb(&mut self, rng: &mut Rng) {
        let thread = rng.index(self.threads.len());
        let partitions = &mut self.threads[thread].partitions;
        let partition = rng.index(partitions.len());
        let to = rng.below(u64::from(PARTITIONS)) as u16;
        match rng.below(2) {
            0 => partitions[partition].set_sent(to, 0),
            _ => self.wires.lose(rng),
        }
    }

    /// What was lost on the wires is sent again from the outboxes.
    pub fn resend(&mut self) {
        for partition in self.threads.iter_mut().flat_map(|thread| &mut thread.partitions) {
            (0..PARTITIONS).for_each(|to| partition.set_sent(to, 0));
        }
    }

    /// One turn of a thread, at most this many commands of its queue; `now_ms` is the clock's.
    pub fn turn(&mut self, thread: usize, fate: Fate, most: usize, now_ms: u64, rng: &mut Rng) {
        let Self { threads, wires, seen, disk } = self;
        let it = &mut threads[thread];
        wires.pay(it, thread);
        if wires.pump(it, disk).is_err() {
            it.failing = true;
        }
        let mut items = std::mem::take(&mut it.deferred);
        items.extend(wires.hear(it, thread, most));
        items.extend(it.reads.drain(..));
        let count = it.items.len().min(most);
        items.extend(it.items.drain(..count));
        let mut around = Around { disk, now_ms, rng, seen, wires };
        if it.failing && !it.try_recover(disk) {
            it.process_failing(items, &mut around);
        } else if it.process(items, fate, &mut around) {
            return seen.push(Seen::Died);
        }
        it.refill(&mut around);
    }
}
