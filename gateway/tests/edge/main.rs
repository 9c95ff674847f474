//! The gateway's edge, over real sockets: who is let in, whose address is known behind a proxy, what other people's clients and proxies
//! make of it, and what the standard asks of a server.

mod admission;
mod clients;
mod closes;
mod frames;
mod handshakes;
mod proxies;
mod proxy_protocol;
mod raw;
