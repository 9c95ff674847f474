//! What becomes of a client that stops reading for a while: it reads on, or the server has ended its connection meanwhile.

use super::{Chat, State};
use crate::meters::Counters;
use crate::worker::Phase;

/// Where a client stands with its time of not reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stall {
    /// It reads, or was ended for not reading.
    #[default]
    None,
    /// It does not read.
    Stalled,
    /// It reads again; what ended its connection meanwhile would show now.
    Reading,
}

impl Chat {
    /// Takes note of where the client stands; called twice a second while it is connected.
    pub(super) fn watch_stall(&self, state: &mut State) {
        let counters = &self.context.shared.counters;
        state.stall = match (state.stall, self.context.is_stalled(self.client)) {
            (Stall::None, true) => {
                Counters::add(&counters.odd_begun);
                Stall::Stalled
            }
            (Stall::Stalled, false) => Stall::Reading,
            (Stall::Reading, false) => {
                Counters::add(&counters.odd_through);
                Stall::None
            }
            (stall, _) => stall,
        };
    }

    /// The connection is gone, by whose wish ever.
    pub(super) fn close_stall(&self, state: &mut State) {
        let stall = std::mem::take(&mut state.stall);
        if stall != Stall::None && self.context.phase.get() != Phase::Stop {
            Counters::add(&self.context.shared.counters.odd_ended);
        }
    }
}
