//! Each rule of RFC 6455 sections 5 and 7 by hand: what is refused, with which close code, and what is taken.

use roost_proto::frame::{
    Decoder, Item, MessageKind, Opcode, Violation, encode, encode_close, encode_header,
};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const MESSAGE_BYTES_MAX: u64 = 100_000;

/// What came out of a stream, as the receiver of whole messages sees it.
#[derive(Debug, PartialEq)]
enum Seen {
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// A masked frame with the fewest length bytes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        0..126 => vec![payload.len() as u8],
        126..65536 => [&[126][..], &(payload.len() as u16).to_be_bytes()].concat(),
        _ => [&[127][..], &(payload.len() as u64).to_be_bytes()].concat(),
    };
    raw(first, &length, payload)
}

/// A masked frame with these length bytes, whatever the payload.
fn raw(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, length[0] | 0x80];
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Feeds the stream in chunks of `chunk_bytes`.
fn run(stream: &[u8], chunk_bytes: usize) -> (Vec<Seen>, Option<Violation>, bool) {
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
    let (mut seen, mut message) = (Vec::new(), None::<Vec<u8>>);
    for chunk in stream.chunks(chunk_bytes) {
        let mut chunk = chunk.to_vec();
        let mut rest = &mut chunk[..];
        loop {
            let (consumed, item) = match decoder.decode(rest) {
                Ok(found) => found,
                Err(violation) => {
                    assert_eq!(decoder.decode(&mut [0x81]).err(), Some(violation), "a violation is for good");
                    assert!(!decoder.is_idle());
                    return (seen, Some(violation), false);
                }
            };
            match item {
                None => break,
                Some(Item::Data { kind, payload, first, last }) => {
                    assert_eq!(first, message.is_none(), "only the first piece is first");
                    message.get_or_insert_default().extend_from_slice(payload);
                    if last {
                        seen.push(Seen::Message(kind, message.take().expect("a piece was added")));
                    }
                }
                Some(Item::Ping(payload)) => seen.push(Seen::Ping(payload.to_vec())),
                Some(Item::Pong(payload)) => seen.push(Seen::Pong(payload.to_vec())),
                Some(Item::Close(close)) => {
                    seen.push(Seen::Close(close.map(|close| (close.code, close.reason.to_owned()))));
                }
            }
            rest = &mut rest[consumed..];
        }
    }
    let is_idle = decoder.is_idle();
    (seen, None, is_idle)
}

fn refuse(stream: &[u8], expected: Violation, close_code: u16) {
    for chunk_bytes in [stream.len(), 1, 2, 3, 7] {
        let (seen, violation, _) = run(stream, chunk_bytes);
        assert_eq!(violation, Some(expected), "in chunks of {chunk_bytes}, after {seen:?}");
    }
    assert_eq!(expected.close_code(), close_code);
    assert!(expected.to_string().len() <= 123, "the reason fits a close frame");
}

fn accept(stream: &[u8], expected: &[Seen]) {
    for chunk_bytes in [stream.len().max(1), 1, 2, 3, 7] {
        let (seen, violation, _) = run(stream, chunk_bytes);
        assert_eq!((seen.as_slice(), violation), (expected, None), "in chunks of {chunk_bytes}");
    }
}

fn text(text: &str) -> Seen {
    Seen::Message(MessageKind::Text, text.into())
}

/// RFC 6455 section 5.7.
#[test]
fn the_examples_of_the_rfc() {
    accept(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58], &[text("Hello")]);
    accept(
        &[0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
        &[Seen::Ping(b"Hello".to_vec())],
    );
    accept(&[frame(0x01, b"Hel"), frame(0x80, b"lo")].concat(), &[text("Hello")]);
    let mut out = Vec::new();
    encode(Opcode::Text, b"Hello", &mut out);
    assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    assert_eq!(encode_header(Opcode::Binary, true, 256), ([0x82, 0x7e, 1, 0, 0, 0, 0, 0, 0, 0], 4));
    assert_eq!(encode_header(Opcode::Binary, true, 65536), ([0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0], 10));
}

#[test]
fn reserved_bits_and_opcodes() {
    for bit in [0x40, 0x20, 0x10, 0x70] {
        refuse(&frame(0x81 | bit, b"x"), Violation::ReservedBits, 1002);
        refuse(&frame(0x89 | bit, b"x"), Violation::ReservedBits, 1002);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        refuse(&frame(0x80 | opcode, b"x"), Violation::ReservedOpcode(opcode), 1002);
        refuse(
            &[frame(0x01, b"x"), frame(0x80 | opcode, b"x")].concat(),
            Violation::ReservedOpcode(opcode),
            1002,
        );
    }
}

#[test]
fn control_frames_are_whole_and_short() {
    for opcode in [0x8, 0x9, 0xA] {
        refuse(&frame(opcode, b""), Violation::FragmentedControl, 1002);
        refuse(&frame(0x80 | opcode, &[0; 126]), Violation::ControlTooLong, 1002);
        refuse(&frame(0x80 | opcode, &vec![0; 70_000]), Violation::ControlTooLong, 1002);
        refuse(&raw(0x80 | opcode, &[126, 0, 5], b"hello"), Violation::LengthNotMinimal, 1002);
    }
    accept(&frame(0x89, &[7; 125]), &[Seen::Ping(vec![7; 125])]);
    accept(&frame(0x8A, &[]), &[Seen::Pong(vec![])]);
}

#[test]
fn lengths_are_minimal_and_have_63_bits() {
    refuse(&raw(0x82, &[126, 0, 125], &[0; 125]), Violation::LengthNotMinimal, 1002);
    refuse(&raw(0x82, &[127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], &[]), Violation::LengthNotMinimal, 1002);
    refuse(&raw(0x82, &[127, 0x80, 0, 0, 0, 0, 0, 0, 1], &[]), Violation::LengthTooLong, 1002);
    for bytes in [0, 1, 125, 126, 127, 65535, 65536, 65537] {
        accept(&frame(0x82, &vec![5; bytes]), &[Seen::Message(MessageKind::Binary, vec![5; bytes])]);
    }
}

#[test]
fn a_client_masks() {
    refuse(&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], Violation::Unmasked, 1002);
    refuse(&[0x89, 0x00], Violation::Unmasked, 1002);
    refuse(&[0x82, 0x7e], Violation::Unmasked, 1002);
}

#[test]
fn fragments_follow_each_other() {
    refuse(&frame(0x80, b"x"), Violation::UnexpectedContinuation, 1002);
    refuse(&frame(0x00, b"x"), Violation::UnexpectedContinuation, 1002);
    refuse(&[frame(0x81, b"x"), frame(0x80, b"x")].concat(), Violation::UnexpectedContinuation, 1002);
    refuse(&[frame(0x01, b"x"), frame(0x81, b"x")].concat(), Violation::ExpectedContinuation, 1002);
    refuse(&[frame(0x02, b"x"), frame(0x02, b"x")].concat(), Violation::ExpectedContinuation, 1002);
    accept(
        &[frame(0x01, b""), frame(0x89, b"p"), frame(0x00, b"a"), frame(0x8A, b"q"), frame(0x80, b"")]
            .concat(),
        &[Seen::Ping(b"p".to_vec()), Seen::Pong(b"q".to_vec()), text("a")],
    );
}

#[test]
fn a_message_is_refused_at_the_header_that_makes_it_too_big() {
    let header = |first: u8, bytes: u64| raw(first, &[&[127][..], &bytes.to_be_bytes()].concat(), &[]);
    refuse(&header(0x82, MESSAGE_BYTES_MAX + 1), Violation::MessageTooBig, 1009);
    refuse(&header(0x82, u64::MAX >> 1), Violation::MessageTooBig, 1009);
    refuse(&[frame(0x02, &vec![0; 30_001]), header(0x00, 70_000)].concat(), Violation::MessageTooBig, 1009);
    // The sum counts, not the frame; and each message counts anew.
    let whole = [frame(0x02, &vec![0; 30_000]), frame(0x80, &vec![0; 70_000])].concat();
    let message = || Seen::Message(MessageKind::Binary, vec![0; 100_000]);
    accept(&[whole.clone(), whole].concat(), &[message(), message()]);
}

#[test]
fn close_payloads() {
    accept(&frame(0x88, b""), &[Seen::Close(None)]);
    refuse(&frame(0x88, b"\x03"), Violation::CloseTooShort, 1002);
    let long = "r".repeat(123);
    accept(&frame(0x88, &[b"\x03\xe8", long.as_bytes()].concat()), &[Seen::Close(Some((1000, long)))]);
    refuse(&frame(0x88, b"\x03\xe8\xff"), Violation::InvalidUtf8, 1007);
    refuse(&frame(0x88, b"\x03\xe8\xe2\x82"), Violation::InvalidUtf8, 1007);
    for code in 0..=u16::MAX {
        let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let (seen, violation, _) = run(&frame(0x88, &code.to_be_bytes()), 131);
        if valid {
            assert_eq!((seen, violation), (vec![Seen::Close(Some((code, String::new())))], None));
        } else {
            assert_eq!((seen, violation), (vec![], Some(Violation::InvalidCloseCode(code))));
        }
    }
}

#[test]
fn nothing_is_read_after_a_close() {
    let stream = [frame(0x88, b"\x03\xe8"), frame(0x81, b"late"), vec![0xff; 40]].concat();
    accept(&stream, &[Seen::Close(Some((1000, String::new())))]);
    let (_, _, is_idle) = run(&stream, 5);
    assert!(!is_idle, "a new decoder would read what comes after the close");
}

#[test]
fn text_is_utf8_as_a_whole_and_fails_at_the_first_bad_byte() {
    let kosme = "κόσμε €😀";
    let bytes = kosme.as_bytes();
    for cut in 0..=bytes.len() {
        let stream = [frame(0x01, &bytes[..cut]), frame(0x89, b"-"), frame(0x80, &bytes[cut..])].concat();
        accept(&stream, &[Seen::Ping(b"-".to_vec()), text(kosme)]);
    }
    for bad in [
        &b"\xce"[..],        // half a character at the end
        b"a\xf0\x9f\x98",    // likewise
        b"\xc0\xaf",         // overlong
        b"\xed\xa0\x80",     // a surrogate
        b"\xf4\x90\x80\x80", // past U+10FFFF
        b"\x80",             // a continuation byte alone
        b"\xf0\x9f\x98\x41", // a character broken off
    ] {
        refuse(&frame(0x81, bad), Violation::InvalidUtf8, 1007);
        for cut in 0..=bad.len() {
            let stream = [frame(0x01, &bad[..cut]), frame(0x80, &bad[cut..])].concat();
            refuse(&stream, Violation::InvalidUtf8, 1007);
        }
    }
    // The end of the frame and of the message need not be there.
    let half = &frame(0x01, b"ab\xffcdefgh")[..9];
    refuse(half, Violation::InvalidUtf8, 1007);
    // Binary is anything.
    accept(&frame(0x82, b"\xff\xce"), &[Seen::Message(MessageKind::Binary, b"\xff\xce".to_vec())]);
}

#[test]
fn idle_means_nothing_is_held() {
    let stream = [frame(0x01, b"Hel"), frame(0x89, b"ping"), frame(0x80, b"lo"), frame(0x82, b"")].concat();
    let message_ends = stream.len() - frame(0x82, b"").len();
    for cut in 0..=stream.len() {
        let (_, violation, is_idle) = run(&stream[..cut], 4);
        assert_eq!(violation, None);
        assert_eq!(is_idle, cut == 0 || cut == message_ends || cut == stream.len(), "after {cut} bytes");
    }
}

#[test]
fn a_whole_frame_is_borrowed_from_the_input() {
    let mut stream = frame(0x82, &[9; 1000]);
    let range = stream.as_ptr_range();
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
    let (consumed, item) = decoder.decode(&mut stream).expect("valid");
    let Some(Item::Data { payload, first: true, last: true, .. }) = item else { panic!("{item:?}") };
    assert!(range.contains(&payload.as_ptr()) && payload == [9; 1000] && consumed == 1008);
}

#[test]
fn a_close_reason_is_cut_between_characters() {
    let mut out = Vec::new();
    encode_close(1008, &"€".repeat(60), &mut out);
    assert_eq!(out[..4], [0x88, 2 + 123, 0x03, 0xf0]);
    assert_eq!(std::str::from_utf8(&out[4..]), Ok("€".repeat(41).as_str()));
}
