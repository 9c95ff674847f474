//! The user has read messages: their senders hear it, once.

use super::{Partition, Tx, session_of};
use crate::{error::StoreError, limits, log::Origin, record};
use roost_proto::v1::{self, Code};
use std::collections::{BTreeMap, BTreeSet};

impl Partition {
    /// Messages that are not this user's, or were read before, are passed over. Where a client says Read before it says Ack,
    /// READ comes before DELIVERED.
    pub(super) fn read(
        &mut self,
        origin: &Origin,
        messages: &[u64],
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let id = session_of(origin);
        if !self.speaks(origin) {
            return Ok(());
        }
        if messages.len() > limits::READ_MESSAGES_MAX {
            let text = format!(
                "{} messages in one Read, at most {} are taken",
                messages.len(),
                limits::READ_MESSAGES_MAX
            );
            tx.out.error(id, origin.id, Code::MALFORMED, text);
            return Ok(());
        }
        let (mut read, mut elsewhere): (BTreeMap<_, Vec<u64>>, _) = (BTreeMap::new(), Vec::new());
        let once: BTreeSet<u64> = messages.iter().copied().collect();
        for message in &once {
            let key = record::mark(self.number, origin.user, *message);
            if let Some(value) = tx.batch.get(tx.store, &key)? {
                let from = record::number(Some(value))?;
                tx.batch.delete(key);
                read.entry(from).or_default().push(*message);
            } else {
                elsewhere.push(*message);
            }
        }
        self.read_in_groups(origin.user, &elsewhere, tx);
        self.tell_senders(origin.user, v1::Mark::READ, read, tx)?;
        tx.out.done(id, origin.id);
        Ok(())
    }
}
