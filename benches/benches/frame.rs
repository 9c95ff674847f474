//! Frames of a client read and frames of a server written, by payload size; and unmasking alone.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use roost_proto::frame::{Decoder, Opcode, encode, encode_header, unmask};

const PAYLOAD_BYTES: [usize; 4] = [16, 128, 4 << 10, 64 << 10];
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's binary or text frame: the server's header with the mask bit, the mask, the masked payload.
fn client_frame(opcode: Opcode, payload_bytes: usize) -> Vec<u8> {
    let (mut header, header_bytes) = encode_header(opcode, true, payload_bytes as u64);
    header[1] |= 0x80;
    let mut payload = vec![b'a'; payload_bytes];
    unmask(&mut payload, MASK);
    [&header[..header_bytes], &MASK, &payload].concat()
}

fn decode(c: &mut Criterion) {
    for (name, opcode) in [("decode binary", Opcode::Binary), ("decode text", Opcode::Text)] {
        let mut group = c.benchmark_group(name);
        for payload_bytes in PAYLOAD_BYTES {
            let frame = client_frame(opcode, payload_bytes);
            let mut input = frame.clone();
            group.throughput(Throughput::Bytes(payload_bytes as u64));
            group.bench_function(BenchmarkId::from_parameter(payload_bytes), |b| {
                b.iter(|| {
                    // Each turn unmasks in place what the last one left. Text must be text every time, so its figure
                    // has a copy in it.
                    if opcode == Opcode::Text {
                        input.copy_from_slice(&frame);
                    }
                    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
                    let found = decoder.decode(black_box(&mut input)).is_ok_and(|(_, item)| item.is_some());
                    assert!(black_box(found) && decoder.is_idle());
                });
            });
        }
        group.finish();
    }
}

/// The same frame in two reads, cut inside the header.
fn decode_cut(c: &mut Criterion) {
    let frame = client_frame(Opcode::Binary, 128);
    c.bench_function("decode binary cut in the header/128", |b| {
        b.iter_batched_ref(
            || frame.clone(),
            |input| {
                let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
                let (head, rest) = input.split_at_mut(3);
                assert!(decoder.decode(head).is_ok_and(|(_, item)| item.is_none()));
                assert!(decoder.decode(rest).is_ok_and(|(_, item)| item.is_some()));
            },
            BatchSize::SmallInput,
        );
    });
}

fn encode_frame(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    for payload_bytes in PAYLOAD_BYTES {
        let payload = vec![b'a'; payload_bytes];
        let mut out = Vec::with_capacity(payload_bytes + 16);
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(payload_bytes), |b| {
            b.iter(|| {
                out.clear();
                encode(Opcode::Binary, black_box(&payload), black_box(&mut out));
            });
        });
    }
    group.finish();
}

fn unmask_payload(c: &mut Criterion) {
    let mut group = c.benchmark_group("unmask");
    for payload_bytes in PAYLOAD_BYTES {
        let mut payload = vec![b'a'; payload_bytes];
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(payload_bytes), |b| {
            b.iter(|| unmask(black_box(&mut payload), MASK));
        });
    }
    group.finish();
}

criterion_group!(benches, decode, decode_cut, encode_frame, unmask_payload);
criterion_main!(benches);
