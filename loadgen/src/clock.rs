//! Time of a run: microseconds since the measured part began, and a timer fine enough to keep a schedule.

use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use quanta::{Clock, Instant};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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

/// tokio asks for `AsRawFd`, which nix's timer does not have.
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A timer on a timerfd: tokio's own rounds up to milliseconds, which would show in every latency.
pub struct FineTimer {
    timer: AsyncFd<Timer>,
}

impl FineTimer {
    /// A timer for the runtime of this thread.
    ///
    /// # Errors
    /// What `timerfd_create(2)` and epoll return.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Timer(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        Ok(Self { timer: AsyncFd::with_interest(timer, Interest::READABLE)? })
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
        self.timer.get_ref().0.set(wait, TimerSetTimeFlags::empty())?;
        loop {
            let mut ready = self.timer.readable().await?;
            if let Ok(expired) = ready.try_io(|timer| timer.get_ref().0.wait().map_err(io::Error::from)) {
                return expired;
            }
        }
    }
}
