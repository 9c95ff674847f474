//! The system calls of this module, each behind a safe function: ioctls of the TUN device (`linux/if_tun.h`) and of network
//! interfaces (netdevice(7)), and bpf(2).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `struct bpf_insn`: opcode, registers (destination in the low half), offset, immediate.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Source register times 16, and destination register.
    pub registers: u8,
    /// Jump or memory offset.
    pub offset: i16,
    /// Constant operand.
    pub immediate: i32,
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads; the kernel takes what is not passed as zero.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;

/// What is asked of a network interface.
#[derive(Clone, Copy, Debug)]
pub enum Interface {
    /// These flags instead of the ones it has (`SIOCSIFFLAGS`).
    Flags(libc::c_short),
    /// Its IPv4 address (`SIOCSIFADDR`).
    Address(Ipv4Addr),
    /// The mask of that address (`SIOCSIFNETMASK`).
    Netmask(Ipv4Addr),
    /// Packets each of its queues holds (`SIOCSIFTXQLEN`).
    QueueLength(u32),
}

/// Attaches a descriptor of /dev/net/tun to the device `name` as one more queue, or makes the device.
///
/// # Errors
/// ioctl(2): EPERM without `CAP_NET_ADMIN`, EBUSY where the device is there already and `flags` has `IFF_TUN_EXCL`.
pub fn attach_queue(file: &impl AsFd, name: &str, flags: libc::c_int) -> io::Result<()> {
    let request =
        interface_request(name, libc::__c_anonymous_ifr_ifru { ifru_flags: flags as libc::c_short })?;
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which `request` is, and keeps no pointer to it.
    done(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::TUNSETIFF, &raw const request) })
}

/// Says what the reader of the device copes with: `TUN_F_CSUM` and others.
///
/// # Errors
/// ioctl(2).
pub fn set_offload(file: &impl AsFd, features: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    done(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(features)) })
}

/// The length of the virtio header in front of each packet.
///
/// # Errors
/// ioctl(2).
pub fn set_header_bytes(file: &impl AsFd, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int through the pointer during the call.
    done(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const bytes) })
}

/// Lets an eBPF program choose the queue of each packet.
///
/// # Errors
/// ioctl(2): EINVAL where the kernel has no eBPF.
pub fn set_steering(file: &impl AsFd, program: &impl AsFd) -> io::Result<()> {
    let program = program.as_fd().as_raw_fd();
    // SAFETY: TUNSETSTEERINGEBPF reads one int through the pointer during the call, and takes its own reference to the program.
    done(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::TUNSETSTEERINGEBPF, &raw const program) })
}

/// Asks something of the interface `name`, through any socket of its namespace.
///
/// # Errors
/// netdevice(7): EPERM without `CAP_NET_ADMIN`, ENODEV where there is no such interface.
pub fn set_interface(socket: &impl AsFd, name: &str, what: Interface) -> io::Result<()> {
    let (call, argument) = match what {
        Interface::Flags(ifru_flags) => (libc::SIOCSIFFLAGS, libc::__c_anonymous_ifr_ifru { ifru_flags }),
        Interface::Address(address) => {
            (libc::SIOCSIFADDR, libc::__c_anonymous_ifr_ifru { ifru_addr: socket_address(address) })
        }
        Interface::Netmask(mask) => {
            (libc::SIOCSIFNETMASK, libc::__c_anonymous_ifr_ifru { ifru_netmask: socket_address(mask) })
        }
        Interface::QueueLength(packets) => {
            (libc::SIOCSIFTXQLEN, libc::__c_anonymous_ifr_ifru { ifru_ifindex: packets as libc::c_int })
        }
    };
    let request = interface_request(name, argument)?;
    // SAFETY: each of the four calls reads one `struct ifreq` with the member of its union that is set above.
    done(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), call, &raw const request) })
}

/// Loads a socket filter; the kernel proves that it ends and reads only the packet.
///
/// # Errors
/// bpf(2): EPERM without `CAP_BPF` where unprivileged programs are off, ENOSYS without eBPF, EINVAL for a program
/// that the kernel refuses.
pub fn load_socket_filter(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let attributes = ProgramLoad {
        program_type: BPF_PROG_TYPE_SOCKET_FILTER,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        // A program that calls no function of the kernel may have any licence.
        licence: c"MIT".as_ptr() as u64,
    };
    let bytes = size_of::<ProgramLoad>();
    // SAFETY: the attributes name `instructions.len()` instructions and a string with its end, all alive during the call.
    let descriptor = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, bytes) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn interface_request(name: &str, argument: libc::__c_anonymous_ifr_ifru) -> io::Result<libc::ifreq> {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    // The last byte stays zero: the name's end.
    if name.is_empty() || name.len() >= ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface's name has 1 to 15 bytes"));
    }
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(libc::ifreq { ifr_name, ifr_ifru: argument })
}

/// `struct sockaddr_in` as the `struct sockaddr` it is passed as: two bytes of port, then the address.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut sa_data = [0; 14];
    for (to, from) in sa_data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data }
}
