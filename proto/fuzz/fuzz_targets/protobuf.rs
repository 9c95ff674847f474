//! No bytes panic in either direction, and a frame that is taken comes back as it is in both encodings.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roost_proto::codec::{
    Encoding, decode_client_frame, decode_server_frame, encode_client_frame, encode_server_frame,
};

fuzz_target!(|input: &[u8]| {
    match decode_client_frame(Encoding::Proto, input) {
        Ok(frame) => {
            for encoding in [Encoding::Proto, Encoding::Json] {
                let mut out = Vec::new();
                encode_client_frame(encoding, &frame, &mut out);
                assert_eq!(decode_client_frame(encoding, &out).as_ref(), Ok(&frame));
            }
        }
        Err(error) => assert!(error.to_string().len() <= roost_proto::limits::REASON_BYTES_MAX),
    }
    if let Ok(frame) = decode_server_frame(Encoding::Proto, input) {
        for encoding in [Encoding::Proto, Encoding::Json] {
            let mut out = Vec::new();
            encode_server_frame(encoding, &frame, &mut out);
            assert_eq!(decode_server_frame(encoding, &out).as_ref(), Ok(&frame));
        }
    }
});
