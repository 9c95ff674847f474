//! Who is let in, who is refused, and when nobody is accepted.

use std::sync::atomic::Ordering;

use super::{
    Shard,
    drain::Drain,
    slot::{ADMITTED, Slot, UNPROXIED},
    trace::Step,
};
use crate::{
    admission::Reason,
    limits,
    ring::{Completion, Op, Ring, Token},
    slab::NO_SLOT,
};

impl<R: Ring> Shard<R> {
    /// An accept has completed.
    pub(super) fn accepted(&mut self, completion: &Completion) {
        let Some(descriptor) = completion.descriptor else {
            if matches!(-completion.result, libc::ECONNABORTED | libc::ECANCELED) {
                // The client has gone while it waited.
                return;
            }
            // ENFILE and the like: the machine is full.
            self.accept_has_failed();
            return;
        };
        let refused = self.admit().err();
        let admitted = refused.is_none();
        let since_s = (self.now_ms / 1_000) as u32;
        let Ok((slot, _)) = self.slab.insert(Slot::accepted(descriptor, !admitted, self.now, since_s)) else {
            // No memory for a slot. The close is named by none, so that its completion moves nobody.
            if admitted {
                self.parts.shared.connections.fetch_sub(1, Ordering::Relaxed);
            }
            self.parts.ring.close(descriptor, Token::new(Op::Close, 0, NO_SLOT));
            self.accept_has_failed();
            return;
        };
        self.slab[slot].flags.set(ADMITTED, admitted);
        self.slab[slot].flags.set(UNPROXIED, self.parts.shared.proxy_protocol);
        if let Some(reason) = refused {
            self.refusing += 1;
            self.parts.stats.not_admitted[reason as usize].add(1);
        } else {
            self.handshake_begins(slot);
        }
        self.parts.stats.accepted.add(1);
        self.trace(slot, Step::Accepted { admitted });
        self.touch(slot);
    }

    /// `keep_accepting` tries again in the next tick.
    fn accept_has_failed(&mut self) {
        self.parts.stats.accept_errors.add(1);
        self.accept_failed = Some(self.now);
    }

    /// Counts one more connection, if it is let in. One that is refused takes no place: the next client need not wait until it is
    /// gone.
    fn admit(&self) -> Result<(), Reason> {
        let (shared, most) = (&self.parts.shared, self.parts.connections_max);
        if self.drain.as_ref().is_some_and(Drain::is_late) {
            return Err(Reason::Draining);
        }
        if let Some(reason) = shared.gate.closed().first() {
            return Err(reason);
        }
        if self.backlog.is_full() {
            // Its session would be one more request that waits.
            return Err(Reason::RouterQueue);
        }
        let one_more = |count| (count < most).then_some(count + 1);
        let counted = shared.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted.map(drop).map_err(|_| Reason::ConnectionsMax)
    }

    /// At the end of a turn: accepts from now on, or no longer.
    pub(super) fn keep_accepting(&mut self) {
        let draining = self.parts.shared.draining.load(Ordering::Relaxed);
        let room = self.refusing < limits::REFUSING_MAX;
        self.parts.ring.accept(!draining && room && self.accept_failed != Some(self.now));
    }
}
