//! The frames that are read and written field after field, held to what the generated code makes of them.

use buffa::{DecodeOptions, Message as _};
use bytes::Bytes;
use proptest::prelude::*;
use roost_proto::{
    codec::{Encoding, decode_client_frame, encode_server_frame},
    v1,
};

/// What the generated code reads, with its own limits: none of these is near them.
fn generated(bytes: &[u8]) -> Option<v1::ClientFrame> {
    DecodeOptions::new().decode_from_slice(bytes).ok()
}

fn address() -> impl Strategy<Value = v1::Address> {
    let number = prop_oneof![0..300_u64, any::<u64>()];
    prop_oneof![
        number.clone().prop_map(|user| v1::Address { to: Some(v1::address::To::User(user)) }),
        number.prop_map(|group| v1::Address { to: Some(v1::address::To::Group(group)) }),
        Just(v1::Address { to: None }),
    ]
}

fn some_bytes(most: usize) -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn client_frame() -> impl Strategy<Value = v1::ClientFrame> {
    let sealed = (any::<u64>(), any::<u32>(), some_bytes(20))
        .prop_map(|(user, device, ciphertext)| v1::Sealed { user, device, ciphertext });
    let send = (
        proptest::option::of(address()),
        some_bytes(20),
        prop_oneof![-2..9_i32, any::<i32>()],
        some_bytes(300),
        proptest::collection::vec(sealed, 0..2),
    )
        .prop_map(|(to, client_id, kind, payload, sealed)| v1::Send {
            to: to.into(),
            client_id,
            kind: kind.into(),
            payload,
            sealed,
        });
    let body = prop_oneof![
        4 => send.prop_map(v1::client_frame::Body::from),
        2 => any::<u64>().prop_map(|up_to| v1::Ack { up_to }.into()),
        1 => proptest::collection::vec(any::<u64>(), 0..4).prop_map(|message| v1::Read { message }.into()),
    ];
    (prop_oneof![0..3_u32, any::<u32>()], proptest::option::weighted(0.9, body))
        .prop_map(|(id, body)| v1::ClientFrame { id, body })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_frame_is_what_was_written(frame in client_frame()) {
        let read = decode_client_frame(Encoding::Proto, &frame.encode_to_vec());
        prop_assert_eq!(read.ok(), Some(frame));
    }

    /// Cut, changed, doubled and swapped bytes: nothing is read where the generated code refuses, nor anything else than it reads.
    #[test]
    fn a_spoilt_frame_is_what_the_generated_code_says(
        frame in client_frame(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..4),
    ) {
        let mut bytes = frame.encode_to_vec();
        for (at, value, how) in changes {
            let at = at.index(bytes.len() + 1);
            match how {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, value),
                2 => bytes.extend_from_within(at..),
                _ => if let Some(byte) = bytes.get_mut(at) { *byte = value },
            }
        }
        prop_assert_eq!(decode_client_frame(Encoding::Proto, &bytes).ok(), generated(&bytes));
    }

    #[test]
    fn an_answer_is_written_as_the_generated_code_writes_it(
        reply_to in prop_oneof![0..3_u32, any::<u32>()],
        id in prop_oneof![0..300_u64, any::<u64>()],
        client_id in some_bytes(200),
        sent_at_ms in prop_oneof![Just(0), any::<u64>()],
        duplicate in any::<bool>(),
    ) {
        let sent = v1::Sent { id, client_id, sent_at_ms, duplicate };
        let frame = v1::ServerFrame { reply_to, body: Some(sent.into()) };
        let mut out = b"before".to_vec();
        encode_server_frame(Encoding::Proto, &frame, &mut out);
        prop_assert_eq!(&out[6..], frame.encode_to_vec());
    }
}
