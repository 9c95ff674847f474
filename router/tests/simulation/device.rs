//! A device: what its program knows and remembers, whatever becomes of the server.

use roost_proto::v1;
use std::collections::BTreeMap;

pub struct Device {
    pub user: u64,
    pub number: u32,
    pub session: Option<Session>,
    /// All it was ever told, by seq.
    pub got: BTreeMap<u64, v1::Event>,
    /// The newest Ack that was answered.
    pub acked: u64,
    /// What its first Welcome said, while that may still be forgotten.
    pub told: Option<Start>,
    /// The same, for good.
    pub registered: Option<Start>,
    /// It has no Welcome yet.
    pub is_connecting: bool,
    /// It may have begun before it was told so: another Welcome was lost in a crash, or an Attach refused that was stored.
    pub is_ambiguous: bool,
    /// Said by it and not answered yet.
    pub waiting: Vec<u64>,
    /// The server has a session of it.
    pub is_here: bool,
    /// When it was last welcomed, or connected at a Tick, while that may still be forgotten.
    pub noted_ms: u64,
    /// The same for good, or when it last acknowledged something.
    pub seen_ms: u64,
    /// It was away for so long that nothing up to here waits for it.
    pub gone_until_ms: u64,
}

/// Where a device begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub acknowledged: u64,
    pub head: u64,
    /// Another device of the user was registered then.
    pub is_late: bool,
}

pub struct Session {
    pub generation: u32,
    pub is_welcomed: bool,
    /// The newest event it was told, or where it began.
    pub newest: u64,
    /// As Welcome said.
    pub one_time_keys: u32,
    /// By the frame's id.
    pub asked: BTreeMap<u32, Asked>,
}

/// A frame that waits for its answer.
#[derive(Debug)]
pub enum Asked {
    Say(u64),
    SayToNobody,
    Group(GroupAsked),
    /// So many one-time keys.
    Publish(u64),
    /// Of a user, whose devices with these numbers had published.
    Fetch(u64, Vec<u32>),
    Ack(u64),
    Read(Vec<u64>),
}

#[derive(Debug)]
pub struct GroupAsked {
    /// 0 for a new one.
    pub group: u64,
    pub command: v1::group_command::Command,
    /// The newest version that anybody knew then.
    pub since: u64,
    /// Those who are to join were known users then.
    pub is_joining_known: bool,
}

/// A device that its user has removed, and the call that says so.
pub struct Removal {
    pub user: u64,
    pub device: u32,
    pub id: u32,
    pub is_done: bool,
}

impl Device {
    pub fn new(user: u64, number: u32) -> Self {
        Self {
            user,
            number,
            session: None,
            got: BTreeMap::new(),
            acked: 0,
            told: None,
            registered: None,
            is_connecting: false,
            is_ambiguous: false,
            waiting: Vec::new(),
            is_here: false,
            noted_ms: 0,
            seen_ms: 0,
            gone_until_ms: 0,
        }
    }

    pub fn is_welcomed(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_welcomed)
    }

    /// The newest event it has.
    pub fn newest(&self) -> u64 {
        self.got.last_key_value().map_or(0, |(seq, _)| *seq)
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.user, self.number)
    }
}
