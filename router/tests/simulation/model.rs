//! What must come of it: plain maps, and nothing of the router's own.

use crate::{groups::Groups, keys::Keys};
use roost_proto::v1::{self, Kind, Mark, event};
use std::collections::{BTreeMap, BTreeSet};

pub const HOUR_MS: u64 = 60 * 60 * 1000;
pub const DAY_MS: u64 = 24 * HOUR_MS;
pub const RETENTION_MS: u64 = 30 * DAY_MS;

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    User(u64),
    Group(u64),
}

impl To {
    pub fn address(self) -> v1::Address {
        let to = match self {
            Self::User(user) => v1::address::To::User(user),
            Self::Group(group) => v1::address::To::Group(group),
        };
        v1::Address { to: Some(to) }
    }
}

/// What somebody said, under the number that is its `client_id`.
pub struct Said {
    pub from: u64,
    pub device: u32,
    pub to: To,
    pub kind: Kind,
    pub payload: Vec<u8>,
    pub sealed: Vec<v1::Sealed>,
    /// When it was said first.
    pub begun_ms: u64,
    pub attempts: u32,
    /// What it was given, as soon as anybody was told.
    pub id: Option<u64>,
    /// Sent came.
    pub is_answered: bool,
    /// It was said again after its key was forgotten, or never: nobody minds what came of it.
    pub is_given_up: bool,
    /// A device of the receiver was registered when it was said.
    pub is_to_known: bool,
    /// Of its group, the newest version that anybody knew.
    pub version: u64,
    /// Devices that were registered when it was said, of those that it is for.
    pub must_reach: Vec<usize>,
    /// Devices of its sender that were registered then, which are told what becomes of it.
    pub must_hear: Vec<usize>,
}

impl Said {
    /// It is for this device, as far as its user is in the conversation.
    pub fn is_for(&self, user: u64, device: u32) -> bool {
        let is_in = matches!(self.to, To::Group(_)) || self.from == user || self.to == To::User(user);
        is_in
            && (self.from, self.device) != (user, device)
            && (self.sealed.is_empty() || self.sealed.iter().any(|s| (s.user, s.device) == (user, device)))
    }

    pub fn lifetime_ms(&self) -> u64 {
        if self.kind == Kind::STATUS { DAY_MS } else { RETENTION_MS }
    }

    /// Some of it may have gone without being delivered.
    pub fn may_be_over(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.begun_ms) >= self.lifetime_ms()
    }
}

#[derive(Default)]
pub struct Model {
    /// By `client_id`.
    pub said: BTreeMap<u64, Said>,
    /// Of each message: its `client_id`.
    pub ids: BTreeMap<u64, u64>,
    /// By user and seq, what any device was told, without what is its own.
    pub streams: BTreeMap<(u64, u64), v1::Event>,
    /// Of each message in a user's stream: its seq.
    places: BTreeMap<(u64, u64), u64>,
    /// Of each change of a group in a user's stream: its seq. By user, group, version.
    versions: BTreeMap<(u64, u64, u64), u64>,
    pub groups: Groups,
    pub keys: Keys,
    /// Of each receipt: its seq. By mark, message, and who has it.
    receipts: BTreeMap<(i32, u64, u64), u64>,
    /// Users who removed a device.
    pub removed: BTreeSet<u64>,
    /// Messages that this user said to have read.
    pub read_asked: BTreeSet<(u64, u64)>,
    /// The same, answered, and when.
    pub read: BTreeMap<(u64, u64), u64>,
}

/// Unix milliseconds of a seq.
pub fn time_of_seq(seq: u64) -> u64 {
    seq >> 12
}

/// Unix milliseconds of a message's id.
pub fn time_of_id(id: u64) -> u64 {
    id >> 22
}

pub fn number_of(client_id: &[u8]) -> u64 {
    u64::from_be_bytes(client_id.try_into().expect("client_ids of the simulation have 8 bytes"))
}

impl Model {
    /// A device was told this event.
    pub fn told(&mut self, user: u64, device: u32, event: &v1::Event) {
        let plain = match &event.body {
            Some(event::Body::Message(message)) => {
                self.message(user, device, event.seq, message);
                let message =
                    v1::Message { payload: bytes::Bytes::new(), sealed: false, ..(**message).clone() };
                v1::Event { seq: event.seq, body: Some(message.into()) }
            }
            Some(event::Body::Receipt(receipt)) => {
                self.receipt(user, event.seq, receipt);
                event.clone()
            }
            Some(event::Body::Group(info)) => {
                self.groups.learn(info);
                let place = *self.versions.entry((user, info.group, info.version)).or_insert(event.seq);
                assert_eq!(place, event.seq, "a change of a group came twice: {info:?}");
                event.clone()
            }
            None => panic!("an event of nothing"),
        };
        let known = self.streams.entry((user, event.seq)).or_insert_with(|| plain.clone());
        assert_eq!(*known, plain, "two devices of user {user} were told different things at one place");
    }

    fn message(&mut self, user: u64, device: u32, seq: u64, message: &v1::Message) {
        let number = number_of(&message.client_id);
        let said = self.said.get_mut(&number).expect("a message that nobody said");
        assert_eq!(
            (message.from, message.from_device, message.to.as_option(), message.kind),
            (said.from, said.device, Some(&said.to.address()), said.kind.into()),
            "message #{number} came as another"
        );
        assert!(said.is_for(user, device), "message #{number} is not for device {user}:{device}");
        let own = said.sealed.iter().find(|s| (s.user, s.device) == (user, device));
        let payload = own.map_or(&said.payload[..], |sealed| &sealed.ciphertext[..]);
        assert_eq!(
            (&message.payload[..], message.sealed),
            (payload, own.is_some()),
            "message #{number} is garbled"
        );
        assert_eq!(
            message.sent_at_ms,
            time_of_id(message.id),
            "message #{number} has another time than its id"
        );
        self.named(number, message.id);
        let place = *self.places.entry((user, message.id)).or_insert(seq);
        assert_eq!(place, seq, "message #{number} came to user {user} twice");
    }

    fn receipt(&mut self, user: u64, seq: u64, receipt: &v1::Receipt) {
        assert!(!receipt.message.is_empty(), "a receipt of nothing");
        for id in &receipt.message {
            let number = self
                .ids
                .get(id)
                .unwrap_or_else(|| panic!("a receipt of message {id}, which nobody was told of"));
            let said = &self.said[number];
            let is_by = |to| if let To::User(to) = to { to == receipt.by } else { said.from != receipt.by };
            assert!(said.from == user && is_by(said.to), "a receipt of #{number} for or by another");
            let place = *self.receipts.entry((receipt.mark.to_i32(), *id, receipt.by)).or_insert(seq);
            // Nobody knows what a device had that is removed.
            let is_excused = receipt.mark == Mark::DELIVERED && self.removed.contains(&receipt.by);
            assert!(place == seq || is_excused, "message #{number} was reported as {:?} twice", receipt.mark);
            let was_told = self.places.contains_key(&(receipt.by, *id));
            assert!(was_told, "#{number} was reported as {:?}, and came to nobody", receipt.mark);
            let was_read = self.read_asked.contains(&(receipt.by, *id));
            assert!(receipt.mark != Mark::READ || was_read, "#{number} was reported as read, and was not");
        }
    }

    /// A message is told to have this id.
    pub fn named(&mut self, number: u64, id: u64) {
        let said = self.said.get_mut(&number).expect("it was said");
        assert!(said.is_given_up || said.id.is_none_or(|known| known == id), "#{number} is two messages");
        said.id = Some(id);
        let other = *self.ids.entry(id).or_insert(number);
        assert_eq!(other, number, "two messages have the id {id}");
    }

    pub fn place(&self, user: u64, id: u64) -> Option<u64> {
        self.places.get(&(user, id)).copied()
    }

    pub fn has_version(&self, user: u64, group: u64, version: u64) -> bool {
        self.versions.contains_key(&(user, group, version))
    }

    pub fn has_receipt(&self, mark: Mark, id: u64, by: u64) -> bool {
        self.receipts.contains_key(&(mark as i32, id, by))
    }

    /// What this stream says of a message, if it is one.
    pub fn said_in(&self, event: &v1::Event) -> Option<&Said> {
        match &event.body {
            Some(event::Body::Message(message)) => self.said.get(&number_of(&message.client_id)),
            _ => None,
        }
    }
}
