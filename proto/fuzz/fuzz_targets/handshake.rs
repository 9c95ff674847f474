//! No request panics, and one that is taken was not complete before its end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roost_proto::handshake::{parse, write_accept};

fuzz_target!(|input: &[u8]| {
    match parse(input) {
        Ok(Some((upgrade, bytes))) => {
            assert!(matches!(parse(&input[..bytes - 1]), Ok(None)));
            assert!(upgrade.path.starts_with('/') && upgrade.key.len() == 24);
            let _: (Option<&str>, Option<_>) = (upgrade.bearer(), upgrade.query_parameter("access_token"));
            write_accept(upgrade.key, upgrade.protocols().next(), &mut Vec::new());
        }
        Ok(None) => {}
        Err(refusal) => {
            let mut out = Vec::new();
            refusal.write(&mut out);
            assert!(out.starts_with(format!("HTTP/1.1 {} ", refusal.status()).as_bytes()));
        }
    }
});
