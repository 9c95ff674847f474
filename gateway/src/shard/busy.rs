//! When a connection is received by multishot receive instead of poll and read, and when no longer.
//!
//! An idle connection waits on a multishot poll and holds nothing; each message costs it a completion of the poll and
//! a read. A busy one has a multishot receive into provided buffers: one completion a message, 608 bytes of kernel
//! memory more while it lasts, and a share of the ring's provided buffers.
//!
//! The rule:
//! - A live, open connection that is read [`limits::BUSY_READS`] times within one tick becomes busy, if fewer than
//!   [`limits::BUSY_MAX`] are. Its poll is cancelled; when the poll's last completion is there and no read is in flight, the receive
//!   is armed. It looks for input at once, so nothing that came meanwhile is missed, and it never overlaps with a read,
//!   so nothing is taken in another order.
//! - It goes back when it takes more than its share (`greedy.rs`), when a full tick brought fewer than [`limits::BUSY_KEPT_RECEIVES`] receives, when a receive found no
//!   buffer, or when its ring cannot have any. Its receive is cancelled; when the last completion is there, the poll is
//!   armed, which looks for input at once as well. After running out of buffers it has to be read
//!   [`limits::BUSY_READS`] times again.

use super::{
    Shard,
    slot::{BUSY, ENDED, GREEDY, HUNG, Life, PAUSED, POLLING, RECEIVING},
};
use crate::{
    conn::Phase,
    limits,
    ring::{Op, Ring, Token},
    timers::Tick,
};

impl<R: Ring> Shard<R> {
    /// A connection was just read.
    pub(super) fn consider_busy(&mut self, slot: u32) {
        let Some(generation) = self.slab.generation(slot) else { return };
        let connection = &mut self.slab[slot];
        let fit = connection.reads >= limits::BUSY_READS
            && connection.life == Life::Live
            && connection.conn.phase() == Phase::Open
            && !connection.flags.any(BUSY | HUNG | ENDED | PAUSED | GREEDY);
        if !fit || self.busy.len() >= limits::BUSY_MAX {
            return;
        }
        connection.flags.set(BUSY, true);
        let (descriptor, polling) = (connection.descriptor, connection.flags.has(POLLING));
        self.busy.push((slot, generation));
        self.parts.stats.became_busy.add(1);
        if polling {
            self.parts.ring.cancel(descriptor, Token::new(Op::Poll, generation, slot));
        }
    }

    /// The connection goes back to the poll, when `listen` next sees it; its receive, if armed, still completes.
    pub(super) fn leave_busy(&mut self, slot: u32) {
        let Some(generation) = self.slab.generation(slot) else { return };
        let connection = &mut self.slab[slot];
        connection.flags.set(BUSY, false);
        connection.reads = 0;
        let (descriptor, receiving) = (connection.descriptor, connection.flags.has(RECEIVING));
        self.busy.retain(|busy| *busy != (slot, generation));
        if receiving {
            self.parts.ring.cancel(descriptor, Token::new(Op::Receive, generation, slot));
        }
    }

    /// Looks at each busy connection when the tick `ended` is over.
    pub(super) fn look_at_busy(&mut self, ended: Tick) {
        for at in (0..self.busy.len()).rev() {
            let (slot, generation) = self.busy[at];
            // One whose close is in flight may be gone before the turn looks at what was touched: its completion lies in the list already.
            if !self.slab.holds(slot, generation) || self.slab[slot].life == Life::Closing {
                self.busy.swap_remove(at);
                continue;
            }
            let connection = &self.slab[slot];
            let receives = if connection.heard == ended { connection.reads } else { 0 };
            if receives < limits::BUSY_KEPT_RECEIVES || connection.life != Life::Live {
                self.leave_busy(slot);
                self.touch(slot);
            }
        }
    }
}
