//! What partitions tell each other at most once: nothing of it is stored, and it is dropped where the other thread's queue is full.

use super::{Partition, Tx};
use crate::{
    error::StoreError,
    log::{Whisper, whisper::Body},
};

impl Partition {
    /// Applies it here, or leaves it to the runtime.
    pub(super) fn whisper(&mut self, to: u16, body: Body, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        if to == self.number {
            return self.hear(&body, tx);
        }
        tx.out.whispers.push_back((to, Whisper { body: Some(body) }));
        Ok(())
    }

    /// What another partition whispers.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn hear_whisper(&mut self, whisper: &Whisper, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        whisper.body.as_ref().map_or(Ok(()), |body| self.hear(body, tx))
    }

    fn hear(&mut self, body: &Body, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        match body {
            Body::Ask(ask) => self.asked(ask, tx),
            Body::Follow(follow) => self.follow(follow, tx),
            Body::Typed(typed) => self.typed(typed, tx),
        }
    }
}
