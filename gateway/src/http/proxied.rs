//! Whose connection a proxy passes on to the HTTP service (`--http-proxy-protocol`).

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::TcpStream;

use super::limits::HEADER_READ_MS_MAX;
use crate::{
    conn::{parse_proxy, proxy_bytes_wanted},
    limits::PROXY_HEADER_BYTES_MAX,
};

/// Reads the header that comes first and nothing beyond it; `peer`, the other end of the connection, where it names nobody.
///
/// # Errors
/// No valid header came in time.
pub(super) async fn client(stream: &TcpStream, peer: SocketAddr) -> io::Result<SocketAddr> {
    let longest = Duration::from_millis(HEADER_READ_MS_MAX);
    let told = tokio::time::timeout(longest, read(stream)).await;
    told.map_err(|_| io::ErrorKind::TimedOut)?.map(|client| client.unwrap_or(peer))
}

async fn read(stream: &TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = [0; PROXY_HEADER_BYTES_MAX];
    let mut length = 0;
    loop {
        if let Some(proxied) = parse_proxy(&header[..length]).map_err(io::Error::other)? {
            return Ok(proxied.client);
        }
        let end = (length + proxy_bytes_wanted(&header[..length])).min(header.len());
        stream.readable().await?;
        match stream.try_read(&mut header[length..end]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => length += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    async fn told(sent: &[u8]) -> (io::Result<SocketAddr>, Vec<u8>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut proxy =
            std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        proxy.write_all(sent).expect("written");
        drop(proxy);
        let (stream, peer) = listener.accept().await.expect("accepted");
        let told = client(&stream, peer).await;
        let mut left = [0; 100];
        stream.readable().await.expect("readable");
        let bytes = stream.try_read(&mut left).unwrap_or_default();
        (
            told.map(|who| if who == peer { SocketAddr::from(([0; 4], 0)) } else { who }),
            left[..bytes].to_vec(),
        )
    }

    #[tokio::test]
    async fn the_header_is_read_and_nothing_beyond_it() {
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET".to_vec();
        let mut proxied = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C".to_vec();
        proxied.extend([203, 0, 113, 7, 192, 0, 2, 1, 156, 64, 35, 40]);
        proxied.extend(b"GET");
        let version_1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 9000\r\nGET".to_vec();
        for (sent, who) in
            [(local, "0.0.0.0:0"), (proxied, "203.0.113.7:40000"), (version_1, "203.0.113.7:40000")]
        {
            let (told, left) = told(&sent).await;
            assert_eq!((told.expect("told").to_string(), left), (who.to_owned(), b"GET".to_vec()));
        }
        for bad in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 1", b""] {
            assert!(told(bad).await.0.is_err());
        }
    }
}
