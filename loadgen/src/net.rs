//! Addresses, file limits and the way to a connected socket.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream as StdTcpStream, ToSocketAddrs};
use tokio::net::TcpSocket;
use tungstenite::http::Uri;

/// Where to connect and what to ask for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Resolved address.
    pub address: SocketAddr,
    /// For the Host header.
    pub authority: String,
    /// Path and query, beginning with a slash.
    pub path: String,
}

impl Target {
    /// Reads `ws://host[:port][/path][?query]` and resolves the host.
    ///
    /// # Errors
    /// One line for the user.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("--url {url}: {error}"))?;
        match uri.scheme_str() {
            Some("ws") => (),
            Some("wss") => return Err("--url: this version does not have TLS; use ws://".into()),
            _ => return Err(format!("--url {url}: it must begin with ws://")),
        }
        let authority = uri.authority().ok_or_else(|| format!("--url {url}: a host is missing"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let address = (host, authority.port_u16().unwrap_or(80))
            .to_socket_addrs()
            .map_err(|error| format!("--url {url}: cannot resolve {host}: {error}"))?
            .next()
            .ok_or_else(|| format!("--url {url}: {host} has no address"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { address, authority: authority.as_str().to_owned(), path })
    }

    /// The source address of a client: spread over 127.0.0.0/8 where the target is on IPv4 loopback, so that the
    /// 28,000 ports of one address are no limit; elsewhere the kernel's choice.
    pub fn source(&self, client: u32, addresses: u32) -> Option<Ipv4Addr> {
        match self.address.ip() {
            IpAddr::V4(ip) if ip.is_loopback() => {
                let at = client % addresses;
                // 127.0.x.y is left to the servers; neither 0 nor 255 appears at the end.
                Some(Ipv4Addr::new(
                    127,
                    1 + (at / 62_500) as u8,
                    (at / 250 % 250) as u8,
                    1 + (at % 250) as u8,
                ))
            }
            _ => None,
        }
    }
}

/// How a client's connection is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    /// Where it comes from; the kernel's choice, unless given.
    pub source: Option<Ipv4Addr>,
    /// `SO_RCVBUF`; the kernel's choice, unless given.
    pub receive_bytes: Option<usize>,
}

/// Connects without blocking the thread; the socket comes back in blocking mode, because `io_uring` answers EAGAIN
/// for a socket with `O_NONBLOCK` instead of waiting.
///
/// # Errors
/// What the system calls return.
pub async fn connect(target: SocketAddr, way: Way) -> io::Result<StdTcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = way.receive_bytes {
        // Before the SYN: the window's scale is chosen from it (tcp(7)).
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = way.source {
        // The port is chosen at connect, by the whole four-tuple (ip(7)).
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SockAddr::from(SocketAddr::from((source, 0))))?;
    }
    let stream = TcpSocket::from_std_stream(socket.into()).connect(target).await?.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Raises the soft limit of open files to the hard one.
///
/// # Errors
/// What getrlimit(2) and setrlimit(2) return.
pub fn raise_file_limit() -> io::Result<()> {
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_url_is_read_or_refused_with_its_reason() {
        let target = Target::parse("ws://127.0.0.1:9000/v1/ws?x=1").unwrap();
        assert_eq!((target.address.port(), target.path.as_str()), (9000, "/v1/ws?x=1"));
        assert_eq!(Target::parse("ws://[::1]:1").unwrap().address, "[::1]:1".parse().unwrap());
        for (url, reason) in
            [("wss://a/", "TLS"), ("http://a/", "ws://"), ("nonsense", "ws://"), ("ws://", "--url")]
        {
            let error = Target::parse(url).unwrap_err();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }

    #[test]
    fn source_addresses_are_as_many_as_asked_for_and_on_loopback() {
        let target = Target::parse("ws://127.0.0.1:1/").unwrap();
        for addresses in [1, 300, 60_000] {
            let all: HashSet<_> =
                (0..120_000).filter_map(|client| target.source(client, addresses)).collect();
            assert_eq!(all.len(), addresses as usize);
            assert!(all.iter().all(Ipv4Addr::is_loopback));
        }
        assert_eq!(Target::parse("ws://192.0.2.1/").unwrap().source(1, 16), None);
    }
}
