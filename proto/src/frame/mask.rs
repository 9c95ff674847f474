//! Masking, RFC 6455 section 5.3.

/// Unmasks (or masks) in place. `mask[0]` belongs to the first byte of `payload`; returns the mask as it stands at the
/// byte after the last one, for the next piece of the same frame.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    // As wide as two registers of SSE2, which every x86-64 has; the compiler makes them of it.
    let (lines, rest) = payload.as_chunks_mut::<32>();
    let wide: [u8; 32] = std::array::from_fn(|at| mask[at % 4]);
    for line in lines {
        for (byte, mask) in line.iter_mut().zip(wide) {
            *byte ^= mask;
        }
    }
    let (words, rest) = rest.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= mask;
    }
    let mut next = mask;
    next.rotate_left(payload.len() % 4);
    next
}

#[cfg(test)]
mod tests {
    use super::unmask;

    #[test]
    fn every_length_and_every_cut_unmasks_as_the_rfc_says() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for len in 0..70 {
            let masked: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let expected: Vec<u8> = masked.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
            for cut in 0..=len {
                let mut payload = masked.clone();
                let (head, tail) = payload.split_at_mut(cut);
                let next = unmask(head, mask);
                unmask(tail, next);
                assert_eq!(payload, expected, "length {len} cut at {cut}");
            }
        }
    }
}
