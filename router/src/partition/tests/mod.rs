//! One rule a test, on a partition that is home of everybody.

mod history;
mod keys;
mod messages;
mod presence;
mod receipts;
mod retention;
mod sessions;
mod streams;

use super::*;
use crate::{
    api::{Action, Answer, Effect},
    config::Config,
    limits,
    record::Space,
    store::MemoryStore,
};
use roost_proto::v1::{self, Code, Mark, address::To, event, server_frame};

struct Bed {
    partition: Partition,
    store: MemoryStore,
    now_ms: u64,
}

fn origin(user: u64, device: u32, generation: u32) -> log::Origin {
    let slot = user as u32 * 10 + device;
    log::Origin { slot, generation, user, device, id: 9, ..log::Origin::default() }
}

/// Who calls over HTTP.
fn caller(user: u64, device: u32) -> log::Origin {
    log::Origin { call: true, ..origin(user, device, 77) }
}

fn message(to: u64, client_id: &[u8]) -> v1::Send {
    v1::Send {
        to: v1::Address { to: Some(To::User(to)) }.into(),
        client_id: client_id.to_vec().into(),
        payload: vec![7; 100].into(),
        ..v1::Send::default()
    }
}

fn empty(to: u64) -> v1::Send {
    v1::Send { payload: bytes::Bytes::new(), ..message(to, b"sealed") }
}

fn sealed(user: u64, device: u32) -> v1::Sealed {
    v1::Sealed { user, device, ciphertext: format!("for {user}:{device}").into_bytes().into() }
}

impl Bed {
    fn new() -> Self {
        let rules = Rules { window_events_max: 3, window_bytes_max: 10_000, ..Config::default().rules() };
        let store = MemoryStore::default();
        Self { partition: Partition::open(0, 1, rules, &store).unwrap(), store, now_ms: 1000 }
    }

    /// One batch: what leaves when it is durable, and what refills bring.
    fn run(&mut self, commands: impl IntoIterator<Item = Body>) -> Vec<Effect> {
        let (mut batch, mut out) = (Batch::default(), Output::default());
        for command in commands {
            let mut tx = Tx { store: &self.store, batch: &mut batch, now_ms: self.now_ms, out: &mut out };
            self.partition.apply(&command, &mut tx).unwrap();
        }
        self.partition.flush(&mut batch);
        self.store.commit(&batch).unwrap();
        self.partition.committed();
        out.at_once.append(&mut out.effects);
        std::mem::swap(&mut out.at_once, &mut out.effects);
        let mut skips = Vec::new();
        while self.partition.wants_refill() {
            skips.extend(self.partition.refill(&self.store, self.now_ms, &mut out.effects).unwrap());
        }
        let skip = |s: Skip| Body::from(log::Skip { user: s.user, device: s.device, up_to: s.up_to });
        if !skips.is_empty() {
            self.run(skips.into_iter().map(skip).collect::<Vec<_>>());
        }
        out.effects
    }

    fn attach(&mut self, user: u64, device: u32) -> Vec<Effect> {
        self.run([log::Attach { origin: origin(user, device, 1).into() }.into()])
    }

    fn send(&mut self, from: u64, device: u32, send: v1::Send) -> Vec<Effect> {
        let origin = origin(from, device, 1).into();
        self.run([log::Send { origin, send: send.into(), receiver_known: true }.into()])
    }

    fn ack(&mut self, user: u64, device: u32, up_to: u64) -> Vec<Effect> {
        self.run([log::Ack { origin: origin(user, device, 1).into(), up_to }.into()])
    }

    /// Ticks enough for a pass of the sweep over the store.
    fn pass(&mut self) {
        for _ in 0..20 {
            self.run([log::Tick::default().into()]);
        }
    }

    /// A user's own events in the store.
    fn events_of(&self, user: u64) -> usize {
        let mut count = 0;
        let range = (record::event(0, user, 0), record::event(0, user, u64::MAX));
        let count_one = &mut |_: &[u8]| {
            count += 1;
            true
        };
        self.store.keys(&range.0, &range.1, count_one).unwrap();
        count
    }

    fn counts(&self) -> [usize; 3] {
        [Space::Events, Space::Sent, Space::Marks].map(|space| self.store.len(space))
    }

    fn read(&mut self, user: u64, message: Vec<u64>) -> Vec<Effect> {
        self.run([log::Read { origin: origin(user, 1, 1).into(), message }.into()])
    }
}

fn to(user: u64, device: u32, effects: &[Effect]) -> Vec<Action> {
    let slot = user as u32 * 10 + device;
    effects.iter().filter(|e| e.session.slot == slot).map(|e| e.action.clone()).collect()
}

fn seqs(actions: &[Action]) -> Vec<u64> {
    events(actions).iter().map(|event| event.seq).collect()
}

fn events(actions: &[Action]) -> Vec<v1::Event> {
    let event = |action: &Action| match action {
        Action::Event(bytes) => Some(v1::Event::decode_from_slice(bytes).unwrap()),
        _ => None,
    };
    actions.iter().filter_map(event).collect()
}

/// Their ids.
fn messages(events: &[v1::Event]) -> Vec<u64> {
    let id = |event: &v1::Event| match &event.body {
        Some(event::Body::Message(message)) => Some(message.id),
        _ => None,
    };
    events.iter().filter_map(id).collect()
}

fn receipts(actions: &[Action]) -> Vec<(Mark, u64, Vec<u64>)> {
    let receipt = |event: v1::Event| match event.body {
        Some(event::Body::Receipt(r)) => Some((r.mark.as_known()?, r.by, r.message)),
        _ => None,
    };
    events(actions).into_iter().filter_map(receipt).collect()
}

fn frames(effects: &[Effect]) -> Vec<server_frame::Body> {
    let body = |effect: &Effect| match &effect.action {
        Action::Frame(frame) => frame.body.clone(),
        _ => None,
    };
    effects.iter().filter_map(body).collect()
}

fn sent(effects: &[Effect]) -> v1::Sent {
    match frames(effects).first() {
        Some(server_frame::Body::Sent(sent)) => (**sent).clone(),
        other => panic!("not a Sent: {other:?}"),
    }
}

fn code(effects: &[Effect]) -> Code {
    match frames(effects).first() {
        Some(server_frame::Body::Error(error)) => error.code.as_known().unwrap(),
        other => panic!("not an Error: {other:?}"),
    }
}

fn welcome(effects: &[Effect]) -> (u64, u64) {
    match frames(effects).first() {
        Some(server_frame::Body::Welcome(welcome)) => (welcome.acknowledged, welcome.head),
        other => panic!("not a Welcome: {other:?}"),
    }
}

/// Applies commands to an open batch.
fn apply(bed: &mut Bed, batch: &mut Batch, out: &mut Output, commands: impl IntoIterator<Item = Body>) {
    for command in commands {
        let mut tx = Tx { store: &bed.store, batch, now_ms: 1000, out };
        bed.partition.apply(&command, &mut tx).unwrap();
    }
}

fn attach_of(user: u64, device: u32, generation: u32) -> Body {
    log::Attach { origin: origin(user, device, generation).into() }.into()
}
