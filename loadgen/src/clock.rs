//! Time of a run: microseconds since the measured part began, and a timer fine enough to keep a schedule.

use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use quanta::{Clock, Instant};
use std::io;
use std::os::fd::AsFd;
use tokio_uring::fs::File;

/// A clock with an origin.
#[derive(Clone, Debug)]
pub struct RunClock {
    clock: Clock,
    origin: Instant,
}

impl RunClock {
    /// A clock whose zero is `origin`.
    pub fn new(clock: Clock, origin: Instant) -> Self {
        Self { clock, origin }
    }

    /// Microseconds since the origin; 0 before it.
    pub fn now_us(&self) -> u64 {
        self.clock.now().saturating_duration_since(self.origin).as_micros() as u64
    }
}

/// A timer on a timerfd that is read through the ring: tokio's own rounds up to milliseconds, which would show in every
/// latency.
pub struct FineTimer {
    timer: TimerFd,
    /// The same timer, as something to read from.
    expirations: File,
}

impl FineTimer {
    /// A timer for the runtime of this thread.
    ///
    /// # Errors
    /// What `timerfd_create(2)` and dup(2) return.
    pub fn new() -> io::Result<Self> {
        // Blocking: the ring answers EAGAIN for a descriptor that is not, instead of waiting.
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        let expirations = File::from_std(timer.as_fd().try_clone_to_owned()?.into());
        Ok(Self { timer, expirations })
    }

    /// Sleeps; not at all where `us` is 0.
    ///
    /// # Errors
    /// What `timerfd_settime(2)` and read(2) return.
    pub async fn sleep_us(&self, us: u64) -> io::Result<()> {
        if us == 0 {
            return Ok(());
        }
        let wait = Expiration::OneShot(TimeSpec::microseconds(us as i64));
        self.timer.set(wait, TimerSetTimeFlags::empty())?;
        let (read, _count) = self.expirations.read_at(vec![0; 8], 0).await;
        read.map(|_| ())
    }
}
