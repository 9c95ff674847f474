//! `roost-tune` over copies of a machine's files, and once in a network namespace of the real kernel.

mod apply;
mod check;
mod common;
mod namespace;
mod script;
mod table;
mod usage;
