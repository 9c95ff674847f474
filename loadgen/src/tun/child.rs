//! Child processes that do not outlive this one, whatever ends it.

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets the kernel kill the command's process when the thread that starts it ends (`PR_SET_PDEATHSIG`, prctl(2)): also
/// after a SIGKILL, where nothing of ours runs any more. So start it from a thread that lives as long as it shall.
pub fn dies_with_this_thread(command: &mut Command) -> &mut Command {
    let parent = Pid::this();
    let set = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have ended between fork and prctl: then no signal comes.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec `set` makes two system calls, prctl(2) and getppid(2), and neither allocates nor takes
    // a lock that another thread could have held at the fork.
    unsafe { command.pre_exec(set) }
}
