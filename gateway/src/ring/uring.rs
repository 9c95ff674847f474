//! The real ring: io_uring with `SINGLE_ISSUER` and `DEFER_TASKRUN`, direct descriptors and a provided-buffer ring.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::TcpListener,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustc_hash::FxBuildHasher;

use super::{Completion, Descriptor, Op, Ring, Token, buffers::BufferRing};
use crate::limits;

const BUFFER_GROUP: u16 = 0;

/// The memory of each send in flight.
type Sending = HashMap<Token, Vec<u8>, FxBuildHasher>;

/// One io_uring with what it needs: a listener, a table of direct descriptors, receive buffers, a wake-up.
///
/// Invariant: `sending` owns the memory of every send from its submission to its completion, so the kernel never
/// reads memory that was freed or reused.
pub struct Uring {
    ring: IoUring,
    listener: TcpListener,
    wake: OwnedFd,
    buffers: BufferRing,
    sending: Sending,
    /// Entries the submission queue had no room for; empty but for a moment.
    queued: VecDeque<squeue::Entry>,
}

impl Uring {
    /// Opens a ring on the calling thread, which must be the one that uses it (`IORING_SETUP_SINGLE_ISSUER`).
    /// `wake` is an eventfd another thread writes to; its signals arrive as [`Op::Wake`] completions.
    ///
    /// # Errors
    /// io_uring is switched off (`kernel.io_uring_disabled`), too old (6.1 is needed), or out of memory.
    pub fn open(listener: TcpListener, wake: OwnedFd, descriptors: u32) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(limits::RING_COMPLETIONS)
            .build(limits::RING_SUBMISSIONS)?;
        ring.submitter().register_files_sparse(descriptors)?;
        let buffers =
            BufferRing::register(&ring, BUFFER_GROUP, limits::RECEIVE_BUFFERS, limits::RECEIVE_BUFFER_BYTES)?;
        let mut uring =
            Self { ring, listener, wake, buffers, sending: HashMap::default(), queued: VecDeque::new() };
        uring.watch_wake();
        Ok(uring)
    }

    fn watch_wake(&mut self) {
        let entry =
            opcode::PollAdd::new(types::Fd(self.wake.as_raw_fd()), libc::POLLIN as u32).multi(true).build();
        self.push(&entry, Token::new(Op::Wake, 0, 0));
    }

    fn push(&mut self, entry: &squeue::Entry, token: Token) {
        self.queued.push_back(entry.clone().user_data(token.0));
        self.flush();
    }

    /// Moves entries into the submission queue, and submits it early when it is full.
    fn flush(&mut self) {
        while let Some(entry) = self.queued.pop_front() {
            // SAFETY: every entry built in this file names memory that outlives the operation: a registered buffer
            // group, a direct descriptor, or a send buffer owned by `sending`.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                continue;
            }
            self.queued.push_front(entry);
            if self.ring.submit().is_err() {
                // Completions overflowed (EBUSY): `wait` drains them first. Any other error shows there again.
                return;
            }
        }
    }
}

fn completion(entry: &cqueue::Entry, buffers: &mut BufferRing, sending: &mut Sending) -> Completion {
    let token = Token(entry.user_data());
    let buffer = cqueue::buffer_select(entry.flags());
    if let Some(id) = buffer {
        buffers.claim(id);
    }
    let sent = if token.op() == Some(Op::Send) { sending.remove(&token) } else { None };
    Completion { token, result: entry.result(), more: cqueue::more(entry.flags()), buffer, sent }
}

impl Ring for Uring {
    fn accept(&mut self, token: Token) {
        let entry =
            opcode::AcceptMulti::new(types::Fd(self.listener.as_raw_fd())).allocate_file_index(true).build();
        self.push(&entry, token);
    }

    fn receive(&mut self, descriptor: Descriptor, token: Token) {
        let entry = opcode::RecvMulti::new(types::Fixed(descriptor.0), BUFFER_GROUP).build();
        self.push(&entry, token);
    }

    fn send(&mut self, descriptor: Descriptor, token: Token, bytes: Vec<u8>) {
        let length =
            u32::try_from(bytes.len()).expect("the outbox of a connection is bounded far below 4 GiB");
        // MSG_WAITALL makes the kernel go on after a short send, so a completion means all or an error.
        let entry = opcode::Send::new(types::Fixed(descriptor.0), bytes.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        let earlier = self.sending.insert(token, bytes);
        assert!(earlier.is_none(), "at most one send of a slot is in flight");
        self.push(&entry, token);
    }

    fn shutdown_write(&mut self, descriptor: Descriptor, token: Token) {
        let entry = opcode::Shutdown::new(types::Fixed(descriptor.0), libc::SHUT_WR).build();
        self.push(&entry, token);
    }

    fn close(&mut self, descriptor: Descriptor, token: Token) {
        let entry = opcode::Close::new(types::Fixed(descriptor.0)).build();
        self.push(&entry, token);
    }

    fn cancel(&mut self, target: Token) {
        let entry = opcode::AsyncCancel::new(target.0).build();
        self.push(&entry, Token::new(Op::Cancel, target.generation(), target.slot()));
    }

    fn wait(&mut self, timeout: Duration, into: &mut Vec<Completion>) -> io::Result<()> {
        self.flush();
        let timeout = types::Timespec::from(if self.queued.is_empty() { timeout } else { Duration::ZERO });
        let arguments = types::SubmitArgs::new().timespec(&timeout);
        match self.ring.submitter().submit_with_args(1, &arguments) {
            Ok(_) => {}
            // ETIME: the timeout; EINTR: a signal; EBUSY: completions wait to be drained, which follows.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => {}
            Err(error) => return Err(error),
        }
        let Self { ring, buffers, sending, .. } = self;
        let mut wake_ended = false;
        for entry in ring.completion() {
            let completion = completion(&entry, buffers, sending);
            wake_ended |= completion.token.op() == Some(Op::Wake) && !completion.more;
            into.push(completion);
        }
        if wake_ended {
            self.watch_wake();
        }
        Ok(())
    }

    fn buffer(&mut self, id: u16, bytes: usize) -> &mut [u8] {
        self.buffers.bytes(id, bytes)
    }

    fn recycle(&mut self, id: u16) {
        self.buffers.recycle(id);
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The kernel may still read a send that is in flight while the ring is torn down: its memory is leaked
        // rather than freed under it. This happens once, when the process ends.
        self.sending.drain().for_each(|(_, bytes)| std::mem::forget(bytes));
    }
}
