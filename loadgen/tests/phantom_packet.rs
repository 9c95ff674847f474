//! The packets of phantoms against etherparse, an independent codec: what one writes the other reads, and no bytes make
//! the parser panic.

use etherparse::{
    Ipv4Header, NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use roost_loadgen::phantom::packet::{ACK, Endpoint, FIN, Malformed, PSH, RST, SYN, Segment, parse};

const ROUNDS: u64 = 20_000;

fn segment<'a>(rng: &mut StdRng, payload: &'a mut Vec<u8>) -> Segment<'a> {
    // All lengths modulo 4 and more: the checksum is taken by words.
    payload.resize(rng.random_range(0..1470), 0);
    rng.fill(&mut payload[..]);
    let flags = [ACK, ACK | PSH, SYN, SYN | ACK, FIN | ACK, RST, RST | ACK][rng.random_range(0..7)];
    let mut endpoint = || Endpoint { address: rng.random(), port: rng.random() };
    Segment {
        from: endpoint(),
        to: endpoint(),
        seq: rng.random(),
        ack: rng.random(),
        flags,
        window: rng.random(),
        mss: (flags & SYN != 0).then(|| rng.random_range(1..=u16::MAX)),
        payload,
    }
}

#[test]
fn what_we_write_etherparse_reads_with_the_same_fields_and_checksums() {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut payload, mut packet) = (Vec::new(), vec![0xaa; 2000]);
    for round in 0..ROUNDS {
        let ours = segment(&mut rng, &mut payload);
        let length = ours.write(&mut packet).expect("room");
        let sliced = SlicedPacket::from_ip(&packet[..length]).expect("well-formed");
        let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("round {round}: no IPv4") };
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("round {round}: no TCP") };
        let header: Ipv4Header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "round {round}");
        assert_eq!(
            (u32::from_be_bytes(header.source), tcp.source_port()),
            (ours.from.address, ours.from.port)
        );
        assert_eq!(
            (u32::from_be_bytes(header.destination), tcp.destination_port()),
            (ours.to.address, ours.to.port)
        );
        assert!(header.dont_fragment && header.time_to_live > 0);
        let checksum = tcp.calc_checksum_ipv4(header.source, header.destination).expect("short enough");
        assert_eq!(tcp.checksum(), checksum, "round {round}, {} bytes", ours.payload.len());
        assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (ours.seq, ours.ack));
        assert_eq!((tcp.window_size(), tcp.payload()), (ours.window, ours.payload));
        let flags =
            [(tcp.fin(), FIN), (tcp.syn(), SYN), (tcp.rst(), RST), (tcp.psh(), PSH), (tcp.ack(), ACK)];
        let flags = flags.iter().filter(|(set, _)| *set).fold(0, |sum, (_, flag)| sum | flag);
        assert_eq!(flags, ours.flags);
        let mss = tcp.options_iterator().flatten().find_map(|option| match option {
            TcpOptionElement::MaximumSegmentSize(mss) => Some(mss),
            _ => None,
        });
        assert_eq!(mss, ours.mss);
        assert_eq!(parse(&packet[..length], true), Ok(ours), "and so do we");
        assert_eq!(parse(&[&packet[..length], &[0; 7]].concat(), true), Ok(ours), "padding is none of it");
    }
}

#[test]
fn what_etherparse_writes_we_read_and_any_changed_bit_is_seen() {
    let mut rng = StdRng::seed_from_u64(2);
    let mut payload = Vec::new();
    for round in 0..ROUNDS {
        let theirs = segment(&mut rng, &mut payload);
        let mut tcp = TcpHeader::new(theirs.from.port, theirs.to.port, theirs.seq, theirs.window);
        tcp.acknowledgment_number = theirs.ack;
        (tcp.fin, tcp.syn, tcp.rst) = (theirs.has(FIN), theirs.has(SYN), theirs.has(RST));
        (tcp.psh, tcp.ack) = (theirs.has(PSH), theirs.has(ACK));
        let options = [
            TcpOptionElement::Noop,
            TcpOptionElement::WindowScale(7),
            TcpOptionElement::SelectiveAcknowledgementPermitted,
            TcpOptionElement::MaximumSegmentSize(theirs.mss.unwrap_or(7)),
            TcpOptionElement::Timestamp(rng.random(), rng.random()),
        ];
        // An option of the segment's size counts with SYN only.
        tcp.set_options(&options).expect("they fit");
        let (from, to) = (theirs.from.address.to_be_bytes(), theirs.to.address.to_be_bytes());
        let builder = PacketBuilder::ipv4(from, to, 64).tcp_header(tcp);
        let mut packet = Vec::new();
        builder.write(&mut packet, theirs.payload).expect("a Vec");
        assert_eq!(parse(&packet, true), Ok(theirs), "round {round}");
        let at = rng.random_range(0..packet.len());
        packet[at] ^= 1 << rng.random_range(0..8);
        assert!(parse(&packet, true).is_err(), "round {round}: byte {at}");
        assert!(parse(&packet[..at], true).is_err(), "round {round}: cut at {at}");
    }
}

#[test]
fn no_bytes_make_the_parser_panic_or_go_round_for_ever() {
    let mut rng = StdRng::seed_from_u64(3);
    let (mut payload, mut packet) = (Vec::new(), vec![0; 2000]);
    for _ in 0..ROUNDS {
        let length = segment(&mut rng, &mut payload).write(&mut packet).expect("room");
        for _ in 0..rng.random_range(1..20) {
            // The headers, where lengths stand.
            packet[rng.random_range(0..60)] = rng.random();
        }
        let cut = rng.random_range(0..=length);
        // Whatever comes of it, it ends.
        let _ = parse(&packet[..cut], false);
        let noise: Vec<u8> = (0..rng.random_range(0..100)).map(|_| rng.random()).collect();
        assert!(parse(&noise, true).is_err());
    }
    assert_eq!(parse(&[], false), Err(Malformed::Length));
    let length = Segment { mss: Some(1), flags: SYN, payload: &[], ..segment(&mut rng, &mut payload) };
    let length = length.write(&mut packet).expect("room");
    // An option whose length is 0, or beyond the header: no size, no loop.
    for (kind, bytes) in [(3, 0), (3, 1), (3, 200), (2, 3)] {
        (packet[40], packet[41]) = (kind, bytes);
        assert_eq!(parse(&packet[..length], false).expect("readable").mss, None);
    }
    // Longer than IPv4 can say.
    let long = vec![0; 65_500];
    let mut room = vec![0; 70_000];
    let segment = segment(&mut rng, &mut payload);
    assert_eq!(Segment { payload: &long, ..segment }.write(&mut room), None);
}
