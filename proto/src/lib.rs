//! What a Roost client and a Roost gateway say to each other, as pure functions: bytes in, values out.
#![forbid(unsafe_code)]

/// The types of `contract/roost.proto`, generated; `tests/generated.rs` keeps them current.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused)]
pub mod v1 {
    include!("generated/roost.v1.rs");
}
