//! The public keys of a user's devices (X3DH, <https://signal.org/docs/specifications/x3dh/>): kept as they came, handed to
//! whoever opens a session with the device. Each one-time key is handed out once ever.

use super::{Partition, Tx, send::USER_MAX, session_of};
use crate::{
    api::{DeviceId, UserId},
    error::StoreError,
    limits::{self, ONE_TIME_KEYS_DEVICE_MAX, ONE_TIME_KEYS_FRAME_MAX},
    log::{KeysRecord, Origin},
    record::{self, OneTime},
};
use buffa::Message as _;
use bytes::Bytes;
use roost_proto::v1::{Code, KeyBundle, KeyBundles, KeysPublish};

/// What is wrong with a publication, if anything. `known`: what the device published before; `left`: its one-time keys that
/// would stay.
fn check(keys: &KeysPublish, known: Option<&KeysRecord>, left: usize) -> Result<(), (Code, String)> {
    let sizes = [
        ("identity", keys.identity.len(), limits::IDENTITY_BYTES_MAX),
        ("signed_prekey", keys.signed_prekey.len(), limits::SIGNED_PREKEY_BYTES_MAX),
        ("signature", keys.signature.len(), limits::SIGNATURE_BYTES_MAX),
    ];
    let one_time =
        keys.one_time.iter().map(|key| ("a one_time key", key.len(), limits::ONE_TIME_KEY_BYTES_MAX));
    if let Some((field, bytes, most)) =
        sizes.into_iter().chain(one_time).find(|(_, bytes, most)| bytes > most)
    {
        return Err((Code::TOO_LARGE, format!("{field} has {bytes} bytes, at most {most} are taken")));
    }
    if keys.one_time.iter().any(Bytes::is_empty) {
        return Err((Code::MALFORMED, "a one_time key is empty".into()));
    }
    let count = keys.one_time.len();
    if count > ONE_TIME_KEYS_FRAME_MAX {
        let text = format!("{count} one_time keys in one frame, at most {ONE_TIME_KEYS_FRAME_MAX} are taken");
        return Err((Code::TOO_LARGE, text));
    }
    if left + count > ONE_TIME_KEYS_DEVICE_MAX {
        let text = format!(
            "{count} one_time keys more: {left} are left, and a device has at most {ONE_TIME_KEYS_DEVICE_MAX}"
        );
        return Err((Code::TOO_LARGE, text));
    }
    for (field, bytes) in [("identity", &keys.identity), ("signed_prekey", &keys.signed_prekey)] {
        if known.is_none() && bytes.is_empty() {
            return Err((Code::MALFORMED, format!("{field} is missing, and none was published before")));
        }
    }
    if keys.signed_prekey.is_empty() && !keys.signature.is_empty() {
        return Err((Code::MALFORMED, "a signature without its signed_prekey".into()));
    }
    Ok(())
}

/// A field that is empty leaves what was there; a prekey comes with its own signature.
fn merge(keys: &KeysPublish, known: Option<KeysRecord>) -> KeysRecord {
    let mut record = known.unwrap_or_default();
    if !keys.identity.is_empty() {
        record.identity = keys.identity.clone();
    }
    if !keys.signed_prekey.is_empty() {
        record.signed_prekey = keys.signed_prekey.clone();
        record.signature = keys.signature.clone();
    }
    record
}

impl Partition {
    /// Replaces identity, signed prekey and signature, and adds to the one-time keys that are left. Another identity is another
    /// installation: nobody has the private halves of its one-time keys any more, so they go.
    pub(super) fn publish_keys(
        &mut self,
        origin: &Origin,
        keys: &KeysPublish,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let (id, user, device) = (session_of(origin), origin.user, origin.device);
        if !self.speaks(origin) || origin.call && !self.enrol(origin, tx)? {
            return Ok(());
        }
        self.load(user, tx.store)?;
        let Some(left) = self.one_time(user, device) else { return Ok(()) };
        let known = self.published(user, device, tx)?;
        let is_other = |known: &KeysRecord| !keys.identity.is_empty() && known.identity != keys.identity;
        let is_new = known.as_ref().is_some_and(is_other);
        let stay = if is_new { 0 } else { left.len() };
        // A new installation has nothing of the old one to leave as it was.
        let known = known.filter(|_| !is_new);
        if let Err((code, text)) = check(keys, known.as_ref(), stay) {
            tx.out.error(id, origin.id, code, text);
            return Ok(());
        }
        if is_new {
            self.drop_one_time(user, device, left, tx);
        }
        tx.batch.put(record::keys(self.number, user, device), merge(keys, known).encode_to_bytes());
        for (number, key) in (left.next..).zip(&keys.one_time) {
            tx.batch.put(record::one_time(self.number, user, device, number), key.clone());
        }
        let first = if is_new { left.next } else { left.first };
        self.set_one_time(user, device, OneTime { first, next: left.next + keys.one_time.len() as u64 }, tx)?;
        tx.out.done(id, origin.id);
        Ok(())
    }

    /// One bundle for each device that has published. What is handed out is deleted in the batch whose commit precedes the
    /// answer: a batch that fails hands out nothing, and one that is found stored after all has burnt a key.
    pub(super) fn fetch_keys(
        &mut self,
        origin: &Origin,
        user: UserId,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let id = session_of(origin);
        if !(1..=USER_MAX).contains(&user) {
            tx.out.error(id, origin.id, Code::MALFORMED, "user is not a number from 1 to 2^63-1");
            return Ok(());
        }
        if !self.load(user, tx.store)? {
            tx.out.error(id, origin.id, Code::NOT_FOUND, format!("there is no user {user}"));
            return Ok(());
        }
        let devices =
            self.users.get(user).map(|user| user.devices.iter().map(|d| d.device).collect::<Vec<_>>());
        let mut bundles = Vec::new();
        for device in devices.unwrap_or_default() {
            let Some(keys) = self.published(user, device, tx)? else { continue };
            let one_time = self.take_one_time(user, device, tx)?.unwrap_or_default();
            let KeysRecord { identity, signed_prekey, signature, .. } = keys;
            bundles.push(KeyBundle { user, device, identity, signed_prekey, signature, one_time });
        }
        tx.out.frame(id, origin.id, Some(KeyBundles { device: bundles }.into()));
        Ok(())
    }

    fn published(
        &self,
        user: UserId,
        device: DeviceId,
        tx: &Tx<'_>,
    ) -> Result<Option<KeysRecord>, StoreError> {
        let value = tx.batch.get(tx.store, &record::keys(self.number, user, device))?;
        value.map(record::decode).transpose()
    }

    /// Of a device in the cache.
    fn one_time(&self, user: UserId, device: DeviceId) -> Option<OneTime> {
        self.users.get(user)?.device(device).map(|device| device.one_time)
    }

    /// The oldest one-time key that is left, which is gone with this batch.
    fn take_one_time(
        &mut self,
        user: UserId,
        device: DeviceId,
        tx: &mut Tx<'_>,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some(mut left) = self.one_time(user, device).filter(|left| !left.is_empty()) else {
            return Ok(None);
        };
        let key = record::one_time(self.number, user, device, left.first);
        let one_time = tx.batch.get(tx.store, &key)?;
        tx.batch.delete(key);
        left.first += 1;
        self.set_one_time(user, device, left, tx)?;
        Ok(one_time)
    }

    /// Of a device that is about to be forgotten.
    pub(super) fn drop_keys(&self, user: UserId, device: DeviceId, tx: &mut Tx<'_>) {
        if let Some(left) = self.one_time(user, device) {
            self.drop_one_time(user, device, left, tx);
            tx.batch.delete(record::keys(self.number, user, device));
        }
    }

    fn drop_one_time(&self, user: UserId, device: DeviceId, left: OneTime, tx: &mut Tx<'_>) {
        for number in left.first..left.next {
            tx.batch.delete(record::one_time(self.number, user, device, number));
        }
    }

    fn set_one_time(
        &mut self,
        user: UserId,
        device: DeviceId,
        one_time: OneTime,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let user = self.change(user, tx)?;
        if let Some(device) = user.devices.iter_mut().find(|known| known.device == device) {
            device.one_time = one_time;
        }
        Ok(())
    }
}
