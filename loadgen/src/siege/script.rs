//! What the attackers of a kind say: bytes of the seed alone, the same for each of them.

use super::Attack;
use crate::limits::{
    ATTACK_CHUNK_BYTES, BYTEWISE_PAUSE, HEAD_DRIP_PAUSE, ZERO_WINDOW_MESSAGE_BYTES, ZERO_WINDOW_RECEIVE_BYTES,
};
use crate::payload::spread;
use std::time::Duration;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// How far an attacker goes with its opening handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// These bytes of a head that is never whole, and then [`Script::cycle`].
    Partial(Vec<u8>),
    /// The whole request; what follows begins with the answer 101.
    Whole,
}

/// What an attacker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its handshake.
    pub head: Head,
    /// Said once after it.
    pub prefix: Vec<u8>,
    /// Said again and again after that; empty: it holds its peace.
    pub cycle: Vec<u8>,
    /// Bytes of one write.
    pub chunk_bytes: usize,
    /// Between two writes.
    pub pause: Duration,
    /// Whether it reads what comes.
    pub reads: bool,
    /// `SO_RCVBUF`, where it is not the kernel's.
    pub receive_bytes: Option<usize>,
}

impl Script {
    /// Of one kind. `request`: an upgrade request. `data`: what the messages of its sub-protocol are. `hog_bytes`: of a message that is
    /// never whole.
    pub fn of(attack: Attack, seed: u64, request: &[u8], data: Data, hog_bytes: u32) -> Self {
        let mask = spread(seed, attack as u32).to_be_bytes();
        let silent = Self {
            head: Head::Whole,
            prefix: Vec::new(),
            cycle: Vec::new(),
            chunk_bytes: ATTACK_CHUNK_BYTES,
            pause: Duration::ZERO,
            reads: true,
            receive_bytes: None,
        };
        let partial = |bytes: &[u8]| Script { head: Head::Partial(bytes.to_vec()), ..silent.clone() };
        let message = |payload: &[u8]| frame(OpCode::Data(data), true, payload, mask);
        let short = || message(b"x");
        match attack {
            Attack::Slowloris => partial(&request[..request.len().min(8)]),
            Attack::Silent => partial(b""),
            Attack::Drip => {
                let line = request.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                let field = format!("X-Drip: {}\r\n", "a".repeat(40));
                let drip = Self { chunk_bytes: 1, pause: HEAD_DRIP_PAUSE, ..partial(&request[..line]) };
                Self { cycle: field.into_bytes(), ..drip }
            }
            Attack::Bytewise => Self { cycle: short(), chunk_bytes: 1, pause: BYTEWISE_PAUSE, ..silent },
            Attack::ZeroWindow => {
                let cycle = repeated(&message(&[b'x'; ZERO_WINDOW_MESSAGE_BYTES]));
                Self { cycle, reads: false, receive_bytes: Some(ZERO_WINDOW_RECEIVE_BYTES), ..silent }
            }
            Attack::Flood => Self { cycle: repeated(&short()), ..silent },
            Attack::FloodUnread => Self { cycle: repeated(&short()), reads: false, ..silent },
            Attack::PingFlood => {
                Self { cycle: repeated(&frame(OpCode::Control(Control::Ping), true, b"x", mask)), ..silent }
            }
            Attack::Fragments => {
                let piece = |payload: &[u8]| frame(OpCode::Data(Data::Continue), false, payload, mask);
                let mut pieces = piece(b"").repeat(15);
                pieces.extend(piece(b"x"));
                let prefix = frame(OpCode::Data(data), false, b"", mask);
                Self { prefix, cycle: repeated(&pieces), ..silent }
            }
            Attack::BufferHog => {
                let mut prefix = message(&vec![b'x'; hog_bytes as usize]);
                prefix.pop();
                Self { prefix, ..silent }
            }
        }
    }
}

/// A masked frame, RFC 6455 section 5.2.
fn frame(opcode: OpCode, is_final: bool, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let header = FrameHeader { is_final, opcode, mask: Some(mask), ..FrameHeader::default() };
    let mut bytes = Vec::new();
    // A vector takes all that is written to it.
    let _ = header.format(payload.len() as u64, &mut bytes);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Whole repetitions of it, about a chunk of them.
fn repeated(bytes: &[u8]) -> Vec<u8> {
    bytes.repeat((ATTACK_CHUNK_BYTES / bytes.len()).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    const REQUEST: &[u8] = b"GET /v1/ws HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn the_same_seed_says_the_same_and_another_something_else() {
        for attack in Attack::value_variants() {
            let of = |seed| Script::of(*attack, seed, REQUEST, Data::Text, 1_000);
            assert_eq!(of(1), of(1));
            let masked = of(1).head == Head::Whole;
            assert_eq!(of(1) != of(2), masked, "{attack:?}: a head has nothing of the seed");
        }
    }

    #[test]
    fn heads_are_never_whole_and_a_hog_lacks_one_byte() {
        for attack in [Attack::Slowloris, Attack::Drip, Attack::Silent] {
            let Script { head, cycle, .. } = Script::of(attack, 1, REQUEST, Data::Text, 1_000);
            let Head::Partial(head) = head else { panic!("{attack:?} never upgrades") };
            let all = [head, cycle.repeat(2)].concat();
            assert!(!all.windows(4).any(|bytes| bytes == b"\r\n\r\n"), "{attack:?}");
        }
        let hog = Script::of(Attack::BufferHog, 1, REQUEST, Data::Text, 1_000);
        assert_eq!((hog.prefix.len(), hog.cycle.len()), (2 + 2 + 4 + 1_000 - 1, 0));
        let fragments = Script::of(Attack::Fragments, 1, REQUEST, Data::Text, 1_000);
        assert_eq!(
            (fragments.prefix[0], fragments.cycle[0]),
            (0x01, 0x00),
            "text, then continuations, none final"
        );
    }

    #[test]
    fn messages_are_of_the_kind_that_the_server_takes() {
        for (data, opcode) in [(Data::Text, 0x1), (Data::Binary, 0x2)] {
            let of = |attack| Script::of(attack, 1, REQUEST, data, 1_000);
            for attack in [Attack::Bytewise, Attack::ZeroWindow, Attack::Flood, Attack::FloodUnread] {
                assert_eq!(of(attack).cycle[0], 0x80 | opcode, "{attack:?}");
            }
            assert_eq!(
                (of(Attack::Fragments).prefix[0], of(Attack::BufferHog).prefix[0]),
                (opcode, 0x80 | opcode)
            );
        }
    }
}
