//! The calls of the message tier over HTTP, with a real gateway.

mod messages;
mod openapi;
mod page;
mod refusals;
mod rest;
