//! Which phantom speaks from which address and port: arithmetic both ways, so that no table is looked up for a packet.
//!
//! Phantom `i` of a run has address number `i % addresses` and port number `i / addresses`. The number of addresses is a
//! multiple of the number of queues, and so is the first address: the queue of a packet is its address modulo the
//! queues, whoever computes it, and the thread of queue `q` owns the phantoms with `i % queues == q`.

use super::limits::{PORT_MIN, PORTS};
use super::packet::Endpoint;

/// The block for benchmarks of network devices (RFC 2544, RFC 6890): 198.18.0.0/15.
pub const BLOCK: u32 = 0xc612_0000;
/// The gateway's address in it: 198.18.0.1.
pub const SERVER: u32 = BLOCK + 1;
/// Phantoms' addresses begin here (198.18.1.0), or at the next multiple of the queues.
const FIRST: u32 = BLOCK + 0x100;

/// The addresses of a run's phantoms as the thread of one queue sees them.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    phantoms: u32,
    /// Number of addresses.
    count: u32,
    queues: u32,
    queue: u32,
    first: u32,
}

impl Addresses {
    /// The addresses of `phantoms` phantoms on `queues` queues, as seen by the thread of `queue`.
    pub fn new(phantoms: u32, queues: u32, queue: u32) -> Self {
        let count = phantoms.div_ceil(PORTS).max(1).next_multiple_of(queues);
        Self { phantoms, count, queues, queue, first: FIRST.next_multiple_of(queues) }
    }

    /// How many phantoms this thread has: its indices are `0..len`.
    pub fn len(&self) -> u32 {
        (self.phantoms + self.queues - 1 - self.queue) / self.queues
    }

    /// Whether this thread has no phantom.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number within the run of this thread's phantom `own`.
    pub fn client(&self, own: u32) -> u32 {
        own * self.queues + self.queue
    }

    /// This thread's index of a run's phantom; `None` where another thread has it.
    pub fn own(&self, client: u32) -> Option<u32> {
        (client < self.phantoms && client % self.queues == self.queue).then_some(client / self.queues)
    }

    /// Where this thread's phantom `own` speaks from.
    pub fn endpoint(&self, own: u32) -> Endpoint {
        let client = self.client(own);
        Endpoint { address: self.first + client % self.count, port: PORT_MIN + (client / self.count) as u16 }
    }

    /// The index of the phantom that speaks from there; `None` where there is none, or another thread has it.
    pub fn find(&self, endpoint: Endpoint) -> Option<u32> {
        let address = endpoint.address.checked_sub(self.first).filter(|&number| number < self.count)?;
        let port = u32::from(endpoint.port.checked_sub(PORT_MIN)?);
        // At most 65,535 ports times 131,072 addresses: more than 32 bits, where they are no phantom's.
        let client = u64::from(port) * u64::from(self.count) + u64::from(address);
        u32::try_from(client).ok().and_then(|client| self.own(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PHANTOMS_MAX;

    #[test]
    fn each_phantom_has_an_endpoint_of_its_own_and_is_found_by_it_on_one_queue_only() {
        for (phantoms, queues) in [(1, 1), (7, 2), (200_000, 3), (123_457, 4), (5_000_000, 2)] {
            let all: Vec<_> = (0..queues).map(|queue| Addresses::new(phantoms, queues, queue)).collect();
            assert_eq!(all.iter().map(Addresses::len).sum::<u32>(), phantoms);
            let mut seen = std::collections::HashSet::new();
            for own in &all {
                for index in (0..own.len()).step_by(1 + own.len() as usize / 5_000) {
                    let endpoint = own.endpoint(index);
                    assert_eq!(own.find(endpoint), Some(index));
                    assert_eq!(
                        endpoint.address % queues,
                        own.queue,
                        "the queue that the packet is steered to"
                    );
                    assert!(seen.insert((endpoint.address, endpoint.port)));
                    assert_eq!(all.iter().filter_map(|other| other.find(endpoint)).count(), 1);
                }
            }
        }
    }

    #[test]
    fn endpoints_of_nobody_are_nobodys() {
        let addresses = Addresses::new(PHANTOMS_MAX, 2, 0);
        let last = addresses.endpoint(addresses.len() - 1);
        assert!(last.address < BLOCK + 0x2_0000 - 1, "within the block, and not its broadcast address");
        for (address, port) in
            [(SERVER, 9000), (last.address, 1), (u32::MAX, u16::MAX), (last.address + 1_000_000, 5000)]
        {
            assert_eq!(addresses.find(Endpoint { address, port }), None);
        }
        assert_eq!(Addresses::new(10, 1, 0).find(Endpoint { address: FIRST, port: PORT_MIN + 10 }), None);
    }
}
