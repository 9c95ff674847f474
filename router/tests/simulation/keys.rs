//! Public keys: what devices published, and what was handed out, once ever.

use roost_proto::v1::{KeyBundles, KeysPublish};
use std::collections::{BTreeMap, BTreeSet};

/// A device by its user and its number.
pub type Owner = (u64, u32);

#[derive(Default)]
pub struct Keys {
    /// Whatever was ever published, answered or not: by its device.
    tried: BTreeMap<Owner, Vec<KeysPublish>>,
    /// One-time keys whose publication was answered: by its device.
    stored: BTreeMap<Owner, u64>,
    handed_out: BTreeSet<Vec<u8>>,
    /// How many were handed out: by device.
    counts: BTreeMap<Owner, u64>,
    /// Fetches of a user's keys that have no answer yet, or never will.
    open_fetches: BTreeMap<u64, u64>,
    /// The number of the next key: no two are the same.
    next: u64,
}

impl Keys {
    /// Keys that nobody has published before.
    pub fn make(&mut self, owner: Owner, count: u64) -> KeysPublish {
        let mut key = |kind: &str| {
            self.next += 1;
            format!("{kind} {} of {owner:?}", self.next).into_bytes().into()
        };
        let keys = KeysPublish {
            identity: format!("identity of {owner:?}").into_bytes().into(),
            signed_prekey: key("prekey"),
            signature: key("signature"),
            one_time: (0..count).map(|_| key("one-time")).collect(),
        };
        self.tried.entry(owner).or_default().push(keys.clone());
        keys
    }

    pub fn published(&mut self, owner: Owner, one_time: u64) {
        *self.stored.entry(owner).or_default() += one_time;
    }

    pub fn has_published(&self, owner: Owner) -> bool {
        self.stored.contains_key(&owner)
    }

    pub fn fetching(&mut self, user: u64) {
        *self.open_fetches.entry(user).or_default() += 1;
    }

    /// `expected`: devices that had published when it was asked.
    pub fn fetched(&mut self, user: u64, bundles: &KeyBundles, expected: &[u32]) {
        *self.open_fetches.entry(user).or_default() -= 1;
        for device in expected {
            let has = bundles.device.iter().any(|bundle| bundle.device == *device);
            assert!(has, "no keys of {user}:{device}, which has published");
        }
        for bundle in &bundles.device {
            let owner = (bundle.user, bundle.device);
            assert_eq!(bundle.user, user, "keys of another user");
            let tried = self.tried.get(&owner).unwrap_or_else(|| panic!("{owner:?} never published"));
            let is_one = |keys: &KeysPublish| {
                (&keys.identity, &keys.signed_prekey, &keys.signature)
                    == (&bundle.identity, &bundle.signed_prekey, &bundle.signature)
            };
            assert!(tried.iter().any(is_one), "{owner:?} never published these: {bundle:?}");
            if !bundle.one_time.is_empty() {
                let is_its = tried.iter().any(|keys| keys.one_time.contains(&bundle.one_time));
                assert!(is_its, "{owner:?} never published this one-time key: {bundle:?}");
                let is_new = self.handed_out.insert(bundle.one_time.to_vec());
                assert!(is_new, "a one-time key was handed out twice: {bundle:?}");
                *self.counts.entry(owner).or_default() += 1;
            }
        }
    }

    /// One-time keys that a device of this user may have left, at most.
    pub fn most_left(&self, user: u64) -> u64 {
        let of_user = self.tried.iter().filter(|((of, _), _)| *of == user);
        let left = |(owner, tried): (&Owner, &Vec<KeysPublish>)| {
            let count: u64 = tried.iter().map(|keys| keys.one_time.len() as u64).sum();
            count - self.counts.get(owner).copied().unwrap_or(0)
        };
        of_user.map(left).max().unwrap_or(0)
    }

    /// Welcome says that so many are left. Only a fetch without an answer may have burnt one.
    pub fn check_left(&self, owner: Owner, left: u64) {
        let of = |counts: &BTreeMap<Owner, u64>| counts.get(&owner).copied().unwrap_or(0);
        let burnt = self.open_fetches.get(&owner.0).copied().unwrap_or(0);
        let least = of(&self.stored).saturating_sub(of(&self.counts) + burnt);
        let tried: u64 =
            self.tried.get(&owner).map_or(0, |tried| tried.iter().map(|k| k.one_time.len() as u64).sum());
        let most = tried - of(&self.counts);
        assert!(
            (least..=most).contains(&left),
            "{owner:?} has {left} one-time keys left, not {least} to {most}"
        );
    }
}
