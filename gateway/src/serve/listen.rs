//! Listening sockets: from systemd, from the gateway that runs, or bound here. Bound here there is one for each shard on the
//! same port, so that the kernel spreads connections over them.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use listenfd::ListenFd;
use roost_gateway::{
    config::{Config, SocketsFrom},
    limits,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::takeover::{self, Predecessor, Sockets};

/// The sockets clients come in by, wherever they are from.
///
/// # Errors
/// An address that is taken, forbidden or not of this machine; sockets of systemd or of the running gateway that do not fit
/// the configuration.
pub fn open(config: &Config) -> Result<(Sockets, Option<Predecessor>)> {
    // Read before the sockets are taken, which removes the variables.
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut given = ListenFd::from_env();
    if given.len() > 0 {
        ensure!(
            config.sockets == SocketsFrom::Anew,
            "--takeover: systemd keeps the sockets of this unit; restart the unit instead"
        );
        return Ok((activated(config, &mut given, &names)?, None));
    }
    if config.sockets == SocketsFrom::Running
        && let Some((sockets, predecessor)) = takeover::ask(config)?
    {
        let ws = sockets.ws.first().map(TcpListener::local_addr).transpose()?;
        agree("--listen", config.listen, ws)?;
        agree("--http", config.http, Some(sockets.http.local_addr()?))?;
        fits(config, sockets.ws.len(), "the running gateway's")?;
        prepare_all(&sockets)?;
        return Ok((sockets, Some(predecessor)));
    }
    let ws = listeners(config.listen, config.shards)?;
    Ok((Sockets { ws, http: listen_alone(config.http)? }, None))
}

/// A listener for each shard; where there are fewer, several shards accept from the same.
///
/// # Errors
/// Out of file descriptors.
pub fn for_shards(ws: &[TcpListener], shards: u16) -> io::Result<Vec<TcpListener>> {
    ws.iter().cycle().take(shards.into()).map(TcpListener::try_clone).collect()
}

/// The sockets of a systemd unit, by their `FileDescriptorName=`, `systemd.socket(5)`; what it does not have is bound.
fn activated(config: &Config, given: &mut ListenFd, names: &str) -> Result<Sockets> {
    let names: Vec<&str> = names.split(':').collect();
    let (mut ws, mut http) = (Vec::new(), Vec::new());
    for at in 0..given.len() {
        let name = names.get(at).copied().unwrap_or_default();
        let what = format!("socket {at} of systemd, named {name:?}");
        let socket = given.take_tcp_listener(at).with_context(|| what.clone())?;
        let socket = socket.with_context(|| what.clone())?;
        ensure!(
            SockRef::from(&socket).is_listener()?,
            "{what}: it does not listen (ListenStream= is needed)"
        );
        match name {
            "ws" => ws.push(socket),
            "http" => http.push(socket),
            _ => bail!("{what}: FileDescriptorName= must be ws or http"),
        }
    }
    ensure!(http.len() <= 1, "systemd has {} sockets named http: one is needed", http.len());
    fits(config, ws.len(), "systemd's")?;
    if ws.is_empty() {
        ws = listeners(config.listen, config.shards)?;
    }
    let http = http.pop().map_or_else(|| listen_alone(config.http), Ok)?;
    let sockets = Sockets { ws, http };
    prepare_all(&sockets)?;
    Ok(sockets)
}

/// More sockets than shards would leave the clients of some of them waiting for ever.
fn fits(config: &Config, sockets: usize, whose: &str) -> Result<()> {
    ensure!(
        sockets <= usize::from(config.shards),
        "{whose} {sockets} sockets for WebSocket are more than the shards: --shards {sockets} is needed, or fewer sockets"
    );
    Ok(())
}

/// Whether a socket that was taken over is where the configuration says.
fn agree(flag: &str, wanted: SocketAddr, is: Option<SocketAddr>) -> Result<()> {
    let same = is.is_some_and(|is| is == wanted || wanted.port() == 0 && is.ip() == wanted.ip());
    let is = is.map_or_else(|| "nowhere".to_owned(), |is| is.to_string());
    ensure!(same, "{flag} {wanted}: the running gateway listens on {is}; take over with the same address");
    Ok(())
}

/// What sockets of our own have from the start.
fn prepare_all(sockets: &Sockets) -> io::Result<()> {
    for listener in sockets.ws.iter().chain([&sockets.http]) {
        let socket = SockRef::from(listener);
        socket.set_tcp_nodelay(true)?;
        // Of a socket that listens it changes the backlog, listen(2).
        socket.listen(limits::LISTEN_BACKLOG)?;
    }
    Ok(())
}

/// A listener for each of `count` shards; with port 0 all get the port the first was given.
///
/// # Errors
/// The address is taken, not of this machine, or forbidden.
fn listeners(address: SocketAddr, count: u16) -> Result<Vec<TcpListener>> {
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
                let waited = format!(
                    "{}: it was in use for {} s (a gateway that runs there is taken over with --takeover and its --data)",
                    explain(address),
                    limits::ADDRESS_S_MAX
                );
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
