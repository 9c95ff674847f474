//! How many accepts to have in flight: as many as clients wait, never more than there are places.
//!
//! An accept into a table that is full resets a client that had already connected, and an accept that finds nobody
//! has made a socket and a file for nothing. So no accept is armed to wait: a poll tells that the backlog is not
//! empty, the listener says how many wait in it, and so many accepts are submitted, which complete at once.

use std::{io, mem, net::TcpListener, os::fd::AsRawFd};

use crate::limits;

/// When to look into the backlog, and what came of the accepts.
///
/// No client is overlooked: `look` is taken back only when the backlog was empty, and whoever comes after that fires
/// the poll, whose completion sets it again.
#[derive(Default)]
pub struct Backlog {
    wanted: bool,
    look: bool,
    in_flight: u32,
}

impl Backlog {
    /// Accepts from now on, or no longer; accepts in flight still complete.
    pub fn want(&mut self, on: bool) {
        self.look |= on && !self.wanted;
        self.wanted = on;
    }

    /// The listener's poll has fired.
    pub fn news(&mut self) {
        self.look = true;
    }

    /// Whether it is time to ask the listener how many wait.
    pub fn due(&self) -> bool {
        self.wanted && self.look && self.in_flight == 0
    }

    /// Accepts to submit now that `waiting` clients wait and a table has `room` places: at most that many.
    pub fn submit(&mut self, waiting: u32, room: u32) -> u32 {
        self.look = waiting > 0;
        self.in_flight = waiting.min(room).min(limits::ACCEPTS_IN_FLIGHT_MAX);
        self.in_flight
    }

    /// Accepts that have not completed.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// An accept has completed.
    pub fn completed(&mut self) {
        self.in_flight -= 1;
    }
}

/// Clients that wait to be accepted: `tcpi_unacked` of a listening socket, `tcp(7)`, `TCP_INFO`.
///
/// # Errors
/// The descriptor is no listening TCP socket.
pub fn waiting(listener: &TcpListener) -> io::Result<u32> {
    length(listener).map(|(waiting, _)| waiting)
}

/// Clients that wait to be accepted, and how many may: `tcpi_unacked` and `tcpi_sacked` of a listening socket.
///
/// # Errors
/// The descriptor is no listening TCP socket.
pub fn length(listener: &TcpListener) -> io::Result<(u32, u32)> {
    // SAFETY: `tcp_info` is a C structure of integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut bytes = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` has `bytes` writable bytes, and the kernel writes no more than that.
    let failed = unsafe {
        libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut bytes,
        )
    };
    if failed == 0 { Ok((info.tcpi_unacked, info.tcpi_sacked)) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn never_more_accepts_than_clients_or_places() {
        let mut backlog = Backlog::default();
        assert!(!backlog.due(), "nobody wants any");
        backlog.want(true);
        assert!(backlog.due(), "clients may have come before");
        assert_eq!(backlog.submit(5, 3), 3);
        assert!(!backlog.due(), "first those in flight");
        (0..3).for_each(|_| backlog.completed());
        assert_eq!((backlog.due(), backlog.submit(2, 100)), (true, 2));
        (0..2).for_each(|_| backlog.completed());
        assert_eq!(backlog.submit(0, 100), 0);
        assert!(!backlog.due(), "an empty backlog is not looked at again");
        backlog.news();
        assert!(backlog.due());
        backlog.want(false);
        assert!(!backlog.due());
    }

    #[test]
    fn the_listener_says_how_many_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        assert_eq!(waiting(&listener).expect("TCP_INFO"), 0);
        let _clients: Vec<TcpStream> =
            (0..3).map(|_| TcpStream::connect(address).expect("connected")).collect();
        // The third handshake packet is processed within connect(2) over the loopback.
        assert_eq!(waiting(&listener).expect("TCP_INFO"), 3);
        let _accepted = listener.accept().expect("accepted");
        // The standard library listens with a backlog of 128 or the kernel's largest.
        let (waiting, most) = length(&listener).expect("TCP_INFO");
        assert_eq!(waiting, 2);
        assert!((128..=65_535).contains(&most), "{most}");
    }
}
