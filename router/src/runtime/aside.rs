//! What goes on while a commit takes long: who is known comes back and reads on, as far as it has nothing to do with what is just
//! being committed.

use super::{
    thread::{Thread, now_ms},
    work::{Item, Work},
};
use crate::{limits, partition::Output};

impl Thread {
    /// Serves reads beside the batch that is being committed. What has to be stored, or tells what this batch changed, waits.
    pub(super) fn serve_aside(&mut self) {
        let out = std::mem::take(&mut self.out);
        let now_ms = now_ms();
        while self.deferred.len() < limits::DEFERRED_MAX
            && let Ok(job) = self.reads.try_recv()
        {
            let mut item = Item::of(job, self.shared.partitions, &self.shared.throttle);
            let Work::Apply(command) = &item.work else {
                self.deferred.push(item);
                continue;
            };
            let store = self.shared.store.clone();
            let goes = self.partition(item.partition).goes_aside(command, &*store, now_ms);
            if !goes || self.apply(&mut item, now_ms).is_err() {
                // An error is met again, and dealt with, once the batch is out of the way.
                self.deferred.push(item);
            }
            self.let_out_aside();
        }
        for partition in 0..self.partitions.len() {
            let mut effects = Vec::new();
            // What cannot be read now is looked for again.
            let _later = self.refill_partition(partition, now_ms, &mut effects);
            self.held.push(effects);
        }
        self.let_out_aside();
        self.out = out;
    }

    fn let_out_aside(&mut self) {
        debug_assert!(self.batch.is_empty(), "what goes aside writes nothing");
        self.held.push(self.out.at_once.drain(..));
        self.held.push(self.out.effects.drain(..));
        self.out = Output::default();
        self.held.deliver(&*self.shared.outlet);
    }
}
