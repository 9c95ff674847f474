//! The counts a verdict rests on.

use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// More than anything in a run happens, and sums of some are far from an overflow.
const COUNT_MAX: u64 = 1 << 48;

/// The counts a verdict rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Handed to a socket at least once.
    pub sent: u64,
    /// Answered by Sent.
    pub answered: u64,
    /// Refused for good, or too often.
    pub refused: u64,
    /// Handed to a socket, or due, and never answered.
    pub unanswered: u64,
    /// Messages that arrived; of groups, each at each member.
    pub received: u64,
    /// Of these, messages to groups.
    pub received_in_groups: u64,
    /// Answered by Sent and never arrived; of groups, each with each member it did not reach.
    pub lost: u64,
    /// Deliveries of what had been delivered for good.
    pub duplicated: u64,
    /// Messages that arrived before an earlier one of the same sender to the same receiver; of groups, before an earlier one of the group.
    pub out_of_order: u64,
    /// Allowed second deliveries.
    pub redelivered: u64,
    /// DELIVERED receipts, each message once.
    pub receipts_delivered: u64,
    /// READ receipts, each message once.
    pub receipts_read: u64,
    /// Messages that arrived and whose sender got no DELIVERED receipt.
    pub receipts_missing: u64,
    /// Receipts for a message that was never sent, or by somebody who is not its receiver.
    pub receipts_wrong: u64,
    /// Anything else the contract forbids: wrong sender or receiver, a changed payload, two numbers for one message, a
    /// cursor that went back.
    pub violations: u64,
    /// Events of earlier runs on the same store.
    pub foreign: u64,
}

impl Tally {
    /// Whether nothing was lost, doubled, disordered or against the contract.
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.out_of_order + self.receipts_wrong + self.violations == 0
    }
}

impl Tally {
    /// Whether each count is one that a run may have, so that sums of them cannot overflow: they may come from another process.
    pub(super) fn is_plausible(&self) -> bool {
        let Self { sent, answered, refused, unanswered, received, lost, duplicated, .. } = self;
        let Self { out_of_order, redelivered, receipts_delivered, receipts_read, .. } = self;
        let Self { receipts_missing, receipts_wrong, violations, foreign, received_in_groups, .. } = self;
        let messages =
            [sent, answered, refused, unanswered, received, lost, duplicated, out_of_order, redelivered];
        let others = [
            receipts_delivered,
            receipts_read,
            receipts_missing,
            receipts_wrong,
            violations,
            foreign,
            received_in_groups,
        ];
        messages.into_iter().chain(others).all(|count| *count <= COUNT_MAX)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.received += other.received;
        self.received_in_groups += other.received_in_groups;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.redelivered += other.redelivered;
        self.receipts_delivered += other.receipts_delivered;
        self.receipts_read += other.receipts_read;
        self.receipts_missing += other.receipts_missing;
        self.receipts_wrong += other.receipts_wrong;
        self.violations += other.violations;
        self.foreign += other.foreign;
    }
}
