//! What the kernel does with the operations it was given, faults included.

use roost_gateway::{
    limits,
    ring::{Completion, Descriptor, Op, Token},
};

use super::{Arrival, Buffers, Manners, World, peer::Stream};

impl World {
    /// One step of everything that is in flight.
    pub(super) fn carry_out(&mut self, buffers: &mut Buffers) {
        // Reads and cancellations are carried out when they are submitted; nothing comes in between.
        for index in 0..self.peers.len() {
            self.step_read(index, buffers);
        }
        for target in std::mem::take(&mut self.cancels) {
            self.step_cancel(target);
        }
        for (index, token) in std::mem::take(&mut self.asked) {
            debug_assert!(self.peers[index].descriptor.is_some(), "asked while it was open");
            let result = if self.faulty && self.fate.happens(30) { -libc::EMFILE } else { 7 };
            self.complete(token, result, false);
        }
        self.step_accept();
        for index in 0..self.peers.len() {
            if self.peers[index].descriptor.is_some() {
                self.step_arrive(index);
                self.step_receive(index, buffers);
                self.step_poll(index);
                self.step_send(index);
                self.step_out(index);
            }
        }
    }

    fn step_accept(&mut self) {
        let late = !self.accepting && self.accepts_late > 0;
        if !(self.accepting || late) || self.all_came() || self.fate.happens(128) {
            return;
        }
        self.accepts_late = self.accepts_late.saturating_sub(u32::from(late));
        let token = Token::new(Op::Accept, 0, 0);
        for (case, errno) in [
            ("accept ECONNABORTED", libc::ECONNABORTED),
            ("accept ENFILE", libc::ENFILE),
            ("accept ENOMEM", libc::ENOMEM),
        ] {
            if self.fault(3, case) {
                return self.complete(token, -errno, false);
            }
        }
        let Some(descriptor) = self.place() else { return self.tally.note("no place free") };
        if late {
            self.tally.note("accept after it was turned off");
        }
        self.peers[self.next].descriptor = Some(descriptor);
        self.next += 1;
        let completion = Completion::plain(token, descriptor.place() as i32, false);
        self.deliver(Completion { descriptor: Some(descriptor), ..completion });
    }

    fn step_arrive(&mut self, index: usize) {
        if self.fault(1, "reset at any point") {
            let keep = self.fate.happens(128);
            return self.peers[index].reset(keep);
        }
        if self.fate.happens(128) {
            return;
        }
        let peer = &mut self.peers[index];
        if peer.stream == Stream::Open && !peer.sends.is_empty() {
            let all = peer.sends.len();
            let bytes = match (peer.arrival, self.fate.pick(10)) {
                (Arrival::Whole, _) | (_, 0) => all,
                _ => 1 + self.fate.pick(all.min(64)),
            };
            let peer = &mut self.peers[index];
            peer.arrive(bytes);
            if peer.reset_at.is_some_and(|at| peer.sent >= at) {
                let keep = self.fate.happens(128);
                self.peers[index].reset(keep);
            }
        } else if peer.fin_after && peer.stream == Stream::Open {
            peer.arrive(0);
        }
    }

    fn step_read(&mut self, index: usize, buffers: &mut Buffers) {
        let Some(token) = self.peers[index].read.take() else { return };
        if self.fault(3, "read EINTR") {
            return self.complete(token, -libc::EINTR, false);
        }
        if self.fault(1, "read ENOMEM") {
            self.peers[index].hurt = true;
            return self.complete(token, -libc::ENOMEM, false);
        }
        let mut room = limits::RECEIVE_BUFFER_BYTES as usize;
        let there = self.peers[index].arrived.len().min(room);
        if there > 1 && self.fault(40, "read short") {
            // The rest came while it was read: the poll tells of it.
            room = 1 + self.fate.pick(there - 1);
            self.peers[index].fires = true;
        }
        match self.peers[index].take(room) {
            Ok(bytes) => {
                if bytes.len() == limits::RECEIVE_BUFFER_BYTES as usize {
                    self.tally.note("read full");
                }
                let buffer = buffers.free_read();
                self.fill(token, bytes, false, buffer, buffers);
            }
            Err(result) => {
                if result == -libc::ECONNRESET {
                    self.tally.note("read ECONNRESET");
                }
                self.complete(token, result, false);
            }
        }
    }

    fn step_poll(&mut self, index: usize) {
        let Some(token) = self.peers[index].poll else { return };
        if self.fault(2, "poll of nothing") {
            return self.complete(token, i32::from(libc::POLLIN), true);
        }
        if self.fault(2, "poll of an error that somebody took") {
            return self.complete(token, i32::from(libc::POLLIN | libc::POLLERR), true);
        }
        if !self.peers[index].fires || self.fate.happens(80) {
            return;
        }
        let more = !self.fate.happens(13);
        let peer = &mut self.peers[index];
        peer.fires = false;
        let events = peer.events();
        if events != 0 {
            if !more {
                peer.poll = None;
                self.tally.note("poll ended");
            }
            self.complete(token, events, more);
        }
    }

    fn step_receive(&mut self, index: usize, buffers: &mut Buffers) {
        let Some(token) = self.peers[index].receive else { return };
        if self.peers[index].events() == 0 || self.fate.happens(100) {
            return;
        }
        let ring = self.peers[index].descriptor.map_or(0, Descriptor::ring);
        let buffer = buffers.free_provided(ring);
        let none = buffer.is_none() && !self.peers[index].arrived.is_empty();
        if none || self.fault(6, "receive ENOBUFS") {
            self.tally.note("receive ENOBUFS");
            self.peers[index].receive = None;
            return self.complete(token, -libc::ENOBUFS, false);
        }
        if self.fault(2, "receive ENOMEM") {
            self.peers[index].receive = None;
            self.peers[index].hurt = true;
            return self.complete(token, -libc::ENOMEM, false);
        }
        let ends = self.fate.happens(25);
        let whole = self.peers[index].arrival == Arrival::Whole;
        let room = if whole { limits::RECEIVE_BUFFER_BYTES as usize } else { 1 + self.fate.pick(64) };
        let peer = &mut self.peers[index];
        match (peer.take(room), buffer) {
            (Ok(bytes), Some(buffer)) => {
                peer.receive = peer.receive.filter(|_| !ends);
                self.fill(token, bytes, !ends, buffer, buffers);
            }
            (Err(result), _) => {
                peer.receive = None;
                if result == -libc::ECONNRESET {
                    self.tally.note("receive ECONNRESET");
                }
                self.complete(token, result, false);
            }
            (Ok(_), None) => unreachable!("bytes need a buffer, which was looked for"),
        }
    }

    /// A send goes on by itself (`MSG_WAITALL`): it completes when all is taken, or when the socket fails.
    fn step_send(&mut self, index: usize) {
        if self.fate.happens(100) {
            return;
        }
        let Some(mut sending) = self.peers[index].sending.take() else { return };
        if let Stream::Reset { told } = self.peers[index].stream {
            self.peers[index].stream = Stream::Reset { told: true };
            self.tally.note(if told { "send EPIPE" } else { "send ECONNRESET" });
            let result = sending.cut(if told { libc::EPIPE } else { libc::ECONNRESET });
            return self.finish_send(sending, result);
        }
        if self.peers[index].manners != Manners::TakesNothing && self.fault(2, "send ENOBUFS") {
            self.peers[index].hurt = true;
            let result = sending.cut(libc::ENOBUFS);
            return self.finish_send(sending, result);
        }
        let left = sending.bytes.len() - sending.done;
        let taken = match (self.peers[index].manners, self.fate.pick(8)) {
            (Manners::TakesNothing, _) => 0,
            (_, 0) => self.fate.pick(left),
            _ => left,
        };
        let peer = &mut self.peers[index];
        peer.received.extend_from_slice(&sending.bytes[sending.done..sending.done + taken]);
        sending.done += taken;
        if taken == left {
            let result = sending.bytes.len() as i32;
            return self.finish_send(sending, result);
        }
        if sending.done > 0 && self.fault(20, "send short") {
            self.peers[index].reset(false);
            self.peers[index].stream = Stream::Reset { told: true };
            let result = sending.done as i32;
            return self.finish_send(sending, result);
        }
        if taken > 0 {
            self.tally.note("send in pieces");
        }
        self.peers[index].sending = Some(sending);
    }

    fn step_out(&mut self, index: usize) {
        if self.fate.happens(128) {
            return;
        }
        let reset = matches!(self.peers[index].stream, Stream::Reset { .. });
        if let Some(token) = self.peers[index].shutting.take() {
            let peer = &mut self.peers[index];
            peer.ours = Stream::Finished;
            // A peer that sees our FIN closes too, as a rule.
            peer.fin_after |= peer.manners != Manners::Lingers;
            if reset {
                self.tally.note("shutdown ENOTCONN");
            }
            let result = if reset { -libc::ENOTCONN } else { 0 };
            return self.complete(token, result, false);
        }
        if let Some(token) = self.peers[index].closing.take() {
            let peer = &mut self.peers[index];
            peer.ours = Stream::Finished;
            peer.descriptor = None;
            let result = if self.fault(8, "close EIO") { -libc::EIO } else { 0 };
            self.complete(token, result, false);
        }
    }

    /// Ends an operation that is in flight. One that has completed, or is between two states of the kernel, is not found.
    fn step_cancel(&mut self, target: Token) {
        let name = (target.slot(), target.generation());
        let done = Token::new(Op::Cancel, target.generation(), target.slot());
        if self.fault(12, "cancel without effect") {
            return self.complete(done, -libc::EALREADY, false);
        }
        let peer = self.peers.iter_mut().find(|peer| peer.owner == Some(name));
        let peer = peer.expect("only what was submitted is cancelled");
        let found = match target.op() {
            Some(Op::Poll) => peer.poll.take().is_some(),
            Some(Op::Receive) => peer.receive.take().is_some(),
            Some(Op::Send) => {
                let Some(sending) = peer.sending.take() else {
                    self.tally.note("cancel finds nothing");
                    return self.complete(done, -libc::ENOENT, false);
                };
                self.tally.note("send cancelled");
                let result = sending.cut(libc::ECANCELED);
                self.finish_send(sending, result);
                return self.complete(done, 0, false);
            }
            other => panic!("nobody cancels {other:?}"),
        };
        if found {
            self.complete(target, -libc::ECANCELED, false);
        } else {
            self.tally.note("cancel finds nothing");
        }
        self.complete(done, if found { 0 } else { -libc::ENOENT }, false);
    }
}
