//! prost with pbjson against buffa, on the two frames that matter: Send upwards and Event downwards.
//!
//! `cargo run --release` prints a table for docs/decisions/0001-protobuf.md, and what each makes of odd JSON.

use std::{hint::black_box, time::Instant};

use buffa::Message as _;
use prost::Message as _;

#[allow(clippy::all, clippy::pedantic, unused)]
mod with_prost {
    include!(concat!(env!("OUT_DIR"), "/prost/roost.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/prost/roost.v1.serde.rs"));
}

#[allow(clippy::all, clippy::pedantic, unused)]
mod with_buffa {
    include!(concat!(env!("OUT_DIR"), "/buffa/roost.v1.rs"));
}

/// Rounds of each measurement, the two crates in turn; the median of them counts.
const ROUND_COUNT: usize = 7;
const CALLS_PER_ROUND: u32 = 100_000;

fn main() {
    println!("| payload | operation | prost + pbjson, ns | buffa, ns |");
    println!("|---:|---|---:|---:|");
    for payload_bytes in [100, 300, 1000] {
        compare(payload_bytes);
    }
    println!();
    for json in ODD {
        println!(
            "{json}\n    prost + pbjson: {}\n    buffa:          {}",
            read_prost(json),
            read_buffa(json)
        );
    }
}

fn compare(payload_bytes: usize) {
    let send = with_prost::ClientFrame {
        id: 7,
        body: Some(with_prost::client_frame::Body::Send(with_prost::Send {
            to: Some(user(491_711_234_567)),
            client_id: vec![1; 16].into(),
            kind: 0,
            payload: vec![0xab; payload_bytes].into(),
            sealed: Vec::new(),
        })),
    };
    let event = with_prost::ServerFrame {
        reply_to: 0,
        body: Some(with_prost::server_frame::Body::Event(with_prost::Event {
            seq: 123_456,
            body: Some(with_prost::event::Body::Message(with_prost::Message {
                id: 1 << 60,
                from: 491_711_234_567,
                from_device: 1,
                to: Some(user(491_711_234_568)),
                client_id: vec![1; 16].into(),
                kind: 0,
                payload: vec![0xab; payload_bytes].into(),
                sealed: false,
                sent_at_ms: 1_790_000_000_000,
            })),
        })),
    };
    let (send_bytes, event_bytes) = (send.encode_to_vec(), event.encode_to_vec());
    let buffa_send = with_buffa::ClientFrame::decode_from_slice(&send_bytes).expect("a valid frame");
    let buffa_event = with_buffa::ServerFrame::decode_from_slice(&event_bytes).expect("a valid frame");
    assert_eq!(buffa_send.encode_to_vec(), send_bytes);
    assert_eq!(buffa_event.encode_to_vec(), event_bytes);
    let (send_json, event_json) = (json(&send), json(&event));
    assert_eq!((json(&buffa_send), json(&buffa_event)), (send_json.clone(), event_json));

    let row = |operation, prost: &mut dyn FnMut(), buffa: &mut dyn FnMut()| {
        let [prost, buffa] = measure(prost, buffa);
        println!("| {payload_bytes} B | {operation} | {prost:.0} | {buffa:.0} |");
    };
    row("encode Send", &mut || drop(black_box(send.encode_to_vec())), &mut || {
        drop(black_box(buffa_send.encode_to_vec()));
    });
    row("encode Event", &mut || drop(black_box(event.encode_to_vec())), &mut || {
        drop(black_box(buffa_event.encode_to_vec()));
    });
    row(
        "decode Send",
        &mut || drop(black_box(with_prost::ClientFrame::decode(&send_bytes[..]))),
        &mut || drop(black_box(with_buffa::ClientFrame::decode_from_slice(&send_bytes))),
    );
    row(
        "decode Event",
        &mut || drop(black_box(with_prost::ServerFrame::decode(&event_bytes[..]))),
        &mut || drop(black_box(with_buffa::ServerFrame::decode_from_slice(&event_bytes))),
    );
    row("Event to JSON", &mut || drop(black_box(json(&event))), &mut || drop(black_box(json(&buffa_event))));
    row(
        "Send from JSON",
        &mut || drop(black_box(serde_json::from_str::<with_prost::ClientFrame>(&send_json))),
        &mut || drop(black_box(serde_json::from_str::<with_buffa::ClientFrame>(&send_json))),
    );
}

fn user(number: u64) -> with_prost::Address {
    with_prost::Address { to: Some(with_prost::address::To::User(number)) }
}

fn json(message: &impl serde::Serialize) -> String {
    serde_json::to_string(message).expect("generated types have a JSON form")
}

/// Nanoseconds a call, the median of the rounds, which take turns so that a busy machine is busy for both.
fn measure(prost: &mut dyn FnMut(), buffa: &mut dyn FnMut()) -> [f64; 2] {
    let round = |operation: &mut dyn FnMut()| {
        let start = Instant::now();
        for _ in 0..CALLS_PER_ROUND {
            operation();
        }
        start.elapsed().as_nanos() as f64 / f64::from(CALLS_PER_ROUND)
    };
    let mut rounds = [[0.0; ROUND_COUNT]; 2];
    for i in 0..ROUND_COUNT {
        rounds[0][i] = round(prost);
        rounds[1][i] = round(buffa);
    }
    rounds.map(|mut rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[ROUND_COUNT / 2]
    })
}

/// What the canonical mapping lets a reader meet.
const ODD: [&str; 12] = [
    r#"{"id":"7","send":{"client_id":"AQ==","kind":1}}"#,
    r#"{"send":{"payload":"-_8"}}"#,
    r#"{"id":null}"#,
    r#"{"send":null}"#,
    r#"{"id":1.0}"#,
    r#"{"ack":{"upTo":1e3}}"#,
    r#"{"id":7,"nope":1}"#,
    r#"{"send":{"kind":99}}"#,
    r#"{"send":{"kind":"NOPE"}}"#,
    r#"{"send":{},"ack":{}}"#,
    r#"{"id":1,"id":2}"#,
    r#"{"ack":[5]}"#,
];

fn read_prost(json: &str) -> String {
    verdict(serde_json::from_str::<with_prost::ClientFrame>(json).map(|frame| frame.encode_to_vec()))
}

fn read_buffa(json: &str) -> String {
    verdict(serde_json::from_str::<with_buffa::ClientFrame>(json).map(|frame| frame.encode_to_vec()))
}

fn verdict(result: serde_json::Result<Vec<u8>>) -> String {
    match result {
        Ok(bytes) => format!("taken as {bytes:02x?}"),
        Err(error) => format!("refused: {error}"),
    }
}
