//! What `roost-tune` knows: the table of settings, how a machine is judged by it, and how it is made fit and brought back.
//!
//! One table ([`table`]) is the only source: of `check`, of what `apply` writes, of `explain`, and of docs/TUNING.md.
#![forbid(unsafe_code)]

pub mod apply;
pub mod check;
pub mod commands;
pub mod demand;
pub mod devices;
pub mod error;
pub mod explain;
pub mod guide;
pub mod journal;
pub mod limits;
pub mod lines;
pub mod machine;
pub mod options;
pub mod places;
pub mod plan;
pub mod probe;
mod render;
pub mod script;
pub mod setting;
pub mod size;
pub mod store;
pub mod table;
pub mod verify;

pub use check::{check, first_limit};
pub use demand::{Demand, Kind, Profile};
pub use machine::Machine;
pub use setting::{Finding, Scope, Status};
