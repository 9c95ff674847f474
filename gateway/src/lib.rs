//! The gateway: bytes to envelopes and back.

pub mod auth;
pub mod http;
