//! Requests that the router had no room for, in order, and the connections that wait for it.
//!
//! While there are any, whoever adds one is read no more. While they are as many, or as large together, as they may be, no session is
//! read at all: what its client sends stays in the socket, and what was read already is kept as it came (`parked.rs`). So what a client
//! has sent is late and not lost, and the backlog grows beyond its bound by what one buffer completes.

use std::collections::VecDeque;

use roost_proto::{
    tier::{Full, Request},
    v1::{self, client_frame::Body, group_command::Command},
};

use super::{
    Bounds, Shard, Uplink,
    slot::{HELD, Life},
};
use crate::{conn::Phase, limits, ring::Ring};

/// What waits for the router.
#[derive(Default)]
pub(super) struct Backlog {
    /// Each with its bytes.
    requests: VecDeque<(Request, usize)>,
    bytes: usize,
    full: bool,
    pub(super) bounds: Bounds,
}

impl Backlog {
    pub(super) fn push(&mut self, request: Request) {
        let bytes = held_bytes(&request);
        self.requests.push_back((request, bytes));
        self.bytes += bytes;
        self.look();
    }

    /// Offers them in order, until one is not taken.
    pub(super) fn offer(&mut self, uplink: &dyn Uplink) {
        while let Some((request, bytes)) = self.requests.pop_front() {
            if let Err(Full(request)) = uplink.submit(request) {
                self.requests.push_front((request, bytes));
                break;
            }
            self.bytes -= bytes;
        }
        self.look();
    }

    fn look(&mut self) {
        self.full = self.requests.len() >= self.bounds.backlog_requests_max
            || self.bytes >= self.bounds.backlog_bytes_max;
    }

    /// As many, or as large, as they may be.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Bytes of memory that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Once a tick: gives back what a storm left behind.
    pub(super) fn rest(&mut self) {
        self.requests.shrink_to(limits::KEPT_LIST_ITEMS);
    }
}

/// The memory that a request takes while it is held, bytes.
fn held_bytes(request: &Request) -> usize {
    let content = match request {
        Request::Frame { body, .. } => content_bytes(body),
        _ => 0,
    };
    size_of::<(Request, usize)>() + content
}

fn content_bytes(body: &Body) -> usize {
    let of_numbers = |numbers: &Vec<u64>| numbers.capacity() * size_of::<u64>();
    match body {
        Body::Send(send) => {
            let sealed: usize = send.sealed.iter().map(|sealed| sealed.ciphertext.len()).sum();
            let table = send.sealed.capacity() * size_of::<v1::Sealed>();
            size_of::<v1::Send>() + send.client_id.len() + send.payload.len() + table + sealed
        }
        Body::Read(read) => size_of::<v1::Read>() + of_numbers(&read.message),
        Body::Watch(watch) => size_of::<v1::Watch>() + of_numbers(&watch.user),
        Body::Group(group) => {
            let command = match &group.command {
                Some(Command::Create(create)) => create.name.len() + of_numbers(&create.member),
                Some(Command::Add(members) | Command::Remove(members) | Command::Promote(members)) => {
                    of_numbers(&members.user)
                }
                Some(Command::Rename(name)) => name.len(),
                Some(Command::Info(_)) | None => 0,
            };
            size_of::<v1::GroupCommand>() + command
        }
        Body::KeysPublish(keys) => {
            let one_time: usize = keys.one_time.iter().map(|key| size_of_val(key) + key.len()).sum();
            let device = keys.identity.len() + keys.signed_prekey.len() + keys.signature.len();
            size_of::<v1::KeysPublish>() + device + one_time
        }
        Body::Ack(_) | Body::Typing(_) | Body::KeysFetch(_) | Body::History(_) => {
            size_of::<v1::HistoryFetch>()
        }
    }
}

impl<R: Ring> Shard<R> {
    pub(super) fn offer_backlog(&mut self) {
        let Some(uplink) = &self.parts.uplink else { return };
        if !self.backlog.is_empty() {
            self.backlog.offer(uplink.as_ref());
        }
        if !self.backlog.is_empty() {
            return;
        }
        for (slot, generation) in std::mem::take(&mut self.held) {
            if self.slab.holds(slot, generation) {
                self.slab[slot].flags.set(HELD, false);
                self.touch(slot);
            }
        }
    }

    /// Looks at `slot` again when the router has taken the backlog.
    pub(super) fn hold(&mut self, slot: u32) {
        if !self.slab[slot].flags.has(HELD) {
            self.slab[slot].flags.set(HELD, true);
            let generation = self.slab.generation(slot).unwrap_or_default();
            self.held.push((slot, generation));
        }
    }

    /// The backlog is full: pauses a session. False: it has none, and asks the router for nothing.
    #[cold]
    pub(super) fn hold_back(&mut self, slot: u32) -> bool {
        let connection = &self.slab[slot];
        let asks = connection.life == Life::Live && connection.conn.phase() == Phase::Open;
        if asks {
            self.pause(slot);
            self.hold(slot);
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_proto::tier::SessionId;

    fn frame(body: impl Into<Body>) -> Request {
        let session = SessionId { gateway: 0, shard: 0, slot: 0, generation: 0 };
        Request::Frame { session, user: 1, device: 1, id: 1, body: body.into() }
    }

    #[test]
    fn elements_count_as_what_they_take_in_memory_and_not_on_the_wire() {
        let sealed = vec![v1::Sealed::default(); 1_000];
        assert!(
            held_bytes(&frame(v1::Send { sealed, ..v1::Send::default() })) >= 1_000 * size_of::<v1::Sealed>()
        );
        let one_time = vec![bytes::Bytes::new(); 1_000];
        assert!(held_bytes(&frame(v1::KeysPublish { one_time, ..v1::KeysPublish::default() })) >= 16_000);
        let message = vec![1; 1_000];
        assert!(held_bytes(&frame(v1::Read { message })) >= 8_000);
        assert!(
            held_bytes(&frame(v1::Send { payload: vec![0; 9_000].into(), ..v1::Send::default() })) >= 9_000
        );
    }
}
