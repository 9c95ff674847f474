//! A whole connection by a script, with a well-behaved one beside it: what the fuzz target `connection` plays, and the test that
//! plays its corpus.
//!
//! The input: a byte of [`How`], the length of what the peer sends (two bytes, little-endian), what it sends, and the rest decides what
//! happens: cuts, delays, faults, and what the router says.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use quanta::{Clock, with_clock};
use rand::{SeedableRng, rngs::StdRng};
use roost_gateway::conn::Backend;
use roost_proto::{
    codec::{Encoding, encode_client_frame},
    frame::{Opcode, encode_header},
    v1,
};

use super::{
    Anybody, Fate, Manners, MoodyRouter, Peer, Rig, Setup, World,
    scripts::{behind_head, encoding_of, frames_of, head, masked},
};

/// Whoever is still there in this turn is sent away.
const DRAIN_AT: usize = 200;
/// Bytes of the script that are the router's, one in so many.
const ROUTER_SHARE: usize = 4;

/// What the first byte of an input says.
struct How(u8);

impl How {
    fn has(&self, bit: u8) -> bool {
        self.0 >> bit & 1 == 1
    }

    fn router(&self) -> bool {
        self.has(0)
    }

    /// A right head is sent before the script's bytes.
    fn head(&self) -> bool {
        self.has(1)
    }

    /// The script's bytes are frames to be masked: first byte, length, payload.
    fn frames(&self) -> bool {
        self.has(2)
    }

    fn faulty(&self) -> bool {
        self.has(3)
    }

    fn fin_after(&self) -> bool {
        self.has(4)
    }

    fn takes_nothing(&self) -> bool {
        self.has(5)
    }

    fn full(&self) -> bool {
        self.has(6)
    }

    /// A user's number decides the encoding.
    fn user(&self) -> u64 {
        if self.has(7) { 3 } else { 1 }
    }
}

/// Plays a script to its end. Panics where something is not as it must be.
pub fn play(input: &[u8]) {
    let Some((&[how, low, high], rest)) = input.split_first_chunk() else { return };
    let how = How(how);
    let (bytes, script) = rest.split_at(usize::from(u16::from_le_bytes([low, high])).min(rest.len()));
    let (routers, worlds) = script.split_at(script.len() / ROUTER_SHARE);
    let peers = vec![scripted(&how, bytes), neighbour(&how)];
    let router = MoodyRouter::new(Fate::scripted(routers.to_vec()));
    let (backend, uplink) = if how.router() {
        let uplink: Box<dyn roost_gateway::shard::Uplink> = Box::new(router.clone());
        (Backend::Router(Box::new(Anybody)), Some(uplink))
    } else {
        (Backend::Echo, None)
    };
    let connections_max = if how.full() { 1 } else { 2 };
    let (clock, time) = Clock::mock();
    with_clock(&clock, || {
        let world = World::new(Fate::scripted(worlds.to_vec()), peers);
        world.borrow_mut().faulty = how.faulty();
        world.borrow_mut().time = Some((Arc::clone(&time), Duration::from_millis(10)));
        let mut rig =
            Rig::new(&world, Setup { backend, uplink, connections_max, heartbeat_s: 2, ..Setup::echo() });
        rig.run(&time, |fixture, turn| {
            router.say(encoding_of);
            fixture.mailbox.send_from(&mut router.desk().effects);
            if turn == DRAIN_AT {
                fixture.shared.draining.store(true, Ordering::Relaxed);
            }
        });
        check(&how, &rig, &router);
    });
}

/// The peer that does what the script says.
fn scripted(how: &How, bytes: &[u8]) -> Peer {
    let mut sends = Vec::new();
    if how.head() {
        sends.extend(head(&format!("?user={}", how.user()), sub_protocol(how, how.user())));
    }
    if how.frames() {
        let mut rest = bytes;
        while let Some((&[first, length], behind)) = rest.split_first_chunk() {
            let (payload, behind) = behind.split_at(behind.len().min(length.into()));
            let (header, length) = encode_header(Opcode::Binary, true, payload.len() as u64);
            let at = sends.len();
            sends.extend(&header[..length]);
            (sends[at], sends[at + 1]) = (first, sends[at + 1] | 0x80);
            sends.extend([0; 4]);
            sends.extend(payload);
            rest = behind;
        }
    } else {
        sends.extend(bytes);
    }
    let mut peer = Peer::default();
    (peer.fin_after, peer.sends) = (how.fin_after(), sends.into());
    if how.takes_nothing() {
        peer.manners = Manners::TakesNothing;
    }
    peer
}

fn sub_protocol(how: &How, user: u64) -> Option<&'static str> {
    how.router().then(|| encoding_of(user).sub_protocol())
}

/// Somebody beside it, who sends one message and says goodbye.
fn neighbour(how: &How) -> Peer {
    let rng = &mut StdRng::seed_from_u64(0);
    let mut sends = head("?user=2", sub_protocol(how, 2));
    let mut message = Vec::new();
    let ack = v1::ClientFrame { id: 1, body: Some(v1::Ack::default().into()) };
    encode_client_frame(Encoding::Json, &ack, &mut message);
    sends.extend(masked(Opcode::Text, true, &message, rng));
    sends.extend(masked(Opcode::Close, true, b"\x03\xE8", rng));
    let mut peer = Peer::default();
    (peer.fin_after, peer.sends) = (true, sends.into());
    peer
}

/// Nobody got what was another's, and the one beside it what was its own.
fn check(how: &How, rig: &Rig, router: &MoodyRouter) {
    let (world, stats) = (rig.world.borrow(), &rig.fixture.stats);
    for seen in &router.desk().sessions {
        assert_eq!((seen.attached, seen.detached), (1, 1), "one begin, one end");
        let index = world.named(seen.session.slot, seen.session.generation).expect("a connection");
        seen.check(&frames_of(encoding_of(seen.user), &world.peers[index].received));
    }
    let neighbour = &world.peers[1];
    let undisturbed = neighbour.owner.is_some() && !neighbour.hurt && neighbour.sends.is_empty();
    if how.router() || !undisturbed || stats.reaped.value() + stats.handshakes_timed_out.value() > 0 {
        return;
    }
    match behind_head(&neighbour.received) {
        Some(rest) => {
            assert!(
                rest.starts_with(b"\x81\x11{\"id\":1,\"ack\":{}}\x88"),
                "its echo, and our goodbye: {rest:?}"
            );
        }
        None => assert!(neighbour.received.starts_with(b"HTTP/1.1 503 "), "refused, as it is full"),
    }
}
