//! Phantom clients: TCP spoken in user space, a few bytes a client, with WebSocket and roost.v1 on top
//! (docs/decisions/0007-phantom-clients.md).
//!
//! [`wire`] carries packets of [`packet`]; [`tcp`] makes connections of them, without I/O; [`core`] makes messages of these
//! with [`handshake`] and [`frame`]; a role, [`lean`] or [`sessions`], says what the phantoms do; [`engine`] is a thread of them.

pub mod address;
pub mod core;
pub mod engine;
pub mod frame;
pub mod gateway;
pub mod ground;
pub mod handshake;
pub mod impair;
pub mod lean;
pub mod limits;
pub mod namespace;
pub mod packet;
pub mod sessions;
pub mod tcp;
pub mod watch;
pub mod wire;

pub use engine::Tallies;

use self::core::Core;
use address::Addresses;
use engine::Engine;
use handshake::Upgrade;
use impair::Impaired;
use lean::Lean;
use limits::FLIGHTS_MAX;
use packet::Endpoint;
use sessions::Sessions;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tcp::{Setup, Stack};
use wire::Wire;

use crate::options::Scenario;
use crate::scenario::{Chat, Echo, speaks_roost};
use crate::tun::Queue;
use crate::worker::{Context, Phase, Results, Shared};

impl Wire for Queue {
    fn receive(&mut self, packet: &mut [u8]) -> io::Result<Option<usize>> {
        Queue::receive(self, packet)
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<bool> {
        Queue::send(self, packet)
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        Queue::wait(self, timeout)
    }
}

/// Runs the phantoms of one queue until the run stops.
///
/// # Errors
/// The wire is of no use any more, or the target is no IPv4 address.
pub fn work<W: Wire>(
    shared: Arc<Shared>,
    wire: W,
    queue: u32,
    queues: u32,
    phase: tokio::sync::watch::Receiver<Phase>,
) -> io::Result<Results> {
    let options = &shared.options;
    let SocketAddr::V4(target) = options.target.address else {
        return Err(io::Error::other("phantoms speak IPv4 only"));
    };
    let setup = Setup {
        server: Endpoint { address: u32::from(*target.ip()), port: target.port() },
        addresses: Addresses::new(options.cli.clients, queues, queue),
        seed: options.cli.seed,
        verify: false,
        flights: FLIGHTS_MAX,
    };
    let impairment = options.impairment();
    if impairment.is_none() {
        return play(shared, Stack::new(wire, setup), phase);
    }
    let wire = Impaired::new(wire, impairment, options.cli.seed ^ u64::from(queue) << 32);
    play(shared, Stack::new(wire, setup), phase)
}

/// Lets the phantoms of a stack do what the scenario says.
fn play<W: Wire>(
    shared: Arc<Shared>,
    mut stack: Stack<W>,
    phase: tokio::sync::watch::Receiver<Phase>,
) -> io::Result<Results> {
    let (addresses, phantoms) = (*stack.addresses(), stack.len());
    let encoding = speaks_roost(&shared.options).then_some(shared.options.cli.encoding);
    for own in (0..phantoms).filter(|&own| shared.plan.is_slow(addresses.client(own))) {
        stack.offer_little(own);
    }
    let upgrade = Upgrade::new(&shared.options, encoding);
    let scenario = shared.options.cli.scenario;
    let context = Rc::new(Context::new(shared));
    let core = Core::new(stack, context.clone(), upgrade);
    let client = |own| addresses.client(own);
    match scenario {
        _ if context.shared.options.talks() => {
            Engine::new(core, Sessions::<Chat>::new(&context, phantoms, client)).run(phase)
        }
        Scenario::Echo => Engine::new(core, Sessions::<Echo>::new(&context, phantoms, client)).run(phase),
        _ => {
            let role = Lean::new(&context.shared.options, phantoms, encoding);
            Engine::new(core, role).run(phase)
        }
    }
}
