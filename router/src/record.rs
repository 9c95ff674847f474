//! Keys of the store. A key is a space, the partition that owns it, and numbers in big-endian order, so that neighbours in
//! a stream are neighbours on disk and one partition's keys can be moved as ranges.

use crate::{
    api::{DeviceId, UserId},
    config::Rules,
    error::StoreError,
    limits, log,
};
use buffa::Message;
use bytes::Bytes;

/// What a key is about; each space is a tree of its own in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Space {
    /// Format and number of partitions; per partition its clock, and its places in other partitions' outboxes.
    Meta = 0,
    /// user -> `UserRecord`.
    Users = 1,
    /// user -> password hash, as text.
    Accounts = 2,
    /// user, seq -> `StoredEvent`.
    Events = 3,
    /// sender, receiver, `client_id` -> the message's id (u64).
    Sent = 4,
    /// receiver, message -> its sender (u64), who is told once it is read.
    Marks = 5,
    /// to, seq -> `Forward`; gone once the other partition has it.
    Outbox = 6,
    /// seq, user -> nothing: the statuses among the events, in the order in which they end.
    Statuses = 7,
    /// conversation (the smaller user, the larger), message -> `Delivery`.
    History = 8,
    /// user, device -> `KeysRecord`.
    Keys = 9,
    /// user, device, number -> one-time key; gone once handed out.
    OneTime = 10,
    /// group -> `GroupRecord`; group, user -> `FormerRecord`.
    Groups = 11,
    /// message -> `GroupMessageRecord`; message, user -> nothing, once he has read it.
    GroupMessages = 12,
    /// group -> `RosterRecord`; group, `info` -> `roost.v1.GroupInfo` as its members here were told it last.
    Rosters = 13,
    /// user -> `MembershipsRecord`.
    Memberships = 14,
    /// group, seq -> `StoredEvent`, for all of the group's members in the partition.
    Feeds = 15,
}

impl Space {
    /// All spaces, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Meta,
        Self::Users,
        Self::Accounts,
        Self::Events,
        Self::Sent,
        Self::Marks,
        Self::Outbox,
        Self::Statuses,
        Self::History,
        Self::Keys,
        Self::OneTime,
        Self::Groups,
        Self::GroupMessages,
        Self::Rosters,
        Self::Memberships,
        Self::Feeds,
    ];
    /// The name of its tree.
    pub fn name(self) -> &'static str {
        [
            "meta",
            "users",
            "accounts",
            "events",
            "sent",
            "marks",
            "outbox",
            "statuses",
            "history",
            "keys",
            "one_time",
            "groups",
            "group_messages",
            "rosters",
            "memberships",
            "feeds",
        ][self as usize]
    }
}

pub(crate) const KEY_BYTES_MAX: usize = 34;

/// A key: its space and at most 34 bytes, kept in place. Bytes past `len` are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    space: Space,
    len: u8,
    bytes: [u8; KEY_BYTES_MAX],
}

impl Key {
    fn new(space: Space, partition: u16) -> Self {
        let mut bytes = [0; KEY_BYTES_MAX];
        bytes[..2].copy_from_slice(&partition.to_be_bytes());
        Self { space, len: 2, bytes }
    }

    fn push(mut self, part: &[u8]) -> Self {
        let from = usize::from(self.len);
        self.bytes[from..from + part.len()].copy_from_slice(part);
        self.len += part.len() as u8;
        self
    }

    /// The key with these bytes, which a scan of its space gave; cut off where they are none.
    pub fn from_bytes(space: Space, bytes: &[u8]) -> Self {
        let len = bytes.len().min(KEY_BYTES_MAX);
        let mut key = Self { space, len: len as u8, bytes: [0; KEY_BYTES_MAX] };
        key.bytes[..len].copy_from_slice(&bytes[..len]);
        key
    }

    /// The space it is in.
    pub fn space(&self) -> Space {
        self.space
    }

    /// Its bytes within the space.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Of the whole store: the format's number (u32, big-endian) and the number of partitions (u16).
pub fn format() -> Key {
    Key::new(Space::Meta, u16::MAX).push(b"format")
}

/// A partition's `PartitionRecord`.
pub fn clock(partition: u16) -> Key {
    Key::new(Space::Meta, partition).push(b"clock")
}

/// The last forward of `from` that `partition` has applied (u64).
pub fn inbound(partition: u16, from: u16) -> Key {
    Key::new(Space::Meta, partition).push(b"in").push(&from.to_be_bytes())
}

/// The last forward of `partition` that `to` is known to have (u64).
pub fn taken(partition: u16, to: u16) -> Key {
    Key::new(Space::Meta, partition).push(b"taken").push(&to.to_be_bytes())
}

/// A user's `UserRecord`. A user with a record is known.
pub fn user(partition: u16, user: UserId) -> Key {
    Key::new(Space::Users, partition).push(&user.to_be_bytes())
}

/// A user's password hash.
pub fn account(partition: u16, user: UserId) -> Key {
    Key::new(Space::Accounts, partition).push(&user.to_be_bytes())
}

/// An event of a user's stream.
pub fn event(partition: u16, user: UserId, seq: u64) -> Key {
    Key::new(Space::Events, partition).push(&user.to_be_bytes()).push(&seq.to_be_bytes())
}

/// A message that was accepted. `client_id`: at most 16 bytes.
pub fn sent(partition: u16, sender: UserId, receiver: UserId, client_id: &[u8]) -> Key {
    Key::new(Space::Sent, partition).push(&sender.to_be_bytes()).push(&receiver.to_be_bytes()).push(client_id)
}

/// A status among the events of a user, or of a group, which stands there with `GROUP` in its number.
pub fn status(partition: u16, seq: u64, user: UserId) -> Key {
    Key::new(Space::Statuses, partition).push(&seq.to_be_bytes()).push(&user.to_be_bytes())
}

/// A message of a conversation.
pub fn history(partition: u16, (one, other): (u64, u64), message: u64) -> Key {
    let key = Key::new(Space::History, partition).push(&one.to_be_bytes());
    key.push(&other.to_be_bytes()).push(&message.to_be_bytes())
}

/// Where a key names a user or a group, this bit tells that it is a group: no user and no group has a number that large.
pub const GROUP: u64 = 1 << 63;

/// All keys of a partition in a space are from the first of these to the second.
pub fn bounds(space: Space, partition: u16) -> (Key, Key) {
    let first = Key::new(space, partition);
    (first, first.push(&[u8::MAX; KEY_BYTES_MAX - 2]))
}

/// A message its receiver has not read.
pub fn mark(partition: u16, receiver: UserId, message: u64) -> Key {
    Key::new(Space::Marks, partition).push(&receiver.to_be_bytes()).push(&message.to_be_bytes())
}

/// A forward on its way.
pub fn outbox(partition: u16, to: u16, seq: u64) -> Key {
    Key::new(Space::Outbox, partition).push(&to.to_be_bytes()).push(&seq.to_be_bytes())
}

/// The published keys of a device.
pub fn keys(partition: u16, user: UserId, device: DeviceId) -> Key {
    Key::new(Space::Keys, partition).push(&user.to_be_bytes()).push(&device.to_be_bytes())
}

/// A one-time key of a device, by the number it was given.
pub fn one_time(partition: u16, user: UserId, device: DeviceId, number: u64) -> Key {
    let device = device.to_be_bytes();
    Key::new(Space::OneTime, partition).push(&user.to_be_bytes()).push(&device).push(&number.to_be_bytes())
}

/// A group, in its home.
pub fn group(partition: u16, group: u64) -> Key {
    Key::new(Space::Groups, partition).push(&group.to_be_bytes())
}

/// When a user was in a group before.
pub fn former(partition: u16, group: u64, user: UserId) -> Key {
    self::group(partition, group).push(&user.to_be_bytes())
}

/// A message of a group, in the partition that gave it its id.
pub fn group_message(partition: u16, message: u64) -> Key {
    Key::new(Space::GroupMessages, partition).push(&message.to_be_bytes())
}

/// One who has read a message of a group.
pub fn group_reader(partition: u16, message: u64, user: UserId) -> Key {
    group_message(partition, message).push(&user.to_be_bytes())
}

/// Who of a partition is in a group.
pub fn roster(partition: u16, group: u64) -> Key {
    Key::new(Space::Rosters, partition).push(&group.to_be_bytes())
}

/// What the members of a group in a partition were told of it last.
pub fn roster_info(partition: u16, group: u64) -> Key {
    roster(partition, group).push(b"info")
}

/// An event of a group, for its members in a partition.
pub fn feed(partition: u16, group: u64, seq: u64) -> Key {
    Key::new(Space::Feeds, partition).push(&group.to_be_bytes()).push(&seq.to_be_bytes())
}

/// The groups whose events a user sees.
pub fn memberships(partition: u16, user: UserId) -> Key {
    Key::new(Space::Memberships, partition).push(&user.to_be_bytes())
}

/// The big-endian number at the end of a key: the seq of an event or of a forward.
pub fn last_u64(key: &[u8]) -> u64 {
    let (_, tail) = key.split_at(key.len().saturating_sub(8));
    tail.try_into().map_or(0, u64::from_be_bytes)
}

/// One of the numbers of a key, behind its partition; 0 where it has fewer.
pub fn number_at(key: &[u8], index: usize) -> u64 {
    let bytes = key.get(2 + 8 * index..10 + 8 * index);
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Reads a stored number.
///
/// # Errors
/// It is none.
pub fn number(value: Option<Bytes>) -> Result<u64, StoreError> {
    value.map_or(Ok(0), |value| {
        let bytes = value[..].try_into();
        bytes.map(u64::from_be_bytes).map_err(|_| StoreError::new("read a number", "it has not 8 bytes"))
    })
}

/// Reads a stored message.
///
/// # Errors
/// It is none.
pub fn decode<M: Message>(mut value: Bytes) -> Result<M, StoreError> {
    M::decode(&mut value).map_err(|error| StoreError::new("read a record", error))
}

/// A user as the partition works with it.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// Events up to here are deleted, but for statuses that live.
    pub tail: u64,
    /// In the order of their first session.
    pub devices: Vec<Device>,
    /// The memberships in its record of them: groups it is in, and those whose last events it does not have.
    pub memberships: u32,
    /// The end of the first of those memberships to end; 0 while none ends.
    pub leaves: u64,
    /// How it differs from its record.
    pub state: State,
}

/// How a user in memory differs from its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not at all.
    #[default]
    Stored,
    /// By devices whose registration nobody waits for.
    Registering,
    /// By what must be stored before its effects leave.
    Changed,
}

/// A device of a user: `start <= cursor`, but for one that came while statuses lived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub device: DeviceId,
    /// Its session was welcomed and it is not stored yet: where its cursor stood then.
    pub registering: Option<u64>,
    /// It is not given events up to here, but for statuses that lived when it came.
    pub start: u64,
    /// It has everything up to here for good.
    pub cursor: u64,
    /// When it was last here, in days of Unix time.
    pub seen_day: u32,
    /// Its one-time keys that are left, by number.
    pub one_time: OneTime,
}

impl Device {
    /// One that is given all events.
    pub fn new(device: DeviceId) -> Self {
        Self { device, registering: None, start: 0, cursor: 0, seen_day: 0, one_time: OneTime::default() }
    }

    /// It was not here within the time of retention: nothing waits for it.
    pub(crate) fn is_gone(&self, today: u32, rules: &Rules) -> bool {
        u64::from(today.saturating_sub(self.seen_day)) * limits::DAY_MS > rules.retention_ms
    }

    /// It was given this event, and has it for good. A status counts where it is older than what else the device is given, too.
    pub fn has(&self, seq: u64, is_status: bool) -> bool {
        (self.start < seq || is_status) && seq <= self.cursor
    }
}

/// The numbers of the one-time keys that are left: from `first` up to, not including, `next`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneTime {
    /// The next to be handed out.
    pub first: u64,
    /// The next to be published.
    pub next: u64,
}

impl OneTime {
    /// How many are left.
    pub fn len(self) -> usize {
        self.next.saturating_sub(self.first) as usize
    }

    /// None is left.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl User {
    /// A device by its number.
    pub fn device(&self, device: DeviceId) -> Option<&Device> {
        self.devices.iter().find(|known| known.device == device)
    }

    /// The record of a user.
    pub fn encode(&self) -> Bytes {
        let device = self.devices.iter().map(|d| log::DeviceRecord {
            device: d.device,
            start: d.start,
            cursor: d.cursor,
            seen_day: d.seen_day,
            one_time_first: d.one_time.first,
            one_time_next: d.one_time.next,
        });
        let (memberships, leaves) = (self.memberships, self.leaves);
        log::UserRecord { tail: self.tail, device: device.collect(), memberships, leaves }.encode_to_bytes()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(value: Bytes) -> Result<Self, StoreError> {
        let record: log::UserRecord = decode(value)?;
        let device = record.device.iter().map(|d| Device {
            device: d.device,
            registering: None,
            start: d.start,
            cursor: d.cursor,
            seen_day: d.seen_day,
            one_time: OneTime { first: d.one_time_first, next: d.one_time_next },
        });
        Ok(Self {
            tail: record.tail,
            devices: device.collect(),
            memberships: record.memberships,
            leaves: record.leaves,
            state: State::Stored,
        })
    }
}
