//! A multi-queue TUN device with virtio headers: the wire between the kernel's TCP and the phantom clients.
//!
//! The kernel hands over unsegmented data with partial checksums (`TUN_F_CSUM | TUN_F_TSO4`), so that one read takes what a
//! real link would need many packets for. Packets to the kernel carry full checksums, and the kernel verifies them. Each
//! queue belongs to one thread; [`steer`] says which packets come out of it. The device disappears with its last queue.
//! See `Documentation/networking/tuntap.rst` of the kernel.

mod capture;
pub mod child;
pub mod steer;
mod sys;

pub use capture::Capture;

use crate::limits::FOREIGN_PACKETS_MAX;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Socket, Type};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;
use sys::Interface;

/// The name of a run's device: a namespace has one at a time.
pub const DEVICE: &str = "roost0";

/// The longest IPv4 packet (RFC 791: a total length of 16 bits), and so what a read may bring.
pub const PACKET_BYTES_MAX: usize = 65_535;

/// `struct virtio_net_hdr` of virtio 1.2, section 5.1.6, in its legacy form without `num_buffers`.
const HEADER_BYTES: usize = 10;

const TUN_PATH: &str = "/dev/net/tun";

/// A TUN device of the network namespace it was opened in. It lives as long as one of its queues.
#[derive(Debug)]
pub struct Device {
    name: String,
    /// Any socket of the namespace: interface ioctls go through one.
    control: Socket,
}

/// One queue of a [`Device`].
#[derive(Debug)]
pub struct Queue {
    file: File,
    capture: Option<Arc<Capture>>,
}

impl Device {
    /// Makes the device `name` in the calling thread's network namespace, with `queues` queues of `queue_length` packets each.
    ///
    /// # Errors
    /// `AlreadyExists` where there is a device of that name; `PermissionDenied` without `CAP_NET_ADMIN`, or for more than
    /// one queue without `CAP_BPF`; what else the system calls return. The message says which of them it was.
    pub fn open(name: &str, queues: u32, queue_length: u32) -> io::Result<(Self, Vec<Queue>)> {
        let device = Self { name: name.to_owned(), control: Socket::new(Domain::IPV4, Type::DGRAM, None)? };
        let files = (0..queues).map(|number| attach(name, number == 0)).collect::<io::Result<Vec<_>>>()?;
        for file in &files {
            sys::set_header_bytes(file, HEADER_BYTES as libc::c_int)
                .map_err(|error| say(&error, "cannot set the length of the virtio header"))?;
        }
        let first = files
            .first()
            .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "a device has at least one queue"))?;
        sys::set_offload(first, libc::TUN_F_CSUM | libc::TUN_F_TSO4)
            .map_err(|error| say(&error, "cannot switch offloads on"))?;
        // With one queue there is nothing to choose, and it works where bpf(2) is not allowed.
        if queues > 1 {
            let program = steer::program(queues).map_err(|error| {
                say(
                    &error,
                    "cannot load the program that gives packets their queue (bpf(2)); one queue needs none",
                )
            })?;
            sys::set_steering(first, &program)
                .map_err(|error| say(&error, "cannot attach the program that gives packets their queue"))?;
        }
        device
            .set(Interface::QueueLength(queue_length))
            .map_err(|error| say(&error, &format!("cannot make queues of {queue_length} packets")))?;
        Ok((device, files.into_iter().map(|file| Queue { file, capture: None }).collect()))
    }

    /// Its name in the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives it an address with a mask of `prefix` bits, and sets it up. The kernel then routes that network to it.
    ///
    /// # Errors
    /// netdevice(7).
    pub fn up(&self, address: Ipv4Addr, prefix: u32) -> io::Result<()> {
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        self.set(Interface::Address(address))?;
        self.set(Interface::Netmask(mask.into()))?;
        // Without IFF_MULTICAST the kernel sends no IGMP into it.
        self.set(Interface::Flags((libc::IFF_UP | libc::IFF_NOARP) as libc::c_short))
    }

    fn set(&self, what: Interface) -> io::Result<()> {
        sys::set_interface(&self.control, &self.name, what)
    }
}

/// Sets the loopback interface of the calling thread's network namespace up: a new one has it down.
///
/// # Errors
/// netdevice(7).
pub fn loopback_up() -> io::Result<()> {
    let control = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    sys::set_interface(&control, "lo", Interface::Flags(libc::IFF_UP as libc::c_short))
}

impl Queue {
    /// Takes the next packet from the kernel without blocking; its length, or `None` where none waits. The checksums of
    /// TCP and UDP are partial. Packets other than IPv4 are passed over.
    ///
    /// # Errors
    /// `InvalidInput` where `packet` is shorter than [`PACKET_BYTES_MAX`]; what readv(2) returns.
    pub fn receive(&mut self, packet: &mut [u8]) -> io::Result<Option<usize>> {
        if packet.len() < PACKET_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidInput, "room for 65,535 bytes is needed"));
        }
        for _ in 0..FOREIGN_PACKETS_MAX {
            let mut header = [0; HEADER_BYTES];
            let slices = &mut [IoSliceMut::new(&mut header), IoSliceMut::new(packet)];
            let length = match self.file.read_vectored(slices) {
                Ok(length) => length.saturating_sub(HEADER_BYTES),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if length > 0 && packet[0] >> 4 == 4 {
                if let Some(capture) = &self.capture {
                    capture.received(&header, &packet[..length]);
                }
                return Ok(Some(length));
            }
        }
        Ok(None)
    }

    /// Hands one IPv4 packet with full checksums to the kernel, whose network stack runs in this call. `false` when the
    /// kernel has no room now.
    ///
    /// # Errors
    /// What writev(2) returns: EINVAL for what is no IP packet, EIO where the device is down.
    pub fn send(&mut self, packet: &[u8]) -> io::Result<bool> {
        // All zero: nothing is left to the kernel, neither checksum nor segmentation.
        let header = [0; HEADER_BYTES];
        match self.file.write_vectored(&[IoSlice::new(&header), IoSlice::new(packet)]) {
            Ok(_) => {
                if let Some(capture) = &self.capture {
                    capture.sent(packet);
                }
                Ok(true)
            }
            Err(error)
                if error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Sleeps until a packet waits, at most for `timeout`; whether one waits. A signal ends the sleep early.
    ///
    /// # Errors
    /// What ppoll(2) returns.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut waited = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut waited, Some(TimeSpec::from_duration(timeout)), None) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// From now on all packets go into a file, too.
    pub fn record(&mut self, capture: Arc<Capture>) {
        self.capture = Some(capture);
    }
}

fn attach(name: &str, is_first: bool) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN_PATH).map_err(
            |error| say(&error, &format!("cannot open {TUN_PATH}; the kernel needs its module 'tun'")),
        )?;
    let common = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    // A queue must not join a device that somebody else has made.
    let flags = if is_first { common | libc::IFF_TUN_EXCL } else { common };
    match sys::attach_queue(&file, name, flags) {
        Ok(()) => Ok(file),
        Err(error) if is_first && error.raw_os_error() == Some(libc::EBUSY) => {
            Err(io::Error::new(ErrorKind::AlreadyExists, format!("there is a device {name} already")))
        }
        Err(error) => Err(say(&error, &format!("cannot make the TUN device {name}"))),
    }
}

fn say(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
