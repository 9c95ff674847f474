//! The process as a service: how it is drained, taken over, started by systemd and confined.

mod drain;
mod manager;
mod takeover;
mod unit;
