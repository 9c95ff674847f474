//! What the phantoms' packets travel on: a queue of a TUN device, or a pair of lists in a test.

use std::io;
use std::time::Duration;

/// One queue of a device that carries IPv4 packets.
pub trait Wire {
    /// Takes the next packet, without waiting; its length, or `None` where there is none. A packet may be as long as
    /// [`super::limits::PACKET_BYTES_MAX`].
    ///
    /// # Errors
    /// The device is of no use any more.
    fn receive(&mut self, packet: &mut [u8]) -> io::Result<Option<usize>>;

    /// Sends a packet whose checksums are complete. False: there is no room now.
    ///
    /// # Errors
    /// The device is of no use any more.
    fn send(&mut self, packet: &[u8]) -> io::Result<bool>;

    /// Waits for a packet, at most for `timeout`; true where there is one.
    ///
    /// # Errors
    /// The device is of no use any more.
    fn wait(&mut self, timeout: Duration) -> io::Result<bool>;
}
