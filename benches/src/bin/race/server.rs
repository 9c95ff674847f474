//! A server that takes part.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// RFC 6455.
    WebSocket,
    /// The same number of bytes each way and nothing else (`bare.rs`).
    Bare,
}

/// `NAME=[bare:]HOST:PORT,PID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// In the table.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub wire: Wire,
    /// The process whose CPU is counted, with all its threads.
    pub pid: i32,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("a server is NAME=HOST:PORT,PID or NAME=bare:HOST:PORT,PID, not '{text}'");
        let (name, rest) = text.split_once('=').ok_or_else(form)?;
        let (address, pid) = rest.rsplit_once(',').ok_or_else(form)?;
        let (wire, address) =
            address.strip_prefix("bare:").map_or((Wire::WebSocket, address), |address| (Wire::Bare, address));
        let address = address.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(form)?;
        let pid = pid.parse().ok().filter(|pid| *pid > 0).ok_or_else(form)?;
        Ok(Self { name: name.to_owned(), address, wire, pid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_name_an_address_and_a_process() {
        let server = |text: &str| text.parse::<Server>();
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let expected = Server { name: "a".into(), address, wire: Wire::WebSocket, pid: 7 };
        assert_eq!(server("a=127.0.0.1:9,7"), Ok(expected.clone()));
        assert_eq!(server("a=bare:127.0.0.1:9,7"), Ok(Server { wire: Wire::Bare, ..expected }));
        for wrong in ["a", "a=127.0.0.1:9", "a=127.0.0.1:9,0", "a=127.0.0.1,7"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }
}
