//! A whole connection through a shard over fake rings, with a well-behaved one beside it: whatever the peer sends, the kernel fails at and
//! the router says, nothing leaks, nobody gets what is another's, and each connection ends in one close. The input is a script, see
//! `gateway/tests/fake/connection.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roost_fake::fake::connection::play;

fuzz_target!(|script: &[u8]| play(script));
