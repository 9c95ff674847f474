//! What passes through the queues, as a file for tcpdump and tshark.

use super::HEADER_BYTES;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum field holds the sum of the pseudo-header only.
const NEEDS_CHECKSUM: u8 = 1;

/// A pcap file of IPv4 packets, shared by all queues, with at most so many packets. More are not recorded.
pub struct Capture {
    /// Set once nothing more is recorded: the queues then pass without the lock.
    is_full: AtomicBool,
    state: Mutex<State>,
}

struct State {
    writer: Option<PcapWriter<BufWriter<File>>>,
    packets_left: u64,
    error: Option<io::Error>,
}

impl Capture {
    /// Makes the file.
    ///
    /// # Errors
    /// Where it cannot be made or written.
    pub fn create(path: &Path, packets_max: u64) -> io::Result<Self> {
        let header = PcapHeader { datalink: DataLink::RAW, ..PcapHeader::default() };
        let writer =
            PcapWriter::with_header(BufWriter::new(File::create(path)?), header).map_err(io_error)?;
        let state = State { writer: Some(writer), packets_left: packets_max, error: None };
        Ok(Self { is_full: AtomicBool::new(false), state: Mutex::new(state) })
    }

    /// Writes what is still buffered; call it when the queues have stopped.
    ///
    /// # Errors
    /// The first error of any write.
    pub fn finish(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.packets_left = 0;
        state.error.take().map_or(Ok(()), Err)?;
        state.writer.take().map_or(Ok(()), |writer| writer.into_writer().flush())
    }

    /// A packet from the kernel, with the virtio header that came with it.
    pub(super) fn received(&self, header: &[u8; HEADER_BYTES], packet: &[u8]) {
        self.write(|| {
            let mut packet = packet.to_vec();
            complete_checksum(header, &mut packet);
            packet
        });
    }

    /// A packet that the kernel took.
    pub(super) fn sent(&self, packet: &[u8]) {
        self.write(|| packet.to_vec());
    }

    fn write(&self, packet: impl FnOnce() -> Vec<u8>) {
        if self.is_full.load(Relaxed) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.packets_left == 0 {
            return self.is_full.store(true, Relaxed);
        }
        state.packets_left -= 1;
        let packet = packet();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let packet = PcapPacket::new(time, packet.len() as u32, &packet);
        if let Some(Err(error)) = state.writer.as_mut().map(|writer| writer.write_packet(&packet)) {
            state.packets_left = 0;
            state.error = Some(io_error(error));
        }
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Capture")
    }
}

/// Does what the device's reader is left to do (virtio 1.2, section 5.1.6.4.1): sums from `csum_start` to the end, and
/// stores the complement at `csum_offset` from there.
fn complete_checksum(header: &[u8; HEADER_BYTES], packet: &mut [u8]) {
    if header[0] & NEEDS_CHECKSUM == 0 {
        return;
    }
    let [start, offset] = [6, 8].map(|at| usize::from(u16::from_ne_bytes([header[at], header[at + 1]])));
    let Some(summed) = packet.get_mut(start..) else { return };
    let checksum = !sum(summed);
    if let Some(field) = summed.get_mut(offset..offset + 2) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// The one's complement sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u64::from(low)));
    let mut sum: u64 = words.sum();
    for _ in 0..3 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn io_error(error: pcap_file::PcapError) -> io::Error {
    match error {
        pcap_file::PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_checksum_is_completed_and_a_full_one_left() {
        // RFC 1071, section 3: 0001 f203 f4f5 f6f7 add up to ddf2.
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&data), 0xddf2);
        let mut header = [0; HEADER_BYTES];
        header[6..8].copy_from_slice(&2_u16.to_ne_bytes());
        header[8..10].copy_from_slice(&4_u16.to_ne_bytes());
        let mut packet = [&[9, 9], &data[..], &[7]].concat();
        let before = packet.clone();
        complete_checksum(&header, &mut packet);
        assert_eq!(packet, before);
        header[0] = NEEDS_CHECKSUM;
        complete_checksum(&header, &mut packet);
        // What the sum of the rest adds to zero with what stood in the field: the complement of it all.
        assert_eq!(packet[6..8], (!(sum(&before[2..]))).to_be_bytes());
        assert_eq!([&packet[..6], &packet[8..]], [&before[..6], &before[8..]]);
    }

    #[test]
    fn packets_beyond_the_bound_are_left_out() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("few.pcap");
        let capture = Capture::create(&path, 2).expect("writable");
        for length in 20..30 {
            capture.sent(&vec![0x45; length]);
        }
        capture.finish().expect("written");
        capture.sent(&[0x45; 20]);
        let mut reader = pcap_file::pcap::PcapReader::new(File::open(&path).expect("made")).expect("pcap");
        assert_eq!(reader.header().datalink, DataLink::RAW);
        let mut lengths = Vec::new();
        while let Some(packet) = reader.next_packet() {
            lengths.push(packet.expect("whole").data.len());
        }
        assert_eq!(lengths, [20, 21]);
    }
}
