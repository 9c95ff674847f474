//! What stands on the client's side of the wire: the web page in `web/`, and a small blocking client with a harness
//! for tests of a real gateway.
//!
//! Its frames come from tungstenite, not from `roost-proto`, so that both ends cannot share one mistake.
#![forbid(unsafe_code)]

mod client;
pub mod harness;

pub use client::{Client, Credentials, send_to};
