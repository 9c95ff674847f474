//! A wire that loses, reorders and doubles packets both ways, from a seed: what a phantom's TCP has to survive.

use super::limits::REORDER_HELD_MAX;
use super::wire::Wire;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// A packet that is held back is overtaken by this many at most.
const OVERTAKEN_MAX: u32 = 4;
/// Where nothing comes to overtake it, it goes on after this many looks for a packet.
const LOOKS_MAX: u32 = 3;

/// How bad the way is: shares of the packets, each way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// Packets that are lost.
    pub loss: f64,
    /// Packets that are held back until others have overtaken them.
    pub reorder: f64,
    /// Packets that come twice.
    pub duplicate: f64,
}

impl Impairment {
    /// Whether all packets arrive, once and in order.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// One way of a wire.
#[derive(Debug, Default)]
struct Way {
    /// Packets held back, with the packets and looks that they still wait for.
    held: VecDeque<(u32, u32, Vec<u8>)>,
    /// Packets that go on now.
    ready: VecDeque<Vec<u8>>,
}

enum Fate {
    Lost,
    Held,
    Twice,
    Once,
}

/// A wire made worse.
#[derive(Debug)]
pub struct Impaired<W> {
    inner: W,
    impairment: Impairment,
    rng: StdRng,
    inwards: Way,
    outwards: Way,
}

impl<W: Wire> Impaired<W> {
    /// The wire with that impairment, from that seed.
    pub fn new(inner: W, impairment: Impairment, seed: u64) -> Self {
        let (inwards, outwards) = (Way::default(), Way::default());
        Self { inner, impairment, rng: StdRng::seed_from_u64(seed), inwards, outwards }
    }

    /// The wire below.
    pub fn inner(&mut self) -> &mut W {
        &mut self.inner
    }

    fn fate(&mut self, held: usize) -> Fate {
        let Impairment { loss, reorder, duplicate } = self.impairment;
        let random = self.rng.random::<f64>();
        if random < loss {
            Fate::Lost
        } else if random < loss + reorder && held < REORDER_HELD_MAX {
            Fate::Held
        } else if random < loss + reorder + duplicate {
            Fate::Twice
        } else {
            Fate::Once
        }
    }

    fn hold(&mut self, packet: &[u8]) -> (u32, u32, Vec<u8>) {
        (self.rng.random_range(1..=OVERTAKEN_MAX), LOOKS_MAX, packet.to_vec())
    }

    fn send_ready(&mut self) -> io::Result<bool> {
        while let Some(packet) = self.outwards.ready.pop_front() {
            if !self.inner.send(&packet)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Way {
    /// A packet went by: those that waited for it may follow.
    fn overtaken(&mut self) {
        for (packets, ..) in &mut self.held {
            *packets = packets.saturating_sub(1);
        }
        self.release();
    }

    /// There was no packet to be seen.
    fn looked(&mut self) {
        for (_, looks, _) in &mut self.held {
            *looks = looks.saturating_sub(1);
        }
        self.release();
    }

    fn release(&mut self) {
        let Self { held, ready } = self;
        held.retain_mut(|(packets, looks, packet)| {
            let goes = *packets == 0 || *looks == 0;
            if goes {
                ready.push_back(std::mem::take(packet));
            }
            !goes
        });
    }
}

impl<W: Wire> Wire for Impaired<W> {
    fn receive(&mut self, packet: &mut [u8]) -> io::Result<Option<usize>> {
        // Ends with a packet or the wire's emptiness; each round takes one off the wire.
        loop {
            if let Some(ready) = self.inwards.ready.pop_front() {
                packet[..ready.len()].copy_from_slice(&ready);
                return Ok(Some(ready.len()));
            }
            let Some(length) = self.inner.receive(packet)? else {
                self.inwards.looked();
                self.outwards.looked();
                self.send_ready()?;
                if self.inwards.ready.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            match self.fate(self.inwards.held.len()) {
                Fate::Lost => (),
                Fate::Held => {
                    let held = self.hold(&packet[..length]);
                    self.inwards.held.push_back(held);
                }
                fate => {
                    if matches!(fate, Fate::Twice) {
                        self.inwards.ready.push_back(packet[..length].to_vec());
                    }
                    self.inwards.overtaken();
                    return Ok(Some(length));
                }
            }
        }
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<bool> {
        match self.fate(self.outwards.held.len()) {
            // Lost on the way: the sender does not know.
            Fate::Lost => Ok(true),
            Fate::Held => {
                let held = self.hold(packet);
                self.outwards.held.push_back(held);
                Ok(true)
            }
            fate => {
                if matches!(fate, Fate::Twice) {
                    self.outwards.ready.push_back(packet.to_vec());
                }
                self.outwards.overtaken();
                let sent = self.inner.send(packet)?;
                Ok(sent && self.send_ready()?)
            }
        }
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        self.inner.wait(timeout)
    }
}
