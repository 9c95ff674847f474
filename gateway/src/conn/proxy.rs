//! The PROXY protocol's header, with which a proxy tells whose connection it passes on: version 2, and version 1, which is all that
//! some proxies send (<https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>).

use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// What a version 2 header begins with (section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What a version 1 header begins with (section 2.1).
const SIGNATURE_1: &[u8] = b"PROXY ";
/// Signature, version and command, family, and the length of the rest.
const FIXED_BYTES: usize = 16;
/// Version 2, command LOCAL: the proxy speaks for itself, to see whether we are there.
const LOCAL: u8 = 0x20;
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;

/// A header that came whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// Whom the proxy speaks for; `None` where that is itself, somebody without an address, or one on a Unix socket: then the peer's own
    /// address is the right one.
    pub client: Option<SocketAddr>,
    /// Bytes of the header; what follows is the client's.
    pub bytes: usize,
}

/// What comes first is no valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProxyHeader {
    /// It does not begin as one.
    #[error("no PROXY header comes first")]
    Missing,
    /// Its fields are wrong.
    #[error("the PROXY header is not valid")]
    Invalid,
    /// It has more than [`PROXY_HEADER_BYTES_MAX`] bytes.
    #[error("the PROXY header is too large")]
    TooLarge,
}

/// Reads the header from the beginning of `input`; `None` while it is not whole. Whatever no bytes to come can mend is an error at once.
///
/// # Errors
/// The sender is no proxy that is meant to be there; nothing it sent may be looked at.
pub fn parse_proxy(input: &[u8]) -> Result<Option<Proxied>, BadProxyHeader> {
    let begins = |with: &[u8]| {
        let bytes = with.len().min(input.len());
        input[..bytes] == with[..bytes]
    };
    if begins(SIGNATURE) {
        version_2(input)
    } else if begins(SIGNATURE_1) {
        version_1(input)
    } else {
        Err(BadProxyHeader::Missing)
    }
}

/// How many bytes may be read now without reading beyond the header, of which `input` came: at least 1 while it is not whole.
pub fn proxy_bytes_wanted(input: &[u8]) -> usize {
    let version_1 = input.starts_with(&SIGNATURE_1[..input.len().min(SIGNATURE_1.len())]);
    if input.len() >= FIXED_BYTES && !version_1 {
        return (FIXED_BYTES + usize::from(u16::from_be_bytes([input[14], input[15]]))) - input.len();
    }
    if version_1 && !input.is_empty() { 1 } else { (FIXED_BYTES - input.len()).min(SIGNATURE_1.len()) }
}

fn version_2(input: &[u8]) -> Result<Option<Proxied>, BadProxyHeader> {
    let Some(fixed) = input.get(..FIXED_BYTES) else { return Ok(None) };
    let bytes = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if !matches!(fixed[12], LOCAL | PROXY) {
        return Err(BadProxyHeader::Invalid);
    }
    if bytes > PROXY_HEADER_BYTES_MAX {
        return Err(BadProxyHeader::TooLarge);
    }
    let Some(header) = input.get(..bytes) else { return Ok(None) };
    if fixed[12] == LOCAL {
        // Whatever family and addresses it names are to be discarded.
        return Ok(Some(Proxied { client: None, bytes }));
    }
    // TLVs are skipped: nothing here acts on what they say.
    let config = ParseConfig { include_tlvs: false, allow_v1: false, allow_v2: true };
    let (header, _) = ProxyHeader::parse(header, config).map_err(|_| BadProxyHeader::Invalid)?;
    Ok(Some(Proxied { client: client(&header), bytes }))
}

fn version_1(input: &[u8]) -> Result<Option<Proxied>, BadProxyHeader> {
    let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: false };
    match ProxyHeader::parse(input, config) {
        Ok((header, bytes)) => Ok(Some(Proxied { client: client(&header), bytes })),
        Err(Error::BufferTooShort) => Ok(None),
        Err(_) => Err(BadProxyHeader::Invalid),
    }
}

fn client(header: &ProxyHeader<'_>) -> Option<SocketAddr> {
    header.proxied_address().map(|addresses| addresses.source)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proxy_header::{ProxiedAddress, Tlv};

    use super::*;

    const CLIENT: &str = "203.0.113.7:40000";

    fn version_2_of(client: &str, gateway: &str, tlv_bytes: usize) -> Vec<u8> {
        let address = |text: &str| text.parse().expect("an address");
        let mut header = ProxyHeader::with_address(ProxiedAddress::stream(address(client), address(gateway)));
        header.append_tlv(Tlv::UniqueId(vec![7; tlv_bytes].into()));
        let mut bytes = vec![0; 70_000];
        let length = header.encode_to_slice_v2(&mut bytes).expect("encoded");
        bytes.truncate(length);
        bytes
    }

    /// By hand: command, family, and what follows the length.
    fn by_hand(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    /// Whole after the last byte and not before, whatever follows.
    fn assert_cut_anywhere(header: &[u8], client: Option<&str>) {
        for end in 0..header.len() {
            assert_eq!(parse_proxy(&header[..end]), Ok(None), "cut at {end}");
            let wanted = proxy_bytes_wanted(&header[..end]);
            assert!((1..=header.len() - end).contains(&wanted), "{wanted} after {end} of {}", header.len());
        }
        let whole = Proxied { client: client.map(|text| text.parse().expect("one")), bytes: header.len() };
        for after in [&b""[..], b"GET / HTTP/1.1\r\n", &[0; 3_000]] {
            assert_eq!(parse_proxy(&[header, after].concat()), Ok(Some(whole)));
        }
    }

    #[test]
    fn each_valid_header_tells_the_client_and_may_be_cut_anywhere() {
        assert_cut_anywhere(&version_2_of(CLIENT, "192.0.2.1:9000", 0), Some(CLIENT));
        assert_cut_anywhere(&version_2_of(CLIENT, "192.0.2.1:9000", 500), Some(CLIENT));
        let v6 = "[2001:db8::7]:443";
        assert_cut_anywhere(&version_2_of(v6, "[2001:db8::1]:9000", 3), Some(v6));
        assert_cut_anywhere(b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 9000\r\n", Some(CLIENT));
        assert_cut_anywhere(b"PROXY TCP6 2001:db8::7 2001:db8::1 443 9000\r\n", Some(v6));
        assert_cut_anywhere(b"PROXY UNKNOWN\r\n", None);
        assert_cut_anywhere(b"PROXY UNKNOWN whatever stands here\r\n", None);
    }

    #[test]
    fn who_has_no_address_is_known_by_the_peers_own() {
        let inet = [203, 0, 113, 7, 192, 0, 2, 1, 156, 64, 35, 40];
        assert_cut_anywhere(&by_hand(PROXY, 0x11, &inet), Some(CLIENT));
        assert_cut_anywhere(&by_hand(PROXY, 0x12, &inet), Some(CLIENT));
        for (command, family, rest) in [
            // LOCAL: family and addresses are discarded, even where they make no sense.
            (LOCAL, 0x00, &[][..]),
            (LOCAL, 0x11, &inet),
            (LOCAL, 0x11, &[]),
            (LOCAL, 0xFF, &[1, 2, 3]),
            // AF_UNSPEC, with and without TLVs.
            (PROXY, 0x00, &[]),
            (PROXY, 0x00, &[4, 0, 1, 9]),
            // AF_UNIX.
            (PROXY, 0x31, &[b'x'; 216]),
            (PROXY, 0x32, &[b'x'; 220]),
        ] {
            assert_cut_anywhere(&by_hand(command, family, rest), None);
        }
    }

    #[test]
    fn what_is_no_valid_header_is_refused_as_soon_as_it_shows() {
        use BadProxyHeader::{Invalid, Missing, TooLarge};
        let largest = vec![0; PROXY_HEADER_BYTES_MAX - FIXED_BYTES];
        assert_cut_anywhere(&by_hand(PROXY, 0x00, &largest), None);
        let one_more = by_hand(PROXY, 0x00, &vec![0; largest.len() + 1]);
        for (input, error) in [
            (&b"G"[..], Missing),
            (b"GET /v1/ws HTTP/1.1\r\n", Missing),
            (b"\x16\x03\x01", Missing),
            (b"\0", Missing),
            (b"\r\nG", Missing),
            (b"PROXYTCP4", Missing),
            (b"proxy TCP4", Missing),
            (&one_more[..FIXED_BYTES], TooLarge),
            (&by_hand(PROXY, 0x00, &vec![0; 65_535])[..FIXED_BYTES], TooLarge),
            // Version 1 and 3, an unknown command.
            (&by_hand(0x11, 0x11, &[0; 12]), Invalid),
            (&by_hand(0x31, 0x11, &[0; 12]), Invalid),
            (&by_hand(0x22, 0x11, &[0; 12]), Invalid),
            // Families and transports that are not there, addresses that are cut off.
            (&by_hand(PROXY, 0x41, &[0; 12]), Invalid),
            (&by_hand(PROXY, 0x10, &[0; 12]), Invalid),
            (&by_hand(PROXY, 0x13, &[0; 12]), Invalid),
            (&by_hand(PROXY, 0x11, &[0; 11]), Invalid),
            (&by_hand(PROXY, 0x21, &[0; 35]), Invalid),
            (&by_hand(PROXY, 0x31, &[0; 215]), Invalid),
            (b"PROXY TCP5 203.0.113.7 192.0.2.1 40000 9000\r\n", Invalid),
            (b"PROXY TCP4 2001:db8::7 2001:db8::1 443 9000\r\n", Invalid),
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 99999\r\n", Invalid),
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 9000\rX", Invalid),
            (&[&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat(), Invalid),
        ] {
            assert_eq!(parse_proxy(input), Err(error), "{}", input.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(
            start in prop::sample::select(vec![&b""[..], SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11", b"PROXY TCP4 ", b"PROXY "]),
            rest in prop::collection::vec(any::<u8>(), 0..1_200),
        ) {
            let input = [start, &rest].concat();
            let whole = parse_proxy(&input);
            for end in 0..=input.len() {
                let judged = parse_proxy(&input[..end]);
                if let Ok(Some(proxied)) = judged {
                    prop_assert!(proxied.bytes <= end && proxied.bytes <= PROXY_HEADER_BYTES_MAX);
                }
                // A verdict is never taken back.
                prop_assert!(judged == Ok(None) || judged == whole, "{judged:?} at {end}, {whole:?} at last");
            }
        }
    }
}
