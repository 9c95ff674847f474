//! Whole phantom clients in a simulation: the `echo` scenario with its ledger, over a wire that loses, reorders and doubles
//! packets, against smoltcp's TCP and tungstenite's server, on a virtual clock. Every message comes back once and in order.

#[path = "common/cable.rs"]
mod cable;
#[path = "common/simulated.rs"]
mod simulated;

use cable::{Cable, PORT, SmolEnd};
use roost_loadgen::phantom::address::SERVER;
use roost_loadgen::phantom::core::Core;
use roost_loadgen::phantom::engine::Engine;
use roost_loadgen::phantom::handshake::Upgrade;
use roost_loadgen::phantom::impair::{Impaired, Impairment};
use roost_loadgen::phantom::sessions::Sessions;
use roost_loadgen::phantom::tcp::Stack;
use roost_loadgen::scenario::Echo;
use roost_loadgen::worker::{Context, Phase};
use simulated::CLIENTS;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Address, Ipv4Cidr};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::server::{NoCallback, ServerHandshake};
use tungstenite::{WebSocket, accept};

const SEEDS: u64 = 60;
/// Virtual milliseconds within which all has to be over.
const LONGEST_MS: u64 = 600_000;

/// What a connection of the server got from TCP, and has for it.
#[derive(Debug, Default)]
struct Pipe {
    input: VecDeque<u8>,
    output: VecDeque<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.input.read(into) }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Handshake = tungstenite::handshake::MidHandshake<ServerHandshake<Pipe, NoCallback>>;

enum Peer {
    Opening(Box<Handshake>),
    Open(Box<WebSocket<Pipe>>),
}

impl Peer {
    fn pipe(&mut self) -> &mut Pipe {
        match self {
            Self::Opening(handshake) => handshake.get_mut().get_mut(),
            Self::Open(socket) => socket.get_mut(),
        }
    }

    /// Goes on with what has come: the handshake, then echoes.
    fn advance(self) -> Self {
        let mut socket = match self {
            Self::Open(socket) => socket,
            Self::Opening(handshake) => match handshake.handshake() {
                Ok(socket) => Box::new(socket),
                Err(error) => return Self::opening(error),
            },
        };
        while let Ok(message) = socket.read() {
            if message.is_binary() {
                socket.send(message).expect("a Vec");
            }
        }
        Self::Open(socket)
    }

    fn opening(error: HandshakeError<ServerHandshake<Pipe, NoCallback>>) -> Self {
        match error {
            HandshakeError::Interrupted(handshake) => Self::Opening(Box::new(handshake)),
            HandshakeError::Failure(error) => panic!("{error}"),
        }
    }
}

/// smoltcp with an echo server on it.
struct Server {
    interface: Interface,
    sockets: SocketSet<'static>,
    peers: HashMap<SocketHandle, Peer>,
}

impl Server {
    fn new(seed: u64) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut SmolEnd(&mut Cable::default()), Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(Ipv4Address::from_bits(SERVER), 15))).unwrap();
        });
        let mut sockets = SocketSet::new(Vec::new());
        for _ in 0..CLIENTS {
            let buffer = || SocketBuffer::new(vec![0; 3000]);
            let mut socket = Socket::new(buffer(), buffer());
            socket.listen(PORT).unwrap();
            sockets.add(socket);
        }
        Self { interface, sockets, peers: HashMap::new() }
    }

    fn poll(&mut self, now_ms: u64, cable: &mut Cable) {
        self.interface.poll(Instant::from_millis(now_ms as i64), &mut SmolEnd(cable), &mut self.sockets);
        for (handle, socket) in self.sockets.iter_mut() {
            let smoltcp::socket::Socket::Tcp(socket) = socket;
            if !socket.may_send() {
                continue;
            }
            let mut peer = self
                .peers
                .remove(&handle)
                .unwrap_or_else(|| Peer::opening(accept(Pipe::default()).expect_err("nothing has come yet")));
            let mut bytes = [0; 3000];
            if let Ok(length) = socket.recv_slice(&mut bytes) {
                peer.pipe().input.extend(&bytes[..length]);
            }
            peer = peer.advance();
            let pipe = peer.pipe();
            let sent = socket.send_slice(pipe.output.make_contiguous()).unwrap_or_default();
            pipe.output.drain(..sent);
            self.peers.insert(handle, peer);
        }
    }
}

fn simulate(seed: u64) -> u64 {
    let rate = ["--rate-per-s", "40", "--duration-s", "5", "--payload-bytes", "2500", "--in-flight", "4"];
    let (shared, time) = simulated::run("echo", &[&rate[..], &["--seed", &seed.to_string()]].concat(), seed);
    let impairment = Impairment { loss: 0.02, reorder: 0.02, duplicate: 0.02 };
    let stack =
        Stack::new(Impaired::new(Cable::default(), impairment, seed), simulated::setup(seed, CLIENTS));
    let context = Rc::new(Context::new(shared.clone()));
    let upgrade = Upgrade::new(&shared.options, None);
    let sessions = Sessions::<Echo>::new(&context, CLIENTS, |own| own);
    let mut engine = Engine::new(Core::new(stack, context.clone(), upgrade), sessions);
    let mut server = Server::new(seed);
    let planned = shared.plan.len() as u64;
    let (mut now_ms, mut running) = (0, false);
    while shared.counters.received.load(Relaxed) < planned {
        now_ms += 2;
        time.increment(Duration::from_millis(2));
        if !running && shared.counters.ready.load(Relaxed) == u64::from(CLIENTS) {
            running = true;
            engine.enter(Phase::Run(shared.clock.now()));
        }
        engine.turn().expect("the cable holds");
        server.poll(now_ms, engine.wire().inner());
        assert!(
            now_ms < LONGEST_MS,
            "seed {seed}: {:?} {:?}",
            shared.counters,
            context.meters.borrow().errors()
        );
    }
    // What was sent twice could still come twice.
    for _ in 0..1000 {
        now_ms += 2;
        time.increment(Duration::from_millis(2));
        engine.turn().expect("the cable holds");
        server.poll(now_ms, engine.wire().inner());
    }
    let tally = context.ledger.take().tally(&shared.plan);
    assert!(tally.is_clean(), "seed {seed}: {tally:?}");
    assert_eq!((tally.sent, tally.received), (planned, planned), "seed {seed}");
    assert_eq!(
        shared.counters.dropped.load(Relaxed),
        0,
        "seed {seed}: {:?}",
        context.meters.borrow().errors()
    );
    engine.tallies().packets.retransmits
}

#[test]
fn every_echo_arrives_once_and_in_order_over_a_bad_wire() {
    let again: u64 = (0..SEEDS).map(simulate).sum();
    assert!(again > SEEDS, "{again} retransmissions: the wire was not bad");
}
