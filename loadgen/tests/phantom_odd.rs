//! Phantoms that misbehave, against smoltcp's TCP on a virtual clock: what one leaves unread closes its window, nothing of it is lost, and
//! one that vanished says nothing any more.

#[path = "common/cable.rs"]
mod cable;

use cable::{Cable, PORT, SmolEnd};
use roost_loadgen::phantom::address::{Addresses, SERVER};
use roost_loadgen::phantom::limits::SLOW_WINDOW_BYTES;
use roost_loadgen::phantom::packet::Endpoint;
use roost_loadgen::phantom::tcp::{End, Setup, Stack, State};
use roost_loadgen::phantom::wire::Wire;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Address, Ipv4Cidr};

const STEP_MS: u64 = 20;
const BYTES: usize = 20_000;

/// One phantom and its server.
struct World {
    stack: Stack<Cable>,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    now_ms: u64,
    /// What the phantom has read.
    read: Vec<u8>,
    end: Option<End>,
}

impl World {
    /// With a connection.
    fn connected(prepare: impl FnOnce(&mut Stack<Cable>)) -> Self {
        let setup = Setup {
            server: Endpoint { address: SERVER, port: PORT },
            addresses: Addresses::new(1, 1, 0),
            seed: 1,
            verify: true,
            flights: 1,
        };
        let mut interface = Interface::new(
            Config::new(HardwareAddress::Ip),
            &mut SmolEnd(&mut Cable::default()),
            Instant::ZERO,
        );
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(Ipv4Address::from_bits(SERVER), 15))).unwrap();
        });
        let buffer = || SocketBuffer::new(vec![0; BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.listen(PORT).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        let mut stack = Stack::new(Cable::default(), setup);
        prepare(&mut stack);
        assert!(stack.open(0));
        let (read, end) = (Vec::new(), None);
        let mut world = Self { stack, interface, sockets, socket, now_ms: 0, read, end };
        world.steps(20);
        assert_eq!(world.stack.state(0), State::Established);
        world
    }

    fn server(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn steps(&mut self, steps: u32) {
        let mut packet = vec![0; 65_535];
        for _ in 0..steps {
            self.now_ms += STEP_MS;
            self.stack.set_now(self.now_ms * 1000);
            let now = Instant::from_millis(self.now_ms as i64);
            self.interface.poll(now, &mut SmolEnd(&mut self.stack.wire), &mut self.sockets);
            while let Some(length) = self.stack.wire.receive(&mut packet).unwrap() {
                let Some(arrival) = self.stack.input(&packet[..length]) else { continue };
                self.end = self.end.or(arrival.end);
                self.take(arrival.data);
                if let Some(held) = self.stack.take_held(0) {
                    self.take(&held);
                    self.stack.put_back(0, held);
                }
                self.stack.settle(0);
            }
            self.stack.tick(&mut Vec::new());
        }
    }

    fn take(&mut self, data: &[u8]) {
        if self.stack.is_stalled(0) && !data.is_empty() {
            self.stack.make_flight(0).expect("the only one").leave_unread(data);
        } else {
            self.read.extend_from_slice(data);
        }
    }

    fn unread(&mut self) -> usize {
        self.stack.flight(0).map_or(0, |flight| flight.input.len())
    }
}

#[test]
fn what_is_left_unread_closes_the_window_and_comes_once_it_is_read() {
    let mut world = World::connected(|stack| stack.offer_little(0));
    let bytes: Vec<u8> = (0..BYTES).map(|at| (at ^ at >> 8) as u8).collect();
    for round in 0..2 {
        world.read.clear();
        world.stack.stall(0);
        assert_eq!(world.server().send_slice(&bytes), Ok(BYTES));
        // Twenty seconds, with the server's probes of the closed window.
        world.steps(1000);
        let window = usize::from(SLOW_WINDOW_BYTES);
        assert_eq!((world.unread(), world.read.len()), (window, 0), "round {round}");
        assert_eq!(world.server().send_queue(), BYTES - window);
        world.stack.resume(0);
        let unread = world.stack.flight(0).map(|flight| std::mem::take(&mut flight.input)).unwrap();
        world.read.extend(unread);
        world.stack.settle(0);
        world.steps(1000);
        assert!(world.read == bytes, "round {round}: {} bytes", world.read.len());
        assert_eq!((world.end, world.stack.busy()), (None, (0, 0)));
    }
}

#[test]
fn one_that_vanished_answers_nothing_and_sees_when_it_is_given_up() {
    for resets in [false, true] {
        let mut world = World::connected(|_| ());
        world.stack.vanish(0);
        let said = world.stack.counts.packets_out;
        world.server().send_slice(b"are you there?").unwrap();
        world.steps(500);
        assert_eq!((world.end, world.read.len()), (None, 0));
        if resets {
            world.server().abort();
        } else {
            world.server().close();
        }
        world.steps(500);
        assert_eq!(world.end, Some(End::GivenUp), "resets: {resets}");
        assert_eq!((world.stack.counts.packets_out, world.stack.busy()), (said, (0, 0)));
    }
}
