//! CPU time of a process: user and system of all its threads, in nanoseconds, `clock_getcpuclockid(3)`. It is the sum that
//! `/proc/PID/stat` tells in ticks.

use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// The CPU clock of a process.
#[derive(Clone, Copy)]
pub struct CpuClock(ClockId);

impl CpuClock {
    /// Of process `pid`; 0 is this one.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of(pid: i32) -> nix::Result<Self> {
        clock_getcpuclockid(Pid::from_raw(pid)).map(Self)
    }

    /// Used since the process began.
    ///
    /// # Errors
    /// The process has gone.
    pub fn used(self) -> nix::Result<Duration> {
        clock_gettime(self.0).map(Duration::from)
    }

    /// Used since the clock stood at `before`.
    ///
    /// # Errors
    /// The process has gone.
    pub fn used_since(self, before: Duration) -> nix::Result<Duration> {
        Ok(self.used()?.saturating_sub(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs_while_the_process_does() {
        let clock = CpuClock::of(0).expect("this process");
        let before = clock.used().expect("alive");
        let sum: u64 = (0..20_000_000_u64).map(std::hint::black_box).sum();
        assert!(clock.used().expect("alive") > before, "{sum}");
        // One more than the largest that there can be, proc_pid(5).
        assert!(CpuClock::of(1 << 22).is_err(), "no such process");
    }
}
