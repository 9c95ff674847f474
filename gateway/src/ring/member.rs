//! One io_uring of a shard's set, with its table of direct descriptors.

use std::{collections::VecDeque, hint, io, os::fd::RawFd, time::Duration};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use quanta::Instant;

use super::{Op, Token, buffers::BufferRing};
use crate::limits;

/// The only buffer group of a ring.
pub const BUFFER_GROUP: u16 = 0;

/// An io_uring, what is queued for it and what it holds.
pub struct Member {
    ring: IoUring,
    /// Entries the submission queue had no room for; empty but for a moment.
    queued: VecDeque<squeue::Entry>,
    /// Operations whose last completion has not come.
    in_flight: u32,
    places: u32,
    used: u32,
    /// Buffers for multishot receives, while there are any.
    buffers: Option<BufferRing>,
    /// Multishot receives armed.
    receiving: u32,
}

impl Member {
    /// Opens a ring on the calling thread, which must be the one that uses it (`IORING_SETUP_SINGLE_ISSUER`). `wake` is
    /// an eventfd that is signalled when the ring has work; the ring that the thread sleeps in needs none.
    pub fn open(places: u32, wake: Option<RawFd>) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(limits::RING_COMPLETIONS)
            .build(limits::RING_SUBMISSIONS)?;
        ring.submitter().register_files_sparse(places)?;
        if let Some(wake) = wake {
            ring.submitter().register_eventfd(wake)?;
        }
        Ok(Self { ring, queued: VecDeque::new(), in_flight: 0, places, used: 0, buffers: None, receiving: 0 })
    }

    /// Places that are free in the table.
    pub fn room(&self) -> u32 {
        self.places - self.used
    }

    /// Whether nothing would be missed if it were closed.
    pub fn is_idle(&self) -> bool {
        self.used == 0 && self.in_flight == 0 && self.buffers.is_none()
    }

    /// Queues an operation.
    ///
    /// Every entry must name memory that outlives the operation.
    pub fn push(&mut self, entry: &squeue::Entry, token: Token) {
        self.in_flight += 1;
        self.receiving += u32::from(token.op() == Some(Op::Receive));
        let entry = entry.clone().user_data(token.0);
        // SAFETY: every entry built in this folder names memory that outlives the operation: a registered buffer group, a
        // direct descriptor, a buffer of the read pool, or a send buffer owned by the set.
        if self.queued.is_empty() && unsafe { self.ring.submission().push(&entry) }.is_ok() {
            return;
        }
        self.queued.push_back(entry);
        self.flush();
    }

    /// Moves entries into the submission queue, and submits it early when it is full.
    fn flush(&mut self) {
        while let Some(entry) = self.queued.pop_front() {
            // SAFETY: every entry built in this folder names memory that outlives the operation: a registered buffer
            // group, a direct descriptor, a buffer of the read pool, or a send buffer owned by the set.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                continue;
            }
            self.queued.push_front(entry);
            if self.ring.submit().is_err() {
                // Completions overflowed (EBUSY): the turn drains them first. Any other error shows there again.
                return;
            }
        }
    }

    /// Whether the ring must be entered: entries are queued, task work is pending, or completions overflowed. A load or
    /// two from shared memory.
    pub fn wants_enter(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow() || !self.queued.is_empty()
    }

    /// Whether task work is pending.
    pub fn has_work(&mut self) -> bool {
        self.ring.submission().taskrun()
    }

    /// Whether completions wait to be taken.
    pub fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Submits what is queued and runs task work; does not sleep.
    pub fn enter(&mut self) -> io::Result<()> {
        self.flush();
        passable(self.ring.submit())
    }

    /// Submits what is queued and looks for completions without sleeping, at most this long; whether there are any. What it looks at
    /// is shared memory: the kernel is entered only where it has task work.
    pub fn spin(&mut self, most: Duration) -> io::Result<bool> {
        self.enter()?;
        let begun = Instant::now();
        while !self.has_completions() && begun.elapsed() < most {
            if self.wants_enter() {
                self.enter()?;
            } else {
                hint::spin_loop();
            }
        }
        Ok(self.has_completions())
    }

    /// Submits what is queued, runs task work and sleeps until a completion or `timeout`.
    pub fn enter_and_sleep(&mut self, timeout: Duration) -> io::Result<()> {
        self.flush();
        let timeout = types::Timespec::from(if self.queued.is_empty() { timeout } else { Duration::ZERO });
        let arguments = types::SubmitArgs::new().timespec(&timeout);
        passable(self.ring.submitter().submit_with_args(1, &arguments))
    }

    /// The next completion.
    pub fn next(&mut self) -> Option<cqueue::Entry> {
        let entry = self.ring.completion().next()?;
        let op = Token(entry.user_data()).op();
        if !cqueue::more(entry.flags()) {
            self.in_flight -= 1;
            self.receiving -= u32::from(op == Some(Op::Receive));
        }
        match op {
            Some(Op::Accept) if entry.result() >= 0 => self.used += 1,
            Some(Op::Close) => self.used -= 1,
            _ => {}
        }
        Some(entry)
    }

    /// The provided buffers.
    ///
    /// # Panics
    /// There are none: nobody may hold one then.
    pub fn buffers(&mut self) -> &mut BufferRing {
        self.buffers.as_mut().expect("a ring whose buffers are in use has buffers")
    }

    /// Whether the ring provides buffers.
    pub fn provides(&self) -> bool {
        self.buffers.is_some()
    }

    /// Provides buffers for multishot receives.
    ///
    /// # Errors
    /// Out of memory.
    pub fn provide(&mut self) -> io::Result<()> {
        let count = limits::PROVIDED_BUFFERS;
        let buffers = BufferRing::register(&self.ring, BUFFER_GROUP, count, limits::RECEIVE_BUFFER_BYTES)?;
        self.buffers = Some(buffers);
        Ok(())
    }

    /// Ends providing when no receive needs it; true when it did.
    pub fn withdraw(&mut self) -> bool {
        if self.receiving > 0 || !self.buffers.as_ref().is_some_and(BufferRing::is_whole) {
            return false;
        }
        if let Some(buffers) = self.buffers.take() {
            buffers.unregister(&self.ring);
        }
        true
    }

    /// Arms a multishot poll of a descriptor of the process.
    pub fn watch(&mut self, descriptor: RawFd, token: Token) {
        let entry = opcode::PollAdd::new(types::Fd(descriptor), libc::POLLIN as u32).multi(true).build();
        self.push(&entry, token);
    }
}

/// ETIME: the timeout; EINTR: a signal; EBUSY: completions wait to be drained, which follows; EAGAIN: the kernel is short
/// of memory for requests, and the entries stay queued.
fn passable(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Err(error)
            if !matches!(
                error.raw_os_error(),
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsRawFd, os::unix::net::UnixStream, thread};

    use super::*;

    #[test]
    fn looks_until_there_is_something_or_its_time_is_up() {
        const PATIENCE: Duration = Duration::from_secs(30);
        let (watched, mut other) = UnixStream::pair().expect("sockets");
        let mut ring = Member::open(1, None).expect("io_uring");
        ring.watch(watched.as_raw_fd(), Token::new(Op::Wake, 0, 0));
        assert!(!ring.spin(Duration::from_micros(1)).expect("the ring works"), "nothing comes");
        thread::scope(|scope| {
            scope.spawn(|| other.write_all(b"x").expect("written"));
            assert!(ring.spin(PATIENCE).expect("the ring works"), "it comes while it is looked for");
        });
        assert!(ring.next().is_some_and(|entry| entry.result() > 0));
        assert!(!ring.spin(Duration::ZERO).expect("the ring works"), "and was taken");
    }
}
