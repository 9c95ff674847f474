//! The fake rings of the gateway's tests, for the target `connection`.

#[path = "../../gateway/tests/fake/mod.rs"]
pub mod fake;
