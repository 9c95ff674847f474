//! What is counted, by name. Each is run for a number of rounds after a setup that does not depend on it, so that two runs of different
//! length tell what one round costs, without its setup.

use std::{collections::VecDeque, hint::black_box};

use quanta::{Clock, Mock, with_clock};
use roost_gateway::{mailbox, slab::Slab};
use roost_proto::{
    codec::{self, Encoding},
    frame::{self, Decoder, Opcode, unmask},
    handshake,
    tier::{Action, Effect},
};

use crate::{chat::Chat, frames};

/// Rounds of the longer run; the shorter has half as many.
pub const ROUNDS: u32 = 6;
/// Sessions that are read by poll and read: within a tick none is read so often that it becomes busy.
const SESSIONS: u32 = 2_048;
/// Sessions that become busy: as many as one shard lets.
const BUSY_SESSIONS: u32 = 256;
/// Operations of a round that are too short to be counted one by one.
const MANY: u32 = 1_000;

/// Something that is counted.
pub struct Hot {
    /// As the file of counts names it.
    pub name: &'static str,
    /// Operations in a round.
    pub operations: u32,
    /// Runs so many rounds.
    pub run: fn(u32),
}

/// All that is counted.
pub const ALL: &[Hot] = &[
    Hot { name: "frame decode 128 B", operations: MANY, run: |rounds| decode(rounds, Opcode::Binary) },
    Hot { name: "frame decode 128 B of text", operations: MANY, run: |rounds| decode(rounds, Opcode::Text) },
    Hot { name: "frame encode 128 B", operations: MANY, run: encode },
    Hot { name: "unmask 4 KiB", operations: MANY, run: unmask_page },
    Hot { name: "handshake read and answered", operations: MANY, run: upgrade },
    Hot {
        name: "Send decoded, protobuf",
        operations: MANY,
        run: |rounds| decode_send(rounds, Encoding::Proto),
    },
    Hot { name: "Send decoded, JSON", operations: MANY, run: |rounds| decode_send(rounds, Encoding::Json) },
    Hot {
        name: "Sent encoded, protobuf",
        operations: MANY,
        run: |rounds| encode_sent(rounds, Encoding::Proto),
    },
    Hot { name: "Sent encoded, JSON", operations: MANY, run: |rounds| encode_sent(rounds, Encoding::Json) },
    Hot {
        name: "event framed, protobuf",
        operations: MANY,
        run: |rounds| encode_event(rounds, Encoding::Proto),
    },
    Hot { name: "event framed, JSON", operations: MANY, run: |rounds| encode_event(rounds, Encoding::Json) },
    Hot { name: "slab insert and remove", operations: MANY, run: slab },
    Hot { name: "mailbox put and take", operations: MANY, run: mailbox },
    Hot {
        name: "shard: socket to router, protobuf, idle session",
        operations: SESSIONS,
        run: |rounds| socket_to_router(rounds, SESSIONS, Encoding::Proto),
    },
    Hot {
        name: "shard: socket to router, protobuf, busy session",
        operations: BUSY_SESSIONS,
        run: |rounds| socket_to_router(rounds, BUSY_SESSIONS, Encoding::Proto),
    },
    Hot {
        name: "shard: socket to router, JSON, idle session",
        operations: SESSIONS,
        run: |rounds| socket_to_router(rounds, SESSIONS, Encoding::Json),
    },
    Hot {
        name: "shard: mailbox to socket, Sent, protobuf",
        operations: SESSIONS,
        run: |rounds| mailbox_to_socket(rounds, Encoding::Proto, frames::answer),
    },
    Hot {
        name: "shard: mailbox to socket, event, protobuf",
        operations: SESSIONS,
        run: |rounds| mailbox_to_socket(rounds, Encoding::Proto, frames::delivery),
    },
    Hot {
        name: "shard: mailbox to socket, event, JSON",
        operations: SESSIONS,
        run: |rounds| mailbox_to_socket(rounds, Encoding::Json, frames::delivery),
    },
    Hot {
        name: "shard: one event to many sessions, a session, protobuf",
        operations: SESSIONS,
        run: |rounds| fan_out(rounds, Encoding::Proto),
    },
    Hot {
        name: "shard: one event to many sessions, a session, JSON",
        operations: SESSIONS,
        run: |rounds| fan_out(rounds, Encoding::Json),
    },
    Hot {
        name: "shard: echo 128 B, idle session",
        operations: SESSIONS,
        run: |rounds| echo(rounds, SESSIONS),
    },
    Hot {
        name: "shard: echo 128 B, busy session",
        operations: BUSY_SESSIONS,
        run: |rounds| echo(rounds, BUSY_SESSIONS),
    },
];

fn many(rounds: u32, mut one: impl FnMut()) {
    (0..rounds * MANY).for_each(|_| one());
}

fn decode(rounds: u32, opcode: Opcode) {
    let wire = frames::masked(opcode, &[b'x'; frames::PAYLOAD_BYTES]);
    let mut input = wire.clone();
    many(rounds, || {
        input.copy_from_slice(&wire);
        let mut decoder = Decoder::new(1 << 20);
        assert!(black_box(decoder.decode(black_box(&mut input))).is_ok_and(|(_, item)| item.is_some()));
    });
}

fn encode(rounds: u32) {
    let mut out = Vec::with_capacity(256);
    many(rounds, || {
        out.clear();
        frame::encode(Opcode::Binary, black_box(&[b'x'; frames::PAYLOAD_BYTES]), &mut out);
        black_box(&out);
    });
}

fn unmask_page(rounds: u32) {
    let mut page = vec![b'x'; 4_096];
    many(rounds, || {
        black_box(unmask(black_box(&mut page), [1, 2, 3, 4]));
    });
}

fn upgrade(rounds: u32) {
    let head = frames::head(Some(Encoding::Proto));
    let mut out = Vec::with_capacity(1_024);
    many(rounds, || {
        out.clear();
        let (upgrade, _) = handshake::parse(black_box(&head)).expect("valid").expect("whole");
        let protocol = upgrade.protocols().next();
        handshake::write_accept(upgrade.key, protocol, &mut out);
        black_box(&out);
    });
}

fn decode_send(rounds: u32, encoding: Encoding) {
    let bytes = frames::send(encoding);
    many(rounds, || {
        black_box(codec::decode_client_frame(encoding, black_box(&bytes))).expect("a frame");
    });
}

fn encode_sent(rounds: u32, encoding: Encoding) {
    let (frame, mut out) = (frames::sent(), Vec::with_capacity(1_024));
    many(rounds, || {
        out.clear();
        codec::encode_server_frame(encoding, black_box(&frame), &mut out);
        black_box(&out);
    });
}

fn encode_event(rounds: u32, encoding: Encoding) {
    let (event, mut out) = (frames::event(), Vec::with_capacity(1_024));
    many(rounds, || {
        out.clear();
        codec::encode_event_frame(encoding, black_box(&event), &mut out).expect("an event");
        black_box(&out);
    });
}

fn slab(rounds: u32) {
    let mut slab = Slab::<u64>::new(1 << 24);
    slab.insert(0).expect("memory");
    many(rounds, || {
        let (slot, _) = slab.insert(black_box(1)).expect("memory");
        black_box(slab.remove(slot));
    });
}

fn mailbox(rounds: u32) {
    let (sender, receiver) = mailbox::mailbox(16).expect("an eventfd");
    let mut items = VecDeque::with_capacity(4);
    many(rounds, || {
        items.push_back([0_u64; 4]);
        sender.send_from(&mut items);
        black_box(receiver.take());
    });
}

/// Runs on a clock that stands still but for what `run` moves it.
fn on_a_clock(run: impl FnOnce(&Mock)) {
    let (clock, time) = Clock::mock();
    with_clock(&clock, || run(&time));
}

/// Rounds after which a session that takes part in each is received by multishot receive.
fn warm(chat: &mut Chat<'_>, sessions: u32, input: &[u8]) {
    // Two for lists and buffers to grow to their size; eight reads within a tick make a session busy.
    let rounds = if sessions == BUSY_SESSIONS { 10 } else { 1 };
    (0..rounds).for_each(|_| chat.receive(input));
}

fn socket_to_router(rounds: u32, sessions: u32, encoding: Encoding) {
    on_a_clock(|time| {
        let mut chat = Chat::open(sessions, Some(encoding), time);
        let input = frames::send_frame(encoding);
        warm(&mut chat, sessions, &input);
        let before = chat.handed_on();
        (0..rounds).for_each(|_| chat.receive(&input));
        assert_eq!(chat.handed_on() - before, u64::from(rounds * sessions), "each was handed on");
    });
}

/// Each session is told something of its own.
fn mailbox_to_socket(rounds: u32, encoding: Encoding, action: impl Fn() -> Action) {
    deliver(rounds, encoding, |chat| chat.effects(&action));
}

/// All sessions are told the same in each round.
fn fan_out(rounds: u32, encoding: Encoding) {
    deliver(rounds, encoding, |chat| {
        let event = frames::delivery();
        chat.effects(|| event.clone())
    });
}

fn deliver(rounds: u32, encoding: Encoding, round: impl Fn(&Chat<'_>) -> VecDeque<Effect>) {
    on_a_clock(|time| {
        let mut chat = Chat::open(SESSIONS, Some(encoding), time);
        // Made before they are counted, all that any run takes.
        let mut all: Vec<_> = (0..=ROUNDS).map(|_| round(&chat)).collect();
        chat.deliver(&mut all[0]);
        let before = chat.sends();
        all[1..=rounds as usize].iter_mut().for_each(|effects| chat.deliver(effects));
        assert_eq!(chat.sends() - before, u64::from(rounds * SESSIONS), "each was sent");
    });
}

fn echo(rounds: u32, sessions: u32) {
    on_a_clock(|time| {
        let mut chat = Chat::open(sessions, None, time);
        let input = frames::masked(Opcode::Binary, &[b'x'; frames::PAYLOAD_BYTES]);
        warm(&mut chat, sessions, &input);
        let before = chat.sends();
        (0..rounds).for_each(|_| chat.receive(&input));
        assert_eq!(chat.sends() - before, u64::from(rounds * sessions), "each was sent back");
    });
}
