//! Both encodings of frames: what is taken, what is refused, and what a refusal says.

use buffa::Message;
use proptest::{collection::vec, prelude::*};
use roost_proto::{
    codec::{
        DecodeError,
        Encoding::{self, Json, Proto},
        decode_client_frame, decode_json, decode_server_frame, encode_client_frame, encode_event_frame,
        encode_server_frame, holds_receipt,
    },
    frame::MessageKind,
    limits::{
        ELEMENT_BYTES, ELEMENT_MEMORY_BYTES_MAX, JSON_ELEMENT_COUNT_MAX, MESSAGE_DEPTH_MAX, REASON_BYTES_MAX,
    },
    v1::{
        self, Ack, ClientFrame, Event, GroupInfo, Kind, Receipt, Sealed, Send, ServerFrame, client_frame,
        server_frame,
    },
};

fn send(sealed_count: usize) -> ClientFrame {
    let sealed =
        (0..sealed_count).map(|i| Sealed { user: i as u64, device: 1, ..Sealed::default() }).collect();
    let send = Send { kind: Kind::MEDIA.into(), payload: vec![1, 2, 255].into(), sealed, ..Send::default() };
    ClientFrame { id: 7, body: Some(send.into()) }
}

fn event(seq: u64) -> Event {
    Event { seq, body: Some(Receipt { by: 42, message: vec![1, u64::MAX], ..Receipt::default() }.into()) }
}

#[test]
fn a_receipt_is_told_from_other_events_and_from_anything_else() {
    for seq in [1, 300, u64::MAX] {
        assert!(holds_receipt(&event(seq).encode_to_vec()));
        for body in [v1::Message::default().into(), GroupInfo::default().into()] {
            assert!(!holds_receipt(&Event { seq, body: Some(body) }.encode_to_vec()));
        }
    }
    for bytes in [&[][..], &[8], &[8, 0x80], &[8, 1], &[0xFF; 12], &[26, 0]] {
        assert!(!holds_receipt(bytes), "{bytes:?}");
    }
}

#[test]
fn sub_protocols_name_the_encodings() {
    for (encoding, name, kind) in
        [(Proto, "roost.v1.proto", MessageKind::Binary), (Json, "roost.v1.json", MessageKind::Text)]
    {
        assert_eq!((encoding.sub_protocol(), encoding.message_kind()), (name, kind));
        assert_eq!(Encoding::from_sub_protocol(name), Some(encoding));
    }
    assert_eq!(Encoding::from_sub_protocol("roost.v2.proto"), None);
    assert_eq!(Encoding::from_sub_protocol("ROOST.V1.JSON"), None);
}

#[test]
fn frames_come_back_as_they_went_and_are_appended() {
    for encoding in [Proto, Json] {
        let mut out = b"before".to_vec();
        encode_client_frame(encoding, &send(3), &mut out);
        assert_eq!(decode_client_frame(encoding, &out[6..]), Ok(send(3)));
        let frame = ServerFrame { reply_to: 9, body: Some(event(5).into()) };
        let mut out = b"before".to_vec();
        encode_server_frame(encoding, &frame, &mut out);
        assert_eq!(decode_server_frame(encoding, &out[6..]), Ok(frame));
        assert!(out.starts_with(b"before"));
    }
}

#[test]
fn a_frame_without_a_body_is_a_heartbeat() {
    assert_eq!(decode_client_frame(Proto, b""), Ok(ClientFrame::default()));
    assert_eq!(decode_client_frame(Json, b"{}"), Ok(ClientFrame::default()));
    let mut out = Vec::new();
    encode_server_frame(Proto, &ServerFrame::default(), &mut out);
    assert_eq!(out, b"");
    encode_server_frame(Json, &ServerFrame::default(), &mut out);
    assert_eq!(out, b"{}");
}

#[test]
fn an_encoded_event_becomes_the_frame_that_holds_it() {
    // Lengths of one, two and three bytes.
    for receipt_count in [0, 1, 40, 4000] {
        let receipt = Receipt { message: vec![u64::MAX; receipt_count], ..Receipt::default() };
        let event = Event { seq: 3, body: Some(receipt.into()) };
        for encoding in [Proto, Json] {
            let mut expected = b"before".to_vec();
            let frame = ServerFrame { body: Some(event.clone().into()), ..ServerFrame::default() };
            encode_server_frame(encoding, &frame, &mut expected);
            let mut out = b"before".to_vec();
            encode_event_frame(encoding, &event.encode_to_vec(), &mut out).expect("a valid event");
            assert_eq!(out, expected);
        }
    }
}

#[test]
fn a_corrupt_event_is_refused_in_json() {
    let mut out = b"before".to_vec();
    let error = encode_event_frame(Json, &[0x08], &mut out).expect_err("half a field");
    assert_eq!(
        (error.to_string().as_str(), &out[..]),
        ("not a protobuf frame: unexpected end of buffer", &b"before"[..])
    );
}

#[test]
fn elements_are_paid_for_in_both_encodings() {
    let most = ELEMENT_MEMORY_BYTES_MAX / ELEMENT_BYTES;
    let client = |count| {
        let mut out = Vec::new();
        encode_client_frame(Proto, &send(count), &mut out);
        decode_client_frame(Proto, &out)
    };
    assert_eq!(client(most), Ok(send(most)));
    assert_eq!(client(most + 1), Err(DecodeError::Protobuf(buffa::DecodeError::ElementMemoryLimitExceeded)));

    let json = |count: usize| format!(r#"{{"send":{{"sealed":[{}]}}}}"#, vec!["{}"; count].join(","));
    assert!(decode_client_frame(Json, json(JSON_ELEMENT_COUNT_MAX).as_bytes()).is_ok());
    let error = decode_client_frame(Json, json(JSON_ELEMENT_COUNT_MAX + 1).as_bytes());
    assert_eq!(error, Err(DecodeError::TooManyElements));
}

#[test]
fn nesting_is_bounded_in_both_encodings() {
    // An unknown group in a group, as deep as the input is long: the only way to nest past the contract.
    let groups = |depth: usize| [[0xa3, 0x06].repeat(depth), [0xa4, 0x06].repeat(depth)].concat();
    assert!(decode_client_frame(Proto, &groups(MESSAGE_DEPTH_MAX as usize - 1)).is_ok());
    for depth in [MESSAGE_DEPTH_MAX as usize + 2, 30_000] {
        let error = decode_client_frame(Proto, &groups(depth));
        assert_eq!(error, Err(DecodeError::Protobuf(buffa::DecodeError::RecursionLimitExceeded)));
    }
    // JSON skips what it does not know without recursion, and what it knows does not nest.
    let arrays = format!(r#"{{"x":{}{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(decode_client_frame(Json, arrays.as_bytes()), Ok(ClientFrame::default()));
}

#[test]
fn a_reason_is_short_and_printable_whatever_it_quotes() {
    for json in [
        format!(r#"{{"send":{{"kind":"{}"}}}}"#, "€".repeat(10_000)),
        r#"{"send":{"kind":"\u0007\n\u001b[31m"}}"#.to_owned(),
        "\u{7}".to_owned(),
    ] {
        let reason = decode_client_frame(Json, json.as_bytes()).expect_err("not a frame").to_string();
        assert!(reason.starts_with("not a JSON frame: ") && reason.len() <= REASON_BYTES_MAX, "{reason:?}");
        assert!(!reason.chars().any(char::is_control), "{reason:?}");
    }
    let reason = decode_client_frame(Json, b"{\"id\":\xff}").expect_err("not UTF-8").to_string();
    assert!(reason.starts_with("not a JSON frame: "), "{reason}");
}

#[test]
fn a_repeated_oneof_keeps_the_last() {
    let ack = |up_to| {
        let mut out = Vec::new();
        encode_client_frame(Proto, &ClientFrame { id: 0, body: Some(Ack { up_to }.into()) }, &mut out);
        out
    };
    let frame = decode_client_frame(Proto, &[ack(1), ack(2)].concat()).expect("valid");
    assert!(matches!(frame.body, Some(client_frame::Body::Ack(ack)) if ack.up_to == 2));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_taken_is_written_again(bytes in vec(any::<u8>(), 0..200)) {
        for encoding in [Proto, Json] {
            if let Ok(frame) = decode_client_frame(encoding, &bytes) {
                let mut out = Vec::new();
                encode_client_frame(encoding, &frame, &mut out);
                prop_assert_eq!(decode_client_frame(encoding, &out), Ok(frame));
            }
            let _: Result<_, DecodeError> = decode_server_frame(encoding, &bytes);
            let _: Result<_, DecodeError> = encode_event_frame(encoding, &bytes, &mut Vec::new());
        }
    }

    #[test]
    fn a_frame_holds_any_event(seq in any::<u64>()) {
        let mut out = Vec::new();
        encode_event_frame(Proto, &event(seq).encode_to_vec(), &mut out).expect("protobuf copies");
        let frame = decode_server_frame(Proto, &out).expect("valid");
        prop_assert_eq!(frame.body, Some(server_frame::Body::Event(Box::new(event(seq)))));
    }
}

#[test]
fn a_json_error_names_the_field_and_the_value() {
    for (text, named) in [
        (r#"{"to":{"user":"abc"}}"#, "to.user: invalid value: string \"abc\""),
        (r#"{"kind":"LOUD"}"#, "kind: invalid value: string \"LOUD\""),
        (r#"{"sealed":[{"device":-1}]}"#, "sealed[0].device: invalid value: integer `-1`"),
        (r#"{"to":{"user":1,"group":2}}"#, "to: multiple oneof fields set"),
        ("[]", "an object is needed"),
        ("", "an object is needed"),
        ("{", "EOF while parsing an object"),
    ] {
        let reason = decode_json::<Send>(text.as_bytes()).expect_err(text).to_string();
        assert!(reason.contains(named), "{text}: {reason}");
    }
    let send = decode_json::<Send>(b" {\"to\": {\"user\": \"7\"}}").expect("right");
    assert!(send.to.is_set());
}
