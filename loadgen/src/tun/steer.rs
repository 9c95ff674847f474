//! Which queue a packet comes out of: an eBPF program chooses it by the packet's destination, so that each phantom's packets
//! come to the thread that owns it, and the kernel keeps no table of flows.

use super::sys::{self, Instruction};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

/// Offset of the destination address in an IPv4 header (RFC 791, section 3.1).
const DESTINATION_AT: i32 = 16;

/// The queue that packets to `address` come out of: the address as a number, modulo the number of queues.
pub fn queue_of(address: Ipv4Addr, queues: u32) -> u32 {
    u32::from(address) % queues
}

/// Loads the program that does what [`queue_of`] says.
///
/// # Errors
/// As [`sys::load_socket_filter`].
pub fn program(queues: u32) -> io::Result<OwnedFd> {
    sys::load_socket_filter(&instructions(queues))
}

/// The modulo is the program's, although the kernel takes one itself: the kernel's sees only 16 bits of the result.
fn instructions(queues: u32) -> [Instruction; 4] {
    let instruction = |code, registers, immediate| Instruction { code, registers, offset: 0, immediate };
    [
        // r6 = r1: the loads below want the packet in r6.
        instruction(0xbf, 0x16, 0),
        // r0 = the 32 bits at DESTINATION_AT, from network order; a shorter packet ends the program with 0.
        instruction(0x20, 0, DESTINATION_AT),
        // r0 %= queues, without sign.
        instruction(0x94, 0, queues as i32),
        instruction(0x95, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_follows_the_whole_address_and_not_its_lower_half_only() {
        assert_eq!(queue_of(Ipv4Addr::new(198, 18, 0, 2), 1), 0);
        assert_eq!(queue_of(Ipv4Addr::new(198, 18, 0, 3), 2), 1);
        // 65,536 is 1 modulo 3.
        assert_ne!(queue_of(Ipv4Addr::new(198, 18, 0, 2), 3), queue_of(Ipv4Addr::new(198, 19, 0, 2), 3));
    }
}
