//! An operator's question to a shard that holds many connections: looked for a slice a turn, answered once, and bounded.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use roost_gateway::{
    conn::{Authenticate, Backend, Identity, Rates, Rules},
    limits, mailbox,
    ring::{Buffer, Completion, Descriptor, Occupancy, Op, Ring, Token},
    shard::{Answer, Inquiry, Parts, Shard, Shared, Stats},
};
use roost_proto::handshake::{Refusal, Upgrade};

/// More than a shard looks at in one turn.
const CONNECTIONS: u32 = limits::SWEEP_SLOTS_PER_TURN_MAX + 1_000;
/// Who has more connections than an answer names, and who has few.
const MANY: u64 = 7;
const FEW: u64 = 8;
const TURNS_MAX: usize = 100;

/// A ring on which all clients come in the first turn; whatever is asked of it is done by the next.
#[derive(Default)]
struct Crowd {
    coming: u32,
    ready: Vec<Completion>,
    head: Vec<u8>,
    addresses_asked: Arc<Mutex<usize>>,
}

fn user_of(slot: u32) -> u64 {
    match slot {
        slot if slot % 50 == 0 => MANY,
        slot if slot % 2_000 == 3 => FEW,
        slot => u64::from(slot) + 1_000,
    }
}

fn head(slot: u32) -> Vec<u8> {
    format!(
        "GET /v1/ws?user={} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        user_of(slot)
    )
    .into_bytes()
}

fn address(slot: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(slot), 5_222))
}

impl Ring for Crowd {
    fn accept(&mut self, _on: bool) {}

    fn poll(&mut self, _descriptor: Descriptor, token: Token) {
        self.ready.push(Completion::plain(token, i32::from(libc::POLLIN), true));
    }

    fn read(&mut self, _descriptor: Descriptor, token: Token) -> bool {
        let buffer = Some(Buffer::Read(token.slot() as u16));
        let bytes = head(token.slot()).len() as i32;
        self.ready.push(Completion { buffer, ..Completion::plain(token, bytes, false) });
        true
    }

    fn receive(&mut self, _descriptor: Descriptor, _token: Token) -> bool {
        false
    }

    fn send(&mut self, _descriptor: Descriptor, token: Token, bytes: Vec<u8>) {
        let count = bytes.len() as i32;
        self.ready.push(Completion { sent: Some(bytes), ..Completion::plain(token, count, false) });
    }

    fn shutdown_write(&mut self, _descriptor: Descriptor, _token: Token) {}

    fn close(&mut self, _descriptor: Descriptor, _token: Token) {}

    fn cancel(&mut self, _descriptor: Descriptor, _target: Token) {}

    fn ask_peer(&mut self, _descriptor: Descriptor, token: Token) -> bool {
        *self.addresses_asked.lock().expect("no panic") += 1;
        self.ready.push(Completion::plain(token, 0, false));
        true
    }

    fn take_peer(&mut self, token: Token) -> Option<SocketAddr> {
        Some(address(token.slot()))
    }

    fn wait(&mut self, _timeout: Duration, into: &mut Vec<Completion>) -> io::Result<()> {
        for place in 0..std::mem::take(&mut self.coming) {
            let descriptor = Some(Descriptor::new(0, place));
            into.push(Completion { descriptor, ..Completion::plain(Token::new(Op::Accept, 0, 0), 0, false) });
        }
        into.append(&mut self.ready);
        Ok(())
    }

    fn buffer(&mut self, buffer: Buffer, bytes: usize) -> &mut [u8] {
        let Buffer::Read(slot) = buffer else { panic!("only reads have buffers here") };
        self.head = head(slot.into());
        &mut self.head[..bytes]
    }

    fn recycle(&mut self, _buffer: Buffer) {}

    fn rest(&mut self) {}

    fn occupancy(&self) -> Occupancy {
        Occupancy::default()
    }
}

struct Believe;

impl Authenticate for Believe {
    fn authenticate(&self, upgrade: &Upgrade<'_>) -> Result<Identity, Refusal> {
        let user = upgrade.query_parameter("user").and_then(|user| user.parse().ok());
        Ok(Identity { user: user.expect("each names one"), device: 1 })
    }
}

struct Bed {
    shard: Shard<Crowd>,
    shared: Arc<Shared>,
    stats: Arc<Stats>,
    addresses_asked: Arc<Mutex<usize>>,
    answers: Arc<Mutex<Vec<Answer>>>,
    completions: Vec<Completion>,
}

impl Bed {
    /// A shard with all connections upgraded.
    fn new() -> Self {
        let (shared, stats) = (Arc::<Shared>::default(), Arc::<Stats>::default());
        let ring = Crowd { coming: CONNECTIONS, ..Crowd::default() };
        let addresses_asked = Arc::clone(&ring.addresses_asked);
        let rules = Rules {
            backend: Backend::Router(Box::new(Believe)),
            message_bytes_max: 1_024,
            assembly_bytes_max: limits::ASSEMBLY_BYTES_MAX,
            rates: Rates::default(),
        };
        let shard = Shard::new(Parts {
            number: 3,
            ring,
            rules: Arc::new(rules),
            connections_max: CONNECTIONS.into(),
            heartbeat_s: limits::HEARTBEAT_S_MAX,
            uplink: None,
            mailbox: mailbox::mailbox(1).expect("an eventfd").1,
            shared: Arc::clone(&shared),
            stats: Arc::clone(&stats),
        });
        let mut bed =
            Self { shard, shared, stats, addresses_asked, answers: Arc::default(), completions: Vec::new() };
        bed.turns_until(|bed| bed.stats.upgraded.value() == u64::from(CONNECTIONS));
        bed
    }

    fn turns_until(&mut self, done: impl Fn(&Self) -> bool) -> usize {
        for turns in 0..TURNS_MAX {
            if done(self) {
                return turns;
            }
            self.shard.turn(&mut self.completions).expect("the ring lives");
        }
        panic!("not after {TURNS_MAX} turns");
    }

    fn ask(&self, user: u64) {
        let answers = Arc::clone(&self.answers);
        let answer = move |answer| answers.lock().expect("no panic").push(answer);
        self.shared.desk.ask(Inquiry { user, answer: Arc::new(answer) });
    }

    /// The only answer to a question, and the turns it took.
    fn answer(&mut self, user: u64) -> (Answer, usize) {
        self.ask(user);
        let turns = self.turns_until(|bed| !bed.answers.lock().expect("no panic").is_empty());
        for _ in 0..5 {
            self.shard.turn(&mut self.completions).expect("the ring lives");
        }
        let mut answers = std::mem::take(&mut *self.answers.lock().expect("no panic"));
        assert_eq!(answers.len(), 1, "answered once");
        (answers.remove(0), turns)
    }
}

#[test]
fn a_shard_names_whom_it_finds_a_slice_a_turn_and_no_more_than_it_may() {
    let mut bed = Bed::new();
    let (answer, turns) = bed.answer(FEW);
    assert!(turns > 1, "all slots were looked at in one turn");
    let slots: Vec<u32> = answer.found.iter().map(|found| found.slot).collect();
    let expected: Vec<u32> = (0..CONNECTIONS).filter(|slot| user_of(*slot) == FEW).collect();
    assert_eq!((answer.shard, answer.more, &slots), (3, false, &expected));
    assert!(answer.found.iter().all(|found| found.address == Some(address(found.slot))), "{answer:?}");
    assert!(answer.found.iter().all(|found| found.state == "attaching" && found.device == 1), "{answer:?}");

    *bed.addresses_asked.lock().expect("no panic") = 0;
    let (answer, _) = bed.answer(MANY);
    assert_eq!((answer.found.len(), answer.more), (limits::INQUIRY_FOUND_MAX, true));
    assert_eq!(
        *bed.addresses_asked.lock().expect("no panic"),
        limits::INQUIRY_FOUND_MAX,
        "a descriptor each"
    );
    let (answer, _) = bed.answer(9);
    assert_eq!(answer, Answer { shard: 3, ..Answer::default() });
}

#[test]
fn a_question_takes_the_place_of_the_one_before_it() {
    let mut bed = Bed::new();
    bed.ask(MANY);
    bed.shard.turn(&mut bed.completions).expect("the ring lives");
    let (answer, _) = bed.answer(FEW);
    assert!(
        !answer.found.is_empty() && answer.found.iter().all(|found| user_of(found.slot) == FEW),
        "{answer:?}"
    );
}
