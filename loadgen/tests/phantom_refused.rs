//! Phantoms that the server refuses give back what they held, so that however many are refused the others go on.

#[path = "common/cable.rs"]
mod cable;
#[path = "common/simulated.rs"]
mod simulated;

use cable::{Cable, PORT, SmolEnd};
use roost_loadgen::phantom::address::SERVER;
use roost_loadgen::phantom::core::Core;
use roost_loadgen::phantom::engine::Engine;
use roost_loadgen::phantom::handshake::Upgrade;
use roost_loadgen::phantom::lean::Lean;
use roost_loadgen::phantom::tcp::Stack;
use roost_loadgen::worker::Context;
use simulated::CLIENTS;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Address, Ipv4Cidr};
use std::rc::Rc;
use std::time::Duration;

/// Fewer than clients: each has to come back for the next.
const FLIGHTS: u32 = 4;

const VIRTUAL_MS: u64 = 60_000;

#[test]
fn refused_phantoms_give_their_flights_back() {
    let (shared, time) = simulated::run("idle", &[], 1);
    let stack = Stack::new(Cable::default(), simulated::setup(1, FLIGHTS));
    let context = Rc::new(Context::new(shared.clone()));
    let upgrade = Upgrade::new(&shared.options, None);
    let role = Lean::new(&shared.options, CLIENTS, None);
    let mut engine = Engine::new(Core::new(stack, context.clone(), upgrade), role);
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = 1;
    let mut interface = Interface::new(config, &mut SmolEnd(&mut Cable::default()), Instant::ZERO);
    interface.update_ip_addrs(|a| {
        a.push(IpCidr::Ipv4(Ipv4Cidr::new(Ipv4Address::from_bits(SERVER), 15))).unwrap();
    });
    let mut sockets = SocketSet::new(Vec::new());
    for _ in 0..32 {
        let buffer = || SocketBuffer::new(vec![0; 3000]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.listen(PORT).unwrap();
        sockets.add(socket);
    }
    for now_ms in (2..VIRTUAL_MS).step_by(2) {
        time.increment(Duration::from_millis(2));
        engine.turn().expect("the cable holds");
        interface.poll(Instant::from_millis(now_ms as i64), &mut SmolEnd(engine.wire()), &mut sockets);
        for (_, socket) in sockets.iter_mut() {
            let smoltcp::socket::Socket::Tcp(socket) = socket;
            let mut bytes = [0; 3000];
            if matches!(socket.recv_slice(&mut bytes), Ok(1..)) {
                socket.send_slice(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").unwrap();
                socket.close();
            }
            if socket.state() == State::Closed {
                socket.listen(PORT).unwrap();
            }
        }
    }
    assert!(engine.tallies().attempts.begun >= u64::from(CLIENTS), "{:?}", engine.tallies().attempts);
}
