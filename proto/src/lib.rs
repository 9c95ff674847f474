//! What a Roost client and a Roost gateway say to each other, as pure functions: bytes in, values out.
//!
//! - [`handshake`]: the opening handshake, RFC 6455 section 4.2.
//! - [`frame`]: the server's side of WebSocket framing, RFC 6455 sections 5 and 7.
//! - [`codec`]: one WebSocket message to and from one frame of `contract/roost.proto`, in both encodings.
//! - [`v1`]: the types of that contract.
//! - [`tier`]: what a gateway and the message tier behind it hand each other.
//!
//! No I/O, no clock, no thread. A peer's bytes never panic, and what they make us allocate is bounded by [`limits`].
#![forbid(unsafe_code)]

pub mod codec;
pub mod frame;
pub mod handshake;
pub mod limits;
pub mod tier;

/// The types of `contract/roost.proto`, generated; `tests/generated.rs` keeps them current.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused)]
pub mod v1 {
    include!("generated/roost.v1.rs");
}

/// JSON Schemas (draft 2020-12) of the contract's messages and enums in the canonical proto3 JSON mapping: one object, by name,
/// with references to `#/components/schemas/NAME` as `OpenAPI` has them. `tests/json_schema.rs` keeps it current.
pub const JSON_SCHEMAS: &str = include_str!("generated/roost.v1.schema.json");
