//! The TUN device against the kernel's own TCP, in network namespaces of the tests' own. Needs root.

use etherparse::{IpNumber, NetSlice, PacketBuilder, SlicedPacket, TcpSlice, TransportSlice};
use nix::sched::{CloneFlags, unshare};
use pcap_file::pcap::PcapReader;
use roost_loadgen::host::Network;
use roost_loadgen::tun::steer::queue_of;
use roost_loadgen::tun::{Capture, DEVICE, Device, PACKET_BYTES_MAX, Queue, loopback_up};
use socket2::{Domain, Socket, Type};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const PHANTOM: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// Long enough for any machine: what is waited for comes at once, or the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test in a new network namespace: a thread has its own, so that tests run side by side.
fn in_a_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root: CAP_SYS_ADMIN makes namespaces");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn device(queues: u32) -> (Device, Vec<Queue>) {
    let (device, queues) = Device::open(DEVICE, queues, 1024).expect("a device");
    loopback_up().expect("lo is up");
    device.up(SERVER, 15).expect("the device is up");
    (device, queues)
}

/// The next TCP or UDP packet; the kernel may send others of its own.
fn next(queue: &mut Queue) -> Vec<u8> {
    let mut packet = vec![0; PACKET_BYTES_MAX];
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        while let Some(length) = queue.receive(&mut packet).expect("readable") {
            if matches!(IpNumber(packet[9]), IpNumber::TCP | IpNumber::UDP) {
                packet.truncate(length);
                return packet;
            }
        }
        queue.wait(Duration::from_millis(100)).expect("can be waited for");
    }
    panic!("no packet came");
}

fn destination(packet: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from(<[u8; 4]>::try_from(&packet[16..20]).expect("four bytes"))
}

/// A connect that is under way.
fn connecting(to: Ipv4Addr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).expect("a socket");
    let error = socket.connect(&SocketAddrV4::new(to, 80).into()).expect_err("nobody has answered yet");
    assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "{error}");
    socket
}

fn tcp(packet: &[u8]) -> (Ipv4Addr, TcpSlice<'_>) {
    let sliced = SlicedPacket::from_ip(packet).expect("well-formed");
    let Some(NetSlice::Ipv4(ip)) = sliced.net else { panic!("no IPv4 packet") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    let Some(TransportSlice::Tcp(segment)) = sliced.transport else { panic!("no TCP segment") };
    (header.source.into(), segment)
}

/// What a segment's checksum has to be.
fn checksum(packet: &[u8]) -> u16 {
    let (_, segment) = tcp(packet);
    let addresses = [12, 16].map(|at| <[u8; 4]>::try_from(&packet[at..at + 4]).expect("four bytes"));
    segment
        .to_header()
        .calc_checksum_ipv4_raw(addresses[0], addresses[1], segment.payload())
        .expect("it fits")
}

fn captured(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(File::open(path).expect("made")).expect("pcap");
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet() {
        packets.push(packet.expect("whole").data.into_owned());
    }
    packets
}

/// The answer to a segment, as a phantom would give it.
fn answer(to: &[u8], flags: &str) -> Vec<u8> {
    let (server, segment) = tcp(to);
    let builder = PacketBuilder::ipv4(destination(to).octets(), server.octets(), 64);
    let acknowledged = segment.sequence_number().wrapping_add(1);
    let mut builder = builder.tcp(80, segment.source_port(), 1000, 65_535).ack(acknowledged);
    builder = if flags.contains('R') { builder.rst() } else { builder.syn() };
    let mut packet = Vec::new();
    builder.write(&mut packet, &[]).expect("it fits");
    packet
}

/// How a connect ended.
fn outcome(socket: &Socket) -> Option<ErrorKind> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(error) = socket.take_error().expect("readable") {
            return Some(error.kind());
        }
        if socket.peer_addr().is_ok() {
            return None;
        }
        thread::yield_now();
    }
    panic!("the connect does not end");
}

/// A field of /proc/net/snmp of this thread's namespace.
fn tcp_counter(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("readable");
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names.split(' ').position(|field| field == name).expect("the field");
    values.split(' ').nth(at).expect("a value").parse().expect("a number")
}

fn devices() -> String {
    std::fs::read_to_string("/proc/thread-self/net/dev").expect("readable")
}

#[test]
fn a_device_comes_is_nobody_elses_and_goes_with_its_queues() {
    in_a_namespace(|| {
        let (device, queues) = device(2);
        assert!(devices().contains(device.name()), "{}", devices());
        let error = Device::open(device.name(), 1, 1024).expect_err("it is there already");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        drop(queues);
        assert!(!devices().contains(device.name()), "{}", devices());
    });
}

#[test]
fn a_connect_of_the_kernel_arrives_as_a_syn_and_is_answered() {
    in_a_namespace(|| {
        let (_device, mut queues) = device(1);
        let socket = connecting(PHANTOM);
        let syn = next(&mut queues[0]);
        let (source, segment) = tcp(&syn);
        assert_eq!((source, destination(&syn), segment.destination_port()), (SERVER, PHANTOM, 80));
        assert!(segment.syn() && !segment.ack());
        assert!(queues[0].send(&answer(&syn, "R")).expect("sent"));
        assert_eq!(outcome(&socket), Some(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn the_kernel_verifies_the_checksums_of_what_it_is_sent() {
    in_a_namespace(|| {
        let (_device, mut queues) = device(1);
        let socket = connecting(PHANTOM);
        let syn = next(&mut queues[0]);
        let right = answer(&syn, "R");
        let mut wrong = right.clone();
        // The upper byte of the TCP checksum.
        wrong[36] ^= 1;
        let before = tcp_counter("InCsumErrors");
        assert!(queues[0].send(&wrong).expect("sent"));
        assert_eq!(tcp_counter("InCsumErrors"), before + 1);
        assert!(socket.take_error().expect("readable").is_none(), "the wrong packet was taken");
        assert!(queues[0].send(&right).expect("sent"));
        assert_eq!(outcome(&socket), Some(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn data_comes_unsegmented_and_its_checksum_is_completed_in_a_capture() {
    in_a_namespace(|| {
        let (_device, mut queues) = device(1);
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("all.pcap");
        let capture = Arc::new(Capture::create(&path, 100).expect("writable"));
        queues[0].record(capture.clone());
        let socket = connecting(PHANTOM);
        let syn = next(&mut queues[0]);
        assert!(queues[0].send(&answer(&syn, "S")).expect("sent"));
        assert_eq!(outcome(&socket), None);
        let acknowledgement = next(&mut queues[0]);
        assert!(tcp(&acknowledgement).1.payload().is_empty());
        let mut stream = TcpStream::from(socket);
        let written = stream.write(&[7; 4000]).expect("it fits the send buffer");
        assert_eq!(written, 4000);
        let data = next(&mut queues[0]);
        let (_, segment) = tcp(&data);
        // Without a segment size from the phantom's SYN a segment has at most 536 bytes (RFC 9293, section 3.7.1).
        assert!(segment.payload().len() > 2000, "{}", segment.payload().len());
        assert!(segment.payload().iter().all(|&byte| byte == 7));
        assert_ne!(segment.checksum(), checksum(&data), "the kernel leaves it to the device");
        capture.finish().expect("written");
        let packets = captured(&path);
        assert!(packets.contains(&answer(&syn, "S")), "both directions are in it");
        let tcp_packets: Vec<_> =
            packets.iter().filter(|packet| IpNumber(packet[9]) == IpNumber::TCP).collect();
        assert!(tcp_packets.len() >= 4, "SYN, its answer, an acknowledgement, data");
        for packet in tcp_packets {
            assert_eq!(tcp(packet).1.checksum(), checksum(packet));
        }
    });
}

#[test]
fn each_packet_comes_out_of_the_queue_of_its_destination() {
    for count in [2, 3] {
        in_a_namespace(move || {
            let (_device, mut queues) = device(count);
            let phantoms = [(18, 2), (18, 3), (18, 4), (18, 5), (18, 6), (19, 0), (19, 1), (19, 2)];
            let phantoms = phantoms.map(|(second, last)| Ipv4Addr::new(198, second, 0, last));
            let _sockets = phantoms.map(connecting);
            for (number, queue) in (0..).zip(&mut queues) {
                let due = phantoms.iter().filter(|&&phantom| queue_of(phantom, count) == number);
                let mut came: Vec<_> = due.clone().map(|_| destination(&next(queue))).collect();
                came.sort_unstable();
                assert_eq!(came, due.copied().collect::<Vec<_>>(), "queue {number} of {count}");
            }
        });
    }
}

#[test]
fn a_queue_holds_as_many_packets_as_it_was_made_for() {
    in_a_namespace(|| {
        let (device, mut queues) = Device::open(DEVICE, 1, 5000).expect("a device");
        device.up(SERVER, 15).expect("the device is up");
        let socket = UdpSocket::bind(SocketAddr::from((SERVER, 0))).expect("a socket");
        // Some places are left for what the kernel sends by itself.
        for number in 0..4900_u16 {
            socket.send_to(&number.to_be_bytes(), (PHANTOM, 9)).expect("sent");
        }
        assert_eq!(Network::read().device_drops, 0);
        for number in 0..4900_u16 {
            assert_eq!(next(&mut queues[0])[28..], number.to_be_bytes());
        }
    });
}

#[test]
fn what_finds_its_queue_full_is_dropped_and_counted() {
    in_a_namespace(|| {
        let (device, mut queues) = Device::open(DEVICE, 1, 10).expect("a device");
        device.up(SERVER, 15).expect("the device is up");
        let before = Network::read();
        let socket = UdpSocket::bind(SocketAddr::from((SERVER, 0))).expect("a socket");
        for number in 0..30_u16 {
            socket.send_to(&number.to_be_bytes(), (PHANTOM, 9)).expect("sent");
        }
        assert!(Network::read().since(&before).device_drops >= 20);
        assert_eq!(next(&mut queues[0])[28..], [0, 0], "the first ones stay");
    });
}
