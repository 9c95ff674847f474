//! The criterion benches of the hot paths stand in `benches/`; this crate has no code of its own.
