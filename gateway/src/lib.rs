//! The gateway: bytes to envelopes and back.
//!
//! The folders are the stages of the data's way: `ring` (the kernel), `slab` (connections), `conn` (WebSocket),
//! `shard` (the loop that ties them), `mailbox` (the way back from the router). `http` and `auth` stand beside it;
//! `families` names what is measured, `admission` decides when
//! nobody new is let in.
#![deny(unsafe_code)]

pub mod admission;
pub mod auth;
pub mod capacity;
pub mod cgroup;
pub mod config;
pub mod conn;
pub mod families;
pub mod http;
pub mod limits;
#[allow(unsafe_code)]
pub mod mailbox;
pub mod rates;
#[allow(unsafe_code)]
pub mod ring;
pub mod shard;
#[allow(unsafe_code)]
pub mod slab;
pub mod timers;
