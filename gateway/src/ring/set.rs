//! The rings of one shard: further ones are opened when the tables are full and closed when they are empty.
//!
//! The first, the home ring, is never closed: the thread sleeps in it, and it polls the listener and the wake-up.

#[path = "further.rs"]
mod further;

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, OwnedFd},
    ptr,
    time::Duration,
};

use io_uring::{cqueue, opcode, squeue, types};
use rustc_hash::FxBuildHasher;

use super::{
    Buffer, Completion, Descriptor, Occupancy, Op, Ring, Token,
    backlog::{self, Backlog},
    member::{BUFFER_GROUP, Member},
    peer,
    pool::ReadPool,
};
use crate::limits;

const HOME: usize = 0;
const ACCEPT: u32 = 0;
const READ_EVENTS: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;

/// The memory of each send in flight.
type Sending = HashMap<Token, Vec<u8>, FxBuildHasher>;

/// All `io_urings` of a shard with what they need: a listener, a wake-up, buffers.
///
/// Invariant: `sending` and `reads` own the memory of every send and read from its submission to its completion, so
/// the kernel never touches memory that was freed or reused.
pub struct Uring {
    rings: Vec<Option<Box<Member>>>,
    /// The ring that connections are accepted into.
    current: usize,
    /// Places in each ring's table.
    places: u32,
    listener: TcpListener,
    wake: OwnedFd,
    backlog: Backlog,
    reads: ReadPool,
    sending: Sending,
    /// Addresses that were asked for, from their completion until they are taken, which is in the same turn.
    peers: HashMap<Token, Option<SocketAddr>, FxBuildHasher>,
    occupancy: Occupancy,
    /// The last try to open a ring failed; said once.
    failing: bool,
    /// How long it looks for work before it sleeps.
    busy_poll: Duration,
    /// Where the next turn starts to take completions, so that no ring waits for the others for ever.
    first: usize,
}

impl Uring {
    /// Opens the home ring on the calling thread, which must be the one that uses the set. `wake` is an eventfd: other
    /// threads write to it to end the thread's sleep, and so does the kernel for the further rings. Each ring's table
    /// has `places` places.
    ///
    /// # Errors
    /// io_uring is switched off (`kernel.io_uring_disabled`), too old (6.1 is needed), or out of memory.
    pub fn open(listener: TcpListener, wake: OwnedFd, places: u32) -> io::Result<Self> {
        // An accept never waits: see `backlog`.
        listener.set_nonblocking(true)?;
        let mut home = Box::new(Member::open(places, None)?);
        home.watch(wake.as_raw_fd(), Token::new(Op::Wake, 0, 0));
        home.watch(listener.as_raw_fd(), Token::new(Op::Incoming, 0, 0));
        Ok(Self {
            rings: vec![Some(home)],
            current: HOME,
            places,
            listener,
            wake,
            backlog: Backlog::default(),
            reads: ReadPool::map()?,
            sending: HashMap::default(),
            peers: HashMap::default(),
            occupancy: Occupancy { rings: 1, descriptors_max: places.into(), ..Occupancy::default() },
            failing: false,
            busy_poll: Duration::ZERO,
            first: HOME,
        })
    }

    /// Looks for work so long, without sleeping, each time there is none: a wake-up less for what comes within it, at the price of the
    /// processor.
    pub fn set_busy_poll(&mut self, most: Duration) {
        self.busy_poll = most;
    }

    fn of(&mut self, ring: usize) -> &mut Member {
        self.rings[ring].as_mut().expect("a ring that holds a connection is open")
    }

    fn push(&mut self, descriptor: Descriptor, entry: &squeue::Entry, token: Token) {
        self.of(descriptor.ring()).push(entry, token);
    }

    /// Submits accepts for the clients that wait in the backlog, no more than the current table has places.
    fn accept_waiting(&mut self, into: &mut Vec<Completion>) {
        if !self.backlog.due() {
            return;
        }
        let submitted = backlog::waiting(&self.listener).and_then(|waiting| {
            let room = if waiting == 0 { 0 } else { self.make_room()? };
            Ok(self.backlog.submit(waiting, room))
        });
        match submitted {
            Ok(count) => (0..count).for_each(|_| self.accept_one()),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::ENFILE);
                into.push(Completion::plain(Token::new(Op::Accept, 0, ACCEPT), -errno, false));
            }
        }
    }

    fn accept_one(&mut self) {
        let (listener, current) = (types::Fd(self.listener.as_raw_fd()), self.current);
        let entry = opcode::Accept::new(listener, ptr::null_mut(), ptr::null_mut())
            .file_index(Some(types::DestinationSlot::auto_target()))
            .build();
        self.of(current).push(&entry, Token::new(Op::Accept, 0, ACCEPT));
    }

    /// Takes completions from all rings, up to the budget of a turn.
    fn reap(&mut self, into: &mut Vec<Completion>) {
        let count = self.rings.len();
        for step in 0..count {
            let number = (self.first + step) % count;
            while into.len() < limits::COMPLETIONS_PER_TURN_MAX {
                let Some(entry) = self.rings[number].as_mut().and_then(|ring| ring.next()) else { break };
                into.extend(self.complete(number, &entry));
            }
        }
        self.first = (self.first + 1) % count;
    }

    /// What the shard is told of a completion; `None` when it is of the set's own concern.
    fn complete(&mut self, number: usize, entry: &cqueue::Entry) -> Option<Completion> {
        let token = Token(entry.user_data());
        let mut completion = Completion::plain(token, entry.result(), cqueue::more(entry.flags()));
        match token.op()? {
            Op::Wake => {
                if !completion.more {
                    let wake = self.wake.as_raw_fd();
                    self.of(HOME).watch(wake, token);
                }
                return None;
            }
            Op::Incoming => {
                self.backlog.news();
                if !completion.more {
                    let listener = self.listener.as_raw_fd();
                    self.of(HOME).watch(listener, token);
                }
                return None;
            }
            Op::Accept => {
                self.backlog.completed();
                if completion.result == -libc::EAGAIN {
                    return None;
                }
                if let Ok(place) = u32::try_from(completion.result) {
                    self.occupancy.descriptors += 1;
                    completion.descriptor = Some(Descriptor::new(number, place));
                }
            }
            Op::Close => self.occupancy.descriptors -= 1,
            Op::Send => completion.sent = self.sending.remove(&token),
            Op::Read => {
                let id = self.reads.returned(token);
                if completion.result > 0 {
                    completion.buffer = Some(Buffer::Read(id));
                } else {
                    self.reads.recycle(id);
                }
            }
            Op::Receive => {
                completion.buffer = cqueue::buffer_select(entry.flags()).map(|id| {
                    self.of(number).buffers().claim(id);
                    Buffer::Provided { ring: number as u16, id }
                });
            }
            Op::Peer => {
                self.peers.insert(token, peer::address(completion.result));
            }
            Op::Shutdown | Op::Cancel | Op::Poll => {}
        }
        Some(completion)
    }

    /// Whether buffers for multishot receives are there, made if there may be more.
    fn provide(&mut self, number: usize) -> bool {
        if self.of(number).provides() {
            return true;
        }
        let more = self.occupancy.provided_buffers + usize::from(limits::PROVIDED_BUFFERS);
        if more > limits::PROVIDED_BUFFERS_MAX || self.of(number).provide().is_err() {
            return false;
        }
        self.occupancy.provided_buffers = more;
        true
    }
}

impl Ring for Uring {
    fn accept(&mut self, on: bool) {
        self.backlog.want(on);
    }

    fn poll(&mut self, descriptor: Descriptor, token: Token) {
        let entry = opcode::PollAdd::new(types::Fixed(descriptor.place()), READ_EVENTS).multi(true).build();
        self.push(descriptor, &entry, token);
    }

    fn read(&mut self, descriptor: Descriptor, token: Token) -> bool {
        let Some(buffer) = self.reads.lend(token) else { return false };
        // MSG_DONTWAIT: with nothing to read it completes with EAGAIN instead of being armed with a poll of its own.
        let entry = opcode::Recv::new(types::Fixed(descriptor.place()), buffer, limits::RECEIVE_BUFFER_BYTES)
            .flags(libc::MSG_DONTWAIT)
            .build();
        self.push(descriptor, &entry, token);
        true
    }

    fn receive(&mut self, descriptor: Descriptor, token: Token) -> bool {
        if !self.provide(descriptor.ring()) {
            return false;
        }
        let entry = opcode::RecvMulti::new(types::Fixed(descriptor.place()), BUFFER_GROUP).build();
        self.push(descriptor, &entry, token);
        true
    }

    fn send(&mut self, descriptor: Descriptor, token: Token, bytes: Vec<u8>) {
        let length =
            u32::try_from(bytes.len()).expect("the outbox of a connection is bounded far below 4 GiB");
        // MSG_WAITALL makes the kernel go on after a short send, so a completion means all or an error.
        let entry = opcode::Send::new(types::Fixed(descriptor.place()), bytes.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        let earlier = self.sending.insert(token, bytes);
        assert!(earlier.is_none(), "at most one send of a slot is in flight");
        self.push(descriptor, &entry, token);
    }

    fn shutdown_write(&mut self, descriptor: Descriptor, token: Token) {
        let entry = opcode::Shutdown::new(types::Fixed(descriptor.place()), libc::SHUT_WR).build();
        self.push(descriptor, &entry, token);
    }

    fn close(&mut self, descriptor: Descriptor, token: Token) {
        let entry = opcode::Close::new(types::Fixed(descriptor.place())).build();
        self.push(descriptor, &entry, token);
    }

    fn ask_peer(&mut self, descriptor: Descriptor, token: Token) -> bool {
        let entry = opcode::FixedFdInstall::new(types::Fixed(descriptor.place()), 0).build();
        self.push(descriptor, &entry, token);
        true
    }

    fn take_peer(&mut self, token: Token) -> Option<SocketAddr> {
        self.peers.remove(&token).flatten()
    }

    fn cancel(&mut self, descriptor: Descriptor, target: Token) {
        let entry = opcode::AsyncCancel::new(target.0).build();
        self.push(descriptor, &entry, Token::new(Op::Cancel, target.generation(), target.slot()));
    }

    /// No wake-up is lost between looking at the rings and sleeping in the home ring. A further ring that gets task
    /// work first raises its flag (`IORING_SQ_TASKRUN`) and then signals the eventfd registered with it. So either
    /// the flag is seen here and the ring is entered, or the signal comes after this look. The home ring polls the
    /// eventfd with a multishot poll, which is edge-triggered and armed all the time: a signal that comes before the
    /// thread sleeps is task work of the home ring, and entering it to sleep runs that first. Work that is added while
    /// the flag is up signals nothing, but then the flag is seen.
    fn wait(&mut self, timeout: Duration, into: &mut Vec<Completion>) -> io::Result<()> {
        self.accept_waiting(into);
        let mut awake = !into.is_empty() || timeout.is_zero();
        for ring in self.rings.iter_mut().skip(HOME + 1).flatten() {
            if ring.wants_enter() {
                ring.enter()?;
            }
            awake |= ring.has_completions();
        }
        let busy_poll = self.busy_poll;
        let home = self.of(HOME);
        if awake || home.has_completions() {
            if home.wants_enter() {
                home.enter()?;
            }
        } else {
            let spin = busy_poll.min(timeout);
            if spin.is_zero() || !home.spin(spin)? {
                home.enter_and_sleep(timeout)?;
            }
            for ring in self.rings.iter_mut().skip(HOME + 1).flatten() {
                if ring.has_work() {
                    ring.enter()?;
                }
            }
        }
        self.reap(into);
        Ok(())
    }

    fn buffer(&mut self, buffer: Buffer, bytes: usize) -> &mut [u8] {
        match buffer {
            Buffer::Read(id) => self.reads.bytes(id, bytes),
            Buffer::Provided { ring, id } => self.of(ring.into()).buffers().bytes(id, bytes),
        }
    }

    fn recycle(&mut self, buffer: Buffer) {
        match buffer {
            Buffer::Read(id) => self.reads.recycle(id),
            Buffer::Provided { ring, id } => self.of(ring.into()).buffers().recycle(id),
        }
    }

    fn rest(&mut self) {
        for ring in self.rings.iter_mut().flatten() {
            if ring.withdraw() {
                self.occupancy.provided_buffers -= usize::from(limits::PROVIDED_BUFFERS);
            }
        }
        self.close_empty();
        let (waiting, most) = backlog::length(&self.listener).unwrap_or_default();
        (self.occupancy.listen_backlog, self.occupancy.listen_backlog_max) = (waiting, most);
        self.reads.rest();
        if self.sending.len() < limits::KEPT_LIST_ITEMS {
            self.sending.shrink_to(limits::KEPT_LIST_ITEMS);
        }
    }

    fn occupancy(&self) -> Occupancy {
        Occupancy {
            read_buffers: self.reads.in_use().into(),
            accepts: self.backlog.in_flight(),
            ..self.occupancy
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The kernel may still read a send that is in flight while the rings are torn down: its memory is leaked
        // rather than freed under it. This happens once, when the process ends, or has drained for a successor.
        self.sending.drain().for_each(|(_, bytes)| std::mem::forget(bytes));
    }
}
