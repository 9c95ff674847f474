//! IPv4 and TCP headers (RFC 791, RFC 9293 section 3.1), read and written without allocation: every packet of millions of
//! phantoms passes here.

use super::limits::PACKET_BYTES_MAX;

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Sequence numbers are to be synchronised.
pub const SYN: u8 = 0x02;
/// The connection is reset.
pub const RST: u8 = 0x04;
/// Data is to be handed over at once.
pub const PSH: u8 = 0x08;
/// The acknowledgement number counts.
pub const ACK: u8 = 0x10;

const IP_HEADER_BYTES: usize = 20;
const TCP_HEADER_BYTES: usize = 20;
const PROTOCOL_TCP: u8 = 6;
const TTL: u8 = 64;
/// More fragments, or a fragment's offset (RFC 791).
const FRAGMENT: u16 = 0x3fff;
const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_MSS_BYTES: usize = 4;

/// Bytes of the headers of a packet without options.
pub const HEADERS_BYTES: usize = IP_HEADER_BYTES + TCP_HEADER_BYTES;

/// An address and a port. The address is a number in host order: 198.18.0.1 is `0xc612_0001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// IPv4 address.
    pub address: u32,
    /// TCP port.
    pub port: u16,
}

/// A TCP segment with the addresses it travels between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Where it comes from.
    pub from: Endpoint,
    /// Where it goes.
    pub to: Endpoint,
    /// Sequence number of the first byte, or of SYN.
    pub seq: u32,
    /// The next sequence number expected, where [`ACK`] is set.
    pub ack: u32,
    /// Control bits.
    pub flags: u8,
    /// Window offered.
    pub window: u16,
    /// The option of the largest segment (kind 2).
    pub mss: Option<u16>,
    /// The data.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// Sequence numbers it takes: data, SYN and FIN (RFC 9293, SEG.LEN).
    pub fn sequence_length(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0)
    }

    /// Whether a control bit is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Writes the packet into `out`, with both checksums, and returns its length; `None` where it does not fit.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let options = if self.mss.is_some() { OPTION_MSS_BYTES } else { 0 };
        let header = HEADERS_BYTES + options;
        let total = header + self.payload.len();
        if total > PACKET_BYTES_MAX {
            return None;
        }
        let packet = out.get_mut(..total)?;
        packet[..header].fill(0);
        self.write_ip(packet);
        self.write_tcp(&mut packet[IP_HEADER_BYTES..], options);
        Some(total)
    }

    fn write_ip(&self, packet: &mut [u8]) {
        let total = packet.len() as u16;
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        // Don't fragment: the identification may then be 0 (RFC 6864 section 4.1).
        packet[6] = 0x40;
        packet[8] = TTL;
        packet[9] = PROTOCOL_TCP;
        packet[12..16].copy_from_slice(&self.from.address.to_be_bytes());
        packet[16..20].copy_from_slice(&self.to.address.to_be_bytes());
        let checksum = !fold(sum(&packet[..IP_HEADER_BYTES]));
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }

    fn write_tcp(&self, tcp: &mut [u8], options: usize) {
        tcp[0..2].copy_from_slice(&self.from.port.to_be_bytes());
        tcp[2..4].copy_from_slice(&self.to.port.to_be_bytes());
        tcp[4..8].copy_from_slice(&self.seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.ack.to_be_bytes());
        tcp[12] = ((TCP_HEADER_BYTES + options) as u8 / 4) << 4;
        tcp[13] = self.flags;
        tcp[14..16].copy_from_slice(&self.window.to_be_bytes());
        if let Some(mss) = self.mss {
            tcp[20] = OPTION_MSS;
            tcp[21] = OPTION_MSS_BYTES as u8;
            tcp[22..24].copy_from_slice(&mss.to_be_bytes());
        }
        tcp[TCP_HEADER_BYTES + options..].copy_from_slice(self.payload);
        let checksum = !fold(sum(tcp) + pseudo(self.from.address, self.to.address, tcp.len()));
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Why a packet is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Not IPv4, not TCP, or a fragment.
    NotTcp,
    /// A length that does not fit another, or the packet.
    Length,
    /// A checksum is wrong.
    Checksum,
}

/// Reads a packet. `verify`: whether the TCP checksum is checked; what the kernel hands to a TUN device with checksum
/// offload has not been through a wire and carries only part of one. Bytes behind the packet's own length are padding.
///
/// # Errors
/// See [`Malformed`].
pub fn parse(packet: &[u8], verify: bool) -> Result<Segment<'_>, Malformed> {
    let (Some(&first), true) = (packet.first(), packet.len() >= IP_HEADER_BYTES) else {
        return Err(Malformed::Length);
    };
    let ip_bytes = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || packet[9] != PROTOCOL_TCP || u16_at(packet, 6) & FRAGMENT != 0 {
        return Err(Malformed::NotTcp);
    }
    let total = usize::from(u16_at(packet, 2));
    let packet = packet.get(..total).ok_or(Malformed::Length)?;
    if ip_bytes < IP_HEADER_BYTES || total < ip_bytes + TCP_HEADER_BYTES {
        return Err(Malformed::Length);
    }
    let (ip, tcp) = packet.split_at(ip_bytes);
    let tcp_header = usize::from(tcp[12] >> 4) * 4;
    if tcp_header < TCP_HEADER_BYTES || tcp_header > tcp.len() {
        return Err(Malformed::Length);
    }
    let (from, to) = (u32_at(ip, 12), u32_at(ip, 16));
    if verify && (fold(sum(ip)) != 0xffff || fold(sum(tcp) + pseudo(from, to, tcp.len())) != 0xffff) {
        return Err(Malformed::Checksum);
    }
    let flags = tcp[13];
    Ok(Segment {
        from: Endpoint { address: from, port: u16_at(tcp, 0) },
        to: Endpoint { address: to, port: u16_at(tcp, 2) },
        seq: u32_at(tcp, 4),
        ack: u32_at(tcp, 8),
        flags,
        window: u16_at(tcp, 14),
        mss: if flags & SYN == 0 { None } else { mss(&tcp[TCP_HEADER_BYTES..tcp_header]) },
        payload: &tcp[tcp_header..],
    })
}

/// The option of the largest segment (RFC 9293 section 3.2); `None` where it is not there or the options are garbled.
fn mss(mut options: &[u8]) -> Option<u16> {
    loop {
        options = match options {
            [] | [OPTION_END, ..] => return None,
            [OPTION_NOTHING, rest @ ..] => rest,
            [OPTION_MSS, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low])),
            // A length below 2 would go round for ever.
            [_, length, ..] if *length >= 2 => options.get(usize::from(*length)..)?,
            _ => return None,
        };
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The pseudo header in front of the segment (RFC 9293 section 3.1).
fn pseudo(from: u32, to: u32, tcp_bytes: usize) -> u64 {
    u64::from(from) + u64::from(to) + u64::from(PROTOCOL_TCP) + tcp_bytes as u64
}

/// The sum of 32-bit words; folded it equals that of 16-bit words (RFC 1071 section 2). At most 16,384 words a packet.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum += u64::from(u32::from_be_bytes(last));
    sum
}

fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}
