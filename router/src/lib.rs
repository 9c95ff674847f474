//! What a message means: partitions as deterministic state machines, their store, and the threads that run them.
#![forbid(unsafe_code)]

mod api;

pub use api::{AccountOutcome, Action, DeviceId, Effect, Full, Outlet, Request, SessionId, UserId};
