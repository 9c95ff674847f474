//! Listening sockets: one for each shard on the same port, so that the kernel spreads connections over them.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use roost_gateway::limits;
use socket2::{Domain, Protocol, Socket, Type};

/// A listener for each of `count` shards; with port 0 all get the port the first was given.
///
/// # Errors
/// The address is taken, not of this machine, or forbidden.
pub fn listeners(address: SocketAddr, count: u16) -> Result<Vec<TcpListener>> {
    if address.port() != 0 {
        // With SO_REUSEPORT a second gateway would quietly share the port of the first: ask without it once.
        drop(listen_alone(address)?);
    }
    let mut bound = address;
    let mut listeners = Vec::new();
    for _ in 0..count {
        let socket = bind(bound, true).with_context(|| explain(address))?;
        socket.listen(limits::LISTEN_BACKLOG).with_context(|| explain(address))?;
        let listener = TcpListener::from(socket);
        bound = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The listener of the HTTP service.
///
/// # Errors
/// As [`listeners`].
pub fn http_listener(address: SocketAddr) -> Result<TcpListener> {
    listen_alone(address)
}

/// Waits a while for an address that is taken: the kernel ends the rings of a gateway that was killed some time after
/// the process is gone, and only then its listeners.
fn listen_alone(address: SocketAddr) -> Result<TcpListener> {
    let deadline = Instant::now() + Duration::from_secs(limits::ADDRESS_S_MAX);
    loop {
        let socket =
            bind(address, false).and_then(|socket| socket.listen(limits::LISTEN_BACKLOG).map(|()| socket));
        match socket {
            Ok(socket) => return Ok(TcpListener::from(socket)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(limits::ADDRESS_RETRY_MS));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let waited = format!("{}: it was in use for {} s", explain(address), limits::ADDRESS_S_MAX);
                return Err(error).context(waited);
            }
            Err(error) => return Err(error).with_context(|| explain(address)),
        }
    }
}

fn explain(address: SocketAddr) -> String {
    format!("cannot listen on {address} (choose another with --listen or --http)")
}

fn bind(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if address.is_ipv6() {
        // [::] serves both protocols, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Accepted connections inherit it: small frames must not wait for the acknowledgement of earlier ones.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_occupied_port_is_an_error_even_when_it_is_shared() {
        let first = listeners(SocketAddr::from(([127, 0, 0, 1], 0)), 2).expect("free ports");
        let address = first[0].local_addr().expect("bound");
        assert_eq!(first[1].local_addr().expect("bound"), address);
        let error = listeners(address, 2).expect_err("taken");
        assert!(format!("{error:#}").contains(&format!("cannot listen on {address}")), "{error:#}");
        drop(first);
        listeners(address, 2).expect("free again");
    }
}
