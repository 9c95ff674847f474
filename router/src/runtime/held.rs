//! Effects on their way to shards, kept while a shard has no room.

use crate::api::{Effect, Outlet};
use std::collections::{BTreeMap, VecDeque};

/// By shard, in order. Bounded by `Config::effects_held_max` and what one batch makes.
#[derive(Debug, Default)]
pub(super) struct Held {
    shards: BTreeMap<u16, VecDeque<Effect>>,
    count: usize,
}

impl Held {
    pub(super) fn push(&mut self, effects: impl IntoIterator<Item = Effect>) {
        for effect in effects {
            self.shards.entry(effect.session.shard).or_default().push_back(effect);
            self.count += 1;
        }
    }

    /// Offers every shard what is for it.
    pub(super) fn deliver(&mut self, outlet: &dyn Outlet) {
        if self.count == 0 {
            return;
        }
        self.count = 0;
        for (shard, effects) in &mut self.shards {
            if !effects.is_empty() {
                outlet.deliver(*shard, effects);
                self.count += effects.len();
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}
