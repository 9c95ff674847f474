//! Accounts: a user's number and password hash.

use super::{Partition, Tx};
use crate::{
    api::{AccountOutcome, UserId},
    error::StoreError,
    record,
};
use bytes::Bytes;

impl Partition {
    /// Stores the hash unless the number is taken. The user is known from then on.
    pub(super) fn create_account(
        &mut self,
        user: UserId,
        hash: &str,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let key = record::account(self.number, user);
        tx.out.account = Some(if tx.batch.get(tx.store, &key)?.is_some() {
            AccountOutcome::Exists
        } else {
            tx.batch.put(key, Bytes::copy_from_slice(hash.as_bytes()));
            self.change(user, tx)?;
            AccountOutcome::Created
        });
        Ok(())
    }
}
