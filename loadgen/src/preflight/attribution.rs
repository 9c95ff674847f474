//! Which end a failed connection is to be looked for at. Client ports and file limits that are taken for a fault of the server are
//! the classic mistake of load tests.

use crate::limits::FILES_FULL_SHARE;
use nix::errno::Errno;
use procfs::process::{LimitValue, Process};
use std::io;

/// What a failed system call of ours says about the end that is short, to follow the error's own text; `None` where it says nothing.
pub fn of_error(error: &io::Error) -> Option<&'static str> {
    let text = match Errno::from_raw(error.raw_os_error()?) {
        Errno::EMFILE => {
            "the generator's end: this process has no open file left; raise the hard limit (ulimit -n), or ask for fewer clients"
        }
        Errno::ENFILE => "the generator's end: the system has no open file left; raise fs.file-max",
        Errno::EADDRNOTAVAIL => {
            "the generator's end: no port is left for this source address and destination, or the address is not there; widen \
             net.ipv4.ip_local_port_range, raise --source-addresses on loopback, or use --kind phantom"
        }
        Errno::ENOBUFS | Errno::ENOMEM => {
            "the generator's end: the kernel has no memory for sockets; look at net.ipv4.tcp_mem and at the control group's memory.max"
        }
        Errno::EACCES | Errno::EPERM => {
            "the generator's end: a firewall or security module of this machine forbids it"
        }
        Errno::ECONNREFUSED => "the server's end: nothing listens there",
        Errno::ECONNRESET | Errno::EPIPE => {
            "the server's end: it, or something before it, ended the connection; a server that is out of files or connections does that"
        }
        Errno::ETIMEDOUT | Errno::EHOSTUNREACH | Errno::ENETUNREACH => {
            "the server's end or the way to it: no answer came to the SYN; look for a firewall, routes, and a full accept queue \
             (net.core.somaxconn there)"
        }
        _ => return None,
    };
    Some(text)
}

/// The same, as it is put behind an error's text.
pub fn behind(error: &io::Error) -> String {
    of_error(error).map_or(String::new(), |text| format!(" [{text}]"))
}

/// Whether the server's process has used up its open files, in a sentence; `None` where it has not, or cannot be read.
pub fn of_server(pid: i32) -> Option<String> {
    let server = Process::new(pid).ok()?;
    let open = server.fd_count().ok()? as u64;
    let LimitValue::Value(most) = server.limits().ok()?.max_open_files.soft_limit else { return None };
    exhausted(pid, open, most)
}

fn exhausted(pid: i32, open: u64, most: u64) -> Option<String> {
    (open as f64 >= most as f64 * FILES_FULL_SHARE).then(|| {
        format!(
            "the server's end: process {pid} has {open} of its {most} open files in use; raise its limit (prlimit --pid {pid} \
             --nofile=N:N, or ulimit -n before it)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_is_looked_for_at_its_end() {
        for (errno, end) in [
            (Errno::EMFILE, "generator"),
            (Errno::ENFILE, "generator"),
            (Errno::EADDRNOTAVAIL, "generator"),
            (Errno::ENOBUFS, "generator"),
            (Errno::ECONNREFUSED, "server"),
            (Errno::ECONNRESET, "server"),
            (Errno::ETIMEDOUT, "server"),
        ] {
            let text = behind(&io::Error::from_raw_os_error(errno as i32));
            assert!(text.starts_with(&format!(" [the {end}'s end")), "{errno}: {text}");
        }
        assert_eq!(behind(&io::Error::from_raw_os_error(Errno::EINVAL as i32)), "");
        assert_eq!(behind(&io::Error::other("of our own")), "");
    }

    #[test]
    fn a_server_out_of_files_is_told_and_one_that_has_some_left_is_not() {
        let text = exhausted(7, 1_024, 1_024).expect("used up");
        assert!(
            text.contains("process 7 has 1024 of its 1024") && text.contains("prlimit --pid 7"),
            "{text}"
        );
        assert!(exhausted(7, 1_020, 1_024).is_some(), "nobody can use the very last");
        assert_eq!(exhausted(7, 500, 1_024), None);
        assert_eq!(of_server(std::process::id() as i32), None);
        assert_eq!(of_server(i32::MAX), None);
    }
}
