//! The gateway: bytes to envelopes and back.
//!
//! The folders are the stages of the data's way: `ring` (the kernel), `slab` (connections), `conn` (WebSocket),
//! `shard` (the loop that ties them), `mailbox` (the way back from the router). `http` and `auth` stand beside it;
//! `families` names what is measured, `admission` decides when
//! nobody new is let in.
#![deny(unsafe_code)]

pub mod admission;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod capacity;
pub mod cgroup;
#[cfg(feature = "server")]
pub mod config;
pub mod conn;
#[cfg(feature = "server")]
pub mod families;
#[cfg(feature = "server")]
pub mod http;
pub mod limits;
#[allow(unsafe_code)]
pub mod mailbox;
#[cfg(feature = "server")]
pub mod rates;
#[allow(unsafe_code)]
pub mod ring;
pub mod shard;
#[allow(unsafe_code)]
pub mod slab;
pub mod timers;
