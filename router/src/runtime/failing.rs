//! What a router thread does when its store fails: take back, answer what needs no write, ask the store to recover.

use super::{
    stats::add,
    thread::{Health, Thread, now_ms},
    work::{Item, Work},
};
use crate::{
    api::{AccountOutcome, Action, Effect},
    error::StoreError,
    limits,
    log::command::Body,
    partition::{Partition, session_of},
};
use std::time::{Duration, Instant};

/// "Try again later" (IANA registry of RFC 6455 close codes).
const CLOSE_TRY_AGAIN: u16 = 1013;

impl Thread {
    pub(super) fn roll_back(&mut self) {
        let fresh = std::mem::take(&mut self.out.fresh);
        for user in fresh {
            self.shared.directory.end(user);
        }
        self.out.clear();
        self.batch.clear();
        self.remote.clear();
        for partition in &mut self.partitions {
            if let Err(error) = partition.rollback(&*self.shared.store) {
                // Nothing is written before `try_recover` has read it anew.
                tracing::warn!(partition = partition.number(), %error, "state could not be read back");
            }
        }
    }

    pub(super) fn failed(&mut self, error: &StoreError) {
        add(&self.shared.counters.store_errors, 1);
        if !self.is_failing() {
            tracing::error!(%error, "nothing is stored until the store works again: look at its disk's free space and health");
        }
        self.health =
            Health::Failing { next_try: Instant::now() + Duration::from_millis(limits::RECOVER_MS) };
    }

    /// True once the store works and the partitions show what it holds.
    pub(super) fn try_recover(&mut self) -> bool {
        let Health::Failing { next_try } = self.health else { return true };
        if Instant::now() < next_try {
            return false;
        }
        let store = self.shared.store.clone();
        let read_anew =
            |partitions: &mut Vec<Partition>| partitions.iter_mut().try_for_each(|p| p.recovered(&*store));
        let recovered = store.recover().and_then(|()| read_anew(&mut self.partitions));
        if let Err(error) = recovered {
            self.failed(&error);
            return false;
        }
        tracing::info!("the store works again");
        self.health = Health::Sound;
        for partition in &mut self.partitions {
            // What failed may have been stored after all: peers are sent it again.
            for to in 0..self.shared.partitions {
                partition.set_sent(to, 0);
            }
        }
        true
    }

    /// The store takes nothing: what needs no write goes on, all else is answered UNAVAILABLE.
    pub(super) fn process_failing(&mut self, items: Vec<Item>) {
        let now_ms = now_ms();
        for mut item in items {
            let applied = self.apply(&mut item, now_ms).is_ok();
            self.let_out_at_once();
            if applied && !self.has_changes() {
                self.partitions.iter_mut().for_each(Partition::settled);
                self.let_out();
            } else {
                self.roll_back();
                self.refuse(&item);
            }
            if let Some(done) = item.done.take() {
                done(AccountOutcome::Unavailable);
            }
        }
        self.owe();
    }

    pub(super) fn refuse(&mut self, item: &Item) {
        let Some(origin) = item.origin() else { return };
        add(&self.shared.counters.refused, 1);
        let session = session_of(origin);
        self.out.unavailable(session, origin.id, limits::RECOVER_MS as u32);
        if matches!(item.work, Work::Apply(Body::Attach(_))) {
            let reason = "the store is not available, come back later";
            self.out
                .effects
                .push(Effect { session, action: Action::Close { code: CLOSE_TRY_AGAIN, reason } });
        }
        self.held.push(self.out.effects.drain(..));
    }
}
