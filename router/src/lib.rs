//! What a message means: partitions as deterministic state machines, their store, and the threads that run them.
#![forbid(unsafe_code)]

pub use roost_proto::tier::{AccountOutcome, Action, DeviceId, Effect, Full, Outlet, Request, SessionId, UserId};
