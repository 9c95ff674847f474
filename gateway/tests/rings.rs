//! Several rings of a shard over the real kernel, with tables so small that hundreds of clients need many of them.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use roost_client::Credentials;
use roost_gateway::{
    conn::{Authenticate, Backend, Identity, Rates, Rules},
    limits, mailbox,
    ring::{Buffer, Completion, Descriptor, Op, Ring, Token, Uring},
    shard::{Parts, Shard, Shared, Stats, Uplink},
};
use roost_proto::{
    codec::Encoding,
    frame::{Opcode, encode_begin},
    handshake::{Refusal, Upgrade},
    tier::{Effect, Full, Outlet, Request},
};
use roost_router::Handle;
use socket2::{Domain, Socket, Type};

/// Longer than any answer takes; what is not there by then will never come.
const PATIENCE: Duration = Duration::from_secs(30);

fn listener() -> (TcpListener, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    socket.listen(4_096).expect("a listener");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the listen backlog has room");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self(stream)
    }

    fn ask(&mut self) {
        let head = "GET / HTTP/1.1\r\nHost: roost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        self.0.write_all(head.as_bytes()).expect("a client that connected is not reset");
    }

    fn expect_answer(&mut self) {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("a client that connected is answered");
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    }

    /// A binary message, masked with zeros, and its echo.
    fn echo(&mut self, text: u64) {
        let payload = text.to_be_bytes();
        self.0.write_all(&[&[0x82, 0x88, 0, 0, 0, 0], &payload[..]].concat()).expect("it is still open");
        let mut echo = [0; 10];
        self.0.read_exact(&mut echo).expect("every message is answered");
        assert_eq!(echo, *[&[0x82, 0x08], &payload[..]].concat());
    }
}

/// Clients come in bursts, all speak, and a random half leaves, several times; then all leave.
fn come_and_go(address: SocketAddr, burst: usize, rounds: u64) {
    let mut rng = StdRng::seed_from_u64(1);
    let mut clients: Vec<Client> = Vec::new();
    for round in 0..rounds {
        let mut fresh: Vec<Client> = (0..burst).map(|_| Client::connect(address)).collect();
        fresh.iter_mut().for_each(Client::ask);
        fresh.iter_mut().for_each(Client::expect_answer);
        clients.extend(fresh);
        clients.iter_mut().zip(round..).for_each(|(client, text)| client.echo(text));
        clients.shuffle(&mut rng);
        clients.truncate(clients.len() / 2);
    }
}

/// A shard that echoes, its counters and its address.
fn shard(places: u32, connections_max: u64) -> (Shard<Uring>, Arc<Stats>, SocketAddr) {
    let (_sender, mailbox) = mailbox::mailbox(8).expect("an eventfd");
    shard_before(Backend::Echo, None, mailbox, places, connections_max)
}

fn shard_before(
    backend: Backend,
    uplink: Option<Box<dyn Uplink>>,
    mailbox: mailbox::Receiver<Effect>,
    places: u32,
    connections_max: u64,
) -> (Shard<Uring>, Arc<Stats>, SocketAddr) {
    let (listener, address) = listener();
    let wake = mailbox.wake_descriptor().expect("a descriptor");
    let stats = Arc::<Stats>::default();
    let shard = Shard::new(Parts {
        number: 0,
        ring: Uring::open(listener, wake, places).expect("io_uring"),
        rules: Arc::new(Rules {
            backend,
            message_bytes_max: 1_000,
            assembly_bytes_max: 100_000,
            rates: Rates::default(),
        }),
        connections_max,
        heartbeat_s: 240,
        uplink,
        mailbox,
        shared: Arc::<Shared>::default(),
        stats: Arc::clone(&stats),
    });
    (shard, stats, address)
}

#[test]
fn those_being_refused_are_bounded_and_the_others_wait() {
    const CLIENTS: u32 = limits::REFUSING_MAX + 4 * limits::ACCEPTS_IN_FLIGHT_MAX;
    let bound = u64::from(limits::REFUSING_MAX + limits::ACCEPTS_IN_FLIGHT_MAX);
    let (mut shard, stats, address) = shard(4_096, 0);
    // They say nothing, so each holds its slot until the time for its handshake is up.
    let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
    let mut completions = Vec::new();
    // Each turn accepts some, as long as any are: so many turns would have accepted all.
    for _ in 0..2 * CLIENTS / limits::ACCEPTS_IN_FLIGHT_MAX {
        shard.turn(&mut completions).expect("the rings work");
        assert!(stats.refusing.value() < bound, "{} are being refused", stats.refusing.value());
    }
    assert_eq!(stats.refusing.value(), stats.connections.value());
    assert!(stats.refusing.value() >= limits::REFUSING_MAX.into(), "as many as may be");
    drop(clients);
    let started = Instant::now();
    while stats.ended.value() < u64::from(CLIENTS) {
        assert!(started.elapsed() < PATIENCE, "whoever waited is accepted when another is gone");
        shard.turn(&mut completions).expect("the rings work");
    }
    assert_eq!((stats.refusing.value(), stats.ring_descriptors.value()), (0, 0));
}

#[test]
fn nobody_is_reset_while_rings_open_and_close() {
    const PLACES: u32 = 16;
    const BURST: usize = 400;
    const TURNS_MAX: usize = 1_000_000;
    let (mut shard, stats, address) = shard(PLACES, u64::MAX);
    let clients = thread::spawn(move || come_and_go(address, BURST, 5));
    let (mut completions, mut rings_most) = (Vec::new(), 0);
    for turn in 0.. {
        assert!(turn < TURNS_MAX, "the rings are not closed again");
        shard.turn(&mut completions).expect("the rings work");
        rings_most = rings_most.max(stats.rings.value());
        assert!(stats.ring_descriptors.value() <= stats.ring_descriptors_max.value());
        // Two: the home ring and the spare one.
        if clients.is_finished() && stats.connections.value() == 0 && stats.rings.value() <= 2 {
            break;
        }
    }
    clients.join().expect("every client was answered");
    assert!(rings_most >= (BURST as u64) / u64::from(PLACES), "the clients needed many rings");
    assert_eq!((stats.accept_errors.value(), stats.ring_failures.value()), (0, 0));
    assert_eq!(stats.accepted.value(), stats.ended.value());
    assert_eq!((stats.ring_descriptors.value(), stats.slab_blocks.value()), (0, 1));
}

/// Whoever says `?user=` is believed.
struct Believe;

impl Authenticate for Believe {
    fn authenticate(&self, upgrade: &Upgrade<'_>) -> Result<Identity, Refusal> {
        let user = upgrade.query_parameter("user").and_then(|user| user.parse().ok());
        Ok(Identity { user: user.expect("each names one"), device: 1 })
    }
}

struct ToRouter(Handle);

impl Uplink for ToRouter {
    fn submit(&self, request: Request) -> Result<(), Full> {
        self.0.submit(request)
    }
}

struct ToShard(mailbox::Sender<Effect>);

impl Outlet for ToShard {
    fn deliver(&self, _shard: u16, effects: &mut VecDeque<Effect>) {
        self.0.send_from(effects);
    }
}

/// Two talk, the one in JSON and the other in protobuf, as often as they come.
fn talk(address: SocketAddr) {
    const TIMES: u64 = 3;
    const MESSAGES: u64 = 50;
    let come = |user, encoding| {
        let who = Credentials::Claimed(user, 1);
        roost_client::Client::connect(address, encoding, &who).expect("a session").0
    };
    drop(come(2, Encoding::Proto));
    for time in 0..TIMES {
        let (mut alice, mut bob) = (come(1, Encoding::Json), come(2, Encoding::Proto));
        // Nobody acknowledges anything, so all of it comes again.
        for number in 0..time * MESSAGES {
            assert_eq!(bob.message().expect("delivered again").1.payload, number.to_string().as_bytes());
        }
        for number in time * MESSAGES..(time + 1) * MESSAGES {
            let text = number.to_string();
            alice.say(2, text.as_bytes(), text.as_bytes()).expect("sent");
            assert_eq!(bob.message().expect("delivered").1.payload, text.as_bytes());
        }
    }
}

/// All of the program's way of a message, from socket to store and back, where a sanitizer sees it: no other process, the
/// system's allocator.
#[test]
fn a_chat_goes_through_rings_router_and_store() {
    const TURNS_MAX: usize = 1_000_000;
    let data = tempfile::tempdir().expect("a folder");
    let (sender, mailbox) = mailbox::mailbox(limits::MAILBOX_EFFECTS_MAX).expect("an eventfd");
    let config = roost_router::Config::at(data.path().join("store"));
    let router = roost_router::start(config, Arc::new(ToShard(sender))).expect("the store opens");
    let uplink: Box<dyn Uplink> = Box::new(ToRouter(router.handle()));
    // Few places, so that alice and bob are in rings of their own.
    let (mut shard, stats, address) =
        shard_before(Backend::Router(Box::new(Believe)), Some(uplink), mailbox, 1, u64::MAX);
    let clients = thread::spawn(move || talk(address));
    let mut completions = Vec::new();
    for turn in 0.. {
        assert!(turn < TURNS_MAX, "it does not end");
        shard.turn(&mut completions).expect("the rings work");
        if clients.is_finished() && stats.connections.value() == 0 {
            break;
        }
    }
    clients.join().expect("all was delivered");
    assert_eq!((stats.upgraded.value(), stats.accepted.value()), (7, stats.ended.value()));
    drop(shard);
    router.stop();
}

/// What a shard takes in its turns from eight clients that have each sent so many reads full of messages of this size before the first:
/// the most messages of a turn, but for the first in which any come, for nobody knows then what follows them; and bytes of a frame.
fn most_in_a_turn(payload_bytes: usize) -> (u64, u64) {
    const READS: usize = 8;
    const TURNS_MAX: usize = 10_000;
    let mut frame = Vec::new();
    encode_begin(Opcode::Binary, payload_bytes, &mut frame);
    // Masked, with zeros.
    frame[1] |= 0x80;
    frame.resize(frame.len() + 4 + payload_bytes, 0);
    let each = READS * limits::RECEIVE_BUFFER_BYTES as usize / frame.len();
    let (mut shard, stats, address) = shard(4_096, u64::MAX);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        client.ask();
        client.0.write_all(&frame.repeat(each)).expect("the sockets' buffers have room");
    }
    let (all, mut taken, mut completions) = ((clients.len() * each) as u64, Vec::new(), Vec::new());
    while taken.iter().sum::<u64>() < all {
        assert!(taken.len() < TURNS_MAX, "not all of it is taken");
        let before = stats.messages_received.value();
        shard.turn(&mut completions).expect("the rings work");
        taken.push(stats.messages_received.value() - before);
    }
    let most = taken.into_iter().skip_while(|messages| *messages == 0).skip(1).max();
    (most.expect("it takes many turns"), frame.len() as u64)
}

#[test]
fn a_turn_takes_one_read_of_small_messages_and_several_of_large_ones() {
    let in_reads = |reads: u32, frame_bytes| u64::from(reads * limits::RECEIVE_BUFFER_BYTES) / frame_bytes;
    for payload_bytes in [1, 3] {
        let (most, frame_bytes) = most_in_a_turn(payload_bytes);
        let one = in_reads(1, frame_bytes) + 1;
        assert!(most <= one, "{most}: one read, and the end of a frame that the last one began");
    }
    let (most, frame_bytes) = most_in_a_turn(1_000);
    let reads = limits::GREEDY_READS_PER_TURN;
    assert!(most >= in_reads(reads, frame_bytes) && most <= in_reads(reads + 1, frame_bytes) + 1, "{most}");
}

/// Waits for the completion of `token`, whose cause is there or comes at once. A sleep that lasted until its timeout slept
/// over it, even though the completion is found after such a sleep too.
fn wait_for(ring: &mut Uring, token: Token) -> Completion {
    const WAITS_MAX: usize = 1_000;
    let mut completions = Vec::new();
    for _ in 0..WAITS_MAX {
        let started = Instant::now();
        ring.wait(PATIENCE, &mut completions).expect("the ring works");
        assert!(started.elapsed() < PATIENCE, "{token:?} was slept over");
        let found = completions.drain(..).find(|completion| completion.token == token);
        if let Some(completion) = found {
            return completion;
        }
    }
    panic!("{token:?} does not come");
}

/// The work of a ring that the thread does not sleep in must end the sleep, at whatever moment it comes.
#[test]
fn no_work_of_a_further_ring_is_slept_over() {
    wake_by_a_further_ring(Duration::ZERO);
    // It comes while the thread looks for work, in the moment it falls asleep, and while it sleeps.
    wake_by_a_further_ring(Duration::from_micros(20));
}

fn wake_by_a_further_ring(busy_poll: Duration) {
    const TIMES: u32 = 20_000;
    let (listener, address) = listener();
    let (_sender, mailbox) = mailbox::mailbox::<()>(8).expect("an eventfd");
    let mut ring =
        Uring::open(listener, mailbox.wake_descriptor().expect("a descriptor"), 1).expect("io_uring");
    ring.set_busy_poll(busy_poll);
    let (start, starts) = mpsc::channel::<()>();
    let _first = Client::connect(address);
    let mut second = Client::connect(address);
    let writer = thread::spawn(move || {
        let mut rng = StdRng::seed_from_u64(1);
        for () in starts {
            (0..rng.random_range(0..2_000)).for_each(|_| std::hint::spin_loop());
            second.0.write_all(b"x").expect("it is open");
        }
    });
    ring.accept(true);
    let accept = Token::new(Op::Accept, 0, 0);
    let descriptors: Vec<Descriptor> =
        (0..2).map(|_| wait_for(&mut ring, accept).descriptor.expect("accepted")).collect();
    assert_eq!((descriptors[0].ring(), descriptors[1].ring()), (0, 1), "a ring each");
    let (poll, read) = (Token::new(Op::Poll, 0, 1), Token::new(Op::Read, 0, 1));
    ring.poll(descriptors[1], poll);
    for _ in 0..TIMES {
        start.send(()).expect("the writer lives");
        let event = wait_for(&mut ring, poll);
        assert!(event.more && event.result & i32::from(libc::POLLIN) != 0);
        assert!(ring.read(descriptors[1], read), "a buffer is free");
        let completion = wait_for(&mut ring, read);
        let buffer = completion.buffer.expect("filled");
        assert!(matches!(buffer, Buffer::Read(_)) && ring.buffer(buffer, 1) == b"x");
        ring.recycle(buffer);
    }
    drop(start);
    writer.join().expect("it ends");
}
