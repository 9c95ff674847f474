//! Frames that wait in their connection's outbox for others to go with: each packet costs both ends far more than a frame in it.
//!
//! The rule:
//! - A receipt waits up to [`limits::RECEIPT_WAIT_MS`]: nobody acts on it, and most clients are sent something else by then.
//! - While the shard is crowded, that is after a tick with [`limits::CROWDED_EFFECTS`] effects, any other event waits up to
//!   [`limits::EVENT_WAIT_MS`]: what then costs a few milliseconds of latency keeps queues from growing by seconds.
//! - Answers never wait, and whatever leaves takes all along that waits in its outbox.

use std::{collections::VecDeque, time::Duration};

use roost_proto::{codec::holds_receipt, tier::Action};

use crate::limits;

/// How long a frame may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Of a receipt.
    Receipt,
    /// Of an event of a crowded shard.
    Event,
}

impl Patience {
    /// When it ends, on the grid that keeps wake-ups few. Milliseconds of the shard's age.
    pub fn ends_ms(self, now_ms: u64) -> u64 {
        let wait_ms = match self {
            Self::Receipt => limits::RECEIPT_WAIT_MS,
            Self::Event => limits::EVENT_WAIT_MS,
        };
        (now_ms + wait_ms).next_multiple_of(limits::WAIT_GRID_MS)
    }
}

/// A connection with an outbox that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    due_ms: u64,
    slot: u32,
    generation: u32,
}

/// The connections whose outboxes wait, and whether the shard is crowded.
#[derive(Default)]
pub struct Company {
    /// By due time each: a connection stands in it once for each time that its outbox began to wait, or to wait less.
    receipts: VecDeque<Waiting>,
    events: VecDeque<Waiting>,
    effects: u32,
    crowded: bool,
}

impl Company {
    /// How long an effect may wait; `None`: not at all.
    pub fn patience(&mut self, action: &Action) -> Option<Patience> {
        self.effects = self.effects.saturating_add(1);
        match action {
            Action::Event(event) if holds_receipt(event) => Some(Patience::Receipt),
            Action::Event(_) if self.crowded => Some(Patience::Event),
            _ => None,
        }
    }

    /// Lets a connection's outbox wait.
    pub fn wait(&mut self, patience: Patience, due_ms: u64, slot: u32, generation: u32) {
        let queue = match patience {
            Patience::Receipt => &mut self.receipts,
            Patience::Event => &mut self.events,
        };
        queue.push_back(Waiting { due_ms, slot, generation });
    }

    /// A connection, by slot and generation, that may have waited long enough.
    pub fn next_due(&mut self, now_ms: u64) -> Option<(u32, u32)> {
        let is_due = |waiting: &mut Waiting| waiting.due_ms <= now_ms;
        let due = self.events.pop_front_if(is_due).or_else(|| self.receipts.pop_front_if(is_due));
        due.map(|waiting| (waiting.slot, waiting.generation))
    }

    /// How long until the next is due.
    pub fn due_in(&self, now_ms: u64) -> Option<Duration> {
        let first = [self.events.front(), self.receipts.front()];
        let due_ms = first.into_iter().flatten().map(|waiting| waiting.due_ms).min()?;
        Some(Duration::from_millis(due_ms.saturating_sub(now_ms)))
    }

    /// Once a tick: judges whether it was a crowded one.
    pub fn rest(&mut self) {
        self.crowded = std::mem::take(&mut self.effects) >= limits::CROWDED_EFFECTS;
        self.events.shrink_to(limits::KEPT_LIST_ITEMS);
        self.receipts.shrink_to(limits::KEPT_LIST_ITEMS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_proto::v1;

    fn event(body: v1::event::Body) -> Action {
        let event = v1::Event { seq: 7 << 40, body: Some(body) };
        Action::Event(buffa::Message::encode_to_bytes(&event))
    }

    #[test]
    fn receipts_wait_and_messages_only_in_a_crowd() {
        let (receipt, message) = (event(v1::Receipt::default().into()), event(v1::Message::default().into()));
        let mut company = Company::default();
        assert_eq!(company.patience(&receipt), Some(Patience::Receipt));
        assert_eq!(company.patience(&message), None);
        company.effects = limits::CROWDED_EFFECTS;
        company.rest();
        assert_eq!(company.patience(&receipt), Some(Patience::Receipt), "no less than before");
        assert_eq!(company.patience(&message), Some(Patience::Event));
        assert_eq!(company.patience(&Action::Frame(Box::default())), None, "an answer never waits");
        company.rest();
        assert_eq!(company.patience(&message), None, "the crowd is gone");
    }

    #[test]
    fn those_who_wait_less_come_first_and_none_too_early() {
        let mut company = Company::default();
        company.wait(Patience::Receipt, Patience::Receipt.ends_ms(3), 1, 1);
        company.wait(Patience::Event, Patience::Event.ends_ms(3), 2, 1);
        let [event, receipt] = [Patience::Event, Patience::Receipt].map(|patience| patience.ends_ms(3));
        assert_eq!(company.due_in(3), Some(Duration::from_millis(event - 3)));
        assert_eq!(company.next_due(event - 1), None);
        assert_eq!((company.next_due(event), company.next_due(event)), (Some((2, 1)), None));
        assert_eq!((company.next_due(receipt), company.due_in(receipt)), (Some((1, 1)), None));
    }
}
