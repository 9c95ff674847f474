//! What a message means: partitions as deterministic state machines, their store, and the threads that run them.
//!
//! [`start`] opens the store and returns a [`Router`]; its [`Handle`]s take requests from gateways, and effects come back
//! through the [`Outlet`] once the batch that caused them is durable.
#![forbid(unsafe_code)]

mod config;
mod error;
mod handle;
pub mod limits;
pub mod partition;
pub mod record;
mod runtime;
pub mod store;

/// The types of `proto/log.proto`, generated; `tests/generated.rs` keeps them current.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused)]
pub mod log {
    include!("generated/roost.log.v1.rs");
}

use roost_proto::tier as api;

pub use api::{
    AccountOutcome, Action, Answer, Call, DeviceId, DeviceState, Effect, Full, Outlet, Request, SessionId,
    UserId,
};
pub use config::{Config, Limit, Rules, UserLimits};
pub use error::{StartError, StoreError};
pub use handle::{Handle, Router, start, start_with_store};
pub use partition::{CLOSE_POLICY, CLOSE_REMOVED, CLOSE_REPLACED};
pub use runtime::{COMMIT_US, LIMITED, Stats, ThreadStats};
