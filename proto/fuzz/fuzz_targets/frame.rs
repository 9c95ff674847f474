//! A stream read whole and read in chunks gives the same messages and the same verdict. The first two bytes of the
//! input seed the cuts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roost_proto::frame::{Decoder, Item, Violation};

const MESSAGE_BYTES_MAX: u64 = 4096;

fuzz_target!(|input: &[u8]| {
    let Some((&[a, b], stream)) = input.split_first_chunk() else { return };
    let mut seed = u32::from_le_bytes([a, b, 1, 1]);
    let pieces = read(stream, || {
        // Numerical Recipes' generator: the cuts need variety, not quality.
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (seed >> 16) as usize % 24
    });
    assert_eq!(read(stream, || usize::MAX), pieces);
});

/// The stream's messages and control frames as tagged bytes.
fn read(stream: &[u8], mut cut: impl FnMut() -> usize) -> (Vec<(char, Vec<u8>)>, Option<Violation>) {
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
    let (mut seen, mut message) = (Vec::new(), Vec::new());
    let mut stream = stream.to_vec();
    let mut rest = &mut stream[..];
    while !rest.is_empty() {
        let cut = cut().min(rest.len());
        let (mut chunk, later) = rest.split_at_mut(cut);
        rest = later;
        loop {
            let (consumed, item) = match decoder.decode(chunk) {
                Ok(found) => found,
                Err(violation) => return (seen, Some(violation)),
            };
            match item {
                None => break,
                Some(Item::Data { payload, last, .. }) => {
                    message.extend_from_slice(payload);
                    assert!(message.len() as u64 <= MESSAGE_BYTES_MAX);
                    if last {
                        seen.push(('m', std::mem::take(&mut message)));
                    }
                }
                Some(Item::Ping(payload)) => seen.push(('i', payload.to_vec())),
                Some(Item::Pong(payload)) => seen.push(('o', payload.to_vec())),
                Some(Item::Close(close)) => {
                    seen.push(('c', close.map_or_else(Vec::new, |close| close.reason.as_bytes().to_vec())));
                }
            }
            chunk = &mut chunk[consumed..];
        }
        if decoder.is_idle() {
            decoder = Decoder::new(MESSAGE_BYTES_MAX);
        }
    }
    (seen, None)
}
