//! The gateway's parts between socket and router: mailbox, slab, frames of the contract, events for many sessions.

use std::collections::VecDeque;
use std::hint::black_box;

use buffa::Message as _;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use roost_gateway::conn::JsonEvent;
use roost_gateway::limits::MAILBOX_EFFECTS_MAX;
use roost_gateway::mailbox::mailbox;
use roost_gateway::ring::GENERATIONS;
use roost_gateway::slab::Slab;
use roost_proto::codec::{self, Encoding};
use roost_proto::v1;

const ENCODINGS: [Encoding; 2] = [Encoding::Proto, Encoding::Json];
/// One after the other, so that each figure is of a whole batch.
const ITEMS: u64 = 1_024;
const SLOTS: u32 = 10_000;
const SESSIONS: u64 = 10_000;
const PAYLOAD_BYTES: usize = 128;

/// An item of the size of an effect, put in by its own thread and taken out again: no wake-up is among it.
fn mailboxes(c: &mut Criterion) {
    let (sender, receiver) = mailbox::<[u64; 5]>(MAILBOX_EFFECTS_MAX).expect("an eventfd");
    let mut group = c.benchmark_group("mailbox");
    group.throughput(Throughput::Elements(ITEMS));
    group.bench_function("put and take", |b| {
        b.iter_batched_ref(
            || (0..ITEMS).map(|number| [number; 5]).collect::<VecDeque<_>>(),
            |items| {
                sender.send_from(items);
                while let Some(item) = receiver.take() {
                    black_box(item);
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// A connection that comes and goes beside others that stay.
fn slab(c: &mut Criterion) {
    let mut slab = Slab::<u64>::new(GENERATIONS);
    for number in 0..SLOTS {
        slab.insert(number.into()).expect("memory");
    }
    c.bench_function("slab/insert and remove", |b| {
        b.iter(|| {
            let (slot, generation) = slab.insert(black_box(7)).expect("memory");
            assert!(slab.holds(slot, generation));
            black_box(slab.remove(slot))
        });
    });
}

fn send() -> v1::ClientFrame {
    let send = v1::Send {
        to: v1::Address { to: Some(v1::address::To::User(42)) }.into(),
        client_id: vec![5; 16].into(),
        payload: vec![b'x'; PAYLOAD_BYTES].into(),
        ..Default::default()
    };
    v1::ClientFrame { id: 7, body: Some(send.into()) }
}

fn frames(c: &mut Criterion) {
    let frame = send();
    let sent = v1::Sent { id: 1 << 40, client_id: vec![5; 16].into(), ..Default::default() };
    let answer = v1::ServerFrame { reply_to: 7, body: Some(sent.into()) };
    for encoding in ENCODINGS {
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        codec::encode_client_frame(encoding, &frame, &mut bytes);
        c.bench_function(&format!("decode a Send/{encoding:?}"), |b| {
            b.iter(|| codec::decode_client_frame(encoding, black_box(&bytes)).expect("a frame"));
        });
        c.bench_function(&format!("encode a Sent/{encoding:?}"), |b| {
            b.iter(|| {
                out.clear();
                codec::encode_server_frame(encoding, black_box(&answer), &mut out);
            });
        });
    }
}

/// An event for 10,000 sessions in JSON: their messages, one event for all of them or one for each.
fn fan_out(c: &mut Criterion) {
    let message =
        v1::Message { id: 9, from: 1, payload: vec![b'x'; PAYLOAD_BYTES].into(), ..Default::default() };
    let event = v1::Event { seq: 9, body: Some(message.into()) }.encode_to_bytes();
    let apart: Vec<Bytes> = (0..SESSIONS).map(|_| Bytes::copy_from_slice(&event)).collect();
    let together = vec![event; SESSIONS as usize];
    let mut group = c.benchmark_group("events to 10,000 sessions in JSON");
    group.throughput(Throughput::Elements(SESSIONS));
    let (mut json, mut out) = (JsonEvent::default(), Vec::new());
    for (name, events) in [("one for all", &together), ("one for each", &apart)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                for event in events {
                    out.clear();
                    out.extend_from_slice(json.message(event).expect("an event"));
                    black_box(&out);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, mailboxes, slab, frames, fan_out);
criterion_main!(benches);
