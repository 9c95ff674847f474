//! Phantom clients: TCP spoken in user space, a few bytes a client, with WebSocket and roost.v1 on top
//! (docs/decisions/0007-phantom-clients.md).

pub mod address;
pub mod limits;
pub mod packet;
pub mod tcp;
pub mod wire;
