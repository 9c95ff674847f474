//! What a message carries: sender, number in the schedule, scheduled time, filler from the seed, and a checksum over
//! all of it, so that a payload that was changed, cut or swapped on its way is seen.
//!
//! Layout (little endian): checksum u64 | sender u64 | scheduled time u64 (us) | index u32 | filler.
//! The checksum is FNV-1a, 64 bits, of everything behind it.

/// Bytes before the filler: the smallest payload.
pub const HEADER_BYTES: usize = 28;

/// The fields of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Sending user, or connection with `echo`.
    pub sender: u64,
    /// Scheduled time, microseconds of the measured part.
    pub at_us: u64,
    /// Number of the message in the schedule.
    pub index: u32,
}

/// Builds a payload of `bytes` bytes, at least [`HEADER_BYTES`].
pub fn build(seed: u64, sender: u64, index: u32, at_us: u64, bytes: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes.max(HEADER_BYTES));
    payload.extend_from_slice(&[0; 8]);
    payload.extend_from_slice(&sender.to_le_bytes());
    payload.extend_from_slice(&at_us.to_le_bytes());
    payload.extend_from_slice(&index.to_le_bytes());
    let mut state = seed ^ (u64::from(index) << 32) ^ sender;
    while payload.len() < bytes {
        state = mix(state);
        let word = state.to_le_bytes();
        payload.extend_from_slice(&word[..word.len().min(bytes - payload.len())]);
    }
    let checksum = fnv1a(&payload[8..]);
    payload[..8].copy_from_slice(&checksum.to_le_bytes());
    payload
}

/// Reads a payload back; `None` where it is too short or the checksum is wrong.
pub fn parse(payload: &[u8]) -> Option<Header> {
    let (checksum, rest) = payload.split_first_chunk::<8>()?;
    let (sender, fields) = rest.split_first_chunk::<8>()?;
    let (at_us, fields) = fields.split_first_chunk::<8>()?;
    let (index, _filler) = fields.split_first_chunk::<4>()?;
    (fnv1a(rest) == u64::from_le_bytes(*checksum)).then(|| Header {
        sender: u64::from_le_bytes(*sender),
        at_us: u64::from_le_bytes(*at_us),
        index: u32::from_le_bytes(*index),
    })
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A number from the seed for each client, the same in every run, that tells nothing about its neighbours'.
pub fn spread(seed: u64, client: u32) -> u32 {
    (mix(mix(seed) ^ u64::from(client)) >> 32) as u32
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): filler that does not compress.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_comes_back_and_any_changed_byte_is_seen() {
        for bytes in [0, HEADER_BYTES, HEADER_BYTES + 1, 100] {
            let payload = build(1, 42, 7, 1_000, bytes);
            assert_eq!(payload.len(), bytes.max(HEADER_BYTES));
            assert_eq!(parse(&payload), Some(Header { sender: 42, at_us: 1_000, index: 7 }));
            for at in 0..payload.len() {
                let mut changed = payload.clone();
                changed[at] ^= 1;
                assert_eq!(parse(&changed), None, "byte {at}");
            }
            assert_eq!(parse(&payload[..payload.len() - 1]), None);
        }
    }
}
