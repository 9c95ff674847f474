//! A cable between phantoms and a smoltcp interface, without I/O.

use roost_loadgen::phantom::wire::Wire;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// Where the server listens.
pub const PORT: u16 = 9000;

/// Packets between the two.
#[derive(Default)]
pub struct Cable {
    pub to_server: VecDeque<Vec<u8>>,
    pub to_phantoms: VecDeque<Vec<u8>>,
}

impl Wire for Cable {
    fn receive(&mut self, packet: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(self.to_phantoms.pop_front().map(|next| {
            packet[..next.len()].copy_from_slice(&next);
            next.len()
        }))
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<bool> {
        self.to_server.push_back(packet.to_vec());
        Ok(true)
    }

    fn wait(&mut self, _timeout: Duration) -> io::Result<bool> {
        Ok(!self.to_phantoms.is_empty())
    }
}

/// smoltcp's end of the cable.
pub struct SmolEnd<'a>(pub &'a mut Cable);
/// A packet that came.
pub struct Received(Vec<u8>);
/// Room for a packet.
pub struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, act: F) -> R {
        act(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, act: F) -> R {
        let mut packet = vec![0; length];
        let result = act(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for SmolEnd<'_> {
    type RxToken<'b>
        = Received
    where
        Self: 'b;
    type TxToken<'b>
        = Sending<'b>
    where
        Self: 'b;

    fn receive(&mut self, _at: Instant) -> Option<(Received, Sending<'_>)> {
        let packet = self.0.to_server.pop_front()?;
        Some((Received(packet), Sending(&mut self.0.to_phantoms)))
    }

    fn transmit(&mut self, _at: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.0.to_phantoms))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ip, 1500);
        capabilities
    }
}
