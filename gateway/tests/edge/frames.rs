//! Frames without a mask, which the fuzzing client of the Autobahn suite does not send: every opcode, wherever it may stand.

use std::io::Write as _;

use roost_client::harness::Gateway;

use super::raw;

/// FIN and text; a ping.
const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
/// Text that goes on, and its end.
const BEGINNING: u8 = 0x01;
const END: u8 = 0x80;

/// Where the frame stands: what comes before it, and what of that is answered.
type Place = (&'static str, Vec<Vec<u8>>, Vec<(u8, Vec<u8>)>);

fn places() -> Vec<Place> {
    let echoed = |text: &[u8]| (TEXT, text.to_vec());
    let pong = (0x8A, b"?".to_vec());
    let (begins, ends) = (raw::frame(BEGINNING, b"one "), raw::frame(END, b"two"));
    vec![
        ("first", vec![], vec![]),
        ("behind a message", vec![raw::frame(TEXT, b"hello")], vec![echoed(b"hello")]),
        ("behind a ping", vec![raw::frame(PING, b"?")], vec![pong.clone()]),
        ("within a message", vec![begins.clone()], vec![]),
        ("within a message, behind a ping", vec![begins.clone(), raw::frame(PING, b"?")], vec![pong]),
        ("behind a message in pieces", vec![begins, ends], vec![echoed(b"one two")]),
    ]
}

/// Each frame in one segment with what comes before it, and each byte in its own.
#[test]
fn a_frame_without_a_mask_ends_the_connection_whatever_it_is_and_wherever_it_stands() {
    let gateway = Gateway::start(&["--backend", "echo"]).expect("it starts");
    for (place, before, answered) in places() {
        for first in 0..=u8::MAX {
            // Reserved bits are none of this test's concern.
            if first & 0x70 != 0 {
                continue;
            }
            for payload in [&b""[..], b"xyz", &[b'x'; 200]] {
                let sent = [&before.concat()[..], &raw::unmasked(first, payload)].concat();
                let mut stream = raw::upgraded(&gateway, "/any", "");
                stream.write_all(&sent).expect("written");
                let mut frames = raw::rest(&mut stream);
                let close = frames.pop().expect("a Close frame");
                let what = format!("{place}: {first:#04x} with {} bytes", payload.len());
                assert_eq!((raw::close_code(&close), &frames), (1002, &answered), "{what}");
            }
        }
    }
}

#[test]
fn it_does_so_when_it_comes_with_the_upgrade_or_a_byte_at_a_time() {
    let gateway = Gateway::start(&["--backend", "echo"]).expect("it starts");
    for first in [0x01, TEXT, 0x82, END, 0x88, PING, 0x8A] {
        let head = raw::upgrade("/any", "");
        let frame = raw::unmasked(first, b"\x03\xE8");
        let whole = [head.as_bytes(), &frame].concat();
        for pieces in [vec![&whole[..]], whole.chunks(1).collect()] {
            let mut stream = raw::connect(gateway.ws);
            for piece in pieces {
                // It may be closed while the last bytes are on their way.
                let _ = stream.write_all(piece);
            }
            assert!(raw::head(&mut stream).starts_with("HTTP/1.1 101 "));
            let frames = raw::rest(&mut stream);
            assert_eq!(frames.iter().map(raw::close_code).collect::<Vec<_>>(), [1002], "{first:#04x}");
        }
    }
}

/// One with a mask of zeros is masked.
#[test]
fn a_mask_may_be_anything() {
    let gateway = Gateway::start(&["--backend", "echo"]).expect("it starts");
    let mut stream = raw::upgraded(&gateway, "/any", "");
    stream.write_all(&[TEXT, 0x82, 0, 0, 0, 0, b'h', b'i']).expect("written");
    assert_eq!(raw::next(&mut stream), Some((TEXT, b"hi".to_vec())));
}
