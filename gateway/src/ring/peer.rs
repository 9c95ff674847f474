//! Who is at the other end of a direct descriptor. It has no number in the process that getpeername(2) could be asked with, so it is given
//! one for a moment (`IORING_OP_FIXED_FD_INSTALL`, Linux 6.8).

use std::{
    net::SocketAddr,
    os::fd::{FromRawFd, OwnedFd},
};

use socket2::Socket;

/// The address of the peer, from the result of an installation; its descriptor is closed again. `None` where that is an error (an
/// older kernel, no descriptor left), or the peer has gone.
pub fn address(installed: i32) -> Option<SocketAddr> {
    if installed < 0 {
        return None;
    }
    // SAFETY: the completion of an installation hands its new descriptor over to whoever takes it, which happens once, here.
    let descriptor = unsafe { OwnedFd::from_raw_fd(installed) };
    Socket::from(descriptor).peer_addr().ok()?.as_socket()
}
